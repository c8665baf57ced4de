"""Faults that strike `train.py` at a chosen moment: `SIGTERM@step:7`, or several; `1:SIGTERM@step:7` is for the
second process alone. `install` is called in the process before the program begins.

Moments count within the new process: `step:N` after the Nth batch, `validation:N` before the Nth batch of validation,
`epoch:N` at the Nth epoch's end, `writing:N` with a checkpoint on the disk but not in its place yet, `moving:N` between
setting the old `last.ckpt` aside and putting the new one there, `end:N` when all is trained and measuring begins.
Besides signals there are the faults `FULL`, from then on the disk takes no more checkpoints, and `NAN@batch:N`, which
makes the Nth batch's pixels nan.
"""

import math
import os
import re
import signal
import stat
from pathlib import Path
from typing import Any

import pytorch_lightning as pl

import sightline.evaluation.measurement as evaluation
from sightline.callbacks import checkpoint_files

FAULT = re.compile(r"([A-Z+]+)@(\w+):(\d+)")


class Fault(pl.Callback):
    """Strikes once."""

    def __init__(self, kind: str, moment: str, number: str) -> None:
        self.kind, self.moment, self.number, self.passed = kind, moment, int(number), 0
        self.folder = Path()

    def passes(self, moment: str) -> None:
        if moment == self.moment:
            self.passed += 1
            if self.passed == self.number:
                self.strike()

    def strike(self) -> None:
        if self.kind == "FULL":
            for name in ("last.ckpt", "best.ckpt"):
                (self.folder / "checkpoints").mkdir(exist_ok=True)
                (self.folder / "checkpoints" / f"{name}.partial").symlink_to("/dev/full")
            return
        if self.kind == "NAN":
            self.batch[0].fill_(math.nan)
            return
        for name in self.kind.split("+"):  # to the whole group: the workers get it too
            os.killpg(0, signal.Signals[name])

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: Any, batch: Any, batch_idx: int) -> None:
        self.batch = batch
        self.passes("batch")

    def on_train_batch_end(self, trainer: pl.Trainer, *args: Any, **kwargs: Any) -> None:
        self.folder = Path(trainer.default_root_dir)
        self.passes("step")

    def on_validation_batch_start(self, *args: Any, **kwargs: Any) -> None:
        self.passes("validation")

    def on_train_epoch_end(self, *args: Any, **kwargs: Any) -> None:
        self.passes("epoch")


def install(wanted: list[str]) -> None:
    faults = [Fault(*parsed.groups()) for parsed in map(FAULT.fullmatch, wanted) if parsed]
    force, move, predict, make = os.fsync, Path.replace, evaluation.predict_split, pl.Trainer.__init__

    def passes(moment: str) -> None:
        for fault in faults:
            fault.passes(moment)

    def fsync(descriptor: int) -> None:
        force(descriptor)
        if stat.S_ISREG(os.fstat(descriptor).st_mode):
            passes("writing")

    def replace(path: Path, target: Path) -> Path:
        if path.name == "last.ckpt.partial":
            passes("moving")
        return move(path, target)

    def predict_split(*arguments: Any, **named: Any) -> Any:
        passes("end")
        return predict(*arguments, **named)

    def init(trainer: pl.Trainer, *, callbacks: Any = None, **named: Any) -> None:
        make(trainer, callbacks=[*callbacks, *faults] if callbacks else None, **named)

    checkpoint_files.os.fsync, checkpoint_files.Path.replace = fsync, replace  # type: ignore[assignment]
    evaluation.predict_split, pl.Trainer.__init__ = predict_split, init  # type: ignore[method-assign]
