"""Keeps the best few checkpoints, for their average."""

from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import ModelCheckpoint


class BestCheckpoints(ModelCheckpoint):
    """Writes `checkpoints/top-EPOCH-STEP.ckpt` for the `count` best validations so far."""

    def __init__(self, count: int, monitor: str, mode: str) -> None:
        super().__init__(
            filename="top-{epoch:04d}-{step:08d}",
            monitor=monitor,
            mode=mode,
            save_top_k=count,
            auto_insert_metric_name=False,
            enable_version_counter=False,
        )

    def setup(self, trainer: pl.Trainer, *arguments: Any, **named: Any) -> None:
        self.dirpath = str(Path(trainer.default_root_dir) / "checkpoints")
        super().setup(trainer, *arguments, **named)

    @property
    def scores(self) -> dict[str, float]:
        """Scores by the path of the checkpoint."""
        return {path: float(score) for path, score in self.best_k_models.items()}
