"""The only place where pixels are prepared: from a file to the tensor that a model sees."""

import math
import os
import random
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image, ImageOps

from sightline.data.decoding import LARGE, TooManyPixels, decode, reduction, strips, turn, values_of
from sightline.data.deep_greys import is_deep, to_8_bit, usual_range
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
    except TooManyPixels as error:
        raise UnreadableImage(f"{name}: {error}") from error
    except Exception as error:  # Pillow's plugins raise OSError, ValueError, SyntaxError, struct.error and more
        raise UnreadableImage(f"{name}: cannot be read as an image ({error}); replace or remove it") from error


def load_rgb(path: str | Path, value_range: ValueRange | None = None, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """Decode any image file to 8-bit RGB, upright: the first picture of those with several.

    Raises: UnreadableImage with the path.
    """
    with naming(path):
        return to_rgb(decode(path, max_pixels), value_range)


def to_rgb(image: Image.Image, value_range: ValueRange | None = None) -> Image.Image:
    """8-bit RGB of an image in any of Pillow's modes, turned upright if its EXIF data says so.

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
        image = _convert_in_strips(image, value_range)
    if transposition is not None:
        image = image.transpose(transposition)
    return _convert(image, value_range)


def _convert(image: Image.Image, value_range: ValueRange | None) -> Image.Image:
    if is_deep(image.mode):
        assert value_range is not None
        return _convert_deep(image, value_range)
    if image.mode == "La":  # which Pillow converts to nothing else
        image = image.convert("LA")
    if image.mode in ("RGBA", "LA", "PA", "RGBa") or "transparency" in image.info:
        image = image.convert("RGBA")
        background = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(background, image).convert("RGB")
    return image if image.mode == "RGB" else image.convert("RGB")


def _convert_deep(image: Image.Image, value_range: ValueRange) -> Image.Image:
    values = np.asarray(image)
    levels = to_8_bit(values, value_range)
    if isinstance(transparent := image.info.get("transparency"), int):
        levels[values == transparent] = 255
    return Image.fromarray(levels).convert("RGB")


def _convert_in_strips(image: Image.Image, value_range: ValueRange | None) -> Image.Image:
    """A large image as 8-bit RGB, made smaller: no more than a strip of it is ever there in RGB."""
    factor = reduction(image)
    width, height = -(-image.width // factor), -(-image.height // factor)
    smaller, top = Image.new("RGB", (width, height)), 0
    for strip in strips(image, 16 * factor):
        strip = _convert(strip, value_range).reduce(factor)
        smaller.paste(strip, (0, top))
        top += strip.height
    return smaller


def to_square(image: Image.Image, spec: TaskSpec) -> Image.Image:
    """RGB image of `spec.image_size` squared, made square as `spec.crop` says."""
    size, resampling = (spec.image_size, spec.image_size), RESAMPLING[spec.interpolation]
    if image.size == size:
        return image
    if spec.crop == "squash" or image.width == image.height:
        return image.resize(size, resampling)
    if spec.crop == "pad":
        return ImageOps.pad(image, size, resampling, color=_mean_color(spec))
    return ImageOps.fit(image, size, resampling)


def _mean_color(spec: TaskSpec) -> tuple[int, ...]:
    return tuple(round(255 * channel) for channel in spec.mean)


def prepare(image: Image.Image, spec: TaskSpec) -> np.ndarray:
    """What evaluation and prediction see: uint8 `(image_size, image_size, 3)`, not yet normalised."""
    return np.array(to_square(image, spec))


def normalise(images: "torch.Tensor", spec: TaskSpec) -> "torch.Tensor":
    """uint8 `(B, H, W, 3)` to float32 `(B, 3, H, W)` with the spec's mean and std, channels last in memory."""
    import torch

    width = images.shape[2]  # a constant for each number of a row: broadcasting over 3 channels is 40 times slower
    mean = (torch.tensor(spec.mean, device=images.device) * 255).repeat(width)
    std = (torch.tensor(spec.std, device=images.device) * 255).repeat(width)
    return images.flatten(2).float().sub_(mean).div_(std).view(images.shape).permute(0, 3, 1, 2)


def normalise_colors(colors: "torch.Tensor", spec: TaskSpec) -> "torch.Tensor":
    """Colours in 0..1, float32 `(B, 3, H, W)`, with the spec's mean and std; of the same shape."""
    import torch

    mean = torch.tensor(spec.mean, device=colors.device).view(3, 1, 1)
    std = torch.tensor(spec.std, device=colors.device).view(3, 1, 1)
    return (colors - mean).div_(std)


def denormalise(images: "torch.Tensor", spec: TaskSpec) -> "torch.Tensor":
    """Float `(B, 3, H, W)` as the model sees it back to colours in 0..1, of the same shape."""
    import torch

    mean = torch.tensor(spec.mean, device=images.device).view(3, 1, 1)
    std = torch.tensor(spec.std, device=images.device).view(3, 1, 1)
    return (images * std + mean).clamp(0, 1)


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

    def __call__(self, image: Image.Image | np.ndarray, key: tuple[int, ...]) -> np.ndarray:
        """uint8 `(image_size, image_size, 3)`; the same image and key (seed, epoch, index) give the same pixels.

        An array is an RGB image `(height, width, 3)`: whole where crops are cut from it, else prepared already.
        """
        generator = np.random.default_rng(key)
        if self.crop_scale is not None:
            whole = Image.fromarray(image) if isinstance(image, np.ndarray) else image
            pixels = self._crop(whole, generator)
        else:
            pixels = image if isinstance(image, np.ndarray) else prepare(image, self.spec)
        if self._compose is None:
            return pixels
        self._compose.set_random_state(generator, random.Random(int(generator.integers(2**63))))
        return self._compose(image=pixels)["image"]

    def _crop(self, image: Image.Image, generator: np.random.Generator) -> np.ndarray:
        """A random box of the image, resampled as evaluation resamples the whole: no blocks, no aliasing."""
        assert self.crop_scale is not None
        width, height = image.size
        if self.spec.crop == "pad" and width != height:
            width = height = max(width, height)
            image = ImageOps.pad(image, (width, height), color=_mean_color(self.spec))
        if self.spec.crop == "squash":  # a box of the squashed image, measured on the whole one
            left, top, right, bottom = random_box((1, 1), self.crop_scale, self.crop_ratio, generator)
            box = (left * width, top * height, right * width, bottom * height)
        else:
            box = random_box((width, height), self.crop_scale, self.crop_ratio, generator)
        size = (self.spec.image_size, self.spec.image_size)
        return np.array(image.resize(size, RESAMPLING[self.spec.interpolation], box=box))


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
