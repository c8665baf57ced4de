"""Progressive resizing: small images in early epochs, which are cheap, and the full size at the end."""

from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback

FULL_FROM = 0.8
"""The share of the epochs after which images have their full size."""
MULTIPLE = 8


class ProgressiveResizing(Callback):
    """Grows the training images from `start` times their size, in multiples of 8 pixels (arXiv:2104.00298).

    Batches are made smaller where the network is, so that loading and augmenting stay as they are.
    """

    def __init__(self, start: float) -> None:
        self.start = start

    def on_train_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        self._resize(trainer, pl_module)

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        self._resize(trainer, pl_module)

    def _resize(self, trainer: pl.Trainer, pl_module: Any) -> None:
        full = pl_module.spec.image_size
        pl_module.train_size = size_in(trainer.current_epoch, trainer.max_epochs or 1, full, self.start)


def size_in(epoch: int, num_epochs: int, full: int, start: float) -> int:
    """Side in pixels of the training images of an epoch."""
    if start >= 1:
        return full
    grown = min(1.0, epoch / (FULL_FROM * num_epochs))
    size = full * (start + (1 - start) * grown)
    return min(full, max(MULTIPLE, MULTIPLE * round(size / MULTIPLE))) if grown < 1 else full
