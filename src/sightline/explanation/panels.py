"""One picture for each explained image: what the network saw, and every method's map over it."""

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


def scaled(values: torch.Tensor) -> np.ndarray:
    """A map from -1 to 1: its own largest values, but for the last half percent, are the ends."""
    array = values.numpy()
    largest = float(np.percentile(np.abs(array), PERCENTILE)) or float(np.abs(array).max()) or 1.0
    return np.clip(array / largest, -1, 1)


def draw_panel(image: np.ndarray, maps: Mapping[str, Explained], title: str, captions: Sequence[str]) -> Figure:
    """`image` uint8 `(H, W, 3)` beside the maps over it, all on the scale from -1 (against the class) to 1 (for it)."""
    figure = Figure(figsize=(2.6 * (len(maps) + 1) + 0.7, 3.3), layout="constrained")
    axes = figure.subplots(1, len(maps) + 1, squeeze=False)[0]
    with plain_text([title]):
        figure.suptitle(title, fontsize=10)
    axes[0].imshow(image, interpolation="nearest")
    axes[0].set_xlabel("as the network saw it", fontsize=8)
    grey = image.mean(axis=2)
    shown = None
    for axis, (method, explained), caption in zip(axes[1:], maps.items(), captions, strict=True):
        values = scaled(explained.values)
        axis.imshow(grey, cmap="gray", vmin=0, vmax=255)
        shown = axis.imshow(values, cmap=COLORS, vmin=-1, vmax=1, alpha=0.25 + 0.65 * np.abs(values))
        axis.set_title(method.replace("_", " "), fontsize=9)
        axis.set_xlabel(caption, fontsize=8)
    for axis in axes:
        axis.set(xticks=[], yticks=[])
    assert shown is not None
    bar = figure.colorbar(shown, ax=list(axes), shrink=0.7, aspect=18, ticks=[-1, 0, 1])
    bar.solids.set_alpha(1)  # pyright: ignore[reportOptionalMemberAccess]
    bar.ax.set_yticklabels(["against", "0", "for"], fontsize=8)
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
