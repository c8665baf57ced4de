"""The only place where pixels are prepared: from a file to the tensor that a model sees."""

import math
import os
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image, ImageOps

from sightline.data.arrays import GREY_MODES, Header, Picture, as_picture, read, turned
from sightline.data.decoding import LARGE, Source, TooManyPixels, reduction, strips, turn, values_of
from sightline.data.deep_greys import is_deep, to_8_bit, usual_range
from sightline.data.levels import OtherChannels, by_band, check_channels, in_8_bits, to_levels
from sightline.errors import BadInput
from sightline.task_spec import MAX_PIXELS, TaskSpec, ValueRange

if TYPE_CHECKING:  # the processes that only read pixels start without torch
    import torch

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # or importing it asks the network for a newer release

RESAMPLING = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}
TURNING = frozenset(("HorizontalFlip", "VerticalFlip", "Transpose", "RandomRotate90", "D4", "SquareSymmetry"))
"""Albumentations transforms that mirror an image or rotate it by 90 degrees."""


def quiet_albumentations() -> Any:
    """The library, loaded after this module has kept it from the network."""
    import albumentations

    return albumentations


class UnreadableImage(RuntimeError):
    """A file that cannot be decoded; the message names it."""


@contextmanager
def naming(name: str | Path) -> Iterator[None]:
    """What goes wrong with an image's pixels becomes an UnreadableImage with its name."""
    try:
        yield
    except (TooManyPixels, OtherChannels, BadInput) as error:
        raise UnreadableImage(f"{name}: {error}") from error
    except Exception as error:  # Pillow's plugins raise OSError, ValueError, SyntaxError, struct.error and more
        raise UnreadableImage(f"{name}: cannot be read as an image ({error}); replace or remove it") from error


def load(path: str | Path, spec: TaskSpec, max_pixels: int = MAX_PIXELS) -> Picture:
    """Decode any image file to the channels and the depth of the spec, upright: what `prepare` takes.

    Pillow's image in grey or RGB for 1 or 3 channels of 8 bits, else levels `(H, W, C)`.

    Raises: UnreadableImage with the path.
    """
    with naming(path):
        return read_picture(path, spec, max_pixels)


def read_picture(
    source: Source, spec: TaskSpec, max_pixels: int = MAX_PIXELS, look: Callable[[Header], None] | None = None
) -> Picture:
    """The same of a file in memory, too, with the errors of what reads it; `look` sees the header before any pixel."""
    return with_depth_of(decode_for(source, spec, max_pixels, look), spec)


def decode_for(
    source: Source, spec: TaskSpec, max_pixels: int = MAX_PIXELS, look: Callable[[Header], None] | None = None
) -> Picture:
    """A file's picture as it is, of as many bits and bands as the spec has use for."""
    return read(source, max_pixels, channels=spec.channels, bit_depth=spec.bit_depth, look=look)


def with_depth_of(picture: Picture, spec: TaskSpec) -> Picture:
    """A decoded picture with the channels and the depth of the spec, upright, as `load` gives it.

    Raises: OtherChannels, or ValueError for an image without pixels.
    """
    if spec.bit_depth == 8 and spec.channels in (1, 3):
        if isinstance(picture, np.ndarray):
            picture = as_picture(to_levels(picture, spec))
            assert isinstance(picture, Image.Image)
        return to_rgb(picture, spec.value_range, "L" if spec.channels == 1 else "RGB")
    if isinstance(picture, np.ndarray):
        return to_levels(picture, spec)
    if is_deep(picture.mode):
        check_channels(1, spec.channels)
        return to_levels(_deep_values(picture), spec)
    is_grey = picture.mode in GREY_MODES or spec.channels == 1
    check_channels(1 if is_grey else 3, spec.channels)
    pixels = np.asarray(to_rgb(picture, mode="L" if is_grey else "RGB"))
    return to_levels(pixels[..., None] if is_grey else pixels, spec)


def _deep_values(image: Image.Image) -> np.ndarray:
    """Of a grey of more than 8 bits `(H, W, 1)`, upright; transparent ones are as bright as its type can be."""
    values = np.asarray(image)[..., None]
    if isinstance(transparent := image.info.get("transparency"), int):
        most = np.inf if values.dtype.kind == "f" else np.iinfo(values.dtype).max
        values = np.where(values == transparent, values.dtype.type(most), values)
    return turned(values, turn(image))


def load_rgb(path: str | Path, value_range: ValueRange | None = None, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """Decode any image file to 8-bit RGB, upright: the first picture of those with several, the first three of bands.

    Raises: UnreadableImage with the path.
    """
    with naming(path):
        picture = read(path, max_pixels, channels=3, bit_depth=8)
        if isinstance(picture, np.ndarray):
            bands = picture[..., :3] if picture.shape[2] >= 3 else picture[..., :1]
            picture = Image.fromarray(in_8_bits(np.repeat(bands, 3 // bands.shape[2], axis=2), value_range))
        return to_rgb(picture, value_range)


def to_rgb(image: Image.Image, value_range: ValueRange | None = None, mode: str = "RGB") -> Image.Image:
    """8-bit RGB, or greys in `mode` L, of an image in any of Pillow's, turned upright if its EXIF data says so.

    Transparent pixels lie on white, palettes and CMYK are converted, `value_range` of deep greys becomes 0 to 255. An
    image of more than `LARGE` pixels is made smaller on the way.

    Raises: ValueError for an image without pixels.
    """
    if 0 in image.size:
        raise ValueError(f"its size of {image.width} x {image.height} pixels holds none")
    if is_deep(image.mode) and value_range is None:
        value_range = usual_range(values_of(image))
    transposition = turn(image)
    if image.width * image.height > LARGE:
        image = _convert_in_strips(image, value_range, mode)
    if transposition is not None:
        image = image.transpose(transposition)
    return _convert(image, value_range, mode)


def _convert(image: Image.Image, value_range: ValueRange | None, mode: str) -> Image.Image:
    if is_deep(image.mode):
        assert value_range is not None
        return _convert_deep(image, value_range, mode)
    if image.mode == "La":  # which Pillow converts to nothing else
        image = image.convert("LA")
    if image.mode in ("RGBA", "LA", "PA", "RGBa") or "transparency" in image.info:
        image = image.convert("RGBA")
        background = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(background, image)
    return image if image.mode == mode else image.convert(mode)


def _convert_deep(image: Image.Image, value_range: ValueRange, mode: str) -> Image.Image:
    values = np.asarray(image)
    levels = to_8_bit(values, value_range)
    if isinstance(transparent := image.info.get("transparency"), int):
        levels[values == transparent] = 255
    return Image.fromarray(levels).convert(mode)


def _convert_in_strips(image: Image.Image, value_range: ValueRange | None, mode: str) -> Image.Image:
    """A large image with 8 bits a channel, made smaller: no more than a strip of it is ever there in RGB."""
    factor = reduction(image)
    width, height = -(-image.width // factor), -(-image.height // factor)
    smaller, top = Image.new(mode, (width, height)), 0
    for strip in strips(image, 16 * factor):
        strip = _convert(strip, value_range, mode).reduce(factor)
        smaller.paste(strip, (0, top))
        top += strip.height
    return smaller


def to_square(image: Image.Image, spec: TaskSpec, band: int | None = None) -> Image.Image:
    """An image of `spec.image_size` squared, made square as `spec.crop` says; `band` is its number, if it is a band."""
    size, resampling = (spec.image_size, spec.image_size), RESAMPLING[spec.interpolation]
    if image.size == size:
        return image
    if spec.crop == "squash" or image.width == image.height:
        return image.resize(size, resampling)
    if spec.crop == "pad":
        return ImageOps.pad(image, size, resampling, color=_mean_color(spec, band))
    return ImageOps.fit(image, size, resampling)


def _mean_color(spec: TaskSpec, band: int | None = None) -> int | tuple[int, ...]:
    color = tuple(round(spec.max_level * channel) for channel in spec.mean)
    return color if band is None else color[band]


def prepare(picture: Picture, spec: TaskSpec) -> np.ndarray:
    """What evaluation and prediction see: `(image_size, image_size, channels)` of `spec.dtype`, not yet normalised.

    `picture` is what `load` gives; one that is prepared already stays as it is.
    """
    if isinstance(picture, Image.Image):
        return _channels_last(np.array(to_square(picture, spec)))
    if picture.shape[:2] == (spec.image_size, spec.image_size):
        return picture
    return by_band(picture, lambda band, number: to_square(band, spec, number))


def _channels_last(pixels: np.ndarray) -> np.ndarray:
    """`(H, W, C)`: greys, whose array has two dimensions, get the third."""
    return pixels[..., None] if pixels.ndim == 2 else pixels


def normalise(images: "torch.Tensor", spec: TaskSpec) -> "torch.Tensor":
    """Prepared `(B, H, W, C)` to float32 `(B, C, H, W)` with the spec's mean and std, channels last in memory.

    Floats `(B, C, H, W)` of a data module of own code are taken as they are.
    """
    import torch

    if images.is_floating_point():
        return images
    width = images.shape[2]  # a constant for each number of a row: broadcasting over 3 channels is 40 times slower
    mean = (torch.tensor(spec.mean, device=images.device) * spec.max_level).repeat(width)
    std = (torch.tensor(spec.std, device=images.device) * spec.max_level).repeat(width)
    return images.flatten(2).float().sub_(mean).div_(std).view(images.shape).permute(0, 3, 1, 2)


def normalise_colors(colors: "torch.Tensor", spec: TaskSpec) -> "torch.Tensor":
    """Levels in 0..1, float32 `(B, C, H, W)`, with the spec's mean and std; of the same shape."""
    import torch

    mean = torch.tensor(spec.mean, device=colors.device).view(-1, 1, 1)
    std = torch.tensor(spec.std, device=colors.device).view(-1, 1, 1)
    return (colors - mean).div_(std)


def denormalise(images: "torch.Tensor", spec: TaskSpec) -> "torch.Tensor":
    """Float `(B, C, H, W)` as the model sees it back to levels in 0..1, of the same shape."""
    import torch

    mean = torch.tensor(spec.mean, device=images.device).view(-1, 1, 1)
    std = torch.tensor(spec.std, device=images.device).view(-1, 1, 1)
    return (images * std + mean).clamp(0, 1)


def to_pixels(images: "torch.Tensor", spec: TaskSpec) -> "torch.Tensor":
    """Float `(B, C, H, W)` as the model sees it back to prepared pixels `(B, H, W, C)`: the nearest ones."""
    import torch

    levels = denormalise(images.float(), spec).mul_(spec.max_level).round_()
    return levels.permute(0, 2, 3, 1).contiguous().to(getattr(torch, spec.dtype))


class Augmentation:
    """Random changes of a training image, each draw a function of the key it is given.

    Albumentations keeps one generator per process and forks copy it, so workers and epochs repeat each other's draws;
    setting the generator from the key makes every draw different and repeatable.
    """

    def __init__(
        self,
        spec: TaskSpec,
        *,
        crop_scale: Sequence[float] | None = None,
        crop_ratio: Sequence[float] = (0.75, 4 / 3),
        horizontal_flip: float = 0.0,
        transforms: Mapping[str, Any] | None = None,
        orientation_matters: bool = False,
    ) -> None:
        import albumentations as A  # noqa: N812

        steps: list[Any] = []
        self.spec, self.crop_ratio = spec, tuple(crop_ratio)  # plain tuples: a node of OmegaConf costs 20 us a look
        self.crop_scale = None if crop_scale is None else tuple(crop_scale)
        if horizontal_flip > 0:
            steps.append(A.HorizontalFlip(p=horizontal_flip))
        steps += (transforms or {}).values()
        if orientation_matters:
            steps = [step for step in steps if type(step).__name__ not in TURNING]
            if nested := sorted({name for step in steps for name in _names_within(step)} & TURNING):
                raise BadInput(
                    f"augmentation.transforms: {', '.join(nested)} inside another transform would change the class, as "
                    "data.orientation_matters=true says; take it out of there"
                )
        self._compose = A.Compose(steps) if steps else None

    @property
    def changes_nothing(self) -> bool:
        return self.crop_scale is None and self._compose is None

    def __call__(self, image: Picture, key: tuple[int, ...]) -> np.ndarray:
        """`(image_size, image_size, channels)`; the same image and key (seed, epoch, index) give the same pixels.

        `image` is what `load` gives, or as an array what a cache kept of it.
        """
        generator = np.random.default_rng(key)
        if self.crop_scale is not None:
            whole = as_picture(image) if isinstance(image, np.ndarray) else image
            pixels = self._crop(whole, generator)
        else:
            pixels = prepare(image, self.spec)
        if self._compose is None:
            return pixels
        self._compose.set_random_state(generator, random.Random(int(generator.integers(2**63))))
        return change_levels(self._compose, pixels)

    def _crop(self, image: Picture, generator: np.random.Generator) -> np.ndarray:
        """A random box of the image, resampled as evaluation resamples the whole: no blocks, no aliasing."""
        assert self.crop_scale is not None
        height, width = image.shape[:2] if isinstance(image, np.ndarray) else image.size[::-1]
        if self.spec.crop == "pad" and width != height:
            width = height = max(width, height)
            image = self._padded(image, (width, height))
        if self.spec.crop == "squash":  # a box of the squashed image, measured on the whole one
            left, top, right, bottom = random_box((1, 1), self.crop_scale, self.crop_ratio, generator)
            box = (left * width, top * height, right * width, bottom * height)
        else:
            box = random_box((width, height), self.crop_scale, self.crop_ratio, generator)
        size, resampling = (self.spec.image_size, self.spec.image_size), RESAMPLING[self.spec.interpolation]
        if isinstance(image, np.ndarray):
            return by_band(image, lambda band, _: band.resize(size, resampling, box=box))
        return _channels_last(np.array(image.resize(size, resampling, box=box)))

    def _padded(self, image: Picture, size: tuple[int, int]) -> Picture:
        if isinstance(image, Image.Image):
            return ImageOps.pad(image, size, color=_mean_color(self.spec))
        return by_band(image, lambda band, number: ImageOps.pad(band, size, color=_mean_color(self.spec, number)))


def change_levels(change: Any, levels: np.ndarray) -> np.ndarray:
    """Levels `(H, W, C)` changed by an albumentations object, which has those of 16 bits as floating point in 0..1."""
    if levels.dtype == np.uint8:
        return _channels_last(change(image=levels)["image"])
    changed = change(image=levels.astype(np.float32) / np.float32(65535))["image"]
    return _channels_last(np.rint(changed.clip(0, 1) * np.float32(65535)).astype(np.uint16))


def _names_within(step: Any) -> Iterator[str]:
    """Names of the transforms inside a composition like OneOf, however deep."""
    for inner in getattr(step, "transforms", ()):
        yield type(inner).__name__
        yield from _names_within(inner)


def random_box(
    size: tuple[float, float], scale: Sequence[float], ratio: Sequence[float], generator: np.random.Generator
) -> tuple[float, float, float, float]:
    """Left, top, right and bottom of a box with a random share of the area and a random width to height.

    The crop of Szegedy et al. (arXiv:1409.4842), with edges between pixels allowed.
    """
    width, height = size
    area = width * height * generator.uniform(scale[0], scale[1])
    aspect = math.exp(generator.uniform(math.log(ratio[0]), math.log(ratio[1])))
    box_width, box_height = min(width, math.sqrt(area * aspect)), min(height, math.sqrt(area / aspect))
    left, top = generator.uniform(0, width - box_width), generator.uniform(0, height - box_height)
    return left, top, left + box_width, top + box_height
