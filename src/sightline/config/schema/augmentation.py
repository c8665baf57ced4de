"""The augmentation group: how training images are changed, one by one and as batches."""

from dataclasses import dataclass, field
from typing import Any

from sightline.config.constraints import Needs, key, only_with
from sightline.config.instantiation import check_targets
from sightline.config.schema.own_code import OUR_MODULE
from sightline.errors import BadInput


@dataclass
class BatchAugmentationConfig:
    """Changes of whole batches, on the device."""

    source_size: int | None = key(
        None,
        "side of the images that are handed over, in pixels; null: the image size",
        minimum=1,
        noun="a number of pixels",
        hint=", or null for the image size",
    )
    crop_scale: list[float] = key([1.0, 1.0], "share of the area; above 1: with a border")
    crop_ratio: list[float] = key([1.0, 1.0], "width to height, from and to")
    rotate_degrees: float = key(0.0, "at most, either way", minimum=0, maximum=180)
    shear_degrees: float = key(0.0, "at most, either way", minimum=0, maximum=60)
    horizontal_flip: float = key(
        0.0,
        "probability",
        minimum=0,
        maximum=1,
        noun="a probability",
        needs=Needs(
            "data.orientation_matters=false or data.mirror_classes=…",
            lambda cfg: bool(cfg.data.mirror_classes) or not cfg.data.orientation_matters,
        ),
    )
    before: dict[str, Any] = key({}, "batch transforms of the colours, before the crop")
    after: dict[str, Any] = key({}, "batch transforms after it")

    def check(self) -> None:
        _check_crop("augmentation.batch", self.crop_scale, self.crop_ratio, most=4.0)
        check_targets(self.before, "augmentation")
        check_targets(self.after, "augmentation")


@dataclass
class AugmentationConfig:
    """Changes of training images; validation and test see none of them."""

    crop_scale: list[float] | None = key(None, "random resized crop: share of the area, from and to")
    crop_ratio: list[float] = key(
        [0.75, 4 / 3], "its width to height, from and to", needs=only_with("augmentation.crop_scale")
    )
    horizontal_flip: float = key(
        0.0,
        "probability",
        minimum=0,
        maximum=1,
        noun="a probability",
        needs=only_with("data.orientation_matters", False),
    )
    transforms: dict[str, Any] = key({}, "albumentations objects, applied in this order")
    mixup: float = key(0.0, "alpha of the share of one image in another; 0: none", minimum=0, needs=OUR_MODULE)
    cutmix: float = key(0.0, "the same of the area that one image covers of another", minimum=0, needs=OUR_MODULE)
    mix_probability: float = key(
        1.0,
        "of a batch",
        minimum=0,
        maximum=1,
        needs=Needs(
            "augmentation.mixup=… or augmentation.cutmix=…",
            lambda cfg: cfg.augmentation.mixup > 0 or cfg.augmentation.cutmix > 0,
        ),
    )
    start_size: float = key(
        1.0,
        "of the first epoch's training images, as a share of data.image_size",
        minimum=0.1,
        maximum=1,
        noun="a share",
        hint=", like 0.5",
        needs=OUR_MODULE,
    )
    batch: BatchAugmentationConfig = field(default_factory=BatchAugmentationConfig)

    def check(self) -> None:
        _check_crop("augmentation", self.crop_scale, self.crop_ratio, most=1.0)
        check_targets(self.transforms, "augmentation")


def _check_crop(name: str, scale: list[float] | None, ratio: list[float], most: float) -> None:
    if scale is not None and not (len(scale) == 2 and 0 < scale[0] <= scale[1] <= most):
        raise BadInput(f"{name}.crop_scale={scale}: must be two shares of the area up to {most:g}, like [0.35,1.0]")
    if not (len(ratio) == 2 and 0 < ratio[0] <= ratio[1]):
        raise BadInput(f"{name}.crop_ratio={ratio}: must be two ratios, like [0.75,1.33]")
