"""Images of more than 8 bits, integers or floating point: which of their values become black and which white."""

import numpy as np

from sightline.task_spec import ValueRange

DEEP_MODES = ("I;16", "I;16L", "I;16B", "I;16N", "I", "F")
"""Pillow's modes of more than 8 bits: all are greys, of 16 or 32 bits or of floating point."""
SHARE_LEFT_OUT = 0.001
"""Of an image's pixels at each end: dead and hot pixels of a detector tell nothing of its range."""
MAX_VALUES = 2**20
"""Values of one image that are looked at, spread over all of it."""
USUAL_BITS = (8, 10, 12, 14, 16)
LARGEST = float(np.finfo(np.float32).max)


def is_deep(mode: str) -> bool:
    return mode in DEEP_MODES


def to_8_bit(values: np.ndarray, value_range: ValueRange) -> np.ndarray:
    """uint8 of the same shape: the range spread over 0 to 255, values beyond it cut, what is no number black."""
    low, high = value_range
    levels = (values.astype(np.float32 if values.dtype.itemsize <= 2 else np.float64) - low) * (255 / (high - low))
    return np.rint(np.clip(np.nan_to_num(levels, nan=0.0, posinf=255, neginf=0), 0, 255)).astype(np.uint8)


def to_16_bit(values: np.ndarray, value_range: ValueRange) -> np.ndarray:
    """uint16 of the same shape: the range spread over 0 to 65535, values beyond it cut, what is no number black.

    Different whole numbers stay different where the range holds no more than 65,536 of them.
    """
    low, high = value_range
    levels = (values.astype(np.float64) - low) * (65535 / (high - low))
    return np.rint(np.clip(np.nan_to_num(levels, nan=0.0, posinf=65535, neginf=0), 0, 65535)).astype(np.uint16)


def usual_range(values: np.ndarray) -> ValueRange:
    """The range of an image that came without one: of the usual depth that holds its values, else its own.

    The depths are 8, 10, 12, 14 and 16 bits, and 0 to 1 of floating point.
    """
    low, high = extent(values, share_left_out=0)
    if low >= 0:
        if values.dtype.kind == "f" and high <= 1:
            return 0.0, 1.0
        for bits in USUAL_BITS:
            if high < 2**bits:
                return 0.0, 2.0**bits - 1
    return low, max(high, np.nextafter(low, np.inf, dtype=np.float64))


def extent(values: np.ndarray, share_left_out: float = SHARE_LEFT_OUT) -> ValueRange:
    """The lowest and the highest value, less a share at each end; of those that are finite numbers, or 0 and 0.

    Numbers beyond those of 32 bits, as which facts about files are kept, count as the largest of these.
    """
    step = max(1, values.size // MAX_VALUES) | 1 if share_left_out else 1  # odd: columns of all kinds are met
    values = values.ravel()[::step]
    if values.dtype.kind == "f":
        values = values[np.isfinite(values)]
    if not values.size:
        return 0.0, 0.0
    shares = (share_left_out, 1 - share_left_out)
    low, high = np.quantile(values, shares, method="nearest") if share_left_out else (values.min(), values.max())
    return min(max(float(low), -LARGEST), LARGEST), min(max(float(high), -LARGEST), LARGEST)


def describe_other_depth(value_range: ValueRange | None, num_deep: int, num_images: int) -> str:
    """What becomes of images whose depth is not that of the training (`value_range`); nothing where there are none."""
    if value_range is None and num_deep:
        return (
            f"{num_deep} of {num_images} image(s) have more than 8 bits, and the model was trained on 8: the "
            "usual depth that holds an image's values (8, 10, 12, 14 or 16 bits, or 0 to 1) becomes black to white"
        )
    if value_range is not None and num_deep < num_images:
        low, high = value_range
        return (
            f"{num_images - num_deep} of {num_images} image(s) have 8 bits, and the model was trained on deeper ones "
            f"({low:g} to {high:g} become black to white): theirs are 0 to 255 from black to white"
        )
    return ""
