"""The same command as a training job: on a SageMaker that runs the image's entry point, with S3 from moto."""

import csv
import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf
from safetensors.torch import load_file
from tests.conftest import PROJECT, TINY, Cli, do_jobs
from tests.launch.conftest import BUCKET, ROLE
from tests.launch.fake_sagemaker import FakeSageMaker

from sightline.aws.logs import GROUP
from sightline.launch.sagemaker.metric_definitions import metric_definitions

MAX_SECONDS = 240.0
SECRET = "a-key-that-nobody-may-see"


def words_for(service: FakeSageMaker, colors: Path, runs: Path, *words: str) -> list[str]:
    tiny = [word for word in TINY if not word.startswith(("stages", "trainer.max_epochs"))]
    launch = f"role={ROLE} bucket={BUCKET} prefix={service.folder.name} image=image:1 poll_seconds=0.1 allow_dirty=true"
    return [
        "launch=sagemaker",
        *(f"launch.{word}" for word in launch.split()),
        "data=folder",
        f"data.root={colors}",
        "name=colors",
        f"paths.runs={runs}",
        *tiny,
        *words,
    ]


def wait(true: Callable[[], object]) -> None:
    until = time.monotonic() + MAX_SECONDS
    while not true():
        assert time.monotonic() < until, "it never came"
        time.sleep(0.02)


def test_the_same_command_as_a_training_job(
    service: FakeSageMaker, cli: Cli, colors: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    explain = ["explanation.methods=[grad_cam]", "explanation.num_images=2"]
    words = words_for(service, colors, tmp_path / "runs", "trainer.max_epochs=2", *explain)
    done = cli("train", *words, AWS_SECRET_ACCESS_KEY=SECRET)
    assert done.returncode == 0, done.stderr
    assert SECRET not in done.stdout + done.stderr + json.dumps(service.requests)
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and SECRET.encode() in path.read_bytes()]
    folder = Path(done.stdout.strip().splitlines()[-1].removeprefix("results: "))
    assert (folder / "explanations" / "index.html").is_file()
    assert (folder / "model" / "model.safetensors").is_file()
    assert (folder / "checkpoints" / "best.ckpt").is_file()
    record = json.loads((folder / "run.json").read_text())
    assert record["status"] == "finished"
    assert record["launch"]["backend"] == "sagemaker"
    assert record["launch"]["job_id"] in service.machines
    assert record["launch"]["seconds_billed"] < record["launch"]["seconds_trained"]
    assert record["launch"]["cost_usd"] > 0
    assert "cost: " in done.stdout
    assert record["data"]["root"] == str(colors), "as if it had run here"
    (request,) = service.requests
    assert str(colors) not in json.dumps(request), "no path of this machine travels"
    assert request["HyperParameters"]["data.root"] == "${paths.inputs}/data_root"
    check_metric_definitions(service, record["launch"]["job_id"], folder)
    check_jobs(capsys, tmp_path / "runs", folder)


def check_metric_definitions(service: FakeSageMaker, name: str, folder: Path) -> None:
    """Every pattern finds its number in what the job printed."""
    stream = f"{name}/algo-1-1"
    events = service.logs.get_log_events(logGroupName=GROUP, logStreamName=stream, startFromHead=True)["events"]
    lines = [event["message"] for event in events]
    metrics = json.loads((folder / "metrics.json").read_text())
    for definition in metric_definitions():
        found = [match[1] for line in lines if (match := re.search(definition["Regex"], line))]
        if definition["Name"] == "train/step_loss":  # every half minute
            continue
        assert found, f"{definition['Name']} is not found in:\n" + "\n".join(lines)
        value = float(found[-1])
        if definition["Name"].startswith(("test/", "train/images", "train/seconds")):
            assert value == pytest.approx(metrics[definition["Name"]], rel=0.01, abs=0.5 if value > 100 else 5e-4)


def check_jobs(capsys: pytest.CaptureFixture[str], runs: Path, folder: Path) -> None:
    """What `src/jobs.py` says of it."""

    def say(verb: str) -> list[str]:
        do_jobs(runs, verb, folder.name)
        return capsys.readouterr().out.splitlines()

    assert say("status") == ["succeeded"]
    assert any("val/accuracy" in line for line in say("logs"))
    points = [json.loads(line) for line in say("metrics")]
    assert {point["step"] for point in points if point["name"] == "val/accuracy"} == {0, 1, None}
    do_jobs(runs, "list")
    assert "sagemaker" in capsys.readouterr().out


@pytest.mark.slow
def test_a_run_is_measured_and_explained_as_a_job(
    service: FakeSageMaker, cli: Cli, trained: Path, tmp_path: Path
) -> None:
    """The run and its images travel, and the numbers are those of here."""
    launch = [word for word in words_for(service, trained, tmp_path / "runs") if word.startswith(("launch", "paths"))]
    here = cli("evaluate", f"run={trained}", "split=val", "evaluation=short", f"output={tmp_path / 'here'}")
    assert here.returncode == 0, here.stderr
    there = cli("evaluate", f"run={trained}", "split=val", "evaluation=short", *launch)
    assert there.returncode == 0, there.stderr
    folder = Path(there.stdout.strip().splitlines()[-1].removeprefix("results: "))
    assert (folder / "metrics.json").read_text() == (tmp_path / "here" / "metrics.json").read_text()
    (evaluated,) = service.machines.values()
    assert evaluated.request["HyperParameters"]["_script"] == "src/evaluate.py"
    words = [f"run={trained}", "split=val", "explanation=grad_cam", "explanation.num_images=2"]
    explained = cli("explain", *words, *launch)
    assert explained.returncode == 0, explained.stderr
    folder = Path(explained.stdout.strip().splitlines()[-1].removeprefix("results: "))
    assert (folder / "explanations" / "explanations.json").is_file()


@pytest.mark.slow
def test_a_run_is_exported_as_a_job_to_the_bytes_that_an_export_here_has(
    service: FakeSageMaker, cli: Cli, trained: Path, tmp_path: Path
) -> None:
    """The run and its images travel, a copy of the run with its exported model comes home, and the run stays."""
    launch = [word for word in words_for(service, trained, tmp_path / "runs") if word.startswith(("launch", "paths"))]
    words = (f"run={trained}", "export.cost=false", "export.min_agreement=0", "export.max_accuracy_drop=1")
    here = cli("export", *words, f"output={tmp_path / 'here'}")
    assert here.returncode == 0, here.stderr
    there = cli("export", *words, *launch)
    assert there.returncode == 0, there.stderr
    folder = Path(there.stdout.strip().splitlines()[-1].removeprefix("results: "))
    for name in ("model.onnx", "model.int8.onnx", "task_spec.json", "model.json"):
        assert (folder / "model" / name).read_bytes() == (tmp_path / "here" / "model" / name).read_bytes()
    assert (folder / "manifest.csv").read_bytes() == (trained / "manifest.csv").read_bytes()
    assert json.loads((folder / "run.json").read_text())["exported"]["from"].endswith("/run")  # the channel's folder
    assert not (trained / "model" / "model.onnx").exists()
    (exported,) = service.machines.values()
    assert {each["ChannelName"] for each in exported.request["InputDataConfig"]} == {"run", "data_own_root"}


@pytest.mark.slow
def test_leaving_a_job_and_finding_it_again(service: FakeSageMaker, colors: Path, tmp_path: Path) -> None:
    """Ctrl-C leaves it running and says how to go on."""
    words = words_for(service, colors, tmp_path / "runs", "trainer.max_epochs=2000", "stages=[fit]")
    command = [sys.executable, str(PROJECT / "src" / "train.py"), *words]
    follower = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    wait(lambda: any(machine.secondary == "Training" for machine in service.machines.values()))
    follower.send_signal(signal.SIGINT)
    _, said = follower.communicate(timeout=60)
    assert follower.returncode == 130
    assert "runs on; follow, fetch and stop it with" in said
    (machine,) = service.machines.values()
    assert machine.state == "InProgress"
    (line,) = [line for line in said.splitlines() if "jobs.py stop" in line]
    stop = line.split("python ", 1)[1].split()
    subprocess.run([sys.executable, *stop], check=True, env=dict(os.environ))
    wait(lambda: machine.state == "Stopped")


@pytest.mark.slow
def test_an_interrupted_spot_job_ends_with_the_same_weights(
    service: FakeSageMaker, cli: Cli, colors: Path, tmp_path: Path
) -> None:
    more = ("trainer.max_epochs=30", "stages=[fit]", "checkpoint.every_minutes=0.001", "augmentation=light")
    undisturbed = cli("train", *words_for(service, colors, tmp_path / "one", *more))
    assert undisturbed.returncode == 0, undisturbed.stderr
    words = words_for(service, colors, tmp_path / "two", *more, "launch.tags={run:two}")
    command = [sys.executable, str(PROJECT / "src" / "train.py"), *words]
    follower = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    wait(lambda: len(service.machines) == 2 or follower.poll() is not None)
    assert follower.poll() is None, follower.communicate()[1]
    name = list(service.machines)[-1]
    table = service.machines[name].base / "checkpoints" / "metrics.csv"
    wait(table.is_file)
    seconds = random.uniform(0.0, 1.5)
    print(f"interrupted {seconds:.3f} s after the first epoch")
    time.sleep(seconds)
    service.interrupt(name)
    out, errors = follower.communicate(timeout=MAX_SECONDS)
    assert follower.returncode == 0, errors
    machine = service.machines[name]
    assert machine.num_starts == 2
    assert "Interrupted" in machine.transitions
    assert "Restarting" in machine.transitions
    folders = [Path(text.strip().splitlines()[-1].removeprefix("results: ")) for text in (undisturbed.stdout, out)]
    weights = [load_file(folder / "model" / "model.safetensors") for folder in folders]
    assert all(torch.equal(weights[0][key], weights[1][key]) for key in weights[0])
    tables = [(folder / "metrics.csv").read_text() for folder in folders]
    rows = [list(csv.DictReader(table.splitlines())) for table in tables]
    assert [row["val/loss"] for row in rows[0]] == [row["val/loss"] for row in rows[1]]
    measure = cli("evaluate", f"run={folders[1]}", "split=val", f"output={tmp_path / 'again'}", "evaluation=short")
    assert measure.returncode == 0, measure.stderr
    record = json.loads((folders[1] / "run.json").read_text())
    assert record["resumed"][0]["from_step"] > 0


@pytest.mark.slow
def test_a_sweep_of_training_jobs(service: FakeSageMaker, cli: Cli, colors: Path, tmp_path: Path) -> None:
    """Six trials, two at once; one that learns nothing is pruned, and its machine is given back."""
    words = words_for(service, colors, tmp_path / "runs", "trainer.max_epochs=40", "stages=[fit]", "augmentation=none")
    point = "model/optimizer:sgd,model.optimizer.momentum:0.9"
    search = [
        "n_trials=6",
        "n_parallel=2",
        "study_name=cloud",
        "cost_budget_usd=5",
        "pruner.min_resource=1",
        f"enqueue=[{{{point},model.lr:0.05}},{{{point},model.lr:0.04}},{{{point},model.lr:0.0003}}]",
    ]
    done = cli("train", *words, "hparams_search=momentum", *(f"hydra.sweeper.{word}" for word in search))
    assert done.returncode == 0, done.stderr
    folder = tmp_path / "runs" / "sweeps" / "cloud"
    results = OmegaConf.load(folder / "results.yaml")
    assert sum(results.num_trials.values()) == 6
    assert results.num_trials.failed == 0
    assert results.num_trials.pruned >= 1
    assert sum(machine.state == "Stopped" for machine in service.machines.values()) >= 1
    assert len(service.machines) == 6
    assert (folder / "trials" / str(results.best_trial) / "metrics.json").is_file()
