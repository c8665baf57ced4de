"""Progress in a terminal: a bar for the epoch at hand, and a line for each that is over."""

import time
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import RichProgressBar
from pytorch_lightning.callbacks.progress.rich_progress import CustomTimeColumn, ProcessingSpeedColumn

from sightline.callbacks.plain_progress import describe_epoch, number_epoch

NARROW = 80
"""Below this many columns the bar goes without time and speed, which would break its line."""


class TerminalProgress(RichProgressBar):
    """The lines of `PlainProgress` above a moving bar, which is gone at the end."""

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        super().on_train_start(trainer, pl_module)
        self._start, self._validated = time.monotonic(), False

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        super().on_train_epoch_start(trainer, pl_module)
        self._start, self._validated = time.monotonic(), False

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        super().on_validation_end(trainer, pl_module)
        self._validated = True

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        super().on_train_epoch_end(trainer, pl_module)
        if self.progress is not None and self.is_enabled:
            line = describe_epoch(trainer, self._validated, time.monotonic() - self._start)
            self.progress.console.print(line, highlight=False, markup=False, soft_wrap=True)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self.progress is not None and self.train_progress_bar_id is not None:
            self.progress.update(self.train_progress_bar_id, visible=False)
        self._stop_progress()

    def configure_columns(self, trainer: pl.Trainer) -> list[Any]:
        columns = super().configure_columns(trainer)
        if self._console is None or self._console.width >= NARROW:
            return columns
        return [column for column in columns if not isinstance(column, CustomTimeColumn | ProcessingSpeedColumn)]

    def get_metrics(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> dict[str, Any]:
        """The loss of the last step: epochs have lines, and the logger's version is part of no run's name here."""
        loss = trainer.callback_metrics.get("train/step_loss")
        return {} if loss is None else {"loss": float(loss)}

    def _get_train_description(self, current_epoch: int) -> str:
        return number_epoch(self.trainer).ljust(len(self.validation_description))
