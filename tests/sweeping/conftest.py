"""Sweeps over a program that costs nothing, in this process or in one that can be killed."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sightline.launch.backend import LaunchSettings
from sightline.launch.local.backend import LocalProcess
from sightline.sweeping.settings import Settings
from sightline.sweeping.space import parse_space
from sightline.sweeping.sweep import sweep

PROGRAM = "tests/launch/contract/program.py"
PLANE = {"x": {"interval": [0, 1]}, "y": {"interval": [0, 1]}}
RANDOM = {"_target_": "optuna.samplers.RandomSampler", "seed": 0}
MEDIAN = {"_target_": "optuna.pruners.MedianPruner", "n_startup_trials": 3}


def make_settings(folder: Path, fixed: tuple[str, ...] = ("nap=0.01",), **changes: Any) -> Settings:
    space = parse_space(changes.pop("params", PLANE))
    metrics = changes.pop("metrics", {"val/accuracy": "maximize"})
    defaults: dict[str, Any] = {"n_trials": 6, "n_parallel": 3, "sampler": RANDOM}
    return Settings("demo", folder / "demo", PROGRAM, fixed, space, metrics, **defaults | changes)


def run(settings: Settings) -> dict[str, Any]:
    places = LaunchSettings(n_parallel=settings.n_parallel, preload=["json"])
    return sweep(settings, LocalProcess(settings.folder, places, grace_seconds=5.0))


RunSweep = Callable[..., dict[str, Any]]


@pytest.fixture
def run_sweep(tmp_path: Path) -> RunSweep:
    return lambda *fixed, **changes: run(make_settings(tmp_path, fixed or ("nap=0.01",), **changes))
