"""Damage that photos meet outside the laboratory, in five severities.

The families and severities are those of ImageNet-C and its extra set (Hendrycks and Dietterich, arXiv:1903.12261), made
with albumentations; frost is left out, since it needs photographs of ice. Lengths in pixels are for images of 224
pixels and shrink with the image, but not below 0.4 of it. Most work on any bands of 8 or 16 bits; the others say what
they need.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from sightline.data.transforms import change_levels, quiet_albumentations
from sightline.task_spec import TaskSpec

SEVERITIES = (1, 2, 3, 4, 5)
MIN_SCALE, FULL_SIZE = 0.4, 224


@dataclass(frozen=True)
class Corruption:
    """One family: what it takes at severities 1 to 5, how it is made from that and the scale, and where it is from."""

    values: tuple[Any, ...]
    make: Callable[[Any, Any, float], Any]
    source: str
    channels: tuple[int, ...] = ()
    """Those that it can damage; nothing: any bands."""
    bit_depth: int | None = None
    """8 where it rounds to 8 bits on the way; None: any."""
    is_by_band: bool = False
    """Whether bands that are no colours are changed one by one."""

    def fits(self, spec: TaskSpec) -> bool:
        """Whether it can damage images of these channels and this depth."""
        return spec.channels in (self.channels or (spec.channels,)) and self.bit_depth in (None, spec.bit_depth)

    @property
    def needs(self) -> str:
        """What it can damage, in words; nothing where that is any image."""
        parts = [f"{self.bit_depth} bits"] if self.bit_depth else []
        parts += [KINDS[self.channels]] if self.channels else []
        return " of ".join(parts)


def _odd(length: float) -> int:
    return max(3, 2 * round((length - 1) / 2) + 1)


KINDS = {(3,): "red, green and blue", (1, 3): "greys, or red, green and blue"}
"""Numbers of channels in words."""
IMAGENET_C = "ImageNet-C"
EXTRA = "ImageNet-C, extra"
CORRUPTIONS: dict[str, Corruption] = {
    "gaussian_noise": Corruption(
        (0.08, 0.12, 0.18, 0.26, 0.38),
        lambda library, value, scale: library.GaussNoise(std_range=(value, value)),
        f"{IMAGENET_C}: standard deviation; albumentations GaussNoise",
    ),
    "shot_noise": Corruption(
        (60, 25, 12, 5, 3),
        lambda library, value, scale: library.ShotNoise(scale_range=(1 / value, 1 / value)),
        f"{IMAGENET_C}: photons of a white pixel; albumentations ShotNoise, in linear light",
    ),
    "impulse_noise": Corruption(
        (0.03, 0.06, 0.09, 0.17, 0.27),
        lambda library, value, scale: library.SaltAndPepper(amount=(value, value), salt_vs_pepper=(0.5, 0.5)),
        f"{IMAGENET_C}: share of the pixels; albumentations SaltAndPepper",
    ),
    "speckle_noise": Corruption(
        (0.15, 0.2, 0.35, 0.45, 0.6),
        lambda library, value, scale: library.MultiplicativeNoise(
            (max(0.0, 1 - 3**0.5 * value), 1 + 3**0.5 * value), per_channel=True, elementwise=True
        ),
        f"{EXTRA}: standard deviation of the factor; albumentations MultiplicativeNoise, uniform",
    ),
    "gaussian_blur": Corruption(
        (1, 2, 3, 4, 6),
        lambda library, value, scale: library.GaussianBlur(sigma_limit=(value * scale, value * scale), blur_limit=0),
        f"{EXTRA}: standard deviation in pixels; albumentations GaussianBlur",
    ),
    "defocus_blur": Corruption(
        ((3, 0.1), (4, 0.5), (6, 0.5), (8, 0.5), (10, 0.5)),
        lambda library, value, scale: library.Defocus(
            radius=(max(1, round(value[0] * scale)),) * 2, alias_blur=(value[1],) * 2
        ),
        f"{IMAGENET_C}: radius in pixels and smoothing; albumentations Defocus",
    ),
    "glass_blur": Corruption(
        ((0.7, 1, 2), (0.9, 2, 1), (1, 2, 3), (1.1, 3, 2), (1.5, 4, 2)),
        lambda library, value, scale: library.GlassBlur(
            sigma=value[0] * scale, max_delta=max(1, round(value[1] * scale)), iterations=value[2]
        ),
        f"{IMAGENET_C}: smoothing and reach in pixels, repetitions; albumentations GlassBlur",
    ),
    "motion_blur": Corruption(
        (10, 15, 21, 25, 31),
        lambda library, value, scale: library.MotionBlur(
            blur_limit=(_odd(value * scale),) * 2, allow_shifted=False, direction_range=(0.0, 0.0)
        ),
        f"after {IMAGENET_C}: length in pixels, in a random direction; albumentations MotionBlur",
    ),
    "zoom_blur": Corruption(
        ((1.11, 0.01), (1.16, 0.01), (1.21, 0.02), (1.26, 0.02), (1.31, 0.03)),
        lambda library, value, scale: library.ZoomBlur(max_factor=(value[0],) * 2, step_factor=(value[1],) * 2),
        f"{IMAGENET_C}: largest factor and step; albumentations ZoomBlur",
    ),
    "snow": Corruption(
        (0.1, 0.2, 0.3, 0.4, 0.5),
        lambda library, value, scale: library.RandomSnow(snow_point_range=(value, value), method="texture"),
        f"the family of {IMAGENET_C}, severities of our own; albumentations RandomSnow, texture",
        channels=(3,),
        bit_depth=8,
    ),
    "fog": Corruption(
        (0.3, 0.45, 0.6, 0.8, 1.0),
        lambda library, value, scale: library.RandomFog(fog_coef_range=(value, value), alpha_coef=0.1),
        f"the family of {IMAGENET_C}, severities of our own; albumentations RandomFog",
        channels=(3,),
        bit_depth=8,
    ),
    "spatter": Corruption(
        ((0.65, 0.69, 0.6), (0.65, 0.68, 0.6), (0.65, 0.68, 0.5), (0.65, 0.65, 0.5), (0.67, 0.65, 0.4)),
        lambda library, value, scale: library.Spatter(
            mean=(value[0],) * 2,
            std=(0.3, 0.3),
            gauss_sigma=(4 * scale, 4 * scale),
            cutout_threshold=(value[1],) * 2,
            intensity=(value[2],) * 2,
        ),
        f"{EXTRA}: level, threshold and strength; albumentations Spatter, rain at every severity",
        channels=(3,),
    ),
    "brightness": Corruption(
        (0.1, 0.2, 0.3, 0.4, 0.5),
        lambda library, value, scale: library.RandomBrightnessContrast(
            brightness_limit=(value, value), contrast_limit=(0, 0), brightness_by_max=True
        ),
        f"{IMAGENET_C}: share of white that is added; albumentations RandomBrightnessContrast, on RGB",
    ),
    "contrast": Corruption(
        (0.4, 0.3, 0.2, 0.1, 0.05),
        lambda library, value, scale: library.ColorJitter(
            brightness=(1, 1), contrast=(value, value), saturation=(1, 1), hue=(0, 0)
        ),
        f"{IMAGENET_C}: factor about the mean; albumentations ColorJitter",
        is_by_band=True,
    ),
    "saturate": Corruption(
        (0.3, 0.1, 2, 5, 20),
        lambda library, value, scale: library.ColorJitter(
            brightness=(1, 1), contrast=(1, 1), saturation=(value, value), hue=(0, 0)
        ),
        f"{EXTRA}: factor; albumentations ColorJitter",
        channels=(3,),
    ),
    "elastic_transform": Corruption(
        ((12, 8), (18, 8), (25, 8), (32, 8), (40, 8)),
        lambda library, value, scale: library.ElasticTransform(
            alpha=value[0] * scale * 5, sigma=value[1] * scale, border_mode=4
        ),
        f"the family of {IMAGENET_C}, severities of our own; albumentations ElasticTransform",
    ),
    "pixelate": Corruption(
        (0.6, 0.5, 0.4, 0.3, 0.25),
        lambda library, value, scale: library.Downscale(scale_range=(value, value)),
        f"{IMAGENET_C}: share of the side; albumentations Downscale",
        bit_depth=8,
    ),
    "jpeg_compression": Corruption(
        (25, 18, 15, 10, 7),
        lambda library, value, scale: library.ImageCompression(compression_type="jpeg", quality_range=(value, value)),
        f"{IMAGENET_C}: quality; albumentations ImageCompression",
        channels=(1, 3),
        bit_depth=8,
    ),
}


def corrupt(image: np.ndarray, name: str, severity: int, key: tuple[int, ...]) -> np.ndarray:
    """A prepared image `(H, W, C)` damaged; the same image, family, severity and key give the same pixels."""
    generator = np.random.default_rng((*key, list(CORRUPTIONS).index(name), severity))
    transform = _make(name, severity, max(image.shape[:2]))
    transform.set_random_state(generator, random.Random(int(generator.integers(2**63))))
    if not CORRUPTIONS[name].is_by_band or image.shape[2] in (1, 3):
        return change_levels(transform, image)
    return np.concatenate([change_levels(transform, band) for band in np.split(image, image.shape[2], axis=2)], axis=2)


@lru_cache(maxsize=256)
def _make(name: str, severity: int, size: int) -> Any:
    library = quiet_albumentations()
    corruption = CORRUPTIONS[name]
    step = corruption.make(library, corruption.values[severity - 1], max(MIN_SCALE, size / FULL_SIZE))
    step.p = 1.0
    return library.Compose([step])
