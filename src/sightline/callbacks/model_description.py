"""What a LightningModule of own code does not write into its checkpoints itself: which model it is."""

from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback


class ModelDescription(Callback):
    """Adds plain values, like the architecture and the task, to every checkpoint."""

    def __init__(self, facts: dict[str, Any]) -> None:
        self.facts = facts

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        checkpoint.update(self.facts)
