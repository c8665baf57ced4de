"""Pixels: every mode becomes RGB, squares follow the policy, and draws are a function of their key."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import albumentations as A  # noqa: N812
import numpy as np
import pytest
import torch
from PIL import Image

from sightline.data.transforms import (
    Augmentation,
    UnreadableImage,
    denormalise,
    load_rgb,
    normalise,
    prepare,
    random_box,
    to_rgb,
)
from sightline.task_spec import TaskSpec

SPEC = TaskSpec(("a", "b"), 32, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


def gradient(mode: str) -> Image.Image:
    """Left black, right white."""
    if mode.startswith("I;16"):
        return Image.fromarray(np.tile(np.linspace(0, 65535, 64, dtype=np.uint16), (48, 1)))
    if mode == "I":
        return Image.fromarray(np.tile(np.linspace(0, 65535, 64, dtype=np.int32), (48, 1)))
    if mode == "F":
        return Image.fromarray(np.tile(np.linspace(0, 1, 64, dtype=np.float32), (48, 1)))
    return Image.fromarray(np.tile(np.linspace(0, 255, 64, dtype=np.uint8), (48, 1))).convert(mode)


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "RGBA", "LA", "CMYK", "YCbCr", "HSV", "LAB", "I;16", "I", "F"])
def test_every_mode_becomes_8_bit_rgb(mode: str) -> None:
    image = to_rgb(gradient(mode))
    assert image.mode == "RGB"
    pixels = np.asarray(image)
    assert pixels.shape == (48, 64, 3)
    assert pixels[:, 0].max() <= 8
    assert pixels[:, -1].min() >= 247
    if mode != "1":
        assert 90 < pixels[:, 32].mean() < 165


RED, WHITE, GREEN = (255, 0, 0), (255, 255, 255), (0, 255, 0)


def palette(**info: object) -> Image.Image:
    """Red, green and blue beside each other."""
    image = Image.new("P", (3, 1))
    image.putpalette([*RED, *GREEN, 0, 0, 255])
    image.putdata([0, 1, 2])
    image.info.update(info)
    return image


KINDS = {
    "1 bit": (Image.new("1", (1, 1), 1), [WHITE]),
    "grey and alpha": (Image.new("LA", (1, 1), (100, 0)), [WHITE]),
    "premultiplied grey": (Image.new("LA", (1, 1), (100, 255)).convert("La"), [(100, 100, 100)]),
    "premultiplied": (Image.new("RGBA", (1, 1), (*RED, 0)).convert("RGBa"), [WHITE]),
    "padded": (Image.new("RGBX", (1, 1), RED), [RED]),
    "half transparent": (Image.new("RGBA", (1, 1), (0, 0, 0, 128)), [(127, 127, 127)]),
    "palette": (palette(), [RED, GREEN, (0, 0, 255)]),
    "palette with one transparent colour": (palette(transparency=1), [RED, WHITE, (0, 0, 255)]),
    "palette with transparencies": (palette(transparency=b"\x00\xff\x80"), [WHITE, GREEN, (127, 127, 255)]),
    "inks": (Image.new("CMYK", (1, 1), (0, 255, 255, 0)), [RED]),
    "luma and chroma": (Image.new("RGB", (1, 1), GREEN).convert("YCbCr"), [(0, 255, 1)]),
    "lab": (Image.new("LAB", (1, 1), (255, 128, 128)), [(254, 255, 254)]),
    "hsv": (Image.new("HSV", (1, 1), (0, 255, 255)), [RED]),
}


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_has_its_right_colours(kind: str) -> None:
    image, expected = KINDS[kind]
    pixels = np.asarray(to_rgb(image))[0].astype(int)
    assert np.abs(pixels - np.array(expected)).max() <= 1


@pytest.mark.parametrize("suffix", ["gif", "webp", "png", "tif"])
@pytest.mark.parametrize("size", [(8, 8), (40, 20)])
def test_the_first_frame_or_page_is_taken(suffix: str, size: tuple[int, int], tmp_path: Path) -> None:
    frames = [Image.new("RGB", size, color) for color in (RED, GREEN, WHITE)]
    frames[0].save(tmp_path / f"many.{suffix}", save_all=True, append_images=frames[1:])
    pixels = np.asarray(load_rgb(tmp_path / f"many.{suffix}"))
    assert pixels.shape == (*size[::-1], 3)
    assert np.abs(pixels.astype(int) - RED).max() <= 2


def test_an_image_without_pixels_is_named() -> None:
    for mode in ("RGB", "I;16", "P"):
        with pytest.raises(ValueError, match="0 x 5 pixels holds none"):
            to_rgb(Image.new(mode, (0, 5)))


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_16_bit_files_keep_their_range(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"deep.{suffix}"
    gradient("I;16").save(path)
    pixels = np.asarray(load_rgb(path))
    assert pixels[0, 0, 0] == 0
    assert pixels[0, -1, 0] == 255


def test_transparent_pixels_lie_on_white() -> None:
    image = Image.new("RGBA", (8, 8), (255, 0, 0, 0))
    assert to_rgb(image).getpixel((0, 0)) == (255, 255, 255)
    keyed = Image.new("RGB", (8, 8), (255, 0, 0))
    keyed.info["transparency"] = (255, 0, 0)
    assert to_rgb(keyed).getpixel((0, 0)) == (255, 255, 255)
    palette = Image.new("P", (8, 8), 0)
    palette.info["transparency"] = 0
    assert to_rgb(palette).getpixel((0, 0)) == (255, 255, 255)


def test_photos_are_turned_upright(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned by a quarter
    Image.new("RGB", (40, 20)).save(tmp_path / "turned.jpg", exif=exif)
    assert load_rgb(tmp_path / "turned.jpg").size == (20, 40)


@pytest.mark.parametrize("content", [b"", b"no image at all", None])
def test_unreadable_files_are_named(content: bytes | None, tmp_path: Path) -> None:
    path = tmp_path / "bad.png"
    if content is None:
        gradient("RGB").save(path)
        content = path.read_bytes()[:100]
    path.write_bytes(content)
    with pytest.raises(UnreadableImage, match=r"bad\.png: cannot be read as an image"):
        load_rgb(path)


def wide() -> Image.Image:
    """80x40: a red square in the middle, blue at the sides."""
    image = Image.new("RGB", (80, 40), "blue")
    image.paste((255, 0, 0), (20, 0, 60, 40))
    return image


def test_crop_keeps_the_centre_and_the_shape() -> None:
    pixels = prepare(wide(), replace(SPEC, crop="crop", interpolation="nearest"))
    assert (pixels == (255, 0, 0)).all()


def test_pad_keeps_everything_on_the_mean_colour() -> None:
    pixels = prepare(wide(), replace(SPEC, crop="pad", interpolation="nearest"))
    assert tuple(pixels[0, 0]) == (124, 116, 104)
    assert tuple(pixels[16, 0]) == (0, 0, 255)
    assert tuple(pixels[16, 16]) == (255, 0, 0)


def test_squash_keeps_everything_without_a_margin() -> None:
    pixels = prepare(wide(), replace(SPEC, crop="squash", interpolation="nearest"))
    assert tuple(pixels[0, 0]) == (0, 0, 255)
    assert (pixels == (255, 0, 0)).all(axis=-1).mean() == 0.5


def test_normalise_is_torchvisions_and_denormalise_its_inverse() -> None:
    from torchvision.transforms.v2.functional import normalize

    images = torch.randint(0, 256, (4, 32, 32, 3), dtype=torch.uint8)
    expected = normalize(images.permute(0, 3, 1, 2) / 255, list(SPEC.mean), list(SPEC.std))
    given = normalise(images, SPEC)
    assert given.shape == (4, 3, 32, 32)
    assert given.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(given, expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(denormalise(given, SPEC), images.permute(0, 3, 1, 2) / 255, rtol=1e-5, atol=1e-5)


PHOTO = Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8))


def flips() -> Augmentation:
    return Augmentation(SPEC, crop_scale=(0.3, 1.0), horizontal_flip=0.5)


def test_a_random_box_has_the_wanted_area_and_lies_inside() -> None:
    generator = np.random.default_rng(0)
    shares = []
    for _ in range(500):
        left, top, right, bottom = random_box((40, 40), (0.2, 0.6), (0.8, 1.25), generator)
        assert 0 <= left < right <= 40
        assert 0 <= top < bottom <= 40
        shares.append((right - left) * (bottom - top) / 1600)
        assert 0.8 - 1e-6 <= (right - left) / (bottom - top) <= 1.25 + 1e-6
    assert 0.2 - 1e-6 <= min(shares) < 0.22
    assert 0.58 < max(shares) <= 0.6 + 1e-6


def test_the_whole_image_as_a_random_crop_is_what_evaluation_sees() -> None:
    """Training and evaluation resample alike: enlarged crops are smooth, reduced ones do not alias."""
    for size in ((20, 20), (90, 90)):
        image = PHOTO.resize(size)
        whole = Augmentation(SPEC, crop_scale=(1.0, 1.0), crop_ratio=(1.0, 1.0))(image, (0, 0, 0))
        assert np.abs(whole.astype(int) - prepare(image, SPEC)).max() <= 1


@pytest.mark.parametrize("crop", ["pad", "squash"])
def test_random_crops_follow_the_policy_for_photos_that_are_not_square(crop: str) -> None:
    spec = replace(SPEC, crop=crop, interpolation="bilinear")
    whole = Augmentation(spec, crop_scale=(1.0, 1.0), crop_ratio=(1.0, 1.0))(wide(), (0, 0, 0))
    difference = np.abs(whole.astype(int) - prepare(wide(), spec))
    assert np.median(difference) == 0
    assert difference.mean() < 6, "but for the edges, which are resampled twice"


def test_draws_are_a_function_of_the_key() -> None:
    first, second = flips(), flips()
    for key in ((0, 0, 0), (0, 3, 17), (9, 1, 2)):
        assert (first(PHOTO, key) == second(PHOTO, key)).all()


def test_draws_differ_between_epochs_images_and_seeds() -> None:
    augment = flips()
    keys = [(seed, epoch, index) for seed in range(2) for epoch in range(4) for index in range(16)]
    distinct = len({augment(PHOTO, key).tobytes() for key in keys})
    assert distinct >= len(keys) - 2, "two crops may agree by chance; a shared generator gives 16 of 128"


def test_transforms_draw_independently_of_each_other() -> None:
    """One stream for all of them: with a seed each, two coins would always fall the same way."""
    transforms = {"left_right": A.HorizontalFlip(p=0.5), "upside_down": A.VerticalFlip(p=0.5)}
    augment = Augmentation(SPEC, transforms=transforms)
    seen = {augment(PHOTO, (0, 0, index)).tobytes() for index in range(64)}
    assert len(seen) == 4


@pytest.mark.parametrize("transform", [A.HorizontalFlip, A.VerticalFlip, A.Transpose, A.RandomRotate90, A.D4])
def test_nothing_is_mirrored_or_turned_where_that_changes_the_class(transform: Callable[..., A.BasicTransform]) -> None:
    augment = Augmentation(SPEC, horizontal_flip=1.0, transforms={"turn": transform(p=1.0)}, orientation_matters=True)
    assert (augment(PHOTO, (0, 0, 0)) == prepare(PHOTO, SPEC)).all()
