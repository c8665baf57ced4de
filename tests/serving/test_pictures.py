"""Photos with a title, whatever their size and their class's name."""

import numpy as np
import pytest
from PIL import Image

from sightline.serving.pictures import MAX_SIDE, MIN_SIDE, draw_titled


@pytest.mark.parametrize("size", [(1, 1), (32, 32), (300, 20), (4000, 3000)])
def test_small_photos_grow_and_large_ones_shrink(size: tuple[int, int]) -> None:
    picture = draw_titled(Image.new("RGB", size, "green"), "a class with quite a long name", "99.9%")
    assert MIN_SIDE - 1 <= max(picture.size) <= MAX_SIDE * 1.2
    assert picture.getpixel((0, 0)) == (255, 255, 255)
    assert picture.getpixel((picture.width // 2, picture.height - 1)) == (0, 128, 0)


@pytest.mark.parametrize("name", ["x" * 200, "猫🐶" * 40, "$5 <b>", "שלום", "a\nb"])
def test_a_title_stays_within_its_picture(name: str) -> None:
    picture = draw_titled(Image.new("RGB", (32, 32), "green"), name, "99.9%").convert("L")
    strip = picture.crop((0, 0, picture.width, 12))
    assert picture.width == MIN_SIDE
    assert np.asarray(strip).min() < 100, "there is a title"
    assert strip.crop((0, 0, 4, 12)).getextrema() == (255, 255), "and nothing of it is cut off"
