"""The part of the data group that says what an image becomes before a network sees it."""

from dataclasses import dataclass
from typing import Any

from sightline.config.constraints import Needs, key
from sightline.errors import BadInput
from sightline.task_spec import CROPS, INTERPOLATIONS, MAX_PIXELS, check_display_bands, check_value_range

NOT_FILES = ("shards", "synthetic")
"""Sources whose images are no files."""
FILES = Needs("images in files", lambda cfg: cfg.data.source not in NOT_FILES)


@dataclass
class PixelsConfig:
    """Size, channels and range of an image."""

    image_size: int = key(224, "side of the square that the model sees, in pixels", minimum=8)
    interpolation: str = key("bicubic", "of the resize", choices=INTERPOLATIONS)
    crop: str = key("crop", "how an image becomes a square", choices=CROPS)
    channels: int | str = key(
        "auto",
        "of an image: 1 grey, 3 red, green and blue, N bands; auto: found",
        minimum=1,
        words=("auto",),
        noun="a number",
    )
    display_bands: list[int] | None = key(
        None, "one or three bands, from 0, that people are shown; null: the first three"
    )
    mean: list[float] | None = key(
        None, "per channel, 0..1; null: what the backbone was made for, or that of the training images"
    )
    std: list[float] | None = key(None, "the same of the standard deviation")
    value_range: Any = key(
        "auto",
        "the values of images of more than 8 bits that become black and white, like [0,4095]; auto: found; those of 8 "
        "bits stay as they are",
        needs=Needs("another data.source than synthetic", lambda cfg: cfg.data.source != "synthetic"),
    )
    max_pixels: int = key(MAX_PIXELS, "of an image; larger ones are bad files", minimum=1, needs=FILES)

    def check_pixels(self) -> None:
        if (self.mean is None) != (self.std is None):
            raise BadInput(f"data.mean={self.mean} data.std={self.std}: set both or neither")
        if self.std is not None and min(self.std, default=0) <= 0:
            raise BadInput(f"data.std={self.std}: must be above 0")
        self.check_channels(None if self.channels == "auto" else int(self.channels))
        if self.value_range != "auto":
            try:
                check_value_range(self.value_range)
            except ValueError as error:
                raise BadInput(
                    f"data.value_range={self.value_range}: must be auto, or two numbers, the smaller first, "
                    "like [0,4095]"
                ) from error

    def check_channels(self, channels: int | None) -> None:
        """What counts channels, against as many as images have; None: that is not known yet.

        Raises: BadInput.
        """
        have = "1 channel" if channels == 1 else f"{channels} channels"
        for name, values in (("mean", self.mean), ("std", self.std)):
            if values is not None and channels is not None and len(values) != channels:
                count = "one number" if channels == 1 else f"{channels} numbers"
                raise BadInput(f"data.{name}={values}: must be {count}, one for each channel: images have {have}")
        if self.display_bands is not None:
            try:
                check_display_bands(self.display_bands, channels)
            except ValueError as error:
                raise BadInput(f"data.display_bands={self.display_bands}: {error}") from error
