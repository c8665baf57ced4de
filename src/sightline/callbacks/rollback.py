"""Rollback after a divergence: from the last good checkpoint, with a smaller learning rate."""

import logging
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback
from torchmetrics import Metric

from sightline.callbacks.divergence import CHANGES, Diverged

log = logging.getLogger(__name__)
LEARNING_RATES = ("lr", "initial_lr", "max_lr", "min_lr")
"""Keys of learning rates in the parameter groups of torch's optimizers and schedulers."""


class Rollback(Callback):
    """Counts the rollbacks, and keeps the learning rate factor and the initial weights (for runs without a checkpoint).

    The position in the data goes back too: the same batches come again, with the smaller learning rate.
    """

    def __init__(self, most: int, lr_factor: float) -> None:
        self.most, self.lr_factor = most, lr_factor
        self.done: list[dict[str, Any]] = []
        self._num_in_optimizer = 0
        self._start: dict[str, torch.Tensor] | None = None

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self.most and self._start is None and trainer.ckpt_path is None:
            self._start = {name: value.detach().cpu().clone() for name, value in pl_module.state_dict().items()}
        missing = len(self.done) - self._num_in_optimizer
        if missing:
            scale_learning_rate(trainer, self.lr_factor**missing)
        self._num_in_optimizer = len(self.done)

    def state_dict(self) -> dict[str, Any]:
        return {"done": self.done}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """A checkpoint's optimizer has the learning rate of its time; a new process learns what was done before."""
        self._num_in_optimizer = len(state_dict["done"])
        if self._num_in_optimizer > len(self.done):
            self.done = list(state_dict["done"])

    def prepare(self, diverged: Diverged, classifier: pl.LightningModule, last: Path) -> Path | None:
        """The checkpoint to go on from; without one the classifier gets the weights of its start.

        Raises: the divergence itself when there were as many returns as may be, or there is nowhere to return to.
        """
        if len(self.done) >= self.most or (self._start is None and not last.is_file()):
            count = len(self.done)
            raise Diverged(diverged.facts, f"{CHANGES}; {count} rollback(s) did not help") if count else diverged
        for module in classifier.modules():
            if isinstance(module, Metric):
                module.reset()  # they have seen the loss that is not a number
        self._num_in_optimizer, to_step = 0, 0
        if last.is_file():
            to_step = torch.load(last, map_location="cpu", weights_only=True, mmap=True)["global_step"]
        elif self._start is not None:
            classifier.load_state_dict(self._start)
        facts = diverged.facts
        entry = {name: facts[name] for name in ("step", "reason", "lr", "files")}
        self.done.append({**entry, "to_step": to_step, "lr_scale": self.lr_factor ** (len(self.done) + 1)})
        log.warning(
            "%s at step %d: back to step %d with %g times the learning rate (rollback %d of %d)",
            facts["reason"],
            facts["step"],
            to_step,
            self.done[-1]["lr_scale"],
            len(self.done),
            self.most,
        )
        return last if last.is_file() else None


def scale_learning_rate(trainer: pl.Trainer, factor: float) -> None:
    """Multiply the current learning rate, and those that the schedulers will set."""
    for optimizer in trainer.optimizers:
        for group in optimizer.param_groups:
            group.update({name: group[name] * factor for name in LEARNING_RATES if name in group})
    for config in trainer.lr_scheduler_configs:
        _scale_scheduler(config.scheduler, factor)


def _scale_scheduler(scheduler: Any, factor: float) -> None:
    for name in ("base_lrs", "_last_lr"):
        if hasattr(scheduler, name):
            setattr(scheduler, name, [rate * factor for rate in getattr(scheduler, name)])
    for inner in getattr(scheduler, "_schedulers", ()):  # of a SequentialLR
        _scale_scheduler(inner, factor)
