"""What people see of greys, colours and bands, of 8 bits and of 16."""

import numpy as np
import pytest
import torch

from sightline.data.display import colours_to_display, describe_display, to_display


def levels(channels: int, dtype: str = "uint8", count: int = 2) -> np.ndarray:
    most = np.iinfo(dtype).max
    return np.random.default_rng(0).integers(0, most, (count, 12, 10, channels), dtype, endpoint=True)


def test_colours_and_greys_are_as_they_are() -> None:
    colours, greys = levels(3), levels(1)
    assert (to_display(colours) == colours).all()
    assert (to_display(greys) == greys).all()
    assert to_display(greys[0]).shape == (12, 10, 3)
    assert (to_display(colours, (2, 1, 0)) == colours[..., ::-1]).all()
    assert (to_display(colours, (1,)) == colours[..., 1:2]).all()


@pytest.mark.parametrize("channels", [1, 3])
def test_sixteen_bits_become_eight(channels: int) -> None:
    shallow = levels(channels)
    deep = shallow.astype(np.uint16) * 257
    shown = to_display(deep)
    assert shown.dtype == np.uint8
    assert (shown == shallow).all()
    assert to_display(np.full((1, 2, 2, 1), 65535 // 2, np.uint16)).max() == 127


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
@pytest.mark.parametrize(
    ("channels", "asked", "shown"),
    [(5, None, (0, 1, 2)), (5, (4, 2, 0), (4, 2, 0)), (5, (3,), (3, 3, 3)), (2, None, (0, 0, 0)), (4, None, (0, 1, 2))],
)
def test_chosen_bands_are_stretched_for_each_image(
    channels: int, asked: tuple[int, ...] | None, shown: tuple[int, ...], dtype: str
) -> None:
    pixels = levels(channels, dtype)
    pixels[0] //= 16  # a dark image
    seen = to_display(pixels, asked)
    assert seen.dtype == np.uint8
    for image, picture in zip(pixels, seen, strict=True):
        for column, band in enumerate(shown):
            low, high = np.percentile(image[..., band], (2, 98))
            expected = ((image[..., band] - low) / (high - low)).clip(0, 1) * 255
            np.testing.assert_allclose(picture[..., column], expected, atol=1)
        assert picture.min() == 0
        assert picture.max() == 255


def test_a_changed_image_is_seen_beside_the_one_it_was() -> None:
    image = np.full((8, 8, 5), 20, np.uint8)
    image[:4] = 60
    assert (to_display(image // 2)[0, 0] == 255).all()
    assert to_display(image + 20, like=image)[4, 0].tolist() == [128] * 3
    assert (to_display(image // 2, like=image)[4] == 0).all()


def test_bands_of_a_single_value_or_of_a_few_others_are_safe() -> None:
    pixels = np.zeros((8, 8, 5), np.uint8)
    pixels[..., 0] = 51
    pixels[0, 0, 1] = 9  # fewer than two percent of the pixels
    seen = to_display(pixels)
    assert (seen[..., 0] == 51).all()
    assert sorted(np.unique(seen[..., 1])) == [0, 255]
    assert (seen[..., 2] == 0).all()


@pytest.mark.parametrize(("channels", "bands"), [(1, None), (3, None), (3, (0,)), (5, None), (5, (4, 2, 0)), (2, None)])
def test_colours_of_a_tensor_show_the_same(channels: int, bands: tuple[int, ...] | None) -> None:
    pixels = levels(channels)
    colours = torch.from_numpy(pixels).permute(0, 3, 1, 2) / 255
    shown = colours_to_display(colours, bands)
    assert shown.dtype == torch.float32
    expected = torch.from_numpy(to_display(pixels, bands)).permute(0, 3, 1, 2) / 255
    torch.testing.assert_close(shown, expected, atol=1 / 255, rtol=0)


@pytest.mark.parametrize(
    ("channels", "bands", "said"),
    [
        (3, None, ""),
        (3, (0, 1, 2), ""),
        (1, None, ""),
        (5, None, "Of the 5 bands, from 0, the pictures show bands 0, 1, 2 as red, green and blue, each from its 2nd"),
        (5, (4,), "Of the 5 bands, from 0, the pictures show band 4 as grey, each from"),
        (3, (2, 1, 0), "Of the 3 bands, from 0, the pictures show bands 2, 1, 0 as red, green and blue."),
    ],
)
def test_the_bands_are_said(channels: int, bands: tuple[int, ...] | None, said: str) -> None:
    sentence = describe_display(channels, bands)
    assert sentence.startswith(said)
    assert bool(sentence) == bool(said)
