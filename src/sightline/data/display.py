"""What people see of an image, whatever its bands and its depth: red, green and blue of 8 bits."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from sightline.data.arrays import read
from sightline.data.decoding import REDUCED
from sightline.data.deep_greys import to_16_bit, usual_range
from sightline.data.transforms import naming, to_rgb
from sightline.task_spec import MAX_PIXELS, ValueRange

if TYPE_CHECKING:
    import torch

DISPLAYED = (2, 98)
"""Percentiles of a band that become black and white, as is usual for satellite pictures."""


def to_display(
    levels: np.ndarray, display_bands: Sequence[int] | None = None, like: np.ndarray | None = None
) -> np.ndarray:
    """uint8 `(…, H, W, 3)` of levels `(…, H, W, C)`, uint8 or uint16.

    Greys are tripled, and red, green and blue are as they are, unless `display_bands` puts them into another order; 16
    bits become 8. Of other numbers of bands `display_bands` are shown, by default the first three, each stretched from
    its 2nd to its 98th percentile in that image, or in the one that it is to be seen beside (`like`).
    """
    channels = levels.shape[-1]
    bands, is_stretched = list(_choose(channels, display_bands)), _is_stretched(channels)
    if levels.dtype == np.uint8 and not is_stretched:
        return levels[..., bands]
    shares = _shares(levels[..., bands])
    if is_stretched:
        shares = _stretch(shares, shares if like is None else _shares(like[..., bands]))
    return np.rint(255 * shares).astype(np.uint8)


def colours_to_display(colours: "torch.Tensor", display_bands: Sequence[int] | None = None) -> "torch.Tensor":
    """The same for colours in 0..1, float `(B, C, H, W)`: of that type, `(B, 3, H, W)`."""
    import torch

    channels = colours.shape[1]
    chosen = colours[:, list(_choose(channels, display_bands))]
    if not _is_stretched(channels):
        return chosen
    shares = chosen.permute(0, 2, 3, 1).float().cpu().numpy()
    return torch.from_numpy(_stretch(shares, shares)).permute(0, 3, 1, 2).to(colours)


def load_displayed(
    path: str | Path,
    *,
    channels: int = 3,
    value_range: ValueRange | None = None,
    display_bands: Sequence[int] | None = None,
    max_pixels: int = MAX_PIXELS,
) -> Image.Image:
    """A whole image file as people see it, in RGB; `channels` and `value_range` are those of its data set.

    A large array is shown by some of its rows and columns.

    Raises: UnreadableImage with the path.
    """
    with naming(path):
        picture = read(path, max_pixels, channels=channels, bit_depth=8 if value_range is None else 16)
        if isinstance(picture, np.ndarray):
            step = max(1, math.isqrt(picture.shape[0] * picture.shape[1] // REDUCED))
            values = picture[::step, ::step]
            levels = values if values.dtype == np.uint8 else to_16_bit(values, value_range or usual_range(values))
            return Image.fromarray(to_display(levels, display_bands))
        rgb = to_rgb(picture, value_range)
        is_as_it_is = channels != 3 or display_bands is None
        return rgb if is_as_it_is else Image.fromarray(to_display(np.asarray(rgb), display_bands))


def describe_display(channels: int, display_bands: Sequence[int] | None = None) -> str:
    """How images of this many bands are shown, as a sentence; nothing where they are greys, or red, green and blue."""
    bands = name_bands(channels, display_bands)
    if not bands:
        return ""
    shown = f"{bands} as red, green and blue" if bands.startswith("bands") else f"{bands} as grey"
    how = f", each from its {DISPLAYED[0]}nd to its {DISPLAYED[1]}th percentile" if _is_stretched(channels) else ""
    return f"Of the {channels} bands, from 0, the pictures show {shown}{how}."


def name_bands(channels: int, display_bands: Sequence[int] | None = None) -> str:
    """`bands 4, 2, 0` or `band 4`: what is shown; nothing of greys, or of red, green and blue in their order."""
    bands = tuple(dict.fromkeys(_choose(channels, display_bands)))
    if not _is_stretched(channels) and bands == tuple(range(channels)):
        return ""
    return ("band " if len(bands) == 1 else "bands ") + ", ".join(map(str, bands))


def _choose(channels: int, display_bands: Sequence[int] | None) -> Sequence[int]:
    """Three of the bands, or one of them three times; the usual ones of an image that lacks those asked for."""
    is_there = display_bands is not None and max(display_bands) < channels
    bands = display_bands if display_bands is not None and is_there else (range(3) if channels >= 3 else (0,))
    return tuple(bands) if len(bands) == 3 else (bands[0],) * 3


def _is_stretched(channels: int) -> bool:
    """Bands of detectors fill a part of their range alone; greys and colours mean what they say."""
    return channels not in (1, 3)


def _shares(levels: np.ndarray) -> np.ndarray:
    """Levels as shares of white, float32 in 0..1."""
    return levels.astype(np.float32) / np.float32(np.iinfo(levels.dtype).max)


def _stretch(shares: np.ndarray, like: np.ndarray) -> np.ndarray:
    """Each band of each image `(…, H, W, 3)` from 0 to 1, as those of `like`; one of a single value as it is."""
    low, high = np.percentile(like, DISPLAYED, axis=(-3, -2), keepdims=True)
    is_narrow = high <= low
    low = np.where(is_narrow, like.min(axis=(-3, -2), keepdims=True), low)
    high = np.where(is_narrow, like.max(axis=(-3, -2), keepdims=True), high)
    is_constant = high <= low
    stretched = (shares - low) / np.where(is_constant, 1, high - low)
    return np.clip(np.where(is_constant, shares, stretched), 0, 1).astype(np.float32)
