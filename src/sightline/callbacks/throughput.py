"""How many images a second training takes, and how long it lasts."""

import time
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback

WARM_UP_STEPS = 10


class Throughput(Callback):
    """Counts images through `training_step` over the wall time of the training epochs.

    Validation, with the checkpoint that it may write, and the first 10 steps are left out; a run that has no more steps
    than these counts them all.
    """

    def __init__(self) -> None:
        self.metrics: dict[str, float] = {}
        self._steps = self._images = self._warm_images = 0
        self._seconds = self._warm_seconds = 0.0
        self._is_paused = False
        self._fit_start: float | None = None

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self._fit_start is None:  # else training went back to a checkpoint
            self._fit_start = time.perf_counter()

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._clock = time.perf_counter()
        self._is_paused = False

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        if self._is_paused:  # Lightning writes checkpoints after every other callback of the validation's end
            self._clock = time.perf_counter()
            self._is_paused = False

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self._steps += 1
        self._images += len(batch[1]) * trainer.world_size
        if self._steps == WARM_UP_STEPS:
            self._stop_clock()
            self._warm_images, self._warm_seconds = self._images, self._seconds

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if not trainer.sanity_checking:
            self._stop_clock()
            self._is_paused = True

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._stop_clock()

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        images, seconds = self._images, self._seconds
        if self._images > self._warm_images:
            images, seconds = self._images - self._warm_images, self._seconds - self._warm_seconds
        self.metrics = {
            "train/images_per_second": images / seconds if seconds else 0.0,
            "train/seconds": time.perf_counter() - (self._fit_start or 0.0),
        }

    def _stop_clock(self) -> None:
        now = time.perf_counter()
        if not self._is_paused:
            self._seconds += now - self._clock
        self._clock = now
