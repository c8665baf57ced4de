"""Progress for logs and pipes, where a moving bar cannot be drawn."""

import time
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import ModelCheckpoint, ProgressBar

from sightline.metrics import EPOCH_LINE


class PlainProgress(ProgressBar):
    """One line an epoch, and one every `every_seconds` in between."""

    def __init__(self, every_seconds: float = 30.0) -> None:
        super().__init__()
        self.every_seconds = every_seconds
        self._is_enabled = True
        self._last = 0.0

    def disable(self) -> None:
        self._is_enabled = False

    def enable(self) -> None:
        self._is_enabled = True

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """A run resumed within an epoch does not announce it again."""
        self._start = self._last = time.monotonic()
        self._validated = False

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._start = self._last = time.monotonic()
        self._validated = False

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._validated = True

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if self._is_enabled and time.monotonic() - self._last >= self.every_seconds:
            self._last = time.monotonic()
            loss = trainer.callback_metrics.get("train/step_loss", float("nan"))
            print(
                f"{number_epoch(trainer)}  batch {batch_idx + 1}/{self.total_train_batches}  loss {float(loss):.4f}",
                flush=True,
            )

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if not self._is_enabled:
            return
        print(describe_epoch(trainer, self._validated, time.monotonic() - self._start), flush=True)


def describe_epoch(trainer: pl.Trainer, is_validated: bool, seconds: float) -> str:
    """What an epoch reached; Lightning keeps the last validation's values in epochs that have none."""
    metrics = trainer.callback_metrics
    monitored = [each.monitor for each in trainer.checkpoint_callbacks if isinstance(each, ModelCheckpoint)]
    candidates = dict.fromkeys((*EPOCH_LINE, *(name for name in monitored if name)))
    names = [name for name in candidates if name in metrics and (is_validated or not name.startswith("val/"))]
    shown = "  ".join(f"{name} {float(metrics[name]):.4f}" for name in names)
    return f"{number_epoch(trainer)}  {shown}  {seconds:.1f} s"


def number_epoch(trainer: pl.Trainer) -> str:
    return f"epoch {trainer.current_epoch + 1}/{trainer.max_epochs if trainer.max_epochs else '…'}"
