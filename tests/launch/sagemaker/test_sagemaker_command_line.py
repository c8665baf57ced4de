"""launch=sagemaker as a person types it."""

import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tests.conftest import PROJECT, Cli
from tests.launch.conftest import BUCKET, ROLE
from tests.launch.fake_sagemaker import FakeSageMaker

from sightline.env_file import load_env_file
from sightline.errors import BadInput
from sightline.launch.source_changes import check_source, source_changes
from sightline.runs.override_text import unquoted

NOTHING = {
    "AWS_CONFIG_FILE": "/nonexistent",
    "AWS_SHARED_CREDENTIALS_FILE": "/nonexistent",
    "AWS_EC2_METADATA_DISABLED": "true",
}
COMPLETE = {**NOTHING, "SAGEMAKER_ROLE": ROLE, "SAGEMAKER_BUCKET": BUCKET, "AWS_REGION": "eu-west-1"}
DIRTY = "launch.allow_dirty=true"


@pytest.fixture(autouse=True)
def no_account(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION", "AWS_PROFILE", "SAGEMAKER_ROLE", "SAGEMAKER_BUCKET"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize("task", ["train", "evaluate"])
def test_what_is_missing_is_asked_for_at_once(task: str, cli: Cli, tmp_path: Path) -> None:
    """Before data are missed, too."""
    run = ["run=somewhere"] if task == "evaluate" else ["experiment=gtsrb", f"paths.data={tmp_path}"]
    done = cli(task, "launch=sagemaker", DIRTY, *run, f"paths.runs={tmp_path / 'runs'}", **NOTHING)
    assert done.returncode == 2
    assert "launch.role, launch.bucket, launch.region, credentials are not set" in done.stderr
    assert "Traceback" not in done.stderr
    assert not list(tmp_path.rglob("*"))


REFUSED = [
    ("launch.spto=true", "launch.spto: no such key (did you mean launch.spot?)"),
    ("launch.spot=perhaps", "launch.spot=perhaps: must be true or false"),
    ("model.weights=nowhere.safetensors", "nowhere.safetensors"),
    ("launch.max_cost_usd=1", "launch.max_cost_usd=1: 1 x ml.g5.xlarge for 720 minutes can cost 16.90 USD"),
    ("launch.instance_count=2 divergence.action=rollback", "set divergence.action=stop, or launch.instance_count=1"),
    (
        "hparams_search=optuna divergence.action=rollback launch.instance_count=2",
        "divergence.action=rollback: only the",
    ),
    ("launch.region=eu-wset-1", "launch.region=eu-wset-1: AWS's client knows no such region (did you mean eu-west-1?)"),
    ("data=folder data.root=s3:/photos/signs", "data.root=s3:/photos/signs: must be s3://bucket/folder"),
    ("launch.instance_type=ml.g5.huge", "ResourceConfig.InstanceType=ml.g5.huge is not one of"),
]


@pytest.mark.parametrize(("given", "message"), REFUSED)
def test_bad_input_is_refused_here(given: str, message: str, cli: Cli, tmp_path: Path) -> None:
    words = ["launch=sagemaker", "launch.dry_run=true", DIRTY, f"paths.runs={tmp_path / 'runs'}", *given.split()]
    done = cli("train", *words, **COMPLETE)
    assert done.returncode == 2, done.stderr
    assert message in done.stderr
    assert done.stdout == ""
    assert not list(tmp_path.rglob("*"))


def test_data_that_are_nowhere_are_missed_before_a_machine_is_paid(cli: Cli, tmp_path: Path) -> None:
    keys = {"AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "testing"}
    words = ["experiment=gtsrb", f"paths.data={tmp_path}", "launch=sagemaker", DIRTY, f"paths.runs={tmp_path / 'runs'}"]
    done = cli("train", *words, **COMPLETE, **keys)
    assert done.returncode == 2
    assert "launch.data_s3=s3://" in done.stderr


def test_a_dry_run_is_quick_and_loads_no_torch(tmp_path: Path) -> None:
    """At most 3 s, measured in the processor's time: others may be busy here."""
    program = (
        "import runpy, sys, time\n"
        f"sys.argv = ['train.py', 'experiment=gtsrb', 'launch=sagemaker', 'launch.dry_run=true', {DIRTY!r}]\n"
        "try:\n"
        f"    runpy.run_path({str(PROJECT / 'src' / 'train.py')!r}, run_name='__main__')\n"
        "except SystemExit as end:\n"
        "    assert not end.code, end.code\n"
        "heavy = {'torch', 'timm', 'pytorch_lightning', 'sagemaker', 'optuna'} & set(sys.modules)\n"
        "print(sorted(heavy), time.process_time(), file=sys.stderr)\n"
    )
    environment = {**COMPLETE, "PYTHONPATH": str(PROJECT / "src"), "PATH": "/usr/bin:/bin", "HOME": str(tmp_path)}
    began = time.monotonic()
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, timeout=60)
    print(f"{time.monotonic() - began:.2f} s by the clock")
    assert done.returncode == 0, done.stderr
    loaded, seconds = done.stderr.strip().splitlines()[-1].rsplit(" ", 1)
    assert loaded == "[]"
    assert float(seconds) < 3.0
    request = json.loads(done.stdout)["request"]
    assert request["HyperParameters"] == {"experiment": "gtsrb"}
    assert request["AlgorithmSpecification"]["TrainingImage"].startswith("123456789012.dkr.ecr.eu-west-1.")


def test_a_dry_run_of_a_grid_and_of_a_sweep(cli: Cli, tmp_path: Path) -> None:
    words = ["launch=sagemaker", "launch.dry_run=true", DIRTY, f"paths.runs={tmp_path / 'runs'}"]
    grid = cli("train", "-m", "seed=1,2", *words, **COMPLETE)
    assert grid.returncode == 0, grid.stderr
    assert [each["request"]["HyperParameters"]["seed"] for each in json.loads(grid.stdout)] == ["1", "2"]
    search = cli("train", "hparams_search=optuna", *words, **COMPLETE)
    assert search.returncode == 0, search.stderr
    told = json.loads(search.stdout)["request"]["HyperParameters"]
    assert told["stages"] == "[fit]"
    assert "model.lr" in told
    assert not [key for key in told if key.startswith(("launch", "hydra", "output", "hparams"))]
    assert not list(tmp_path.rglob("*"))


def test_other_programs_take_a_run_with_them(cli: Cli, tmp_path: Path) -> None:
    trained, images = tmp_path / "a run", tmp_path / "images"
    for folder in (trained, images):
        folder.mkdir()
    (images / "one.png").touch()
    (trained / "run.json").write_text(json.dumps({"data": {"root": str(images)}}))
    words = ["launch=sagemaker", "launch.dry_run=true", DIRTY, f"run='{trained}'", f"paths.runs={tmp_path / 'runs'}"]
    for task in ("evaluate", "explain"):
        done = cli(task, *words, "split=val", **COMPLETE)
        assert done.returncode == 0, done.stderr
        request = json.loads(done.stdout)["request"]
        channels = {each["ChannelName"] for each in request["InputDataConfig"]}
        assert channels == {"run", "data_own_root"}
        assert request["HyperParameters"]["_script"] == f"src/{task}.py"
        assert request["HyperParameters"]["data.own_root"] == "${paths.inputs}/data_own_root"
        assert str(tmp_path) not in json.dumps(request)
    prepared = cli("prepare", "launch=sagemaker", "launch.dry_run=true", DIRTY, **COMPLETE)
    assert json.loads(prepared.stdout)["request"]["HyperParameters"]["_script"] == "src/prepare.py"


def test_parts_of_a_folder_travel_with_their_run(cli: Cli, tmp_path: Path) -> None:
    trained, images = tmp_path / "a run", tmp_path / "new pictures"
    for folder in (trained, images):
        folder.mkdir()
    (trained / "run.json").write_text("{}")
    words = ["-m", "part=0,1", "num_parts=2", f"run='{trained}'", f"images='{images}'", "format=jsonl"]
    launch = ["launch=sagemaker", "launch.dry_run=true", DIRTY, f"paths.runs={tmp_path / 'runs'}"]
    done = cli("predict", *words, *launch, **COMPLETE)
    assert done.returncode == 0, done.stderr
    for part, plan in enumerate(json.loads(done.stdout)):
        request = plan["request"]
        assert {each["ChannelName"] for each in request["InputDataConfig"]} == {"run", "images"}
        told = request["HyperParameters"]
        assert (told["part"], told["num_parts"], told["format"]) == (str(part), "2", "jsonl")
        assert told["images"] == "${paths.inputs}/images"
        assert str(tmp_path) not in json.dumps(request)
    words = ["endpoint=sagemaker:live", "images=s3://pictures/new", "num_parts=2", "part=1"]
    request = json.loads(cli("predict", *words, *launch, **COMPLETE).stdout)["request"]
    (channel,) = request["InputDataConfig"]
    assert channel["DataSource"]["S3DataSource"]["S3Uri"] == "s3://pictures/new"
    assert unquoted(request["HyperParameters"]["endpoint"]) == "sagemaker:live"


def test_leaving_at_once(service: FakeSageMaker, cli: Cli, tmp_path: Path) -> None:
    """`launch.wait=false` sends what a dry run prints, and says the name and the commands; the last of them works."""
    launch = [f"launch.prefix={service.folder.name}", "launch.image=image:1", "launch.poll_seconds=0.1", DIRTY]
    words = ["trainer.max_epochs=500", "launch=sagemaker", *launch, f"paths.runs={tmp_path / 'runs'}"]
    environment = {**COMPLETE, "AWS_ENDPOINT_URL_SAGEMAKER": service.address}
    planned = json.loads(cli("train", *words, "launch.dry_run=true", **environment).stdout)["request"]
    done = cli("train", *words, "launch.wait=false", **environment)
    assert done.returncode == 0, done.stderr
    assert service.requests == [planned]
    assert "at most 16.90 USD" in done.stderr
    named, *commands = done.stdout.splitlines()
    assert [command.split(" ")[4] for command in commands] == ["logs", "fetch", "stop"]
    (machine,) = service.machines.values()
    assert machine.name.startswith(named.removeprefix("job: "))
    stop = cli("jobs", *commands[-1].split("jobs.py ")[1].split(), **COMPLETE)
    assert stop.returncode == 0, stop.stderr
    assert machine.is_stopped


def test_a_job_that_cannot_be_asked_for_hides_no_other(cold_cli: Cli, tmp_path: Path) -> None:
    jobs = tmp_path / "runs" / "jobs"
    jobs.mkdir(parents=True)
    facts = {"script": "src/train.py", "overrides": [], "commit": None, "submitted": "2026", "request": {}}
    settings = {"region": "eu-west-1"}
    for name, is_finished in (("one", True), ("two", False)):
        record = {"name": name, "backend": "sagemaker", **facts, "job_id": name, "settings": settings}
        (jobs / f"{name}.json").write_text(json.dumps({**record, "is_finished": is_finished}))
    keys = {"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": ""}
    done = cold_cli("jobs", "list", "--runs", str(tmp_path / "runs"), **NOTHING, **keys)
    assert done.returncode == 0, done.stderr
    one, two = done.stdout.splitlines()[1:]
    assert "succeeded" in one
    assert "unknown" in two
    assert "credentials" in two


def test_code_that_no_commit_has_is_refused(tmp_path: Path) -> None:
    def git(*words: str) -> None:
        identity = ["-c", "user.name=x", "-c", "user.email=x@example.org"]
        subprocess.run(["git", "-C", str(tmp_path), *identity, *words], check=True, capture_output=True)

    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "train.py").write_text("one\n")
    git("init", "-q")
    git("add", "-A")
    git("commit", "-qm", "one")
    assert source_changes(tmp_path) is None
    for name in ("notes.txt", "dockers/serve/Dockerfile", "src/sightline.egg-info/x", "configs/local/mine.yaml"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("not in an image\n")
    assert source_changes(tmp_path) is None
    (tmp_path / ".dockerignore").write_text("decides what is in an image\n")
    assert source_changes(tmp_path) == "new file: .dockerignore\n"
    (tmp_path / ".dockerignore").unlink()
    (tmp_path / "src" / "train.py").write_text("two\n")
    (tmp_path / "src" / "new.py").write_text("new\n")
    changes = source_changes(tmp_path)
    assert changes is not None
    assert "+two" in changes
    with pytest.raises(BadInput, match="src/train.py, src/new.py differ"):
        check_source(changes, allow_dirty=False)
    check_source(changes, allow_dirty=True)
    shutil.rmtree(tmp_path / ".git")
    assert source_changes(tmp_path) is None, "without git nobody knows"


def test_the_env_file_says_what_the_environment_does_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SAGEMAKER_ROLE", "from the shell")
    monkeypatch.delenv("SAGEMAKER_IMAGE", raising=False)
    monkeypatch.delenv("HF_HOME", raising=False)
    (tmp_path / ".env").write_text("SAGEMAKER_ROLE=other\nSAGEMAKER_IMAGE='image: 1' # ours\nHF_HOME=\n")
    load_env_file(tmp_path / ".env")
    from os import environ

    assert (environ["SAGEMAKER_ROLE"], environ["SAGEMAKER_IMAGE"]) == ("from the shell", "image: 1")
    assert "HF_HOME" not in environ
    monkeypatch.delenv("SAGEMAKER_IMAGE")
