"""The settings of a sweep, checked."""

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sightline.errors import BadInput
from sightline.launch.overrides import with_absolute_paths
from sightline.metrics import NONE_OWN, Mode, mode_of
from sightline.sweeping.space import Space, to_overrides

DIRECTIONS = ("maximize", "minimize")


@dataclass(frozen=True)
class Settings:
    """Everything that a sweep follows from; the same command gives the same settings."""

    name: str
    folder: Path
    script: str
    """The program of every trial, below the project."""
    fixed: tuple[str, ...]
    """Overrides that every trial has."""
    space: Space
    metrics: Mapping[str, str]
    """What is optimised, and in which direction."""
    n_trials: int = 20
    n_parallel: int = 1
    storage: str | None = None
    sampler: Mapping[str, Any] | None = None
    pruner: Mapping[str, Any] | None = None
    enqueue: Sequence[Mapping[str, Any]] = ()
    warm_start: str | None = None
    time_budget_minutes: float | None = None
    cost_budget_usd: float | None = None
    max_failures: int | None = None
    allow_new_space: bool = False
    refit: bool = False
    refit_seeds: int = 3
    commit: str | None = None
    experiment: str | None = None
    """The experiment that trials vary."""
    groups: frozenset[str] = frozenset()
    """Keys that choose a file of `configs/` and not a value."""
    runs: Path | None = None
    """The folder in which runs that a point names are looked for."""

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[\w.-]+", self.name):
            raise BadInput(
                f"hydra.sweeper.study_name={self.name}: names a folder, so use letters, digits, '.', '_' and '-' alone"
            )
        if not self.metrics:
            raise BadInput("hydra.sweeper.metrics={}: nothing to optimise; write metric: maximize or minimize")
        for metric, direction in self.metrics.items():
            _check_metric(metric, direction)
        for key in ("n_trials", "n_parallel", "refit_seeds"):
            if (value := getattr(self, key)) < 1:
                raise BadInput(f"hydra.sweeper.{key}={value}: must be 1 or more")
        for key in ("time_budget_minutes", "cost_budget_usd", "max_failures"):
            if (limit := getattr(self, key)) is not None and (limit <= 0 or not math.isfinite(limit)):
                raise BadInput(f"hydra.sweeper.{key}={limit}: must be above 0, or null for no limit")
        if self.pruner is not None and len(self.metrics) > 1:
            raise BadInput(
                f"hydra.sweeper.pruner={self.pruner.get('_target_')}: with several metrics no trial can be called "
                "worse while it runs; set hydra.sweeper.pruner=null"
            )
        for number, point in enumerate(self.enqueue):
            self.space.check(point, f"hydra.sweeper.enqueue[{number}]")

    def overrides(self, point: Mapping[str, Any]) -> list[str]:
        return [*self.fixed, *with_absolute_paths(to_overrides(point), Path.cwd(), self.runs)]

    def run_folder(self, number: int) -> Path:
        return self.folder / "trials" / str(number)

    def describe(self) -> dict[str, Any]:
        """What must stay the same for values of one study to be comparable."""
        parts = [each.partition("=") for each in comparable(self.fixed)]
        fixed = {key: value for key, _, value in parts}
        return {"space": self.space.describe(), "metrics": dict(self.metrics), "settings": fixed}


def comparable(overrides: Iterable[str]) -> list[str]:
    """The overrides that results depend on: all but those of `paths`."""
    return [each for each in overrides if not each.startswith("paths.")]


def direction_of(metric: str, own: Mapping[str, Mode] = NONE_OWN) -> str:
    """`minimize` or `maximize`, Optuna's names for a metric's mode; `own` has those of the user's metrics."""
    return "minimize" if mode_of(metric, own) == "min" else "maximize"


def _check_metric(metric: str, direction: str) -> None:
    if metric.startswith("test/"):
        raise BadInput(
            f"optimized_metric={metric}: nothing may be chosen on the test set; name the metric of val/ instead"
        )
    if direction not in DIRECTIONS:
        raise BadInput(f"hydra.sweeper.metrics.{metric}={direction}: must be one of {', '.join(DIRECTIONS)}")
