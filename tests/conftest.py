"""Small real data sets, real runs, and the command line as a person types it."""

import os
import runpy
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig
from PIL import Image

from sightline.command import NOT_SAID, do_verb
from sightline.config import TASKS, TrainConfig, validate, validate_task
from tests.commands import PROJECT, Starter

os.environ["HF_HUB_OFFLINE"] = "1"  # before the hub's client is loaded: no test asks the network


def pytest_configure(config: pytest.Config) -> None:
    for message in NOT_SAID:
        config.addinivalue_line("filterwarnings", f"ignore:{message}")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Tests of what the code does and checks of how it is laid out are counted apart."""
    reports = [report for kind in ("passed", "failed") for report in terminalreporter.getreports(kind)]
    called = [report for report in reports if getattr(report, "when", None) == "call"]
    num_structure = sum("structure" in report.keywords for report in called)
    terminalreporter.write_line(f"{len(called) - num_structure} behaviour tests, {num_structure} structure checks")


COLORS = {"blue": (40, 60, 200), "green": (40, 190, 60), "red": (210, 50, 40)}
TINY = (
    "model.name=test_resnet",
    "data.image_size=32",
    "data.batch_size=8",
    "data.num_workers=0",
    "trainer.max_epochs=1",
    "stages=[fit,test]",
    "evaluation=short",
)
"""Overrides that make any experiment a matter of seconds."""
WITHOUT_FIGURES = tuple(f"evaluation.evaluators.{name}=null" for name in ("classes", "calibration", "rejecting"))
"""A short evaluation draws for twice as long as a tiny network trains: this leaves the scores alone."""
BARE = (*TINY, *WITHOUT_FIGURES)
"""The same where what an evaluation writes is not the subject."""


def compose_config(name: str, *overrides: str) -> DictConfig:
    with initialize_config_dir(str(PROJECT / "configs"), version_base="1.3"):
        return compose(name, list(overrides))


def compose_train(*overrides: str) -> TrainConfig:
    """The typed configuration of a training run, as everything below `train(cfg)` takes it."""
    return validate(compose_config("train", *overrides))


def compose_task(name: str, *overrides: str) -> Any:
    """The typed configuration of any task."""
    return validate_task(compose_config(name, *overrides), TASKS[name])


def do_jobs(runs: Path, *words: str) -> None:
    """What `python src/jobs.py` does, in this process."""
    do_verb(runpy.run_path(str(PROJECT / "src" / "jobs.py"))["verbs"](), [*words, "--runs", str(runs)])


def write_image(path: Path, color: tuple[int, int, int], seed: int, size: tuple[int, int] = (32, 32)) -> None:
    """A noisy patch of one colour: easy to learn, and no two files are the same."""
    noise = np.random.default_rng(seed).integers(-40, 40, (size[1], size[0], 3))
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray((np.array(color) + noise).clip(0, 255).astype(np.uint8)).save(path)


@pytest.fixture(scope="session")
def colors(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A class-folder data set with train/ and test/: three colours, 20 and 6 images each."""
    root = tmp_path_factory.mktemp("data") / "colors"
    for number, (name, color) in enumerate(COLORS.items()):
        for index in range(20):
            write_image(root / "train" / name / f"{index:02d}.png", color, seed=1000 * number + index)
        for index in range(6):
            write_image(root / "test" / name / f"{index:02d}.png", color, seed=1000 * number + 500 + index)
    return root


Cli = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="session")
def starter(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Starter]:
    starter = Starter(tmp_path_factory.mktemp("outputs"))
    yield starter
    starter.close()


@pytest.fixture(scope="session")
def cli(starter: Starter, tmp_path_factory: pytest.TempPathFactory) -> Cli:
    """Run `src/<task>.py` with words in a folder that is not the project's, in a process of its own.

    The process is a copy of one that has the imports behind it: where these are the subject, `cold_cli` is right.
    """
    elsewhere = tmp_path_factory.mktemp("elsewhere")

    def run(task: str, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
        script = str(PROJECT / "src" / f"{task}.py")
        return starter.run([script, *words], cwd=elsewhere, environment={**os.environ, **environment})

    return run


@pytest.fixture(scope="session")
def cold_cli(tmp_path_factory: pytest.TempPathFactory) -> Cli:
    """The same with an interpreter of its own: what a person's shell does."""
    elsewhere = tmp_path_factory.mktemp("elsewhere")

    def run(task: str, *words: str, timeout: float = 300.0, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, str(PROJECT / "src" / f"{task}.py"), *words],
            cwd=elsewhere,
            env={**os.environ, **environment},
            capture_output=True,
            text=True,
            timeout=timeout,
        )

    return run


@pytest.fixture(scope="session")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="session")
def trained(cli: Cli, colors: Path, runs: Path) -> Path:
    """The folder of a finished run on the colours, trained by the command itself."""
    words = [word for word in TINY if "max_epochs" not in word]
    done = cli(
        "train",
        "data=folder",
        f"data.root={colors}",
        f"paths.runs={runs}",
        *words,
        "trainer.max_epochs=4",
        "model.lr=0.01",
        "name=colors",
    )
    assert done.returncode == 0, done.stderr
    return Path(done.stdout.strip().splitlines()[-1].removeprefix("results: "))


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model folder as a server opens it: two classes, a and b, 32 px, unsure below 0.6."""
    from tests.exported_models import export_tiny_model

    return export_tiny_model(tmp_path_factory.mktemp("exported") / "model")
