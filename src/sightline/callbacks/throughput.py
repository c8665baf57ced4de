"""Training throughput in images per second, and seconds of training."""

import time
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback

WARM_UP_STEPS = 10


class Throughput(Callback):
    """Counts images through `training_step` over the wall time of the training epochs.

    Validation, checkpoints and the first 10 steps are left out; a run that has no more steps than these counts them
    all. Of a run that was stopped, images a second are of its last process, and the seconds are those of all.
    """

    def __init__(self) -> None:
        self.metrics: dict[str, float] = {}
        self._steps = self._images = self._warm_images = 0
        self._seconds = self._warm_seconds = self._earlier_seconds = 0.0
        self._is_paused = False
        self._fit_start: float | None = None

    def state_dict(self) -> dict[str, Any]:
        return {"seconds": self._all_seconds(), "metrics": self.metrics or self._measure()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._earlier_seconds, self.metrics = state_dict["seconds"], state_dict["metrics"]

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._clock = time.perf_counter()
        if self._fit_start is None:  # else training went back to a checkpoint
            self._fit_start = self._clock
        self.metrics = {}

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._clock = time.perf_counter()
        self._is_paused = False

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        if self._is_paused:  # checkpoints are written after the hooks that stop the clock
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

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        if self._fit_start is not None:
            self._stop_clock()
            self._is_paused = True

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._stop_clock()

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.metrics = self._measure()

    def _measure(self) -> dict[str, float]:
        images, seconds = self._images, self._seconds
        if self._images > self._warm_images:
            images, seconds = self._images - self._warm_images, self._seconds - self._warm_seconds
        return {
            "train/images_per_second": images / seconds if seconds else 0.0,
            "train/seconds": self._all_seconds(),
        }

    def _all_seconds(self) -> float:
        return self._earlier_seconds + (0.0 if self._fit_start is None else time.perf_counter() - self._fit_start)

    def _stop_clock(self) -> None:
        now = time.perf_counter()
        if not self._is_paused:
            self._seconds += now - self._clock
        self._clock = now
