"""TaskSpec: the only description of what goes into a model and what comes out."""

import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

INTERPOLATIONS = ("nearest", "bilinear", "bicubic", "lanczos")
CROPS = ("crop", "pad", "squash")
VIEWS = ("none", "flip", "shifts", "flip_and_shifts", "zooms", "flip_and_zooms")
KINDS = ("single", "multilabel")
"""One class an image, or any number of them."""
NOT_YET = "several classes an image (kind=multilabel): not yet"
BIT_DEPTHS = (8, 16)
SMALLEST_RANGE = 1e-300
"""Its levels are still numbers when it is spread over those of 16 bits."""
MAX_PIXELS = 178_956_970
"""Pixels of the largest image that is opened unasked: Pillow's own limit."""
ValueRange = tuple[float, float]
"""The values of deep greys (16 bits or more, or floating point) that become black and white."""


@dataclass(frozen=True)
class Calibration:
    """How far a model's probabilities can be believed, as measured on validation.

    Logits are divided by `temperature` before the softmax. Answers of at least `threshold` were right as often as
    `target_accuracy` says; the threshold is None where no answers were right so often.
    """

    temperature: float
    threshold: float | None
    target_accuracy: float
    num_images: int

    def __post_init__(self) -> None:
        if self.temperature <= 0:
            raise ValueError(f"temperature must be above 0, got {self.temperature}")


@dataclass(frozen=True)
class TaskSpec:
    """Input and output of one classifier; it travels inside every checkpoint and model.

    `image_size` is the side of the square input in pixels. A prepared image is `(image_size, image_size, channels)`, of
    uint8 or, with a `bit_depth` of 16, of uint16; 1 channel is grey, 3 are red, green and blue, others are bands.
    `mean` and `std` are per channel on the 0..1 scale, from black (0) to white (`max_level`). `crop` says how an image
    that is not square becomes square: `crop` scales the short side and cuts the centre, `pad` scales the long side and
    fills with the mean colour, `squash` changes the aspect ratio. An answer is the mean over an image's `views`: its
    mirror image, four shifts or two zooms, or with `none` the image alone. Values of more than 8 bits between the two
    of `value_range` become 0 to `max_level`; None: the model was trained on images of 8 bits alone. `display_bands` are
    the bands, from 0, that people see as red, green and blue; None: the first three. `kind` says whether an image has
    one class or any number of them.
    """

    class_names: tuple[str, ...]
    image_size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    interpolation: str = "bicubic"
    crop: str = "crop"
    calibration: Calibration | None = None
    views: str = "none"
    value_range: ValueRange | None = None
    channels: int = 3
    bit_depth: int = 8
    display_bands: tuple[int, ...] | None = None
    kind: str = "single"

    def __post_init__(self) -> None:
        if len(set(self.class_names)) != len(self.class_names):
            raise ValueError(f"class_names must be different from each other, got {list(self.class_names)}")
        if self.image_size < 1:
            raise ValueError(f"image_size must be a positive number of pixels, got {self.image_size}")
        if self.channels < 1:
            raise ValueError(f"channels must be 1 or more, got {self.channels}")
        if len(self.mean) != self.channels or len(self.std) != self.channels or min(self.std) <= 0:
            raise ValueError(
                f"mean and std must be a number for each of {self.channels} channel(s), std above 0, "
                f"got {self.mean} and {self.std}"
            )
        if self.bit_depth not in BIT_DEPTHS:
            raise ValueError(f"bit_depth must be one of {BIT_DEPTHS}, got {self.bit_depth}")
        if self.display_bands is not None:
            check_display_bands(self.display_bands, self.channels)
        if self.kind not in KINDS:
            raise ValueError(f"kind must be one of {KINDS}, got {self.kind!r}")
        if self.interpolation not in INTERPOLATIONS:
            raise ValueError(f"interpolation must be one of {INTERPOLATIONS}, got {self.interpolation!r}")
        if self.crop not in CROPS:
            raise ValueError(f"crop must be one of {CROPS}, got {self.crop!r}")
        if self.views not in VIEWS:
            raise ValueError(f"views must be one of {VIEWS}, got {self.views!r}")
        if self.value_range is not None:
            check_value_range(self.value_range)

    @property
    def num_classes(self) -> int:
        return len(self.class_names)

    @property
    def max_level(self) -> int:
        """White in a prepared image; black is 0."""
        return 2**self.bit_depth - 1

    @property
    def dtype(self) -> str:
        """Of a prepared image, by numpy's name."""
        return f"uint{self.bit_depth}"

    @property
    def temperature(self) -> float:
        """What logits are divided by; 1 before calibration."""
        return 1.0 if self.calibration is None else self.calibration.temperature

    def to_dict(self) -> dict[str, Any]:
        """Plain lists, strings and numbers, fit for JSON and for `torch.load(weights_only=True)`."""
        return {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "TaskSpec":
        lists = {key: tuple(values[key]) for key in ("class_names", "mean", "std")}
        lists |= {key: tuple(values[key]) for key in ("value_range", "display_bands") if values.get(key) is not None}
        calibration = values.get("calibration")
        return cls(**{**values, **lists, "calibration": None if calibration is None else Calibration(**calibration)})

    def save(self, path: Path) -> None:
        path.write_text(json.dumps(self.to_dict(), indent=2, ensure_ascii=False) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, path: Path) -> "TaskSpec":
        return cls.from_dict(json.loads(path.read_text(encoding="utf-8")))


def usual_bit_depth(value_range: ValueRange | None) -> int:
    """Of the prepared images of a new training: 16 where they have more than 8."""
    return 8 if value_range is None else 16


def check_value_range(values: Any) -> ValueRange:
    """The range as two numbers.

    Raises: ValueError when it is none.
    """
    is_range = isinstance(values, list | tuple) and len(values) == 2
    if not is_range or any(isinstance(each, bool) or not isinstance(each, int | float) for each in values):
        raise ValueError(f"value_range must be two numbers, got {values}")
    low, high = values
    if not (math.isfinite(high - low) and high - low > SMALLEST_RANGE):  # what is no number is not larger, either
        raise ValueError(f"value_range must be two finite numbers, the smaller first, got {values}")
    return low, high


def check_display_bands(bands: Any, channels: int | None = None) -> tuple[int, ...]:
    """The numbers of the bands that people see: one as grey, or three as red, green and blue.

    Raises: ValueError when they are none, or images of so many channels do not have them.
    """
    is_list = isinstance(bands, list | tuple) and len(bands) in (1, 3)
    if not is_list or any(isinstance(each, bool) or not isinstance(each, int) or each < 0 for each in bands):
        raise ValueError(f"display_bands must be one or three numbers of bands, from 0, got {bands}")
    if channels is not None and max(bands) >= channels:
        raise ValueError(f"display_bands must be below the number of channels, {channels}, got {list(bands)}")
    return tuple(bands)
