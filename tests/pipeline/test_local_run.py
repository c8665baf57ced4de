"""A pipeline on this machine from its images to a version, killed on the way or not."""

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
from typing import Any

import pytest
from tests.commands import PROJECT
from tests.conftest import WITHOUT_FIGURES

from sightline.finished_run import FinishedRun
from sightline.launch.local.supervisor import HIDDEN

SMALL = (
    *("data=folder", "name=colors", "model.name=test_resnet", "data.image_size=32", "data.batch_size=8"),
    *("data.num_workers=0", "trainer.max_epochs=2", "model.lr=0.01", "evaluation=short", *WITHOUT_FIGURES),
    *("explanation=grad_cam", "explanation.num_images=2", "export.int8=false", "export.cost=false", "logger=none"),
)
PRELOADED = "torch,timm,pytorch_lightning,onnxruntime,sightline.training.train,sightline.models.classifier"
PRELOADED += ",sightline.evaluation.measurement,sightline.explanation.gallery,sightline.export.model_card"
FAST = ("launch=local_process", f"launch.preload=[{PRELOADED}]", "pipeline.min_accuracy=0.1")
"""Each step is a fork of one process that has the libraries."""
STEPS = ("prepare", "train", "export", "evaluate", "explain", "gate")


class Here:
    """The pipeline of a data set in a folder of runs of its own."""

    def __init__(self, runs: Path, data: Path) -> None:
        self.runs, self.data = runs, data

    def args(self, verb: str, *words: str) -> list[str]:
        of_data = [f"data.root={self.data}", *SMALL, *FAST] if verb == "run" else []
        program = [sys.executable, str(PROJECT / "src" / "pipeline.py"), verb]
        return [*program, *of_data, f"paths.runs={self.runs}", f"paths.cache={self.runs / 'cache'}", *words]

    def do(self, verb: str, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.args(verb, *words), capture_output=True, text=True, timeout=600, cwd=self.runs.parent
        )

    def start(self, *words: str) -> subprocess.Popen[str]:
        silent: Any = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        return subprocess.Popen(self.args("run", *words), text=True, cwd=self.runs.parent, **silent)

    def folders(self) -> list[Path]:
        return sorted(file.parent for file in self.runs.glob("pipeline/colors/*/pipeline.json"))

    def record(self) -> dict[str, Any]:
        """Of the newest run; {} before the first."""
        folders = self.folders()
        return json.loads((folders[-1] / "pipeline.json").read_text()) if folders else {}

    def step(self, name: str) -> dict[str, Any]:
        return next((each for each in self.record().get("steps", []) if each["name"] == name), {})

    def versions(self) -> list[dict[str, Any]]:
        files = sorted((self.runs / "registry" / "colors").glob("[0-9]*/version.json"))
        return [json.loads(file.read_text()) for file in files]


def wait_for(condition: Callable[[], bool], process: subprocess.Popen[str], seconds: float = 300) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, "it ended before"
        assert time.monotonic() < until, "it did not come to that"
        time.sleep(0.05)


@pytest.fixture(scope="module")
def undisturbed(colors: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Here, str]:
    here = Here(tmp_path_factory.mktemp("undisturbed") / "runs", colors)
    done = here.do("run")
    assert done.returncode == 0, done.stderr
    return here, done.stdout


def test_a_run_ends_with_a_version_that_is_pending(undisturbed: tuple[Here, str]) -> None:
    here, told = undisturbed
    assert re.search(r"colors/1 is pending; approve it with python \S+/registry\.py approve colors/1", told)
    assert re.search(r"serve it with python \S+/serve\.py run=registry:colors/1", told)
    record = here.record()
    assert record["status"] == "finished"
    assert [each["name"] for each in record["steps"]] == ["merge", *STEPS, "register"]
    assert {each["name"]: each["status"] for each in record["steps"]} == {
        "merge": "skipped",
        **dict.fromkeys((*STEPS, "register"), "finished"),
    }
    assert all(len(each["inputs_sha256"]) == 64 and each["seconds"] > 0 for each in record["steps"][1:-1])
    assert record["gate"]["passed"]
    [version] = here.versions()
    assert record["version"]["sha256"] == version["sha256"]
    assert version["gate"]["conditions"] == record["gate"]["conditions"]
    assert version["data"]["sha256"] == record["data"]["sha256"]
    assert version["facts"]["seconds"]["train"] == here.step("train")["seconds"]
    page = (here.folders()[-1] / "pipeline.html").read_text()
    assert all(f">{name}</text>" in page for name in (*STEPS, "register"))
    assert 'href="evaluate/evaluation/report.html"' in page


def test_what_is_registered_is_a_run_with_the_numbers_of_the_exported_model(undisturbed: tuple[Here, str]) -> None:
    here, _ = undisturbed
    folder = here.runs / "registry" / "colors" / "1"
    run = FinishedRun.open(str(folder), "cpu")
    measured = json.loads((here.folders()[0] / "evaluate" / "metrics.json").read_text())
    assert run.metrics["test/accuracy"] == measured["test/accuracy"]
    assert json.loads((here.folders()[0] / "evaluate" / "run.json").read_text())["runtime"] == "onnx"
    assert (folder / "explanations" / "index.html").is_file()
    assert (folder / "model" / "model.onnx").is_file()
    trained = here.folders()[0] / "train"
    assert not (trained / "model" / "model.onnx").exists(), "no step changes what another left"


def test_the_same_again_runs_nothing_and_registers_nothing(undisturbed: tuple[Here, str]) -> None:
    here, _ = undisturbed
    done = here.do("run")
    assert done.returncode == 0, done.stderr
    assert "colors/1 is this model already, and pending: nothing new is registered" in done.stdout
    assert {here.step(name)["status"] for name in STEPS} == {"reused"}
    assert here.step("train")["reused_from"] == str(here.folders()[0])
    assert len(here.versions()) == 1
    assert here.do("why").stdout.startswith("it is the same model as colors/1, so nothing new was registered")


def test_what_is_asked_for_is_run_again_and_the_rest_is_not(undisturbed: tuple[Here, str]) -> None:
    here, _ = undisturbed
    done = here.do("run", "pipeline.rerun=[explain]", "explanation.num_images=1")
    assert done.returncode == 0, done.stderr
    states = {name: here.step(name)["status"] for name in STEPS}
    assert states == {**dict.fromkeys(STEPS, "reused"), "explain": "finished", "gate": "finished"}


def test_a_gate_that_is_not_met_ends_with_4_and_is_answered_for(undisturbed: tuple[Here, str]) -> None:
    here, _ = undisturbed
    done = here.do("run", "pipeline.min_accuracy=1", "pipeline.gates={test/loss: 0.0001}")
    assert done.returncode == 4, done.stderr
    last = done.stderr.splitlines()[-1]
    assert last.startswith("error: not registered: test/accuracy_low is ")
    assert "below the least it may be, 1; test/loss is " in last
    assert here.do("why", "colors").stdout.startswith("not registered: test/accuracy_low is ")
    assert here.record()["status"] == "gate_not_met"
    assert len(here.versions()) == 1
    assert here.step("evaluate")["status"] == "reused", "the gate alone was other"


def test_a_run_that_is_killed_goes_on_and_makes_the_same_version(
    undisturbed: tuple[Here, str], colors: Path, tmp_path: Path
) -> None:
    here = Here(tmp_path / "runs", colors)
    pipeline = here.start()
    wait_for(lambda: here.step("train").get("status") == "running", pipeline)
    os.kill(pipeline.pid, signal.SIGKILL)  # the step runs on
    pipeline.wait()
    assert here.do("why").stdout.startswith("it did not get beyond train: its process was killed")
    done_before = here.step("prepare")

    pipeline = here.start()
    evaluated = here.folders()[-1] / "evaluate"
    wait_for(lambda: here.step("evaluate").get("status") == "running" and is_alive(evaluated), pipeline)
    os.kill(pipeline.pid, signal.SIGKILL)
    kill_step(evaluated)  # with its supervisor: as when the machine goes
    pipeline.wait()
    trained = here.step("train")

    done = here.do("run")
    assert done.returncode == 0, done.stderr
    assert len(here.folders()) == 1
    assert here.step("prepare") == done_before
    assert here.step("train") == trained
    [version], [expected] = here.versions(), undisturbed[0].versions()
    assert version["sha256"] == expected["sha256"]


def is_alive(step: Path) -> bool:
    return (step / HIDDEN / "state.json").is_file()


def kill_step(step: Path) -> None:
    state = json.loads((step / HIDDEN / "state.json").read_text())
    for number in (state["supervisor"], state["pid"]):
        try:
            os.kill(number, signal.SIGKILL)
        except ProcessLookupError:
            continue


@pytest.mark.slow
def test_ten_kills_at_random_moments_change_nothing(
    undisturbed: tuple[Here, str], colors: Path, tmp_path: Path
) -> None:
    here, draw, kills = Here(tmp_path / "runs", colors), random.Random(0), 0
    finished: dict[str, str] = {}
    while True:
        pipeline = here.start()
        moment = time.monotonic() + draw.uniform(1.0, 12.0)
        while pipeline.poll() is None and (kills == 10 or time.monotonic() < moment):
            time.sleep(0.05)
        if pipeline.poll() is None:
            os.kill(pipeline.pid, signal.SIGKILL)
            pipeline.wait()
            kills += 1
            if kills % 2:
                for folder in here.folders()[-1:]:
                    running = next((each for each in here.record()["steps"] if each["status"] == "running"), None)
                    if running is not None and is_alive(folder / running["name"]):
                        kill_step(folder / running["name"])
        for each in here.record().get("steps", []):
            if each["status"] == "finished" and each["name"] in STEPS:
                assert finished.setdefault(each["name"], each["started"]) == each["started"], "it was run again"
        if here.record().get("status") == "finished":
            break
        assert kills <= 10
    assert [each["sha256"] for each in here.versions()] == [undisturbed[0].versions()[0]["sha256"]]
