"""`python src/jobs.py` on jobs that run here."""

import json
import os
import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.conftest import do_jobs

from sightline.errors import BadInput
from sightline.launch.backend import LaunchSettings
from sightline.launch.job import Job
from sightline.launch.local.backend import LocalProcess
from sightline.launch.records import submit_recorded

PROGRAM = "tests/launch/contract/program.py"


@pytest.fixture
def backend(tmp_path: Path) -> Iterator[LocalProcess]:
    made = LocalProcess(tmp_path / "jobs", LaunchSettings(preload=["json"]), grace_seconds=5.0)
    yield made
    made.close()


def submit(backend: LocalProcess, name: str, *words: str) -> str:
    return submit_recorded(backend, backend.plan(Job(name, PROGRAM, words)), backend.jobs)


def wait(backend: LocalProcess, job_id: str, state: str) -> None:
    until = time.monotonic() + 30
    while backend.status(job_id).state != state:
        assert time.monotonic() < until, backend.status(job_id)
        time.sleep(0.02)


def test_a_job_from_its_start_to_its_end(
    backend: LocalProcess, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name = "a-name-of-many-letters-that-must-be-copied-from-the-list-whole"
    job_id = submit(backend, name, "nap=0.05", "epochs=200")
    wait(backend, job_id, "running")
    while not backend.metrics(job_id):
        time.sleep(0.02)
    assert say(tmp_path, capsys, "status", name) == "running\n"
    assert name in say(tmp_path, capsys, "list")
    assert json.loads(say(tmp_path, capsys, "metrics", name).splitlines()[0])["name"] == "val/accuracy"
    assert say(tmp_path, capsys, "fetch", name, "--into", str(tmp_path / "into")).startswith(f"{name} is running: this")
    assert (tmp_path / "into" / "metrics.csv").is_file()
    assert "was told to stop" in say(tmp_path, capsys, "stop", name)
    wait(backend, job_id, "stopped")
    assert say(tmp_path, capsys, "status", name) == "stopped\n"
    assert say(tmp_path, capsys, "stop", name) == f"{name} is over: stopped\n"
    assert "from epoch 0" in say(tmp_path, capsys, "logs", name)
    shutil.rmtree(job_id)
    assert say(tmp_path, capsys, "logs", name) == f"nothing of {name}, which is stopped: its folder is gone\n"
    with pytest.raises(BadInput, match="the job's folder is gone"):
        say(tmp_path, capsys, "fetch", name, "--into", str(tmp_path / "into"))


def test_jobs_that_failed_say_why(backend: LocalProcess, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    wait(backend, submit(backend, "lost", "nap=0.01", "fail=exit"), "failed")
    job_id = submit(backend, "killed", "nap=0.05", "epochs=200")
    wait(backend, job_id, "running")
    os.kill(json.loads((Path(job_id) / ".job" / "state.json").read_text())["pid"], signal.SIGKILL)
    wait(backend, job_id, "failed")
    assert say(tmp_path, capsys, "status", "lost") == "failed: the loss is lost\n"
    assert "killed by SIGKILL" in say(tmp_path, capsys, "status", "killed")
    listed = {tuple(line.split()[:3]) for line in say(tmp_path, capsys, "list").splitlines()[1:]}
    assert listed == {("lost", "local_process", "failed"), ("killed", "local_process", "failed")}
    assert [row["state"] for row in json.loads(say(tmp_path, capsys, "list", "--json"))] == ["failed", "failed"]
    assert json.loads(say(tmp_path, capsys, "status", "lost", "--json"))["reason"] == "the loss is lost"
    assert "from epoch 0" in json.loads(say(tmp_path, capsys, "logs", "lost", "--json"))[0]
    assert json.loads(say(tmp_path, capsys, "metrics", "lost", "--json"))[0]["name"] == "val/accuracy"
    with pytest.raises(BadInput, match="nothing: no such job in .* the latest are .*lost"):
        say(tmp_path, capsys, "status", "nothing")


def test_what_stands_in_brackets_is_no_markup(
    backend: LocalProcess, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wait(backend, submit(backend, "lost", "needs=[bold]weights"), "failed")
    assert "needs=[bold]weights: no such file" in say(tmp_path, capsys, "list")


def test_no_jobs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert say(tmp_path, capsys, "list") == f"no jobs in {tmp_path / 'jobs'}\n"


def say(runs: Path, capsys: pytest.CaptureFixture[str], *words: str) -> str:
    capsys.readouterr()
    do_jobs(runs, *words)
    shown = capsys.readouterr()
    return shown.err + shown.out
