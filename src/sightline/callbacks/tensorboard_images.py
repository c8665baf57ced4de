"""A grid of training images, as augmented, in TensorBoard."""

from collections.abc import Callable
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback
from pytorch_lightning.loggers import TensorBoardLogger


class TrainingImages(Callback):
    """Shows the first images of the first batch; `to_colours` turns what the model sees, `(B, C, H, W)`, into
    what people see of it, float `(B, 3, H, W)` in 0..1."""

    def __init__(self, to_colours: Callable[[torch.Tensor], torch.Tensor], most: int = 32) -> None:
        self.to_colours, self.most = to_colours, most

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        if trainer.global_step or batch_idx:
            return
        from torchvision.utils import make_grid

        grid = make_grid(self.to_colours(batch[0][: self.most]).cpu(), nrow=8)
        for logger in trainer.loggers:
            if isinstance(logger, TensorBoardLogger):
                logger.experiment.add_image("train/images", grid, trainer.global_step)
