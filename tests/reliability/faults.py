"""A process that has the libraries loaded and forks `train.py`, each time with a fault at a chosen moment.

It reads lines of JSON, `{"words": […], "fault": "SIGTERM@step:7", "log": FILE}`, and answers each with the exit code.
Moments count within the new process: `step:N` after the Nth batch, `validation:N` before the Nth batch of validation,
`epoch:N` at the Nth epoch's end, `writing:N` with a checkpoint on the disk but not in its place yet, `moving:N` between
setting the old `last.ckpt` aside and putting the new one there, `end:N` when all is trained and measuring begins.
Besides signals there is the fault `FULL`: from then on the disk takes no more checkpoints.
"""

import json
import os
import runpy
import signal
import stat
import sys
from pathlib import Path
from typing import Any

import pytorch_lightning as pl

import sightline.evaluation.measurement as evaluation
import sightline.models.checkpoint
import sightline.training  # noqa: F401
from sightline.callbacks import checkpoint_files

TRAIN = Path(__file__).resolve().parents[2] / "src" / "train.py"


class Fault(pl.Callback):
    """Strikes once."""

    def __init__(self, kind: str, moment: str, number: int) -> None:
        self.kind, self.moment, self.number, self.passed = kind, moment, number, 0
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
        for name in self.kind.split("+"):  # to the whole group: the workers get it too
            os.killpg(0, signal.Signals[name])

    def on_train_batch_end(self, trainer: pl.Trainer, *args: Any, **kwargs: Any) -> None:
        self.folder = Path(trainer.default_root_dir)
        self.passes("step")

    def on_validation_batch_start(self, *args: Any, **kwargs: Any) -> None:
        self.passes("validation")

    def on_train_epoch_end(self, *args: Any, **kwargs: Any) -> None:
        self.passes("epoch")


def install(fault: Fault) -> None:
    force, move, predict, make = os.fsync, Path.replace, evaluation.predict_split, pl.Trainer.__init__

    def fsync(descriptor: int) -> None:
        force(descriptor)
        if stat.S_ISREG(os.fstat(descriptor).st_mode):
            fault.passes("writing")

    def replace(path: Path, target: Path) -> Path:
        if path.name == "last.ckpt.partial":
            fault.passes("moving")
        return move(path, target)

    def predict_split(*arguments: Any, **named: Any) -> Any:
        fault.passes("end")
        return predict(*arguments, **named)

    def init(trainer: pl.Trainer, *, callbacks: Any = None, **named: Any) -> None:
        make(trainer, callbacks=[*callbacks, fault] if callbacks else None, **named)

    checkpoint_files.os.fsync, checkpoint_files.Path.replace = fsync, replace  # type: ignore[assignment]
    evaluation.predict_split, pl.Trainer.__init__ = predict_split, init  # type: ignore[method-assign]


def run(words: list[str], fault: str, log: str) -> None:
    os.setsid()
    with open(log, "wb") as file:  # noqa: PTH123
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    if fault:
        kind, _, moment = fault.partition("@")
        install(Fault(kind, moment.split(":")[0], int(moment.split(":")[1])))
    sys.argv = [str(TRAIN), *words]
    runpy.run_path(str(TRAIN), run_name="__main__")


def main() -> None:
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            run(**json.loads(line))
        _, status = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


if __name__ == "__main__":
    main()
