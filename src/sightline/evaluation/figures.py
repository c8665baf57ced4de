"""Pictures of an evaluation: as PNG files on white, and as SVG in the report's own colours."""

import io
import re
from collections.abc import Mapping, Sequence

import matplotlib
import numpy as np
import torch
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure

from sightline.evaluation.calibration import Bin
from sightline.evaluation.scores import ClassScore
from sightline.evaluation.selective_prediction import Coverage
from sightline.runs.drawn_names import drawable_each, plain_text, restore

MAX_NUMBERED = 15
"""Up to this many classes every cell of a confusion matrix shows its count."""
SHADES = LinearSegmentedColormap.from_list("shades", [(0.12, 0.47, 0.71, 0.0), (0.12, 0.47, 0.71, 1.0)])
"""From nothing to blue, so that zero has the page's colour, light or dark."""


def arrange(figure: Figure) -> None:
    """Lay the figure out once: a constrained layout is computed anew for each file that is written."""
    if (engine := figure.get_layout_engine()) is not None:
        engine.execute(figure)
    figure.set_layout_engine(None)  # "none" would leave a place holder, with which each file is drawn twice


def to_svg(figure: Figure) -> str:
    """A figure for inside a page: text stays text, black and white become the page's own colours."""
    text = io.StringIO()
    with matplotlib.rc_context({"svg.fonttype": "none"}):
        figure.savefig(text, format="svg", transparent=True)
    svg = text.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = svg.replace("#000000", "currentColor").replace("#ffffff", "var(--page)")
    return restore(svg.replace("<text ", '<text fill="currentColor" '))


def draw_confusion_matrix(matrix: torch.Tensor, class_names: Sequence[str], title: str) -> Figure:
    """Share of each label's images by predicted class; counts in the cells where there is room."""
    count, names = len(class_names), drawable_each(class_names)
    size = 9 if count <= 50 else 6
    side = min(24.0, max(4.5, 1.8 + 0.36 * count)) + _inches_beyond(names, size)
    shares = matrix / matrix.sum(dim=1, keepdim=True).clamp(min=1)
    figure = Figure(figsize=(side + 1, side), layout="constrained")
    axes = figure.subplots()
    image = axes.imshow(shares.numpy(), vmin=0, vmax=1, cmap=SHADES)
    figure.colorbar(image, ax=axes, label="share of the label's images", shrink=0.8)
    with plain_text(names):
        upright = {"rotation": 90, "rotation_mode": "anchor", "ha": "right", "va": "center"}
        axes.set_xticks(range(count), labels=names, fontsize=size, **upright)
        axes.set_yticks(range(count), labels=names, fontsize=size)
    axes.set(xlabel="predicted", ylabel="label", title=title)
    if count <= MAX_NUMBERED:
        for row in range(count):
            for column in range(count):
                count_of_cell = int(matrix[row, column])
                if count_of_cell:
                    axes.text(column, row, str(count_of_cell), ha="center", va="center", fontsize=8)
    return figure


def _inches_beyond(names: Sequence[str], size: int) -> float:
    """How much longer than a usual name the longest one is, at so many points."""
    return max(0, max(map(len, names), default=0) - 14) * 0.6 * size / 72


def draw_per_class(scores: Sequence[ClassScore], title: str) -> Figure:
    """Precision and recall of each class, the worst F1 on top."""
    ordered = sorted(scores, key=lambda score: score.f1)
    shown = dict(zip([s.name for s in scores], drawable_each([s.name for s in scores]), strict=True))
    names = [f"{shown[s.name]} ({s.num_images})" for s in ordered]
    size = (7 + _inches_beyond(names, 8), min(40.0, max(2.5, 1.2 + 0.26 * len(ordered))))
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots()
    rows = range(len(ordered))
    axes.hlines(
        rows, [min(s.precision, s.recall) for s in ordered], [max(s.precision, s.recall) for s in ordered], "0.7"
    )
    axes.plot([s.precision for s in ordered], rows, "o", label="precision", color="tab:blue", markersize=5)
    axes.plot([s.recall for s in ordered], rows, "D", label="recall", color="tab:orange", markersize=4)
    with plain_text(names):
        axes.set_yticks(rows, labels=names, fontsize=8)
    lowest = min((min(s.precision, s.recall) for s in ordered), default=0.0)
    axes.set(xlim=(max(0.0, lowest - 0.05), 1.005), title=title)
    axes.invert_yaxis()
    axes.grid(axis="x", alpha=0.3)
    axes.legend(loc="lower left")
    return figure


def draw_reliability(diagrams: Mapping[str, Sequence[Bin]]) -> Figure:
    """Accuracy by confidence, a panel for each set of probabilities, with the share of images in each bin below."""
    figure = Figure(figsize=(4.2 * len(diagrams), 4.6), layout="constrained")
    panels = figure.subplots(2, len(diagrams), squeeze=False, height_ratios=(4, 1), sharex=True)
    for column, (name, bins) in enumerate(diagrams.items()):
        upper, lower = panels[0, column], panels[1, column]
        confidences, accuracies = [b.confidence for b in bins], [b.accuracy for b in bins]
        shares = np.array([b.num_images for b in bins]) / sum(b.num_images for b in bins)
        upper.plot([0, 1], [0, 1], "--", color="0.6", linewidth=1)
        upper.vlines(confidences, confidences, accuracies, color="tab:red", alpha=0.5, linewidth=4)
        upper.plot(confidences, accuracies, "o-", color="tab:blue", markersize=5)
        upper.set(xlim=(0, 1.02), ylim=(0, 1.03), title=name, ylabel="accuracy" if column == 0 else "")
        upper.grid(alpha=0.25)
        lower.bar([(b.low + b.high) / 2 for b in bins], shares, 0.9 / 15, color="tab:blue", alpha=0.6)
        lower.set(xlabel="confidence", ylabel="share" if column == 0 else "", ylim=(0, 1))
    return figure


def draw_coverage(curve: Coverage, goal: float | None, chosen: float | None) -> Figure:
    """The accuracy-coverage curve, with a line at the threshold if there is one."""
    figure = Figure(figsize=(6, 3.6), layout="constrained")
    axes = figure.subplots()
    axes.plot(curve.coverages, curve.accuracies, color="tab:blue")
    lowest = float(curve.accuracies.min())
    if goal is not None:
        lowest = min(lowest, goal)
        axes.axhline(goal, color="tab:green", linestyle="--", linewidth=1, label=f"goal {goal:.4g}")
    if chosen is not None:
        axes.axvline(chosen, color="tab:orange", linestyle="--", linewidth=1, label=f"threshold: {chosen:.1%} answered")
    axes.set(xlabel="share of images answered", ylabel="accuracy of the answers", xlim=(0, 1.01))
    axes.set_ylim(max(0.0, lowest - 0.03), 1.005)
    axes.grid(alpha=0.25)
    if goal is not None:
        axes.legend(loc="lower left")
    return figure


def draw_corruptions(accuracies: Mapping[tuple[str, int], float], clean: float) -> Figure:
    """Accuracy by severity, a small panel for each corruption, all on one scale."""
    names = list(dict.fromkeys(name for name, _ in accuracies))
    columns = min(6, len(names))
    rows = -(-len(names) // columns)
    figure = Figure(figsize=(max(4.0, 1.9 * columns), 1.9 * rows + 0.4), layout="constrained")
    panels = list(figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True).flat)
    for axes, name in zip(panels, names, strict=False):
        severities = [severity for other, severity in accuracies if other == name]
        values = [accuracies[name, severity] for severity in severities]
        axes.axhline(clean, color="0.6", linestyle="--", linewidth=1)
        axes.plot(severities, values, "o-", color="tab:blue", markersize=4)
        axes.set_title(name.replace("_", " "), fontsize=9)
        axes.set(ylim=(0, 1.03), xlim=(0.7, 5.3), xticks=range(1, 6))
        axes.grid(alpha=0.25)
    for axes in panels[len(names) :]:
        axes.set_visible(False)
    figure.supxlabel("severity", fontsize=9)
    figure.supylabel("accuracy", fontsize=9)
    return figure
