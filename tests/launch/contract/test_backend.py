"""What every backend keeps: the seven verbs, with a program that reports, stops, goes on and fails."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.conftest import PROJECT

from sightline.launch.backend import Backend
from sightline.launch.job import Job, State, Status

PROGRAM = "tests/launch/contract/program.py"
SOURCE = f"{PROJECT / 'src'}{os.pathsep}{PROJECT}"
SUBMIT = """
import json, sys
from pathlib import Path
from sightline.launch.backends import BACKENDS, make_backend
BACKENDS["brought"] = "tests.launch.brought_backend:Brought"
plan = json.loads(Path(sys.argv[1]).read_text())
backend = make_backend(plan["backend"], Path(sys.argv[2]), plan["settings"])
print(backend.submit(plan))
backend.close()
"""
MAX_SECONDS = 60.0


def make_job(*words: str, name: str = "a-job") -> Job:
    return Job(name, PROGRAM, words)


def start(backend: Backend, *words: str) -> str:
    return backend.submit(backend.plan(make_job(*words)))


def wait(true: Callable[[], bool]) -> None:
    until = time.monotonic() + MAX_SECONDS
    while not true():
        assert time.monotonic() < until, "it never came"
        time.sleep(0.02)


def ended(backend: Backend, job_id: str) -> Status:
    wait(lambda: backend.status(job_id).is_over)
    return backend.status(job_id)


def test_a_plan_is_json_and_the_same_twice(backend: Backend, tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.png").write_text("a")
    before = listing(tmp_path)
    job = make_job("x=0.4", f"images={tmp_path}/photos")
    plan = backend.plan(job)
    assert json.loads(json.dumps(plan)) == plan == backend.plan(job)
    assert set(plan) == {"backend", "job", "settings", "uploads", "request"}
    assert plan["job"] == {"name": job.name, "script": job.script, "overrides": list(job.overrides), "commit": None}
    assert set(plan["uploads"].values()) <= {f"{tmp_path}/photos"}
    assert "0.4" in json.dumps(plan["request"])
    assert listing(tmp_path) == before, "planning writes nothing"


def listing(folder: Path) -> dict[Path, tuple[int, int]]:
    return {path: (path.stat().st_size, path.stat().st_mtime_ns) for path in folder.rglob("*")}


def test_a_plan_is_submitted_by_another_process(backend: Backend, tmp_path: Path) -> None:
    """By a backend that knows nothing but the plan's text; what is uploaded arrives."""
    jobs = tmp_path / "jobs, é '\"${x}"
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.png").write_text("a")
    plan = backend.plan(make_job("x=0.3", "y=0.6", "epochs=1", f"images={tmp_path}/photos"))
    file = tmp_path / "plan.json"
    file.write_text(json.dumps(plan))
    words = [sys.executable, "-c", SUBMIT, str(file), str(jobs)]
    done = subprocess.run(words, capture_output=True, text=True, cwd="/", env={**os.environ, "PYTHONPATH": SOURCE})
    assert done.returncode == 0, done.stderr
    job_id = done.stdout.splitlines()[-1]
    assert ended(backend, job_id).state == State.SUCCEEDED
    assert backend.submit(plan) == job_id, "one job, whoever submits"
    assert sum(line.startswith("from epoch") for line in backend.logs(job_id)) == 1


def test_the_far_side_is_told_once_where_to_run(backend: Backend) -> None:
    """Overrides replayed as they are would submit again, or begin another sweep."""
    words = (
        "launch=local_process",
        "launch.n_parallel=3",
        "hparams_search=optuna",
        "hydra.sweeper.n_trials=3",
        "x=0.4",
    )
    job_id = start(backend, *words)
    assert ended(backend, job_id).state == State.SUCCEEDED
    (said,) = [line for line in backend.logs(job_id) if line.startswith("from epoch")]
    assert "launch here, mode RUN" in said
    for word in words[:-1]:
        assert f"'{word.split('=')[0]}'" not in said.replace("'launch'", "")
    assert "'x'" in said


def test_a_job_succeeds_and_reports(backend: Backend, tmp_path: Path) -> None:
    job_id = start(backend, "x=0.3", "y=0.6")
    assert ended(backend, job_id) == Status(State.SUCCEEDED)
    points = [point for point in backend.metrics(job_id) if point.name == "val/accuracy"]
    assert [point.step for point in points] == [0, 1, 2, None]
    assert points[-1].value == points[-2].value == pytest.approx(0.7768698)
    assert any("from epoch 0" in line for line in backend.logs(job_id))
    folder = backend.fetch(job_id, tmp_path / "fetched")
    assert json.loads((folder / "metrics.json").read_text())["val/accuracy"] == points[-1].value


def test_metrics_come_while_it_runs(backend: Backend) -> None:
    job_id = start(backend, "nap=0.1", "epochs=600")
    wait(lambda: len(backend.metrics(job_id)) >= 2)
    assert backend.status(job_id).state == State.RUNNING
    backend.stop(job_id)
    ended(backend, job_id)


@pytest.mark.parametrize(("fail", "reason"), [("exit", "the loss is lost"), ("kill", "SIGKILL")])
def test_a_failure_has_its_reason(backend: Backend, fail: str, reason: str) -> None:
    job_id = start(backend, f"fail={fail}")
    status = ended(backend, job_id)
    assert status.state == State.FAILED
    assert reason in (status.reason or "")


def test_bad_input_is_told_from_other_failures(backend: Backend) -> None:
    status = ended(backend, start(backend, "needs=/nowhere"))
    assert (status.state, status.is_bad_input) == (State.FAILED, True)
    assert "needs=/nowhere: no such file" in (status.reason or "")
    assert not ended(backend, backend.submit(backend.plan(make_job("fail=exit", name="b-job")))).is_bad_input


def test_stop_is_idempotent_and_the_same_plan_goes_on(backend: Backend) -> None:
    job_id = start(backend, "nap=0.25", "epochs=12")
    wait(lambda: len(backend.metrics(job_id)) >= 2)
    backend.stop(job_id)
    backend.stop(job_id)
    assert ended(backend, job_id).state == State.STOPPED
    backend.stop(job_id)
    assert start(backend, "nap=0.25", "epochs=12") == job_id
    assert ended(backend, job_id).state == State.SUCCEEDED
    begun = [line.split(",")[0] for line in backend.logs(job_id) if line.startswith("from epoch")]
    assert len(begun) == 2
    assert begun[0] == "from epoch 0"
    assert begun[1] != "from epoch 0", "it began again instead of going on"
    steps = [point.step for point in backend.metrics(job_id) if point.name == "val/accuracy"]
    assert steps == [*range(12), None]


def test_one_job_however_often_it_is_submitted(backend: Backend) -> None:
    words = ("nap=0.2", "epochs=3")
    job_id = start(backend, *words)
    assert start(backend, *words) == job_id
    assert ended(backend, job_id).state == State.SUCCEEDED
    assert start(backend, *words) == job_id
    assert backend.status(job_id).state == State.SUCCEEDED
    assert sum(line.startswith("from epoch") for line in backend.logs(job_id)) == 1


def test_logs_follow_to_the_end(backend: Backend) -> None:
    job_id = start(backend, "nap=0.3", "fail=exit")
    assert list(backend.logs(job_id))[-1].endswith(": the loss is lost")
    assert backend.status(job_id).is_over


def test_jobs_survive_the_one_who_started_them(backend: Backend) -> None:
    job_id = start(backend, "nap=0.2", "epochs=4")
    backend.close()
    assert ended(backend, job_id).state == State.SUCCEEDED
