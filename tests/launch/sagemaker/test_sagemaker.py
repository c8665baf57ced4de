"""What is asked of SageMaker, what is made of its answers, and what is refused before it hears of it."""

import contextlib
import io
import json
import signal
import tarfile
import threading
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from tests.launch.conftest import BUCKET, REGION, ROLE, backend_for
from tests.launch.contract.test_backend import PROGRAM, ended, wait
from tests.launch.fake_sagemaker import FakeSageMaker

from sightline.aws.request_check import check_request
from sightline.aws.s3 import Storage
from sightline.errors import BadInput, Interrupted
from sightline.launch.job import Job, State, Status
from sightline.launch.job_array import run_jobs
from sightline.launch.log_following import Follower
from sightline.launch.records import fetch_recorded, find_record, has_succeeded, submit_recorded
from sightline.launch.sagemaker.backend import SageMaker
from sightline.launch.sagemaker.settings import SageMakerSettings, check_settings
from sightline.launch.sagemaker.status import status_of

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def plan(jobs: Path, *words: str, name: str = "signs", script: str = "src/train.py", **changes: Any) -> dict[str, Any]:
    """A request, with settings that are complete."""
    settings = {"role": ROLE, "bucket": BUCKET, "region": REGION, "image": "image:1", **changes}
    return SageMaker(jobs, SageMakerSettings(**settings)).plan(Job(name, script, words, COMMIT))["request"]


def test_spot_has_checkpoints_and_no_warm_pool(tmp_path: Path) -> None:
    request = plan(tmp_path, "experiment=gtsrb", max_run_minutes=60)
    assert request["EnableManagedSpotTraining"] is True
    assert request["StoppingCondition"] == {"MaxRuntimeInSeconds": 3600, "MaxWaitTimeInSeconds": 7200}
    assert request["CheckpointConfig"]["S3Uri"].startswith(f"s3://{BUCKET}/sightline/jobs/")
    assert "KeepAlivePeriodInSeconds" not in request["ResourceConfig"]


def test_a_warm_pool_without_spot(tmp_path: Path) -> None:
    request = plan(tmp_path, "experiment=gtsrb", spot=False, warm_pool_minutes=10)
    assert request["ResourceConfig"]["KeepAlivePeriodInSeconds"] == 600
    assert "MaxWaitTimeInSeconds" not in request["StoppingCondition"]
    assert "CheckpointConfig" in request, "a stopped job goes on from them, too"


def test_network_key_tags_and_several_machines(tmp_path: Path) -> None:
    request = plan(
        tmp_path,
        "experiment=gtsrb",
        subnets=["subnet-1"],
        security_groups=["sg-1"],
        kms_key="alias/key",
        tags={"team": "vision"},
        instance_count=2,
    )
    assert request["VpcConfig"] == {"Subnets": ["subnet-1"], "SecurityGroupIds": ["sg-1"]}
    assert request["OutputDataConfig"]["KmsKeyId"] == request["ResourceConfig"]["VolumeKmsKeyId"] == "alias/key"
    assert request["EnableInterContainerTrafficEncryption"] is True
    tags = {tag["Key"]: tag["Value"] for tag in request["Tags"]}
    assert tags == {"team": "vision", "sightline:commit": COMMIT, "sightline:job": "signs"}
    assert COMMIT[:7] in request["TrainingJobName"]


def test_another_request_has_another_name(tmp_path: Path) -> None:
    """The service knows names for ever: one that comes back must be the same job."""
    names = {
        plan(tmp_path, "seed=1")["TrainingJobName"],
        plan(tmp_path, "seed=2")["TrainingJobName"],
        plan(tmp_path, "seed=1", instance_type="ml.g5.2xlarge")["TrainingJobName"],
        plan(tmp_path, "seed=1", image="image:2")["TrainingJobName"],
    }
    assert len(names) == 4
    longest = plan(tmp_path, "seed=1", name="n" * 63)["TrainingJobName"]
    assert len(longest) == 60


def test_data_that_lie_in_s3_already(tmp_path: Path) -> None:
    request = plan(tmp_path, "data.root=/nowhere", data_s3="s3://data/signs", input_mode="FastFile")
    (channel,) = request["InputDataConfig"]
    assert channel["DataSource"]["S3DataSource"]["S3Uri"] == "s3://data/signs/"
    assert (channel["ChannelName"], channel["InputMode"]) == ("data_root", "FastFile")
    assert request["HyperParameters"]["data.root"] == "${paths.inputs}/data_root"
    assert "/nowhere" not in json.dumps(request)


@pytest.mark.parametrize("script", ["src/train.py", "src/evaluate.py", "src/explain.py", "src/prepare.py"])
def test_every_program_has_a_request(script: str, tmp_path: Path) -> None:
    request = plan(tmp_path, "seed=1", script=script)
    assert len(request["AlgorithmSpecification"]["MetricDefinitions"]) <= 40
    assert request["HyperParameters"].get("_script", "src/train.py") == script


def test_moto_takes_the_request(aws: Callable[[str], Any], tmp_path: Path) -> None:
    request = plan(tmp_path, "experiment=gtsrb", "name='größe, a=b'", data_s3="s3://data/signs")
    client = aws("sagemaker")
    client.create_training_job(**request)
    told = client.describe_training_job(TrainingJobName=request["TrainingJobName"])
    assert told["HyperParameters"] == request["HyperParameters"]
    assert told["CheckpointConfig"]["S3Uri"] == request["CheckpointConfig"]["S3Uri"]


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"instance_type": "ml.g5.huge"}, "ResourceConfig.InstanceType=ml.g5.huge is not one of"),
    ({"role": "sightline"}, "launch.role=sightline: must be an ARN"),
    ({"bucket": "s3://signs"}, "launch.bucket=s3://signs: must be the name of a bucket"),
    ({"warm_pool_minutes": 5}, "launch.warm_pool_minutes=5 launch.spot=true: spot machines cannot be kept"),
    ({"warm_pool_minutes": 361, "spot": False}, "launch.warm_pool_minutes=361: must be 360 or less"),
    ({"max_wait_minutes": 5}, "launch.max_wait_minutes=5: holds the run too"),
    ({"instance_count": 0}, "launch.instance_count=0: must be 1 or more"),
    ({"input_mode": "Pipe"}, "launch.input_mode=Pipe: must be one of File, FastFile"),
    ({"data_s3": "signs"}, "launch.data_s3=signs: must be s3://bucket/folder"),
    ({"data_s3": "s3://My_Bucket/signs"}, "launch.data_s3=s3://My_Bucket/signs: must be s3://bucket/folder"),
    ({"bucket": "My_Bucket"}, "launch.bucket=My_Bucket: must be the name of a bucket, 3 to 63 small letters"),
    ({"image": "my image"}, "launch.image=my image: must be the address of an image"),
    ({"tags": {"aws:team": "vision"}}, "launch.tags: aws:team begins with aws:"),
    ({"tags": {"k" * 129: "v"}}, "launch.tags: Tags[2].Key has 129 letters, at most 128"),
    ({"prefix": "p" * 1024}, "launch.prefix: OutputDataConfig.S3OutputPath has"),
    ({"instance_type": "p3.2xlarge"}, "launch.instance_type: ResourceConfig.InstanceType=p3.2xlarge is not one of"),
    ({"subnets": ["subnet-1"]}, "launch.subnets and launch.security_groups: set both or none"),
    ({"max_cost_usd": 1.0}, "launch.max_cost_usd=1: 1 x ml.g5.xlarge for 720 minutes can cost 16.90 USD"),
    ({"max_cost_usd": 1.0, "instance_type": "ml.r8i.large"}, "the price of launch.instance_type=ml.r8i.large"),
    ({"kms_key": "k" * 2049}, "VolumeKmsKeyId has 2049 letters, at most 2048"),
    ({"tags": {"t" * 129: "x"}}, "Tags[2].Key has 129 letters, at most 128"),
]


@pytest.mark.parametrize(("changes", "message"), REFUSED)
def test_what_cannot_be_is_refused_here(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(BadInput) as caught:
        plan(tmp_path, "seed=1", **changes)
    assert message in str(caught.value)


def test_a_request_of_the_wrong_shape_is_refused(tmp_path: Path) -> None:
    request = plan(tmp_path, "seed=1")
    with pytest.raises(BadInput, match='Unknown parameter in input: "Sopt"'):
        check_request("CreateTrainingJob", {**request, "Sopt": True})


def test_everything_that_is_missing_is_asked_for_at_once() -> None:
    with pytest.raises(BadInput) as caught:
        check_settings(SageMakerSettings(), has_credentials=False)
    said = str(caught.value)
    assert "launch.role, launch.bucket, launch.region, credentials are not set" in said
    for way in ("SAGEMAKER_ROLE", "SAGEMAKER_BUCKET", "AWS_REGION", "aws configure"):
        assert way in said


STATES = [
    ("InProgress", "Starting", None, State.QUEUED, "waits for a machine"),
    ("InProgress", "Downloading", None, State.QUEUED, "loads the inputs"),
    ("InProgress", "Training", None, State.RUNNING, None),
    ("InProgress", "Interrupted", None, State.RUNNING, "goes on from its last checkpoint"),
    ("InProgress", "Restarting", None, State.RUNNING, "starts again"),
    ("InProgress", "Uploading", None, State.RUNNING, "uploaded"),
    ("Stopping", "Stopping", None, State.RUNNING, "asked to stop"),
    ("Stopped", "Stopped", None, State.STOPPED, "stopped"),
    ("Stopped", "MaxRuntimeExceeded", None, State.FAILED, "launch.max_run_minutes=10; raise that"),
    ("Stopped", "MaxWaitTimeExceeded", None, State.FAILED, "launch.max_wait_minutes=20"),
    ("Completed", "Completed", None, State.SUCCEEDED, None),
    ("Failed", "Failed", "AlgorithmError: data.root: no images, exit code: 2", State.FAILED, "data.root: no images"),
    ("Failed", "Failed", "CapacityError: Unable to provision", State.STOPPED, "the same command goes on"),
    ("Failed", "Failed", "InternalServerError: We encountered", State.STOPPED, "the same command goes on"),
    ("Failed", "Failed", "ClientError: Data download failed", State.FAILED, "ClientError: Data download failed"),
]


@pytest.mark.parametrize(("state", "secondary", "failure", "expected", "reason"), STATES)
def test_states(state: str, secondary: str, failure: str | None, expected: State, reason: str | None) -> None:
    limits = {"MaxRuntimeInSeconds": 600, "MaxWaitTimeInSeconds": 1200}
    described: dict[str, Any] = {"TrainingJobStatus": state, "SecondaryStatus": secondary, "StoppingCondition": limits}
    if failure:
        described["FailureReason"] = failure
    status = status_of(described)
    assert status.state == expected
    assert (reason is None and status.reason is None) or (reason or "") in (status.reason or "")


def start(backend: SageMaker, *words: str) -> str:
    return backend.submit(backend.plan(Job("a-job", PROGRAM, words, COMMIT)))


def test_a_spot_machine_that_is_taken_away(service: FakeSageMaker, tmp_path: Path) -> None:
    backend = backend_for(service, tmp_path / "jobs")
    job_id = start(backend, "nap=0.5", "epochs=12")
    wait(lambda: len(backend.metrics(job_id)) >= 2)
    service.interrupt(job_id)
    wait(lambda: service.machines[job_id].num_starts == 2)
    assert ended(backend, job_id) == Status(State.SUCCEEDED)
    begun = [line.split(",")[0] for line in backend.logs(job_id) if line.startswith("from epoch")]
    assert len(begun) == 2
    assert begun[1] != "from epoch 0"
    steps = [point.step for point in backend.metrics(job_id) if point.name == "val/accuracy"]
    assert steps == [*range(12), None]


def test_a_run_that_takes_too_long(service: FakeSageMaker, tmp_path: Path) -> None:
    backend = backend_for(service, tmp_path / "jobs", spot=False)
    plan = backend.plan(Job("a-job", PROGRAM, ("nap=0.1", "epochs=600"), COMMIT))
    plan["request"]["StoppingCondition"] = {"MaxRuntimeInSeconds": 1}
    job_id = backend.submit(plan)
    status = ended(backend, job_id)
    assert status.state == State.FAILED
    assert "raise that" in (status.reason or "")


def test_a_job_that_found_no_machine_is_tried_again(service: FakeSageMaker, tmp_path: Path) -> None:
    jobs = tmp_path / "jobs"
    backend = backend_for(service, jobs)
    told: list[State] = []
    service.num_without_machine = 1
    job = Job("a-job", PROGRAM, ("x=0.1",), COMMIT)
    (status,) = run_jobs(backend, [backend.plan(job)], 1, jobs, lambda job, job_id, status: told.append(status.state))
    assert status == Status(State.SUCCEEDED)
    assert told == [State.RUNNING, State.STOPPED, State.RUNNING, State.SUCCEEDED]
    assert [name.rsplit("-", 1)[-1] for name in service.machines][1] == "2", "names are used once"
    service.num_without_machine = 9
    (status,) = run_jobs(backend, [backend.plan(Job("b-job", PROGRAM, ("x=0.1",), COMMIT))], 1, jobs, lambda *_: None)
    assert status.state == State.STOPPED
    assert "CapacityError" in (status.reason or "")
    assert len(service.machines) == 2 + 3


def test_a_failure_of_its_own_is_not_tried_again(service: FakeSageMaker, tmp_path: Path) -> None:
    jobs = tmp_path / "jobs"
    job = Job("a-job", PROGRAM, ("fail=exit",), COMMIT)
    backend = backend_for(service, jobs)
    (status,) = run_jobs(backend, [backend.plan(job)], 1, jobs, lambda *_: None)
    assert status == Status(State.FAILED, "the loss is lost")
    assert len(service.machines) == 1


def test_who_follows_may_leave(service: FakeSageMaker, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """SIGINT while following: the job runs on, and how to find it again is said."""
    jobs = tmp_path / "runs" / "jobs"
    backend = backend_for(service, jobs)
    job = Job("a-job", PROGRAM, ("nap=0.1", "epochs=600"), COMMIT)

    def interrupt() -> None:
        wait(lambda: any(machine.secondary == "Training" for machine in service.machines.values()))
        signal.raise_signal(signal.SIGINT)

    caplog.set_level("WARNING")
    threading.Thread(target=interrupt).start()
    with (
        pytest.raises(Interrupted),
        Follower(backend, jobs, shows_output=True, leaves_running=True) as follower,
    ):
        run_jobs(backend, [backend.plan(job)], 1, jobs, follower.tell, leaves_running=True)
    (machine,) = service.machines.values()
    assert (machine.state, machine.is_stopped) == ("InProgress", False)
    assert "a-job runs on; follow, fetch and stop it with" in caplog.text
    for verb in ("logs", "fetch", "stop"):
        assert f"jobs.py {verb} a-job" in caplog.text
    backend.stop(machine.name)


def test_folders_are_uploaded_once(service: FakeSageMaker, aws: Callable[[str], Any], tmp_path: Path) -> None:
    photos = tmp_path / "it's a 'größe', $(x)"
    for name in ("a.png", "sub folder/b ü.png", ".secret"):
        (photos / name).parent.mkdir(parents=True, exist_ok=True)
        (photos / name).write_text(name)
    backend = backend_for(service, tmp_path / "jobs")
    quoted = f'"{photos}"'
    first, second = start(backend, f"images={quoted}", "x=0.1"), start(backend, f"images={quoted}", "x=0.2")
    for job_id in (first, second):
        assert ended(backend, job_id) == Status(State.SUCCEEDED)
        inputs = service.machines[job_id].base / "input" / "data" / "images"
        assert sorted(path.relative_to(inputs).as_posix() for path in inputs.rglob("*.*")) == [
            "a.png",
            "sub folder/b ü.png",
        ]
    listed = aws("s3").list_objects_v2(Bucket=BUCKET, Prefix=f"{service.folder.name}/inputs/")["Contents"]
    assert len(listed) == 3, "two files and the mark that they are all"
    (photos / "a.png").write_text("changed")
    assert (
        backend.plan(Job("x", PROGRAM, (f"images={quoted}",)))["request"]["InputDataConfig"]
        != service.requests[0]["InputDataConfig"]
    )


def test_files_that_changed_after_the_plan_are_not_sent_under_its_hash(service: FakeSageMaker, tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    (photos / "a.png").write_text("a")
    backend = backend_for(service, tmp_path / "jobs")
    plan = backend.plan(Job("a-job", PROGRAM, (f"images={photos}",)))
    (photos / "a.png").write_text("other")
    with pytest.raises(BadInput, match="photos: has changed or gone since the job was planned"):
        backend.submit(plan)
    assert not service.requests
    (photos / "a.png").write_text("a")
    assert ended(backend, backend.submit(plan)).state == State.SUCCEEDED
    (photos / "a.png").unlink()
    again = backend.plan(Job("b-job", PROGRAM, ("x=0.1",)))
    assert backend.submit({**again, "uploads": plan["uploads"]}), "what is in S3 already need not be here"


@pytest.mark.parametrize(("kms_key", "expected"), [(None, "AES256"), ("alias/experiments", "aws:kms")])
def test_what_is_uploaded_is_encrypted(
    kms_key: str | None, expected: str, service: FakeSageMaker, aws: Callable[[str], Any], tmp_path: Path
) -> None:
    (tmp_path / "a.png").write_text("a")
    prefix = f"{service.folder.name}/{expected}/"
    assert Storage(aws("s3"), kms_key).upload(tmp_path / "a.png", f"s3://{BUCKET}/{prefix}") == 1
    for each in aws("s3").list_objects_v2(Bucket=BUCKET, Prefix=prefix)["Contents"]:
        assert aws("s3").head_object(Bucket=BUCKET, Key=each["Key"])["ServerSideEncryption"] == expected


def test_an_image_that_nobody_pushed(service: FakeSageMaker, tmp_path: Path) -> None:
    image = f"123456789012.dkr.ecr.{REGION}.amazonaws.com/sightline-train:abc"
    backend = backend_for(service, tmp_path / "jobs", image=image)
    with pytest.raises(BadInput, match="it is not in the registry; make push-image puts it there"):
        start(backend, "x=0.1")
    assert not service.requests


def test_an_image_that_is_in_the_registry_is_not_built(
    service: FakeSageMaker, aws: Callable[[str], Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No container engine is asked for anything."""
    backend = backend_for(service, tmp_path / "jobs", image=None, push_image=True)
    job = Job("a-job", PROGRAM, ("x=0.1",), COMMIT)
    plan = backend.plan(job)
    repository, tag = plan["request"]["AlgorithmSpecification"]["TrainingImage"].split("/")[1].split(":")
    client = aws("ecr")
    with contextlib.suppress(client.exceptions.RepositoryAlreadyExistsException):
        client.create_repository(repositoryName=repository)
    kind = "application/vnd.docker.distribution.manifest.v2+json"
    manifest = json.dumps({"schemaVersion": 2, "mediaType": kind})
    client.put_image(repositoryName=repository, imageManifest=manifest, imageManifestMediaType=kind, imageTag=tag)
    monkeypatch.setenv("PATH", "")
    assert ended(backend, backend.submit(plan)).state == State.SUCCEEDED


DOCKER = """#!/bin/sh
case "$1" in
  --version) echo "Docker version 20.10.24";;
  version) echo 20.10.24;;
  build) echo "$@" > "${0%/*}/built"; exit 1;;
  *) exit 1;;
esac
"""


def test_the_build_before_a_push_gets_the_words_that_this_network_needs(
    service: FakeSageMaker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "docker").write_text(DOCKER)
    (tmp_path / "docker").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    settings = {"push_image": True, "base_image": "ours:1", "build_args": "--network host --secret 'id=ca,src=a b'"}
    backend = backend_for(service, tmp_path / "jobs", image=None, **settings)
    with pytest.raises(RuntimeError, match="docker build of .* failed"):
        start(backend, "x=0.1")
    words = (tmp_path / "built").read_text()
    assert "BASE_IMAGE=ours:1 --network host --secret id=ca,src=a b ." in words
    assert not service.requests


def test_an_archive_that_leads_out_of_the_folder(
    service: FakeSageMaker, aws: Callable[[str], Any], tmp_path: Path
) -> None:
    backend = backend_for(service, tmp_path / "jobs")
    job_id = start(backend, "x=0.1")
    assert ended(backend, job_id) == Status(State.SUCCEEDED)
    leads_out, link = tarfile.TarInfo("../../evil.txt"), tarfile.TarInfo("evil.txt")
    link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
    for name, member, reason in (
        ("output.tar.gz", leads_out, "'../../evil.txt' would be written outside the folder"),
        ("model.tar.gz", leads_out, "'../../evil.txt' would be written outside the folder"),
        ("model.tar.gz", link, "'evil.txt' is a link"),
    ):
        content = io.BytesIO()
        with tarfile.open(fileobj=content, mode="w:gz") as opened:
            opened.addfile(member, io.BytesIO())
        key = f"{service.folder.name}/jobs/{job_id}/output/{job_id}/output/{name}"
        aws("s3").put_object(Bucket=BUCKET, Key=key, Body=content.getvalue())
        with pytest.raises(BadInput, match=f"s3://{BUCKET}/{key}: {reason}"):
            backend.fetch(job_id, tmp_path / "fetched")
        assert not list(tmp_path.rglob("*evil.txt"))


def plan_with_changes(backend: SageMaker) -> dict[str, Any]:
    return {**backend.plan(Job("a-job", PROGRAM, ("x=0.1",), COMMIT)), "changes": "diff --git a/x b/x\n"}


def test_a_record_knows_its_region_and_the_changes_of_its_code(service: FakeSageMaker, tmp_path: Path) -> None:
    jobs = tmp_path / "jobs"
    backend = backend_for(service, jobs)
    submit_recorded(backend, plan_with_changes(backend), jobs)
    record = find_record(jobs, "a-job")
    assert record.settings["region"] == REGION
    assert record.request == service.requests[0]
    wait(lambda: backend.status(record.job_id).is_over)
    assert has_succeeded(backend, "a-job", jobs)
    service.close()
    assert has_succeeded(backend, "a-job", jobs), "a good end is asked for once"
    for key in ("AWS_ACCESS_KEY", "testing"):
        assert key not in (jobs / "a-job.json").read_text(), "no credentials in records"


def test_cost_and_changes_are_in_the_record_of_the_run(service: FakeSageMaker, tmp_path: Path) -> None:
    jobs = tmp_path / "jobs"
    backend = backend_for(service, jobs)
    job_id = submit_recorded(backend, plan_with_changes(backend), jobs)
    ended(backend, job_id)
    machine = service.machines[job_id]
    machine.seconds = 1000.0
    key = f"{service.folder.name}/jobs/{job_id}/checkpoints/run.json"
    service.s3.put_object(Bucket=BUCKET, Key=key, Body=b'{"status": "finished"}')
    folder = fetch_recorded(backend, find_record(jobs, "a-job"), tmp_path / "fetched")
    record = json.loads((folder / "run.json").read_text())
    launch = record["launch"]
    assert (launch["backend"], launch["job_id"], launch["changes"]) == ("sagemaker", job_id, "diff --git a/x b/x\n")
    assert (launch["seconds_trained"], launch["seconds_billed"], launch["spot_saving"]) == (1000, 300, 0.7)
    assert launch["cost_usd"] == pytest.approx(300 / 3600 * 1.408, abs=1e-4)
    assert launch["price"]["date"]
    assert record["dirty"] is True
    assert backend.cost_usd(job_id) == launch["cost_usd"]


def test_settings_and_their_file_agree() -> None:
    """configs/launch/sagemaker.yaml and its schema name the same keys with the same defaults."""
    from tests.conftest import compose_config

    launch = dict(compose_config("train", "launch=sagemaker").launch)
    expected = asdict(SageMakerSettings())
    assert launch.keys() == expected.keys()
    for key in expected.keys() - {"role", "bucket", "region", "image", "base_image", "build_args"}:
        assert launch[key] == expected[key], key
