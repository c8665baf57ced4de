"""What a fit trains: our classifier, or a LightningModule of own code in its place."""

from dataclasses import dataclass
from typing import Any

import pytorch_lightning as pl

from sightline.models.backbones import Architecture
from sightline.task_spec import TaskSpec


@dataclass(frozen=True)
class Learner:
    """A LightningModule, and what is known of it."""

    module: pl.LightningModule
    spec: TaskSpec
    architecture: Architecture
    monitor: str | None
    """The metric that decides which checkpoint is the best; None: no validation decides, the last epoch is kept."""
    mode: str = "max"
    """Whether its least (`min`) or its greatest (`max`) value is the best."""
    is_own: bool = False
    """Whether the module is of own code."""
    logged: tuple[str, ...] = ()
    """What the validation of such a module logs."""
    not_measured: str | None = None
    """Why its answers cannot be measured; None: they are logits of the classes."""

    def describe(self) -> dict[str, Any]:
        """For run.json: what `model.json` says, the classes, and why there is no `model/`, if there is none."""
        facts = {**self.architecture.to_dict(), "classes": list(self.spec.class_names)}
        return facts if self.not_measured is None else {**facts, "not_measured": self.not_measured}
