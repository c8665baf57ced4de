"""The most probable classes of pictures, and the table of them: predictions.csv."""

import csv
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from sightline.runs.file_names import to_text

if TYPE_CHECKING:
    import torch

TOP = 5
HEADER = ("file", *(name + rank for rank in ("", "_2", "_3", "_4", "_5") for name in ("class", "probability")))
"""Columns of predictions.csv; others read them by these names."""
ERROR = "error"
"""The column behind them, where every file has a row."""
Ranked = Sequence[tuple[str, float]]
"""Classes with their probabilities, the most probable first."""


@dataclass(frozen=True, slots=True)
class Row:
    """What is said of one picture: its most probable classes, or why there are none."""

    file: str
    """Its path below the folder that all are named by, as `to_text` writes it."""
    ranked: Ranked = ()
    unsure: bool | None = None
    """Whether the first probability lies below the model's threshold; None where the model has none."""
    error: str | None = None


def most_probable(probabilities: "torch.Tensor", class_names: Sequence[str]) -> list[list[tuple[str, float]]]:
    """The first classes of each row of probabilities `(N, num_classes)`, with their probabilities."""
    values, indices = probabilities.topk(min(TOP, len(class_names)), dim=1)
    rows = zip(indices.tolist(), values.tolist(), strict=True)
    return [[(str(class_names[i]), float(value)) for i, value in zip(*row, strict=True)] for row in rows]


def cells_of(row: Row) -> list[str]:
    """A row's cells below `HEADER`."""
    cells = [cell for name, probability in row.ranked for cell in (name, f"{probability:.6f}")]
    return [row.file, *cells, *[""] * (2 * TOP - len(cells))]


def row_of(cells: Sequence[str]) -> Row:
    """The way back, of a row of a table with or without the column `error`."""
    pairs = zip(cells[1 : len(HEADER) : 2], cells[2 : len(HEADER) : 2], strict=True)
    error = cells[len(HEADER)] if len(cells) > len(HEADER) else ""
    return Row(cells[0], [(name, float(share)) for name, share in pairs if share], None, error or None)


def write_predictions(path: Path, files: Sequence[Path], classes: Iterable[Ranked]) -> None:
    """Write a row for each file with its most probable classes, the first one first."""
    with path.open("w", newline="", encoding="utf-8") as table:
        writer = csv.writer(table)
        writer.writerow(HEADER)
        for file, ranked in zip(files, classes, strict=True):
            writer.writerow(cells_of(Row(to_text(file.as_posix()), ranked)))
