"""Ctrl-C while a command follows what it has started: a real signal to the group of processes of a terminal."""

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from tests.commands import PROJECT, Starter
from tests.conftest import TINY
from tests.images import image

from sightline.launch.records import JobRecord, backend_of, read_records

MAX_SECONDS = 120.0
BY_SIGTERM = (128 + signal.SIGTERM, -signal.SIGTERM)
PATH_KEYS = {
    "local_process": lambda: (),
    "local_container": lambda: (f"launch.image={image()}", "launch.allow_dirty=true"),
}


def wait(true: Callable[[], object]) -> None:
    until = time.monotonic() + MAX_SECONDS
    while not true():
        assert time.monotonic() < until, "it never came"
        time.sleep(0.05)


def interrupt(
    starter: Starter, jobs: Path, num_jobs: int, colors: Path, words: Sequence[str]
) -> tuple[str, list[JobRecord]]:
    """Press Ctrl-C once so many jobs run; return what the command then says, and the jobs."""
    command = [str(PROJECT / "src" / "train.py"), *words, f"paths.runs={jobs.parent}"]
    command += ["data=folder", f"data.root={colors}", "name=colors", *TINY, "trainer.max_epochs=5000", "stages=[fit]"]
    follower = starter.start(command, cwd=jobs.parent.parent)
    wait(lambda: len(list(jobs.glob("*.json"))) == num_jobs or follower.poll() is not None)
    os.killpg(follower.pid, signal.SIGINT)
    code, said = follower.wait(MAX_SECONDS), follower.stderr.read_text()
    assert code == 130, said
    return said, read_records(jobs)


def exit_code(record: JobRecord) -> int:
    return json.loads((Path(record.job_id) / ".job" / "state.json").read_text())["exit_code"]


@pytest.mark.parametrize(
    "place", ["local_process", pytest.param("local_container", marks=pytest.mark.container)], ids=str
)
def test_a_single_job_runs_on(place: str, starter: Starter, colors: Path, tmp_path: Path) -> None:
    """The signal does not reach it, it trains; and what is said is enough to stop it."""
    jobs = tmp_path / "runs" / "jobs"
    said, (record,) = interrupt(starter, jobs, 1, colors, [f"launch={place}", *PATH_KEYS[place]()])
    assert f"{record.name} runs on; follow, fetch and stop it with" in said
    assert said.splitlines()[-1] == "stopped by SIGINT"
    backend = backend_of(record, jobs)
    wait(lambda: backend.metrics(record.job_id))
    (stop,) = [line for line in said.splitlines() if "jobs.py stop" in line]
    subprocess.run([sys.executable, *shlex.split(stop.split("python ", 1)[1])], check=True)
    wait(lambda: backend.status(record.job_id).is_over)
    assert exit_code(record) in BY_SIGTERM


def test_several_jobs_stop(starter: Starter, colors: Path, tmp_path: Path) -> None:
    """They belong to a grid, which goes on with them."""
    jobs = tmp_path / "runs" / "jobs"
    grid = ["-m", "seed=1,2", "launch=local_process", "launch.n_parallel=2"]
    said, records = interrupt(starter, jobs, 2, colors, grid)
    assert "runs on" not in said
    assert "go on with: " in said
    assert [exit_code(record) in BY_SIGTERM for record in records] == [True, True]
