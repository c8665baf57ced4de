"""TaskSpec: the only description of what goes into a model and what comes out."""

import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

INTERPOLATIONS = ("nearest", "bilinear", "bicubic", "lanczos")
CROPS = ("crop", "pad", "squash")
VIEWS = ("none", "flip", "shifts", "flip_and_shifts", "zooms", "flip_and_zooms")
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

    `image_size` is the side of the square input in pixels; `mean` and `std` are per RGB channel on the 0..1 scale.
    `crop` says how an image that is not square becomes square: `crop` scales the short side and cuts the centre,
    `pad` scales the long side and fills with the mean colour, `squash` changes the aspect ratio. An answer is the mean
    over an image's `views`: its mirror image, four shifts or two zooms, or with `none` the image alone. Deep greys
    between the two values of `value_range` become 0 to 255; None: the model was trained on images of 8 bits alone.
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

    def __post_init__(self) -> None:
        if len(set(self.class_names)) != len(self.class_names):
            raise ValueError(f"class_names must be different from each other, got {list(self.class_names)}")
        if self.image_size < 1:
            raise ValueError(f"image_size must be a positive number of pixels, got {self.image_size}")
        if len(self.mean) != 3 or len(self.std) != 3 or min(self.std) <= 0:
            raise ValueError(f"mean and std must be three numbers each, std above 0, got {self.mean} and {self.std}")
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
    def temperature(self) -> float:
        """What logits are divided by; 1 before calibration."""
        return 1.0 if self.calibration is None else self.calibration.temperature

    def to_dict(self) -> dict[str, Any]:
        """Plain lists, strings and numbers, fit for JSON and for `torch.load(weights_only=True)`."""
        return {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "TaskSpec":
        lists = {key: tuple(values[key]) for key in ("class_names", "mean", "std")}
        if values.get("value_range") is not None:
            lists["value_range"] = tuple(values["value_range"])
        calibration = values.get("calibration")
        return cls(**{**values, **lists, "calibration": None if calibration is None else Calibration(**calibration)})

    def save(self, path: Path) -> None:
        path.write_text(json.dumps(self.to_dict(), indent=2, ensure_ascii=False) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, path: Path) -> "TaskSpec":
        return cls.from_dict(json.loads(path.read_text(encoding="utf-8")))


def check_value_range(values: Any) -> ValueRange:
    """The range as two numbers.

    Raises: ValueError when it is none.
    """
    is_range = isinstance(values, list | tuple) and len(values) == 2
    if not is_range or any(isinstance(each, bool) or not isinstance(each, int | float) for each in values):
        raise ValueError(f"value_range must be two numbers, got {values}")
    low, high = values
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise ValueError(f"value_range must be two finite numbers, the smaller first, got {values}")
    return low, high
