"""A pipeline on a SageMaker that starts the image's entry point; its programs do no work, but in the slow tests."""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import PROJECT, TINY, Cli
from tests.launch.conftest import BUCKET, ROLE
from tests.launch.fake_sagemaker import FakeSageMaker

from sightline.registry.packages import open_registry

MAX_SECONDS = 240.0
STEP = "tests/launch/step_program.py"
STEPS = ("prepare", "train", "export", "evaluate", "explain", "gate")
LAUNCH = f"role={ROLE} bucket={BUCKET} image=image:1 poll_seconds=0.1 allow_dirty=true"


@pytest.fixture
def idle(service: FakeSageMaker) -> FakeSageMaker:
    """A SageMaker whose image does no work."""
    service.programs = {f"src/{name}.py": STEP for name in STEPS}
    return service


NO_DIGITS = ("paths.data=/nonexistent",)
"""Those that were written here would be uploaded."""


def words_for(service: FakeSageMaker, runs: Path, *words: str) -> list[str]:
    launch = [f"launch.{word}" for word in LAUNCH.split()]
    return [
        *launch,
        f"launch.prefix={service.folder.name}",
        f"paths.runs={runs}",
        *NO_DIGITS,
        "pipeline.name=tiny",
        *words,
    ]


def wait(true: Callable[[], object]) -> None:
    until = time.monotonic() + MAX_SECONDS
    while not true():
        assert time.monotonic() < until, "it never came"
        time.sleep(0.02)


def verb(cli: Cli, name: str, *words: str) -> Any:
    done = cli("pipeline", name, *words, "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def told(service: FakeSageMaker, step: str) -> list[str]:
    """What the newest job of a step was told."""
    files = sorted(service.folder.rglob(f"*-{step}-*/ml/**/words.json"), key=lambda file: file.stat().st_mtime)
    return json.loads(files[-1].read_text())


@pytest.mark.slow
def test_what_meets_its_gate_is_registered_and_what_does_not_is_not_and_nothing_runs_twice(
    idle: FakeSageMaker, cli: Cli, tmp_path: Path
) -> None:
    words = words_for(idle, tmp_path)
    assert verb(cli, "upsert", *words)["change"] == "created"
    assert verb(cli, "upsert", *words)["change"] == "unchanged"
    started = verb(cli, "start", *words, "Epochs=2", "model.lr=0.01", "pipeline.min_accuracy=0.93")
    assert started["parameters"] == {"Epochs": "2", "LearningRate": "0.01", "MinAccuracy": "0.93"}
    state = verb(cli, "wait", *words)
    assert state["status"] == "Succeeded"
    assert [each["name"] for each in state["steps"]] == [
        *("prepare", "train", "export", "evaluate", "explain", "gate", "gate-met", "register")
    ]
    assert {"trainer.max_epochs=2", "model.lr=0.01", "augmentation=light"} <= set(told(idle, "train"))
    assert not [word for word in told(idle, "evaluate") if word.startswith("against=")], "there is no champion yet"
    package = idle.packages["digits"][1]
    assert package["ModelApprovalStatus"] == "PendingManualApproval"
    assert package["CustomerMetadataProperties"]["execution"] == state["execution"]
    assert package["CustomerMetadataProperties"]["sha256"] == "0" * 64
    assert json.loads(package["ModelCard"]["ModelCardContent"])["model_overview"]
    assert float(package["CustomerMetadataProperties"]["usd"]) == pytest.approx(state["usd"], abs=1e-4)
    assert package["CustomerMetadataProperties"]["machine.train"] == "ml.g5.xlarge"
    again = verb(cli, "start", *words, "Epochs=2", "LearningRate=0.01", "MinAccuracy=0.93")
    assert again["is_new"]
    state = verb(cli, "wait", *words, again["execution"])
    assert [each["name"] for each in state["steps"] if each["is_cached"]] == list(STEPS)
    assert state["usd"] == 0
    verb(cli, "start", *words, "Epochs=2", "LearningRate=0.01", "MinAccuracy=0.99")
    done = cli("pipeline", "wait", *words)
    assert done.returncode == 4, done.stderr
    assert done.stderr.splitlines()[-1] == "error: not registered: test/accuracy_low is 0.97, 0.02 below 0.99"
    assert "evaluate       Succeeded  found in the cache" in cli("pipeline", "status", *words).stdout
    statuses = [each["status"] for each in verb(cli, "list", *words)["executions"]]
    assert (statuses, len(idle.packages["digits"])) == (["Failed", "Succeeded", "Succeeded"], 2)


@pytest.mark.slow
def test_an_approved_version_is_the_next_one_s_champion(idle: FakeSageMaker, cli: Cli, tmp_path: Path) -> None:
    words = words_for(idle, tmp_path)
    verb(cli, "upsert", *words)
    verb(cli, "start", *words, "ApprovalStatus=approved")
    assert verb(cli, "wait", *words)["status"] == "Succeeded"
    assert idle.packages["digits"][1]["ModelApprovalStatus"] == "Approved"
    started = verb(cli, "start", *words)
    assert started["parameters"]["Champion"].endswith("/gate/model.tar.gz")
    verb(cli, "wait", *words)
    against = next(word for word in told(idle, "evaluate") if word.startswith("against="))
    assert (Path(against.partition("=")[2].strip("'")) / "model" / "model.onnx").is_file()
    assert any(word.startswith("previous=") for word in told(idle, "gate"))


@pytest.mark.slow
def test_a_spot_machine_that_is_taken_away_goes_on_in_the_same_pipeline(
    idle: FakeSageMaker, cli: Cli, tmp_path: Path
) -> None:
    words = words_for(idle, tmp_path)
    verb(cli, "upsert", *words)
    idle.num_without_machine = 1  # and none is free at first
    verb(cli, "start", *words, "Seed=13")
    wait(lambda: any(idle.folder.rglob("checkpoints/checkpoints/last.ckpt")))
    name, machine = next((name, each) for name, each in idle.machines.items() if each.state == "InProgress")
    wait(lambda: machine._uploaded)
    idle.interrupt(name)
    state = verb(cli, "wait", *words)
    assert state["status"] == "Succeeded"
    assert machine.num_starts == 2
    assert json.loads((machine.base / "checkpoints" / "resumed.json").read_text()) is True


@pytest.mark.slow
def test_it_is_stopped_and_left_running(idle: FakeSageMaker, cli: Cli, tmp_path: Path) -> None:
    words = words_for(idle, tmp_path)
    verb(cli, "upsert", *words)
    started = verb(cli, "start", *words, "Seed=13")
    assert not verb(cli, "start", *words, "Seed=13")["is_new"], "two would write the same checkpoints"
    script = str(PROJECT / "src" / "pipeline.py")
    follower = subprocess.Popen([sys.executable, script, "wait", *words], stderr=subprocess.PIPE, text=True)
    assert follower.stderr is not None
    while "train" not in (follower.stderr.readline() or "train: it ended"):
        """It follows once it says how a step is doing."""
    follower.send_signal(signal.SIGINT)
    _, said = follower.communicate(timeout=60)
    assert follower.returncode == 130, said
    assert f"wait {started['execution']} pipeline.name=tiny" in said
    assert verb(cli, "status", *words)["status"] == "Executing"
    verb(cli, "stop", *words)
    done = cli("pipeline", "wait", *words)
    assert done.returncode == 1, done.stderr
    assert "Stopped" in done.stderr
    verb(cli, "stop", *words)


def test_another_command_s_settings_are_no_parameters(idle: FakeSageMaker, cli: Cli, tmp_path: Path) -> None:
    words = words_for(idle, tmp_path)
    for name, more, said in (
        ("start", (), "SageMaker has no such pipeline; make it with pipeline.py upsert"),
        ("upsert", ("launch.max_cost_usd=18",), "the whole pipeline can cost 19.20 USD"),
        ("upsert", ("ProcessingInstanceType=ml.c6i.xlarge", "launch.max_cost_usd=18"), "is not in the table"),
        ("upsert", ("pipeline.annotations=s3://a/b",), "data.version=NAME"),
    ):
        done = cli("pipeline", name, *words, *more)
        assert (done.returncode, said in done.stderr) == (2, True), done.stderr
    assert not idle.pipelines
    verb(cli, "upsert", *words)
    for more, said in (
        (("trainer.precision=32-true",), "tiny has no parameter for it, only Model, BatchSize"),
        (("launch.volume_gb=7",), "upsert makes it part of the definition"),
        (("Epoch=3",), "no step takes this parameter (did you mean Epochs?)"),
        (("LearningRate=auto",), "the parameter is a number in the pipeline that SageMaker has"),
        (("DataLocation=s3://experiments/images/",), "no step of tiny takes this"),
    ):
        done = cli("pipeline", "start", *words, *more)
        assert (done.returncode, said in done.stderr) == (2, True), done.stderr
    done = cli("pipeline", "status", *words, "nothing")
    assert (done.returncode, "has no such execution" in done.stderr) == (2, True), done.stderr
    assert not idle.executions


def test_what_would_change_is_said_before_it_does(idle: FakeSageMaker, cli: Cli, tmp_path: Path) -> None:
    words = words_for(idle, tmp_path)
    assert not verb(cli, "diff", *words)["exists"]
    verb(cli, "upsert", *words)
    assert verb(cli, "diff", *words)["changes"] == []
    more = ("trainer.max_epochs=7", "trainer.gradient_clip_val=1.0", "pipeline.max_loss=0.01")
    changed = verb(cli, "diff", *words, *more)
    where = {each["where"]: (each["before"], each["after"]) for each in changed["changes"]}
    assert where["parameter Epochs.DefaultValue"] == (20, 7)
    assert where["train.HyperParameters.trainer.gradient_clip_val"] == (None, "1.0")
    assert '+            "pipeline.max_loss=0.01"' in changed["text"]
    shown = cli("pipeline", "diff", *words, *more).stdout
    assert "parameter Epochs.DefaultValue: 20 → 7" in shown
    assert verb(cli, "upsert", *words, *more)["change"] == "updated"


@pytest.mark.slow
def test_data_at_an_address_of_one_s_own_are_looked_at_before_the_cache_is(
    idle: FakeSageMaker, cli: Cli, tmp_path: Path
) -> None:
    place = f"{idle.folder.name}/images/"
    for name in ("train/a/1.png", "train/b/2.png"):
        idle.s3.put_object(Bucket=BUCKET, Key=place + name, Body=name.encode())
    address = f"s3://{BUCKET}/{place}"
    words = words_for(idle, tmp_path, "data=folder", f"data.root={address}", "name=mine")
    verb(cli, "upsert", *words)
    hashes = []
    for content in (None, None, b"another"):
        if content is not None:
            idle.s3.put_object(Bucket=BUCKET, Key=f"{place}train/a/1.png", Body=content)
        started = verb(cli, "start", *words)
        hashes.append(started["parameters"]["DataSha256"])
        state = verb(cli, "wait", *words)
        cached = [each["name"] for each in state["steps"] if each["is_cached"]]
        assert cached == (list(STEPS) if len(hashes) == 2 else [])
    assert hashes[0] == hashes[1] != hashes[2]
    assert any(word.startswith("data.own_root=") for word in told(idle, "evaluate"))
    done = cli("pipeline", "start", *words, f"DataLocation=s3://{BUCKET}/{place}nothing/")
    assert (done.returncode, "nothing lies there" in done.stderr) == (2, True), done.stderr


@pytest.mark.slow
def test_annotations_that_change_nothing_end_it_well(idle: FakeSageMaker, cli: Cli, tmp_path: Path) -> None:
    idle.programs["src/data_versions.py"] = STEP
    place, store = f"s3://{BUCKET}/{idle.folder.name}/annotations/", f"s3://{BUCKET}/{idle.folder.name}/versions"
    settings = (f"pipeline.annotations={place}", "data.version=mine", f"paths.data_versions={store}")
    words = words_for(idle, tmp_path, *settings)
    verb(cli, "upsert", *words)
    ended = []
    for content in (b"as before", b"changed"):
        idle.s3.put_object(Bucket=BUCKET, Key=f"{idle.folder.name}/annotations/1.json", Body=content)
        verb(cli, "start", *words)
        state = verb(cli, "wait", *words)
        ended.append((state["status"], [each["name"] for each in state["steps"]]))
    assert ended[0] == ("Succeeded", ["merge", "data-changed"])
    assert ended[1][0] == "Succeeded"
    assert ended[1][1][-1] == "register"
    assert "data.version=mine/4" in told(idle, "prepare")
    assert {"data.version=mine/4", f"paths.data_versions={store}"} <= {
        each.replace("'", "") for each in told(idle, "train")
    }


@pytest.mark.slow
def test_images_in_and_a_registered_model_out(service: FakeSageMaker, cli: Cli, colors: Path, tmp_path: Path) -> None:
    """The programs themselves: what is registered opens as a run, and one that misses its gate is not."""
    tiny = [word for word in TINY if not word.startswith(("stages", "trainer.max_epochs"))]
    words = words_for(
        service, tmp_path / "runs", "launch=sagemaker", "data=folder", f"data.root={colors}", "name=colors"
    )
    words += [*tiny, "explanation.methods=[grad_cam]", "explanation.num_images=2", "trainer.max_epochs=2"]
    done = cli("pipeline", "run", *words, "pipeline.min_accuracy=0.01")
    logs = "".join(file.read_text()[-2000:] for file in service.folder.rglob("log*.txt")) if done.returncode else ""
    assert done.returncode == 0, done.stderr + logs
    (package,) = service.packages["colors"].values()
    assert package["ModelApprovalStatus"] == "PendingManualApproval"
    place = ["paths.registry=sagemaker:colors", f"paths.runs={tmp_path / 'runs'}", f"paths.cache={tmp_path / 'cache'}"]
    done = cli("registry", "verify", "colors/1", *place)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "pending" in cli("registry", "show", "colors/1", *place).stdout
    (folder,) = (tmp_path / "runs" / "pipeline").glob("*/*")
    record = json.loads((folder / "pipeline.json").read_text())
    assert record["status"] == "finished"
    assert record["version"]["version"] == 1
    assert record["gate"]["passed"]
    registry = open_registry("sagemaker:colors", tmp_path / "cache")
    version = registry.get("colors", "1")
    assert version.sha256 == package["CustomerMetadataProperties"]["sha256"]
    assert version.metrics["test/accuracy"] > 0.01
    assert (registry.fetch(version) / "model" / "model.onnx").is_file()
    assert registry.change(version, "approve", "ann", None).status == "approved"
    assert record["usd"] == pytest.approx(sum(each["usd"] for each in record["steps"]), abs=1e-3)
    done = cli("pipeline", "run", *words, "pipeline.min_accuracy=0.99")
    assert done.returncode == 4, done.stderr
    assert "not registered: test/accuracy_low is" in done.stderr.splitlines()[-1]
    assert len(service.packages["colors"]) == 1
