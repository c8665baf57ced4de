"""One picture for each explained image: what the network saw, and every method's map over it."""

import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from PIL import Image

from sightline.explanation.attribution import Explained
from sightline.runs.drawn_names import plain_text

COLORS = "RdBu_r"
PERCENTILE = 99.5
DPI = 100
COLUMNS = 3
"""Pictures side by side: a panel of 1,060 pixels, which a page shows at its own size."""
PICTURE_INCHES = 3.3
POINTS_PER_INCH = 72
TITLE_POINTS, TEXT_POINTS = 12, 10.5
"""17 and 15 pixels."""


def scaled(values: torch.Tensor) -> np.ndarray:
    """A map from -1 to 1: its own largest values, but for the last half percent, are the ends."""
    array = values.numpy()
    largest = float(np.percentile(np.abs(array), PERCENTILE)) or float(np.abs(array).max()) or 1.0
    return np.clip(array / largest, -1, 1)


def draw_panel(
    image: np.ndarray,
    maps: Mapping[str, Explained],
    title: str,
    captions: Sequence[str],
    bands: str = "",
) -> Figure:
    """`image` uint8 `(H, W, 3)` beside the maps over it, all on the scale from -1 (against the class) to 1 (for it).

    `bands` names those that the image shows, where it is not all that the network saw.
    """
    columns = min(COLUMNS, len(maps) + 1)
    rows = -(-(len(maps) + 1) // columns)
    width = PICTURE_INCHES * columns + 0.7
    lines = textwrap.wrap(title, int(width * POINTS_PER_INCH / TITLE_POINTS))  # a character is at most as wide as high
    figure = Figure(figsize=(width, (PICTURE_INCHES + 0.95) * rows + 0.3 * len(lines)), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False).flatten()
    with plain_text([title]):
        figure.suptitle("\n".join(lines), fontsize=TITLE_POINTS)
    axes[0].imshow(image, interpolation="nearest")
    axes[0].set_title(bands or "as the network saw it", fontsize=TEXT_POINTS)
    grey = image.mean(axis=2)
    shown = None
    for axis, (method, explained), caption in zip(axes[1:], maps.items(), captions, strict=False):
        values = scaled(explained.values)
        axis.imshow(grey, cmap="gray", vmin=0, vmax=255)
        shown = axis.imshow(values, cmap=COLORS, vmin=-1, vmax=1, alpha=0.25 + 0.65 * np.abs(values))
        axis.set_title(method.replace("_", " "), fontsize=TEXT_POINTS)
        axis.set_xlabel(caption, fontsize=TEXT_POINTS)
    for axis in axes:
        axis.set(xticks=[], yticks=[])
    for axis in axes[len(maps) + 1 :]:
        axis.set_visible(False)
    assert shown is not None
    bar = figure.colorbar(shown, ax=list(axes), shrink=0.7, aspect=18, ticks=[-1, 0, 1])
    bar.solids.set_alpha(1)  # pyright: ignore[reportOptionalMemberAccess]
    bar.ax.set_yticklabels(["against", "0", "for"], fontsize=TEXT_POINTS)
    return figure


def join_panels(paths: Sequence[Path], columns: int = 2) -> np.ndarray:
    """The panels of some images as one picture, uint8 `(H, W, 3)`, for TensorBoard."""
    tiles = [Image.open(path).convert("RGB") for path in paths]
    width, height = max(tile.width for tile in tiles), max(tile.height for tile in tiles)
    rows = -(-len(tiles) // columns)
    grid = Image.new("RGB", (width * min(columns, len(tiles)), height * rows), "white")
    for number, tile in enumerate(tiles):
        grid.paste(tile, ((number % columns) * width, (number // columns) * height))
    return np.array(grid)
