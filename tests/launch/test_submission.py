"""Plans that are submitted by somebody else, a backend that is brought along, and records of the layout before."""

import io
import json
import logging
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf
from tests.conftest import PROJECT, Cli, compose_config, do_jobs

from sightline.errors import BadInput
from sightline.launch.backend import LaunchSettings
from sightline.launch.backends import make_backend
from sightline.launch.job import Job
from sightline.launch.local.backend import LocalProcess
from sightline.launch.records import find_record
from sightline.launch.submission import Submission
from sightline.runs.record import git_commit

PROGRAM = "tests/launch/contract/program.py"
COMMIT = git_commit(PROJECT)[0]


@pytest.fixture
def backend(tmp_path: Path) -> Iterator[LocalProcess]:
    made = LocalProcess(tmp_path / "jobs", LaunchSettings(preload=["json"]), grace_seconds=5.0)
    yield made
    made.close()


def plan_of(backend: LocalProcess, name: str = "a-job", commit: str | None = COMMIT) -> dict[str, Any]:
    return backend.plan(Job(name, PROGRAM, ("nap=0.01", "epochs=1"), commit))


def wait(backend: LocalProcess, name: str) -> None:
    until = time.monotonic() + 60
    while not backend.status(str(backend.jobs / name)).is_over:
        assert time.monotonic() < until
        time.sleep(0.02)


def starts(backend: LocalProcess, name: str) -> int:
    return sum(line.startswith("from epoch") for line in backend.logs(str(backend.jobs / name)))


def test_a_printed_plan_is_submitted_once_however_often(
    backend: LocalProcess, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    text = json.dumps(plan_of(backend))
    (tmp_path / "plan.json").write_text(text)
    do_jobs(tmp_path, "submit", str(tmp_path / "plan.json"))
    named, *commands = capsys.readouterr().out.splitlines()
    assert named == "job: a-job"
    assert [line.split()[2] for line in commands] == ["logs", "fetch", "stop"]
    wait(backend, "a-job")
    monkeypatch.setattr("sys.stdin", io.StringIO(text))
    do_jobs(tmp_path, "submit", "-")
    wait(backend, "a-job")
    assert starts(backend, "a-job") == 1
    record = find_record(tmp_path / "jobs", "a-job")
    assert (record.request, record.commit) == (json.loads(text)["request"], COMMIT)


def test_several_plans_of_another_commit_are_warned_of_once(
    backend: LocalProcess, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    plans = [plan_of(backend, name, commit="0" * 40) for name in ("a-job", "b-job")]
    (tmp_path / "plans.json").write_text(json.dumps(plans))
    with caplog.at_level(logging.WARNING):
        do_jobs(tmp_path, "submit", str(tmp_path / "plans.json"))
    (said,) = caplog.messages
    assert "0" * 40 in said
    assert str(COMMIT) in said
    assert "the files that are here" in said
    for name in ("a-job", "b-job"):
        wait(backend, name)
        assert starts(backend, name) == 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("no json", "not JSON"),
        ("{}", "no plan, it lacks backend, job"),
        ("[1]", "no plan, it lacks backend, job"),
        ("[]", "no plan in it"),
        ('{"job": "x"}', "job: must be name, script, overrides and commit"),
        (
            '{"job": {"name": "a", "script": "x.py", "overrides": "seed=1", "commit": null}}',
            "job: must be name, script",
        ),
        ('{"job": {"name": "../a", "script": "x.py", "overrides": [], "commit": null}}', "job name ../a: use letters"),
        ('{"settings": []}', "settings: must be values by key"),
        ('{"settings": {"n_parallel": "two"}}', "launch.n_parallel"),
        ('{"uploads": {"s3://bucket/x/": 3}}', "uploads: must be"),
        ('{"request": {}}', "the request of a-job lacks folder, command"),
        ("settings", "launch.n_paralel: no such key \\(did you mean launch.n_parallel\\?\\)"),
        ("backend", "launch.backend=local_proces: must be one of .* \\(did you mean local_process\\?\\)"),
    ],
)
def test_what_is_no_plan_is_refused(backend: LocalProcess, tmp_path: Path, text: str, message: str) -> None:
    if text.startswith('{"'):
        text = json.dumps({**plan_of(backend), **json.loads(text)})
    elif text == "settings":
        text = json.dumps({**plan_of(backend), "settings": {"n_paralel": 2}})
    elif text == "backend":
        text = json.dumps({**plan_of(backend), "backend": "local_proces"})
    (tmp_path / "plan.json").write_text(text)
    with pytest.raises(BadInput, match=message):
        do_jobs(tmp_path, "submit", str(tmp_path / "plan.json"))
    assert not (tmp_path / "jobs").exists()
    with pytest.raises(BadInput, match="nowhere.json: cannot be read"):
        do_jobs(tmp_path, "submit", "nowhere.json")


def test_records_of_the_layout_before_still_open(
    backend: LocalProcess, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """They have the request at the top, no uploads, and of the settings those that finding a job takes."""
    plan = plan_of(backend)
    backend.submit(plan)
    wait(backend, "a-job")
    request = plan["request"]
    old = {"name": "a-job", "backend": "local_process", "script": PROGRAM, "overrides": ["nap=0.01"], "commit": None}
    old |= {"submitted": "2025-01-01", "request": request, "job_id": request["folder"], "settings": {}}
    (tmp_path / "jobs" / "a-job.json").write_text(json.dumps({**old, "changes": None, "is_finished": False}))
    for verb, expected in (("status", "succeeded"), ("list", "succeeded"), ("logs", "from epoch 0")):
        do_jobs(tmp_path, verb, *(["a-job"] if verb != "list" else []))
        assert expected in capsys.readouterr().out
    assert make_backend("sagemaker", tmp_path, {"region": "eu-west-1", "poll_seconds": 1}).poll_seconds == 1


def test_the_way_to_the_far_side_is_the_same_for_every_backend(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run by name and a quoted relative path."""
    (tmp_path / "my photos").mkdir()
    run = tmp_path / "runs" / "train" / "x"
    run.mkdir(parents=True)
    (tmp_path / "runs" / "latest").symlink_to(run)
    monkeypatch.chdir(tmp_path)
    words = ["data.root='my photos'", "model.teacher=latest"]
    composed = {"data.root": "my photos", "model.teacher": "latest", "data.source": "folder", "data.name": "my-photos"}
    for name in ("local_process", "local_container"):
        said = {"backend": name, **({} if name == "local_process" else {"allow_dirty": True, "image": "image:1"})}
        submission = Submission.open(said, tmp_path / "runs" / "jobs")
        overrides = submission.overrides(words, composed, tmp_path / "runs")
        request = submission.plan(Job("a-job", "src/train.py", tuple(overrides)))["request"]
        if name == "local_process":
            assert request["command"][2:4] == [f"data.root='{tmp_path}/my photos'", f"model.teacher={run}"]
        else:
            assert request["channels"] == {"data_root": f"{tmp_path}/my photos", "model_teacher": str(run)}
            assert request["hyperparameters"]["data.name"] == "my-photos", "there its folder has another name"


def test_a_run_goes_on_as_a_job(cli: Cli, tmp_path: Path) -> None:
    """With its own settings and the typed ones, in its own folder; or the command says what it cannot do."""
    run = tmp_path / "runs" / "train" / "x" / "1"
    config = OmegaConf.to_container(compose_config("train", "trainer.max_epochs=12"), resolve=True)
    record = {"task": "train", "status": "finished", "overrides": ["trainer.max_epochs=12", "seed=3"], "config": config}
    run.mkdir(parents=True)
    (run / "run.json").write_text(json.dumps(record))
    words = ["resume=latest", "trainer.max_epochs=14", f"paths.runs={tmp_path / 'runs'}", "launch.dry_run=true"]
    done = cli("train", *words, "launch=local_process")
    assert done.returncode == 0, done.stderr
    request = json.loads(done.stdout)["request"]
    assert request["folder"] == str(run)
    assert request["command"][2:4] == ["seed=3", f"resume={run}"]
    refused = cli("train", *words, "launch=local_container", "launch.allow_dirty=true", "launch.image=image:1")
    assert refused.returncode == 2
    assert "this run is finished, and a job of launch=local_container would end at once" in refused.stderr
    (run / "run.json").write_text(json.dumps({**record, "status": "interrupted"}))
    done = cli("train", *words, "launch=local_container", "launch.allow_dirty=true", "launch.image=image:1")
    assert done.returncode == 0, done.stderr
    plan = json.loads(done.stdout)
    assert plan["request"]["channels"]["resume"] == str(run)
    assert plan["job"]["overrides"][:2] == ["seed=3", "trainer.max_epochs=14"]


BROUGHT_YAML = """# @package _global_
defaults:
  - override /hydra/launcher: sightline
hydra:
  mode: MULTIRUN
launch:
  backend: brought
  greeting: hello
  dry_run: false
"""
WITH_BROUGHT = """
import runpy, sys
from sightline.launch.backends import BACKENDS
BACKENDS["brought"] = "tests.launch.brought_backend:Brought"
sys.argv[0] = {program!r}
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def test_a_backend_that_is_brought_along(tmp_path: Path) -> None:
    """One file, one YAML and an entry of the table: a real command line with it, and its own keys are typed."""
    (tmp_path / "configs" / "launch").mkdir(parents=True)
    (tmp_path / "configs" / "launch" / "brought.yaml").write_text(BROUGHT_YAML)

    def train(*words: str) -> subprocess.CompletedProcess[str]:
        program = WITH_BROUGHT.format(program=str(PROJECT / "src" / "train.py"))
        command = [sys.executable, "-c", program, f"hydra.searchpath=[file://{tmp_path / 'configs'}]", *words]
        path = os.pathsep.join([str(PROJECT / "src"), str(PROJECT)])
        environment = {**os.environ, "PYTHONPATH": path}
        return subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=environment, timeout=120)

    words = ["launch=brought", "launch.dry_run=true", f"paths.runs={tmp_path / 'runs'}"]
    done = train(*words, "launch.greeting=hi")
    assert done.returncode == 0, done.stderr
    plan = json.loads(done.stdout)
    assert (plan["backend"], plan["settings"]["greeting"]) == ("brought", "hi")
    refused = train(*words, "launch.greting=hi")
    assert refused.returncode == 2
    assert "launch.greting: no such key (did you mean launch.greeting?)" in refused.stderr


def test_runs_by_name_and_quoted_relative_paths_in_a_sweep(cli: Cli, tmp_path: Path) -> None:
    run = tmp_path / "runs" / "train" / "x"
    run.mkdir(parents=True)
    (tmp_path / "runs" / "latest").symlink_to(run)
    words = ["hparams_search=optuna", "launch=local_process", "launch.dry_run=true", f"paths.runs={tmp_path / 'runs'}"]
    words += ["model.teacher=choice(latest,train/x)", "data=folder", f"data.root='../{tmp_path.name}/my photos'"]
    (tmp_path / "my photos").mkdir()  # the command runs in a folder beside this one
    done = cli("train", *words)
    assert done.returncode == 0, done.stderr
    command = json.loads(done.stdout)["request"]["command"]
    assert f"model.teacher={run}" in command
    (root,) = [word for word in command if word.startswith("data.root=")]
    assert root.endswith("/my photos'")
    assert root.startswith("data.root='/")


def test_weights_files_by_model_name(tmp_path: Path) -> None:
    files = {"resnet18.a1_in1k": "a b.safetensors", "resnet34": None}
    words = [
        "model.weights_for={resnet18.a1_in1k:'a b.safetensors',resnet34:null}",
        "+model.weights_for.x=c.safetensors",
    ]
    composed = {"model.weights_for": files, "data.source": "digits"}
    here = Submission.open({"backend": "local_process"}, tmp_path).overrides(words, composed, tmp_path)
    where = Path.cwd()
    assert compose_config("train", here[0]).model.weights_for == {
        "resnet18.a1_in1k": f"{where}/a b.safetensors",
        "resnet34": None,
    }
    assert here[1] == f"+model.weights_for.x={where}/c.safetensors"
    far = Submission.open({"backend": "local_container", "allow_dirty": True}, tmp_path)
    with pytest.raises(BadInput, match="jobs of launch=local_container get one weights file"):
        far.overrides(words, composed, tmp_path)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("launch=local_process +launch.grace=1", "launch.grace: no such key"),
        ("launch=local_process +launch.n_paralel=1", "launch.n_paralel: no such key (did you mean launch.n_parallel?)"),
        ("launch=local_process launch.wait=perhaps", "launch.wait=perhaps: must be true or false"),
        ("launch=local_container launch.shm_gb=much launch.allow_dirty=true", "launch.shm_gb=much: must be a number"),
    ],
)
def test_settings_of_launch_are_typed(cli: Cli, tmp_path: Path, words: str, message: str) -> None:
    done = cli("train", *words.split(), f"paths.runs={tmp_path / 'runs'}")
    assert done.returncode == 2, done.stdout
    assert message in done.stderr
    assert not list(tmp_path.rglob("*"))
