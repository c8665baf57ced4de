"""Logs of a resumed run, continued at the step of its checkpoint."""

import csv
import warnings
from pathlib import Path

from pytorch_lightning.loggers import CSVLogger, Logger, TensorBoardLogger


def continue_log(logger: Logger, first_step: int) -> None:
    """Drop what was logged from this step on, and keep what was logged before; other loggers begin anew."""
    if isinstance(logger, TensorBoardLogger):
        logger._kwargs["purge_step"] = first_step  # of the writer, which is not made yet
    elif isinstance(logger, CSVLogger):
        _continue_table(logger, first_step)


def _continue_table(logger: CSVLogger, first_step: int) -> None:
    path = Path(logger.log_dir) / "metrics.csv"
    if not path.is_file():
        return
    with path.open(newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        rows = [row for row in reader if int(row["step"]) < first_step]
        columns = list(reader.fieldnames or ())
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*Previous log files in this directory will be deleted.*")
        logger.experiment.metrics_keys = columns  # making it deletes the file
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(rows)
