"""What the image starts, in a folder that stands in for /opt/ml."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import PROJECT, compose_config

from sightline.launch.container.entrypoint import is_inside_sagemaker, program_overrides, reason
from sightline.launch.container.folder import ContainerFolder
from sightline.launch.container.hosts import FirstHostWatch, Hosts
from sightline.launch.container.hyperparameters import SCRIPT, to_hyperparameters

ECHO = "tests/launch/echo.py"
PROGRAM = "tests/launch/contract/program.py"
ONE = {"current_host": "algo-1", "hosts": ["algo-1"]}


@pytest.fixture
def folder(tmp_path: Path) -> ContainerFolder:
    return ContainerFolder(tmp_path / "opt ml, é")


def start(folder: ContainerFolder, *overrides: str, script: str = ECHO, hosts: Any = ONE) -> subprocess.Popen[str]:
    """The entry point, told what the service would write."""
    folder.config.mkdir(parents=True, exist_ok=True)
    (folder.config / "hyperparameters.json").write_text(json.dumps(to_hyperparameters(overrides, script)))
    (folder.config / "resourceconfig.json").write_text(json.dumps(hosts))
    return start_in(folder.base)


def start_in(base: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "sightline.launch.container.entrypoint", "train", "--base-dir", str(base)],
        env={**os.environ, "PYTHONPATH": str(PROJECT / "src")},
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def run(folder: ContainerFolder, *overrides: str, script: str = ECHO) -> int:
    return ended(start(folder, *overrides, script=script))[0]


def ended(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    out, err = process.communicate(timeout=60)
    return process.returncode, out, err


def test_values_survive_the_trip(folder: ContainerFolder) -> None:
    """What is typed here is what the program reads there, once it is composed."""
    overrides = ["data.classes=['a b',\"c=d\",'é']", "++model.arguments={a:1,b:'x y'}", "data.origin=''", "data.fold=2"]
    overrides += ["model.weights=null", 'name="0.001"', "~callbacks"]
    assert run(folder, *overrides) == 0
    told = json.loads((folder.output_data / "words.json").read_text())["words"]
    assert sorted(overrides) == sorted(told[: len(overrides)])
    far = [override for override in told if not override.startswith("output=")]
    here, there = (compose_config("train", *each) for each in ([*overrides, "paths=container"], far[:-1]))
    assert (here.data.classes, here.model, here.name) == (there.data.classes, there.model, "0.001")
    assert far[-3:] == ["paths=container", "launch=here", "hydra.mode=RUN"]


def test_results_lie_where_they_are_collected(folder: ContainerFolder) -> None:
    assert run(folder) == 0
    assert (folder.model / "model.safetensors").is_file()
    assert (folder.tensorboard / "events").is_file()
    assert (folder.output_data / "explanations" / "index.html").is_file()
    assert sorted(each.name for each in folder.output_data.iterdir()) == ["explanations", "run.json", "words.json"]
    assert (folder.run / "checkpoints" / "last.ckpt").is_file()
    assert not folder.failure.exists()


@pytest.mark.parametrize(
    ("overrides", "script", "code", "why"),
    [
        (["code=1", "says=error: the loss is lost"], ECHO, 1, "the loss is lost"),
        (["code=2", "says=error: no such key\n  did you mean lr?"], ECHO, 2, "no such key did you mean lr?"),
        (["code=3"], ECHO, 3, "exit code 3"),
        (["fail=kill"], PROGRAM, 137, "killed by SIGKILL: out of memory, or by hand"),
        (["code=1", "says=error: " + "é" * 3000], ECHO, 1, "é" * 1023 + "…"),
    ],
)
def test_a_failure_leaves_one_clear_line(
    folder: ContainerFolder, overrides: list[str], script: str, code: int, why: str
) -> None:
    folder.config.mkdir(parents=True)
    (folder.config / "hyperparameters.json").write_text(
        json.dumps({**dict(override.split("=", 1) for override in overrides), SCRIPT: script})
    )
    command = [sys.executable, "-m", "sightline.launch.container.entrypoint", "train", "--base-dir", str(folder.base)]
    done = subprocess.run(command, env={**os.environ, "PYTHONPATH": str(PROJECT / "src")}, capture_output=True)
    assert done.returncode == code
    assert folder.failure.read_text() == why


def test_what_the_service_wrote_wrongly_is_a_failure_with_a_reason(folder: ContainerFolder) -> None:
    process = start(folder, hosts={"current_host": "algo-3", "hosts": ["algo-1", "algo-2"]})
    code, _, err = ended(process)
    assert code == 1
    assert "algo-3" in folder.failure.read_text()
    assert "Traceback" not in err


def test_a_folder_that_cannot_be_written_is_said_and_not_thrown(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    code, _, err = ended(start_in(tmp_path / "file"))
    assert code == 1
    assert err.startswith("error: ")
    assert "Traceback" not in err


def test_a_program_outside_the_project_is_refused(folder: ContainerFolder) -> None:
    folder.config.mkdir(parents=True)
    (folder.config / "hyperparameters.json").write_text(json.dumps({SCRIPT: "../../bin/evil.py"}))
    command = [sys.executable, "-m", "sightline.launch.container.entrypoint", "train"]
    environment = {**os.environ, "PYTHONPATH": str(PROJECT / "src"), "SM_BASE_DIR": str(folder.base)}
    assert subprocess.run(command, env=environment, capture_output=True).returncode == 2
    assert "../../bin/evil.py" in folder.failure.read_text()


def until(true: Any) -> None:
    end = time.monotonic() + 60
    while not true():
        assert time.monotonic() < end, "it never came"
        time.sleep(0.02)


def test_a_signal_arrives_once_and_the_next_start_goes_on(folder: ContainerFolder) -> None:
    process = start(folder, "nap=0.1", "epochs=6", script=PROGRAM)
    until((folder.run / "metrics.csv").is_file)
    process.send_signal(signal.SIGTERM)
    code, out, _ = ended(process)
    assert code == 143
    assert out.startswith("from epoch 0")
    assert not folder.failure.exists(), "an interruption is no failure"
    code, out, _ = ended(start(folder, "nap=0.1", "epochs=6", script=PROGRAM))
    assert code == 0
    assert out.startswith("from epoch ")
    assert not out.startswith("from epoch 0")


def test_the_program_dies_with_the_entry_point(folder: ContainerFolder) -> None:
    process = start(folder, "waits=1", "status=running")
    until((folder.run / "run.json").is_file)
    process.kill()
    out, _ = process.communicate(timeout=30)  # returns when nobody holds the pipes any more
    assert out == ""


def test_a_run_that_is_finished_only_hands_over_its_results(folder: ContainerFolder) -> None:
    assert run(folder) == 0
    (folder.output_data / "words.json").unlink()
    assert run(folder, "code=1") == 0
    assert (folder.output_data / "words.json").is_file()


def test_what_cannot_go_on_begins_again(folder: ContainerFolder) -> None:
    folder.run.mkdir(parents=True)
    (folder.run / "run.json").write_text(json.dumps({"task": "evaluate", "status": "interrupted"}))
    (folder.run / "half").write_text("written")
    assert run(folder) == 0
    assert not (folder.run / "half").exists()


def test_a_run_from_elsewhere_goes_on_here(folder: ContainerFolder) -> None:
    given = folder.inputs / "resume"
    given.mkdir(parents=True)
    (given / "run.json").write_text("{}")
    (given / "metrics.csv").write_text("epoch,step,val/accuracy\n0,0,0.5\n")
    code, out, _ = ended(start(folder, "resume=${paths.inputs}/resume", script=PROGRAM))
    assert code == 0
    assert out.startswith("from epoch 1")
    assert "resume" not in out
    assert (given / "metrics.csv").read_text().count("\n") == 2, "a channel is for reading"


def test_several_hosts_are_told_how_to_meet(tmp_path: Path) -> None:
    path = tmp_path / "resourceconfig.json"
    path.write_text(json.dumps({"current_host": "b", "hosts": ["b", "a"], "network_interface_name": "lo"}))
    hosts = Hosts.read(path)
    assert (hosts.number, hosts.is_first) == (1, False)
    told = hosts.environment()
    assert (told["MASTER_ADDR"], told["NODE_RANK"]) == ("a", "1")
    overrides = program_overrides(["trainer.devices=1"], "src/train.py", ContainerFolder(tmp_path), hosts, num_gpus=4)
    cfg = compose_config("train", *(override for override in overrides if not override.startswith("hydra")))
    assert (cfg.trainer.strategy, cfg.trainer.devices, cfg.trainer.num_nodes) == ("ddp", 1, 2)
    assert Hosts.read(tmp_path / "none.json").environment() == {}


def test_one_host_with_several_gpus_uses_all_and_one_with_none_stays_plain(tmp_path: Path) -> None:
    for num_gpus, is_told in ((0, False), (1, False), (4, True)):
        overrides = program_overrides([], "src/train.py", ContainerFolder(tmp_path), Hosts(), num_gpus)
        assert ("trainer.devices=auto" in overrides) == is_told
        assert not [
            override
            for override in program_overrides([], "src/evaluate.py", ContainerFolder(tmp_path), Hosts(), num_gpus)
            if override.startswith("trainer")
        ]


def test_a_name_that_leads_nowhere_is_said() -> None:
    with pytest.raises(OSError, match="host nowhere.invalid"):
        Hosts(("localhost", "nowhere.invalid"), "localhost").wait_for_names(0.0)


def test_the_others_end_after_the_first() -> None:
    with socket.socket() as free:
        free.bind(("", 0))
        port = free.getsockname()[1]
    program = (
        "from sightline.launch.container.hosts import *; "
        f"FirstHostWatch(Hosts(('localhost', 'x'), 'localhost'), {port}); input()"
    )
    first = subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, env={**os.environ, "PYTHONPATH": str(PROJECT / "src")}
    )
    end = FirstHostWatch(Hosts(("localhost", "x"), "x"), port)
    until(lambda: not end.wait(0.0))
    assert not end.wait(0.1)
    first.communicate(b"\n", timeout=60)
    assert end.wait(60)


def test_sagemaker_is_known_by_what_it_writes_not_by_a_folder(tmp_path: Path) -> None:
    folder = ContainerFolder(tmp_path)
    assert not is_inside_sagemaker(folder, {})
    assert is_inside_sagemaker(folder, {"TRAINING_JOB_NAME": "a"})
    folder.config.mkdir(parents=True)
    (folder.config / "resourceconfig.json").write_text("{}")
    assert is_inside_sagemaker(folder, {})


def test_the_reason_is_that_of_the_record_when_nothing_was_said(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text(json.dumps({"status": "failed", "reason": "the disk is full"}))
    assert reason(1, ["", "some noise"], tmp_path) == "the disk is full"


def test_a_run_folder_that_is_a_channel(folder: ContainerFolder) -> None:
    """As in AWS's own local mode, which mounts no checkpoints; other hosts than the first begin with a copy."""
    mounted = folder.inputs / "run_folder"
    mounted.mkdir(parents=True)
    words = ["epochs=2", "nap=0.01"]
    code, out, err = ended(start(folder, *words, script=PROGRAM))
    assert code == 0, err
    assert "from epoch 0" in out
    assert (mounted / "checkpoints" / "last.ckpt").read_text() == "1"
    assert not folder.run.exists()
    code, out, err = ended(start(folder, "epochs=3", "nap=0.01", script=PROGRAM))
    assert "from epoch 2" in out, err
    other = folder.with_mounted_run(is_first=False)
    assert other.run == folder.run
    assert (folder.run / "checkpoints" / "last.ckpt").read_text() == "2"
