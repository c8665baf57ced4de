"""Progress for logs and pipes, where a moving bar cannot be drawn."""

import time
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import ProgressBar

SHOWN = ("train/loss", "train/accuracy", "val/loss", "val/accuracy")


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
        """A run that goes on within an epoch does not start one."""
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
                f"{self._epoch(trainer)}  batch {batch_idx + 1}/{self.total_train_batches}  loss {float(loss):.4f}",
                flush=True,
            )

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if not self._is_enabled:
            return
        metrics = trainer.callback_metrics
        shown = "  ".join(
            f"{name} {float(metrics[name]):.4f}" for name in SHOWN if name in metrics and self._is_new(name)
        )
        print(f"{self._epoch(trainer)}  {shown}  {time.monotonic() - self._start:.1f} s", flush=True)

    def _is_new(self, name: str) -> bool:
        """Lightning keeps the last validation's values in epochs that have none."""
        return self._validated or not name.startswith("val/")

    @staticmethod
    def _epoch(trainer: pl.Trainer) -> str:
        return f"epoch {trainer.current_epoch + 1}/{trainer.max_epochs if trainer.max_epochs else '…'}"
