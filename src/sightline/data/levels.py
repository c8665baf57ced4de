"""Levels of brightness as arrays `(H, W, C)`, uint8 or uint16: what has not three channels of 8 bits, or more bits."""

from collections.abc import Callable

import numpy as np
from PIL import Image

from sightline.data.decoding import LARGE, REDUCED
from sightline.data.deep_greys import to_8_bit, to_16_bit, usual_range
from sightline.task_spec import TaskSpec, ValueRange

LUMA = (0.299, 0.587, 0.114)
"""Red, green and blue in a grey, ITU-R BT.601."""
VALUES_AT_ONCE = 2**22


class OtherChannels(ValueError):
    """An image with another number of channels than the data set's; the message says both."""


def check_channels(channels: int, wanted: int) -> None:
    """Greys and colours stand for each other; bands for nothing else.

    Raises: OtherChannels.
    """
    if not are_alike(channels, wanted):
        have = "is a grey" if channels == 1 else f"has {channels} channels"
        raise OtherChannels(f"{have}, and the data {wanted} (data.channels)")


def are_alike(channels: int, wanted: int) -> bool:
    return channels == wanted or {channels, wanted} == {1, 3}


def to_levels(values: np.ndarray, spec: TaskSpec) -> np.ndarray:
    """Levels of an array `(H, W, C)` of any numbers, with the channels and the depth of the spec.

    Values of more than 8 bits are spread over the spec's range; 8 bits stay as they are, or become 16 (times 257). An
    array of very many pixels is made smaller.

    Raises: OtherChannels.
    """
    check_channels(values.shape[2], spec.channels)
    value_range = spec.value_range or _range_of(values)

    def change(part: np.ndarray) -> np.ndarray:
        if spec.bit_depth == 8:
            return in_8_bits(part, value_range)
        return part.astype(np.uint16) * np.uint16(257) if part.dtype == np.uint8 else to_16_bit(part, value_range)

    return with_channels(_in_strips(values, change, np.dtype(spec.dtype)), spec.channels)


def in_8_bits(values: np.ndarray, value_range: ValueRange | None) -> np.ndarray:
    """uint8 of the same shape; what has 8 bits stays, and without a range the usual one of such values is taken."""
    return values if values.dtype == np.uint8 else to_8_bit(values, value_range or usual_range(values))


def _range_of(values: np.ndarray) -> ValueRange:
    return (0, 255) if values.dtype == np.uint8 else usual_range(values)


def _in_strips(values: np.ndarray, change: Callable[[np.ndarray], np.ndarray], kind: np.dtype) -> np.ndarray:
    """`change` of an array some rows at a time: its numbers of 64 bits are never all there. Large ones are reduced."""
    height, width, channels = values.shape
    factor = 1
    while height * width > LARGE and height * width > REDUCED * factor**2:
        factor += 1
    if factor == 1 and values.size <= VALUES_AT_ONCE:
        return change(values)
    levels = np.empty((-(-height // factor), -(-width // factor), channels), kind)
    num_rows = max(1, VALUES_AT_ONCE // (width * channels * factor)) * factor
    for top in range(0, height, num_rows):
        part = change(values[top : top + num_rows])
        if factor > 1:
            part = by_band(part, lambda band, _: band.reduce(factor))
        levels[top // factor : top // factor + len(part)] = part
    return levels


def with_channels(levels: np.ndarray, channels: int) -> np.ndarray:
    """Greys three times over, or colours as greys by luma; any other number stays."""
    if levels.shape[2] == channels:
        return levels
    if channels == 3:
        return np.repeat(levels, 3, axis=2)
    return np.rint(levels @ np.array(LUMA)).astype(levels.dtype)[..., None]


def by_band(levels: np.ndarray, change: Callable[[Image.Image, int], Image.Image]) -> np.ndarray:
    """Levels of which each band is changed as an image of Pillow's; `change` gets the number of the band, too.

    Of 16 bits they are floating point on the way, and rounded at the end.
    """
    is_deep = levels.dtype != np.uint8
    bands = []
    for number in range(levels.shape[2]):
        band = levels[..., number]
        image = Image.fromarray(band.astype(np.float32) if is_deep else np.ascontiguousarray(band))
        bands.append(np.asarray(change(image, number)))
    changed = np.stack(bands, axis=2)
    return np.rint(changed).clip(0, 65535).astype(np.uint16) if is_deep else changed
