"""launch=sagemaker launch.instance_type=local: its plan, and what is missed before anything starts."""

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.conftest import Cli

from sightline.errors import BadInput
from sightline.launch.backends import backend_name
from sightline.launch.job import Job
from sightline.launch.sagemaker.local_mode import LocalMode, LocalModeSettings

NOTHING = {"AWS_CONFIG_FILE": "/nonexistent", "AWS_SHARED_CREDENTIALS_FILE": "/nonexistent"}
OTHERS = ("AWS_REGION", "AWS_DEFAULT_REGION", "AWS_PROFILE", "SAGEMAKER_ROLE", "SAGEMAKER_BUCKET")


@pytest.fixture(autouse=True)
def no_account(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in OTHERS:
        monkeypatch.delenv(name, raising=False)


def test_a_dry_run_needs_no_account_and_no_client(cli: Cli, colors: Path, tmp_path: Path) -> None:
    words = ["launch=sagemaker", "launch.instance_type=local", "launch.dry_run=true", "launch.allow_dirty=true"]
    data = ["data=folder", f"data.root={colors}", f"paths.runs={tmp_path / 'runs'}"]
    done = cli("train", "experiment=digits", *words, *data, **NOTHING)
    assert done.returncode == 0, done.stderr
    plan = json.loads(done.stdout)
    assert plan["backend"] == plan["settings"]["backend"] == "sagemaker_local"
    job = plan["request"]["training_job"]
    assert job["HyperParameters"] == {
        "experiment": "digits",
        "data": "folder",
        "data.root": "${paths.inputs}/data_root",
        "data.name": colors.name,
    }
    assert job["ResourceConfig"] == {"InstanceType": "local_cpu", "InstanceCount": 1}
    assert job["AlgorithmSpecification"]["TrainingImage"].startswith("sightline-train:")
    assert plan["request"]["channels"]["data_root"] == str(colors)
    assert not list(tmp_path.rglob("*"))


@pytest.mark.parametrize("instance_type", ["local", "local_cpu", "local_gpu"])
def test_the_type_of_machine_chooses_local_mode(instance_type: str) -> None:
    assert backend_name({"backend": "sagemaker", "instance_type": instance_type}) == "sagemaker_local"
    assert backend_name({"backend": "sagemaker", "instance_type": "ml.g5.xlarge"}) == "sagemaker"


def tool(folder: Path, name: str, text: str) -> None:
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(f"#!/bin/sh\n{text}\n")
    (folder / name).chmod(0o755)


def no_client(folder: Path, patch: pytest.MonkeyPatch) -> None:
    patch.setitem(sys.modules, "sagemaker", None)


def no_engine(folder: Path, patch: pytest.MonkeyPatch) -> None:
    patch.setenv("PATH", str(folder))


def no_compose(folder: Path, patch: pytest.MonkeyPatch) -> None:
    tool(folder, "docker", '[ "$1" = version ] && echo 20.10.24')
    patch.setenv("PATH", str(folder))


def no_gpu(folder: Path, patch: pytest.MonkeyPatch) -> None:
    tool(folder, "docker", "echo 2.30.0")
    patch.setenv("PATH", str(folder))
    patch.setenv("CUDA_VISIBLE_DEVICES", "")


@pytest.mark.parametrize(
    ("lacking", "instance_type", "message"),
    [
        (no_client, "local", "needs AWS's own client: pip install 'sightline-vision[sagemaker]'"),
        (no_engine, "local", "launch.instance_type=local: no container engine answers (there is no docker command)"),
        (no_compose, "local", "launch.instance_type=local: AWS's local mode needs Docker Compose"),
        (no_gpu, "local_gpu", "launch.instance_type=local_gpu: there is no GPU here; use launch.instance_type=local"),
    ],
)
def test_each_thing_that_is_missing_is_named(
    lacking: Callable[[Path, pytest.MonkeyPatch], None],
    instance_type: str,
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "sagemaker", json)  # as if it were here
    lacking(tmp_path / "tools", monkeypatch)
    with pytest.raises(BadInput) as refused:
        LocalMode.check(LocalModeSettings(instance_type=instance_type))
    assert message in str(refused.value)


def test_one_job_at_a_time(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="launch.n_parallel=2 launch.instance_type=local: AWS's local mode runs one"):
        LocalMode.check(LocalModeSettings(n_parallel=2, dry_run=True))


def test_the_run_folder_and_what_jobs_share_are_channels(tmp_path: Path) -> None:
    plan = LocalMode(tmp_path, LocalModeSettings(image="image:1")).plan(Job("signs", "src/train.py", ("seed=1",)))
    channels = plan["request"]["channels"]
    assert channels["run_folder"] == str(tmp_path / ".containers" / "signs" / "checkpoints")
    shared = plan["request"]["training_job"]["Environment"]["SIGHTLINE_SCRATCH"]
    assert Path(shared).name in channels
