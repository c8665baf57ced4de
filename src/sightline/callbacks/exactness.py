"""Whether a run of own code that is stopped goes on to the same bits: said plainly where it cannot."""

import logging
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from random import Random
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback
from torchmetrics import Metric

log = logging.getLogger(__name__)
PLAIN = (bool, int, float, complex, str, list, tuple, dict, set, deque, np.ndarray, torch.Tensor)
GENERATORS = (torch.Generator, np.random.Generator, np.random.RandomState, Random)


class Exactness(Callback):
    """Writes `resume: {exact, why}` into run.json, and prints each reason once.

    `why` are the reasons that are known beforehand. What a module keeps beside its parameters, buffers and metrics is
    in no checkpoint unless it has an `on_save_checkpoint`: attributes with plain values that change from epoch to epoch
    are found, as are generators of random numbers. `note(key=value)` writes into run.json.
    """

    def __init__(self, note: Callable[..., None], why: Sequence[str], *, looks_at_module: bool = True) -> None:
        self.note, self.why, self.looks_at_module = note, [*why], looks_at_module
        self._before: dict[str, str] | None = None

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        saves_itself = type(pl_module).on_save_checkpoint is not pl.LightningModule.on_save_checkpoint
        saves_itself = saves_itself or not self.looks_at_module
        self._before = None if saves_itself else dict(_attributes(pl_module))
        if not saves_itself:
            generators = [name for name, value in _own(pl_module) if isinstance(value, GENERATORS)]
            found = [f"{name} is a generator of random numbers of its own" for name in generators]
            self.why += [each for each in found if each not in self.why]
        self._say(self.why)

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._compare(pl_module)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._compare(pl_module)

    def _compare(self, module: pl.LightningModule) -> None:
        """Look for attributes that have changed since the training began."""
        if self._before is None:
            return
        changed = [name for name, value in _attributes(module) if self._before.get(name, value) != value]
        new = [f"{name} changes in training, and no checkpoint holds it" for name in changed]
        new = [each for each in new if each not in self.why]
        if new:
            self.why += new
            self._say(new)

    def _say(self, reasons: Sequence[str]) -> None:
        for reason in reasons:
            log.warning("resuming this run is approximate: %s", reason)
        self.note(resume={"exact": not self.why, "why": self.why})


def _own(module: pl.LightningModule) -> Iterator[tuple[str, Any]]:
    """The public attributes of a module and of those in it; of metrics a checkpoint has them all."""
    skipped = {*vars(pl.LightningModule()), "schedule_from"}
    for prefix, part in module.named_modules():
        if isinstance(part, Metric):
            continue
        for name, value in vars(part).items():
            if not name.startswith("_") and name not in skipped:
                yield f"{prefix}.{name}" if prefix else name, value


def _attributes(module: pl.LightningModule) -> Iterator[tuple[str, str]]:
    """Those with plain values, each as a text that is another one when the value is."""
    for name, value in _own(module):
        if isinstance(value, torch.Tensor):
            yield name, str((tuple(value.shape), value.detach().double().sum().item()))
        elif isinstance(value, PLAIN):
            yield name, str(value)
