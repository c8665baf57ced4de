"""Gradual unfreezing: the head first, then one more stage of the backbone at a time (arXiv:1801.06146)."""

from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback


class GradualUnfreezing(Callback):
    """Trains one more stage, from the head down, every some epochs; what is trained follows from the epoch alone."""

    def __init__(self, every_epochs: int) -> None:
        self.every_epochs = every_epochs

    def on_train_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """Also where a run goes on within an epoch."""
        pl_module.train_last_stages(1 + trainer.current_epoch // self.every_epochs)

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        pl_module.train_last_stages(1 + trainer.current_epoch // self.every_epochs)
