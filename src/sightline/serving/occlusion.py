"""Where a picture's class is seen: regions are hidden in turn, and the exported graph says how much less sure it is.

Occlusion of Zeiler and Fergus (arXiv:1311.2901); needs no gradients, so no torch.
"""

import io
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

from sightline.data.display import to_display
from sightline.serving.contract import HeatMap, Problem
from sightline.task_spec import TaskSpec

TILES, HIDDEN = 8, 2
"""A picture is so many tiles wide and high; of those so many by so many are hidden at a time: 49 regions."""
BATCH = 8
SIDE = 448
"""Pixels of the drawn picture, of a smaller one; larger ones stay as they are."""
LEAST_DROP = 0.05
"""That is drawn as the most there can be: of less importance everywhere, the map stays faint."""
COLOURS = np.array([[0, 0, 4], [87, 16, 110], [188, 55, 84], [249, 142, 9], [252, 255, 164]], np.float32)
"""Of importance 0, ¼, ½, ¾ and 1: the map `inferno`, whose brightness rises all the way, for every kind of eyes."""
OPACITY = 0.75
SECONDS = 30.0
"""In which a heat map must be done."""


@dataclass(frozen=True)
class Occlusion:
    """What hiding each region did to the probability of the most probable class."""

    label: int
    """The number of that class."""
    probability: float
    drop: float
    """By how much it falls with the most important region hidden; 0 where it falls nowhere."""
    box: tuple[int, int, int, int]
    """That region: left, top, right and bottom in pixels of the prepared picture."""
    map: np.ndarray
    """How much it falls by a tile, the mean over the regions that hide it, float32 `(tiles, tiles)`."""


def occlude(
    run: Callable[[np.ndarray], np.ndarray], pixels: np.ndarray, spec: TaskSpec, end: float = np.inf
) -> Occlusion:
    """Hide each region of prepared pixels `(H, W, C)` under the mean colour; `run` gives probabilities of a batch.

    Raises: Problem 503 where it is not done when `time.monotonic()` is `end`.
    """
    size = spec.image_size
    tiles = min(TILES, size)
    edges = np.round(np.linspace(0, size, tiles + 1)).astype(int)
    hidden = min(HIDDEN, tiles)
    corners = [(row, column) for row in range(tiles - hidden + 1) for column in range(tiles - hidden + 1)]
    colour = np.round(np.array(spec.mean) * spec.max_level).astype(pixels.dtype)
    usual = run(pixels[None])[0]
    label = int(usual.argmax())
    drops: list[float] = []
    for start in range(0, len(corners), BATCH):
        if time.monotonic() > end:
            raise Problem(503, "Took too long", "hiding every region takes longer than a request may; ask again later")
        part = corners[start : start + BATCH]
        images = np.repeat(pixels[None], len(part), axis=0)
        for image, (row, column) in zip(images, part, strict=True):
            image[edges[row] : edges[row + hidden], edges[column] : edges[column + hidden]] = colour
        drops += [float(usual[label] - each[label]) for each in run(images)]
    total, times = np.zeros((tiles, tiles), np.float32), np.zeros((tiles, tiles), np.float32)
    for (row, column), drop in zip(corners, drops, strict=True):
        total[row : row + hidden, column : column + hidden] += drop
        times[row : row + hidden, column : column + hidden] += 1
    row, column = corners[int(np.argmax(drops))]
    box = (int(edges[column]), int(edges[row]), int(edges[column + hidden]), int(edges[row + hidden]))
    return Occlusion(label, float(usual[label]), max(0.0, *drops), box, total / times)


def draw(found: Occlusion, pixels: np.ndarray, spec: TaskSpec) -> bytes:
    """The prepared picture `(H, W, C)` as PNG: grey where nothing depends on it, bright where the class is seen.

    A frame marks the most important region.
    """
    shown = Image.fromarray(to_display(pixels, spec.display_bands))
    side = max(SIDE, shown.width)
    greys = shown.resize((side, side), Image.Resampling.BICUBIC).convert("L")
    map_image = Image.fromarray(found.map / np.float32(max(found.drop, LEAST_DROP)))
    importance = np.clip(np.asarray(map_image.resize((side, side), Image.Resampling.BICUBIC)), 0, 1)
    places = np.linspace(0, 1, len(COLOURS))
    colours = np.stack([np.interp(importance, places, COLOURS[:, band]) for band in range(3)], axis=-1)
    opacity = OPACITY * np.minimum(1, 2 * importance)[..., None] ** 0.5
    mixed = (1 - opacity) * np.asarray(greys, np.float32)[..., None] + opacity * colours
    picture = Image.fromarray(np.round(mixed).astype(np.uint8))
    if found.drop > 0:
        scale = side / shown.width
        left, top, right, bottom = (round(scale * edge) for edge in found.box)
        pen = ImageDraw.Draw(picture)
        pen.rectangle((left, top, right - 1, bottom - 1), outline="black", width=4)
        pen.rectangle((left + 1, top + 1, right - 2, bottom - 2), outline="white", width=2)
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return buffer.getvalue()


def explain(
    run: Callable[[np.ndarray], np.ndarray], pixels: np.ndarray, spec: TaskSpec, seconds: float = SECONDS
) -> HeatMap:
    """The heat map of prepared pixels `(H, W, C)`.

    Raises: Problem 503 where it takes longer than so many seconds.
    """
    found = occlude(run, pixels, spec, time.monotonic() + seconds)
    return HeatMap(draw(found, pixels, spec), spec.class_names[found.label], found.probability, found.drop)
