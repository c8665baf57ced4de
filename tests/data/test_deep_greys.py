"""Deep greys: which values become black and which white, whatever type of number they have."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sightline.data.deep_greys import extent, to_8_bit, usual_range
from sightline.data.transforms import load_rgb, to_rgb

RAMP = np.tile(np.linspace(0, 1, 64), (16, 1))
"""Left 0, right 1."""


def levels(image: Image.Image, value_range: tuple[float, float] | None = None) -> list[int]:
    """Of the first, the 22nd, the 43rd and the last column of 64."""
    return np.asarray(to_rgb(image, value_range))[0, ::21, 0].tolist()


@pytest.mark.parametrize(
    ("kind", "low", "high"),
    [
        ("uint16", 0, 4095),
        ("uint16", 1000, 1255),
        ("uint16", 0, 65535),
        ("int32", -1024, 3071),
        ("int32", 0, 2**31 - 1),
        ("float32", 0.0, 1.0),
        ("float32", 0.0, 255.0),
        ("float32", -1e-6, 1e-6),
        ("float32", 0.0, 1e30),
    ],
)
def test_the_range_becomes_black_to_white(kind: str, low: float, high: float) -> None:
    values = (low + RAMP * (high - low)).astype(kind)
    image = Image.fromarray(values)
    assert image.mode in ("I;16", "I", "F")
    assert levels(image, (low, high)) == pytest.approx([0, 85, 170, 255], abs=1)


@pytest.mark.parametrize("mode", ["I;16", "I;16B", "I;16L", "I;16N", "I", "F"])
@pytest.mark.parametrize("suffix", ["tif", "png"])
def test_every_deep_mode_keeps_its_contrast(mode: str, suffix: str, tmp_path: Path) -> None:
    kinds = {"I;16B": ">u2", "I": "<i4", "F": "<f4"}
    image = Image.frombytes(mode, (64, 16), (RAMP * 4095).astype(kinds.get(mode, "<u2")).tobytes())
    file = tmp_path / f"deep.{suffix}"
    try:
        image.save(file)
    except (OSError, ValueError, KeyError):  # Pillow writes fewer modes than it reads
        file = image
    rgb = to_rgb(file, (0, 4095)) if isinstance(file, Image.Image) else load_rgb(file, (0, 4095))
    assert np.asarray(rgb)[0, ::21, 0].tolist() == pytest.approx([0, 85, 170, 255], abs=1)


def test_signed_16_bits_of_a_file_keep_their_sign(tmp_path: Path) -> None:
    Image.fromarray((RAMP * 4095 - 1024).astype(np.int16).astype(np.int32)).save(tmp_path / "signed.tif")
    assert np.asarray(load_rgb(tmp_path / "signed.tif", (-1024, 3071)))[0, ::63, 0].tolist() == [0, 255]


def test_values_beyond_the_range_are_cut_and_those_that_are_none_are_black() -> None:
    values = np.array([[-5, 0, 51, 100, 200, np.nan, np.inf, -np.inf]], np.float32)
    assert to_8_bit(values, (0, 100)).tolist() == [[0, 0, 130, 255, 255, 0, 255, 0]]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (np.array([0, 255], np.uint16), (0, 255)),
        (np.array([0, 256], np.uint16), (0, 1023)),
        (np.array([7, 4095], np.int32), (0, 4095)),
        (np.array([0, 65535], np.uint16), (0, 65535)),
        (np.array([0, 65536], np.int32), (0, 65536)),
        (np.array([-1, 3], np.int32), (-1, 3)),
        (np.array([0.25, 1], np.float32), (0, 1)),
        (np.array([0, np.nan, 200], np.float32), (0, 255)),
        (np.array([np.nan], np.float32), (0, 1)),
    ],
)
def test_an_image_without_a_range_has_that_of_its_usual_depth(
    values: np.ndarray, expected: tuple[float, float]
) -> None:
    assert usual_range(values) == expected


def test_a_few_hot_pixels_and_holes_do_not_make_the_range() -> None:
    values = np.random.default_rng(0).integers(100, 900, (64, 64)).astype(np.float32)
    values[0, :2], values[1, :2], values[2, :2] = 1e9, -1e9, np.nan
    low, high = extent(values)
    assert 100 <= low < 110
    assert 890 < high <= 900
    assert extent(np.full((4, 4), np.nan, np.float32)) == (0, 0)


def test_a_transparent_value_of_16_bits_lies_on_white(tmp_path: Path) -> None:
    values = (RAMP * 4095).astype(np.uint16)
    Image.fromarray(values).save(tmp_path / "keyed.png", transparency=int(values[0, 21]))
    pixels = np.asarray(load_rgb(tmp_path / "keyed.png", (0, 4095)))[0, ::21, 0]
    assert pixels.tolist() == pytest.approx([0, 255, 170, 255], abs=1)


@pytest.mark.parametrize("pixels", [(0, 255), (10, 20)])
def test_8_bits_are_never_stretched(pixels: Sequence[int]) -> None:
    image = Image.fromarray(np.array([pixels], np.uint8))
    assert np.asarray(to_rgb(image, (0, 4095)))[0, :, 0].tolist() == list(pixels)
