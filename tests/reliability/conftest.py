"""Training runs that are struck by a fault, and what is left of them."""

import csv
import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.commands import PROJECT, Starter
from tests.conftest import TINY, WITHOUT_FIGURES

WORDS = [
    "data=folder",
    *(word for word in TINY if "max_epochs" not in word),
    *WITHOUT_FIGURES[1:],  # the confusion matrix is compared
    "+model.arguments.drop_rate=0.3",
    "augmentation=albumentations",
    "callbacks=early_stopping",
    "trainer.max_epochs=3",
    "trainer.accumulate_grad_batches=2",
    "trainer.deterministic=true",
    "trainer.precision=32-true",
    "trainer.log_every_n_steps=1",
    "logger=none",
]
"""51 images, 6 batches and 3 steps an epoch, 2 batches of validation: every kind of randomness that a run can have."""
NOT_COMPARED = ("train/images_per_second", "train/seconds")


@dataclass(frozen=True)
class Ended:
    codes: list[int]
    log: str

    @property
    def code(self) -> int:
        """Of all processes."""
        (code,) = set(self.codes)
        return code


Struck = Callable[..., Ended]


@pytest.fixture(scope="session")
def struck(starter: Starter, tmp_path_factory: pytest.TempPathFactory, colors: Path) -> Struck:
    """Run train.py in processes of their own with a fault in them, and wait for their end."""
    logs = tmp_path_factory.mktemp("logs")
    inherited = {"PYTHONPATH": f"{PROJECT / 'src'}:{PROJECT}", "OMP_NUM_THREADS": "1", "PATH": "/usr/bin:/bin"}

    def run(
        output: Path | None,
        *more: str,
        fault: str = "",
        words: Sequence[str] = WORDS,
        environments: Sequence[dict[str, str]] = ({},),
    ) -> Ended:
        log = logs / f"{len(list(logs.iterdir()))}.txt"
        log.touch()
        folder = [] if output is None else [f"output={output}"]
        command = [str(PROJECT / "src" / "train.py"), *words, f"data.root={colors}", *folder, *more]
        processes = []
        for number, environment in enumerate(environments):
            faults = [each.removeprefix(f"{number}:") for each in fault.split(",")]
            first = ("tests.reliability.faults:install", faults) if fault else None
            processes.append(starter.start(command, environment=inherited | environment, log=log, first=first))
        return Ended([process.wait() for process in processes], log.read_text())

    return run


Undisturbed = Callable[..., Path]


@pytest.fixture(scope="session")
def undisturbed(struck: Struck, tmp_path_factory: pytest.TempPathFactory) -> Undisturbed:
    """The folder of a run with these settings that nothing happened to; made once."""
    made: dict[tuple[str, ...], Path] = {}

    def get(*more: str) -> Path:
        if more not in made:
            folder = tmp_path_factory.mktemp("undisturbed") / "run"
            ended = struck(folder, *more)
            assert ended.code == 0, ended.log
            made[more] = folder
        return made[more]

    return get


def record_of(run: Path) -> dict[str, Any]:
    return json.loads((run / "run.json").read_text())


def assert_same(run: Path, expected: Path) -> None:
    """Two runs gave the same model, metrics, tables and training state, to the last bit."""
    assert outcome(run) == outcome(expected)
    for name in ("last.ckpt", "best.ckpt"):
        ours, theirs = (open_checkpoint(each / "checkpoints" / name) for each in (run, expected))
        differing = list(differences(ours, theirs))
        assert not differing, (name, differing[:10])


def outcome(run: Path) -> dict[str, Any]:
    metrics = json.loads((run / "metrics.json").read_text())
    with (run / "metrics.csv").open() as file:
        rows = list(csv.reader(file))
    return {
        "model": hashlib.sha256((run / "model" / "model.safetensors").read_bytes()).hexdigest(),
        "metrics": {name: value for name, value in metrics.items() if name not in NOT_COMPARED},
        "rows": rows,
        "confusion": (run / "confusion_matrix.csv").read_text(),
    }


def open_checkpoint(path: Path) -> dict[str, Any]:
    checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    del checkpoint["resume"]["config"]
    callbacks = checkpoint["callbacks"]
    callbacks.pop("Throughput")
    for name, state in callbacks.items():
        if "best_k_models" in state:
            callbacks[name] = [state["best_model_score"], *state["best_k_models"].values()]
    return checkpoint


def differences(ours: Any, theirs: Any, where: str = "") -> Iterator[str]:
    """The places where two checkpoints are not equal."""
    if isinstance(ours, dict) and isinstance(theirs, dict):
        if ours.keys() != theirs.keys():
            yield f"{where}: {sorted(map(str, ours.keys() ^ theirs.keys()))}"
        for key in ours.keys() & theirs.keys():
            yield from differences(ours[key], theirs[key], f"{where}.{key}")
    elif isinstance(ours, list | tuple) and isinstance(theirs, list | tuple) and len(ours) == len(theirs):
        for number, pair in enumerate(zip(ours, theirs, strict=True)):
            yield from differences(*pair, f"{where}[{number}]")
    elif isinstance(ours, torch.Tensor) and isinstance(theirs, torch.Tensor):
        if not torch.equal(ours, theirs) or ours.dtype != theirs.dtype:
            yield f"{where}: {ours} {theirs}"
    elif ours != theirs:
        yield f"{where}: {ours} {theirs}"
