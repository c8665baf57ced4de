"""The most probable classes of pictures, and the table of them: predictions.csv."""

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from sightline.runs.file_names import to_text

if TYPE_CHECKING:
    import torch

TOP = 5


def most_probable(probabilities: "torch.Tensor", class_names: Sequence[str]) -> list[list[tuple[str, float]]]:
    """The first classes of each row of probabilities `(N, num_classes)`, with their probabilities."""
    values, indices = probabilities.topk(min(TOP, len(class_names)), dim=1)
    rows = zip(indices.tolist(), values.tolist(), strict=True)
    return [[(str(class_names[i]), float(value)) for i, value in zip(*row, strict=True)] for row in rows]


def write_predictions(path: Path, files: Sequence[Path], classes: Sequence[Sequence[tuple[str, float]]]) -> None:
    """Write a row for each file with its most probable classes, the first one first."""
    ranks = ["", *(f"_{rank}" for rank in range(2, TOP + 1))]
    with path.open("w", newline="", encoding="utf-8") as table:
        writer = csv.writer(table)
        writer.writerow(("file", *(name + rank for rank in ranks for name in ("class", "probability"))))
        for file, ranked in zip(files, classes, strict=True):
            cells = [cell for name, probability in ranked for cell in (name, f"{probability:.6f}")]
            writer.writerow((to_text(file.as_posix()), *cells, *[""] * (2 * TOP - len(cells))))
