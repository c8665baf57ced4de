"""Every epoch's metrics as a row of `metrics.csv`."""

import csv
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback


class EpochTable(Callback):
    """Writes the table anew after each epoch, so that it is whole at any moment and may gain columns."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rows: list[dict[str, float | int]] = []
        self._validated = False

    def state_dict(self) -> dict[str, Any]:
        return {"rows": list(self.rows), "validated": self._validated}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.rows, self._validated = state_dict["rows"], state_dict["validated"]

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """A resumed run drops the rows after its checkpoint."""
        if trainer.is_global_zero and trainer.ckpt_path is not None:
            self._write() if self.rows else self.path.unlink(missing_ok=True)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._validated = True

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        groups = trainer.optimizers[0].param_groups
        metrics = {name: float(value) for name, value in trainer.callback_metrics.items() if self._is_new(name)}
        self._validated = False
        self.rows = [row for row in self.rows if row["epoch"] < trainer.current_epoch]  # after going back
        self.rows.append(
            {
                "epoch": trainer.current_epoch,
                "step": trainer.global_step,
                "lr": max(group["lr"] for group in groups),
                **metrics,
            }
        )
        if trainer.is_global_zero:
            self._write()

    def _is_new(self, name: str) -> bool:
        """Lightning keeps the last validation's values in epochs that have none."""
        return name != "train/step_loss" and (self._validated or not name.startswith("val/"))

    def _write(self) -> None:
        columns = list(dict.fromkeys(name for row in self.rows for name in row))
        partial = self.path.with_name(self.path.name + ".partial")
        with partial.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, columns)
            writer.writeheader()
            writer.writerows(self.rows)
        partial.replace(self.path)
