"""Tables and pictures of an evaluation."""

import csv
from collections.abc import Sequence
from pathlib import Path

import torch
from matplotlib.figure import Figure

from sightline.evaluation.evaluators import ClassScore

MOST_NUMBERED = 15
"""Up to this many classes every cell of a confusion matrix shows its count."""


def write_confusion_matrix(path: Path, matrix: torch.Tensor, class_names: Sequence[str]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(("label \\ predicted", *class_names))
        writer.writerows((name, *row) for name, row in zip(class_names, matrix.tolist(), strict=True))


def write_per_class(path: Path, scores: Sequence[ClassScore]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(("class", "num_images", "precision", "recall", "f1"))
        writer.writerows((s.name, s.num_images, f"{s.precision:.6f}", f"{s.recall:.6f}", f"{s.f1:.6f}") for s in scores)


def draw_confusion_matrix(matrix: torch.Tensor, class_names: Sequence[str], title: str) -> Figure:
    """Share of each label's images by predicted class; counts in the cells where there is room."""
    count = len(class_names)
    side = min(24.0, max(4.5, 1.8 + 0.36 * count))
    shares = matrix / matrix.sum(dim=1, keepdim=True).clamp(min=1)
    figure = Figure(figsize=(side + 1, side), layout="constrained")
    axes = figure.subplots()
    image = axes.imshow(shares.numpy(), vmin=0, vmax=1, cmap="Blues")
    figure.colorbar(image, ax=axes, label="share of the label's images", shrink=0.8)
    size = 9 if count <= 50 else 6
    axes.set_xticks(range(count), labels=list(class_names), rotation=90, fontsize=size)
    axes.set_yticks(range(count), labels=list(class_names), fontsize=size)
    axes.set(xlabel="predicted", ylabel="label", title=title)
    if count <= MOST_NUMBERED:
        for row in range(count):
            for column in range(count):
                color = "white" if shares[row, column] > 0.5 else "black"
                axes.text(column, row, str(int(matrix[row, column])), ha="center", va="center", color=color, fontsize=8)
    return figure


def draw_per_class(scores: Sequence[ClassScore], title: str) -> Figure:
    """Precision and recall of each class, the worst F1 on top."""
    ordered = sorted(scores, key=lambda score: score.f1)
    figure = Figure(figsize=(7, min(40.0, max(2.5, 1.2 + 0.26 * len(ordered)))), layout="constrained")
    axes = figure.subplots()
    rows = range(len(ordered))
    axes.hlines(
        rows, [min(s.precision, s.recall) for s in ordered], [max(s.precision, s.recall) for s in ordered], "0.7"
    )
    axes.plot([s.precision for s in ordered], rows, "o", label="precision", color="tab:blue", markersize=5)
    axes.plot([s.recall for s in ordered], rows, "D", label="recall", color="tab:orange", markersize=4)
    axes.set_yticks(rows, labels=[f"{s.name} ({s.num_images})" for s in ordered], fontsize=8)
    lowest = min((min(s.precision, s.recall) for s in ordered), default=0.0)
    axes.set(xlim=(max(0.0, lowest - 0.05), 1.005), title=title)
    axes.invert_yaxis()
    axes.grid(axis="x", alpha=0.3)
    axes.legend(loc="lower left")
    return figure
