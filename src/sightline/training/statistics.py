"""Mean and standard deviation of each channel, where neither the configuration nor published weights say them."""

import logging
from collections.abc import Mapping
from typing import TypeVar

import numpy as np

from sightline.config import TrainConfig, with_value
from sightline.data.training_data import TrainingData
from sightline.runs.guesses import Guess, announce
from sightline.training.build import spec_of

log = logging.getLogger(__name__)
Training = TypeVar("Training", bound=TrainConfig)
MAX_IMAGES = 512
"""Training images that are looked at, spread over all of them."""
AT_ONCE = 32
SMALLEST_STD = 1e-6
"""A band of one value alone is not divided by nothing."""


def with_statistics(cfg: Training, opened: TrainingData, before: Mapping[str, object]) -> tuple[Training, list[Guess]]:
    """The configuration with `data.mean` and `data.std` of the training images, where it is these that count.

    They do where the network's published values are not those of the images: of other channels than three of 8 bits,
    unless training begins from weights that know greys or colours. `before` is of `found_before`.

    Raises: BadInput for as many numbers as images have no channels.
    """
    data, model = cfg.data, cfg.model
    data.check_channels(opened.channels)
    if opened.are_normalised:
        return _for_loose_pictures(cfg, opened.channels), []
    has_weights = model.pretrained is True or model.weights_file() is not None
    is_published = opened.channels in (1, 3) if has_weights else (opened.channels, opened.bit_depth) == (3, 8)
    if data.mean is not None or is_published:
        return cfg, []
    if "data.mean" in before:
        because = "as this run began"
        found = before["data.mean"], before["data.std"]
    else:
        found, count = _measure(cfg, opened)
        because = f"of {count} training images"
    guesses = [Guess(key, value, because) for key, value in zip(("data.mean", "data.std"), found, strict=True)]
    announce(guesses)
    for guess in guesses:
        cfg = with_value(cfg, guess.key, guess.value)
    return cfg, guesses


def _for_loose_pictures(cfg: Training, channels: int) -> Training:
    """The configuration with values for pictures that predict.py reads: batches of floats have been normalised."""
    if cfg.data.mean is None:
        log.warning(
            "the batches are normalised already: predict.py and evaluate.py data.root=… normalise pictures by "
            "data.mean=0.5 and data.std=0.5; give those that the batches have"
        )
        cfg = with_value(with_value(cfg, "data.mean", [0.5] * channels), "data.std", [0.5] * channels)
    return cfg


def _measure(cfg: TrainConfig, opened: TrainingData) -> tuple[tuple[list[float], list[float]], int]:
    """Mean and standard deviation of each channel on the 0..1 scale, to four digits, and of how many images they are.

    Squashed, an image is there as a whole, and without a border in the colour that is sought.
    """
    from dataclasses import replace

    channels, count = opened.channels, opened.num_images["train"]
    spec = replace(spec_of(cfg, opened, [0.5] * channels, [0.5] * channels), crop="squash")
    dataset = opened.make_loader("train", spec, batch_size=AT_ONCE, num_workers=0).dataset
    chosen = np.unique(np.linspace(0, count - 1, min(MAX_IMAGES, count), dtype=int))
    sums = np.zeros((2, channels))
    for start in range(0, len(chosen), AT_ONCE):
        keys = chosen[start : start + AT_ONCE].tolist()
        images = dataset.__getitems__(keys)[0].numpy()  # pyright: ignore[reportAttributeAccessIssue]  (of ours)
        levels = images.reshape(-1, channels) / spec.max_level
        sums += levels.sum(axis=0), np.square(levels).sum(axis=0)
    mean, squares = sums / (len(chosen) * spec.image_size**2)
    std = np.sqrt(np.maximum(squares - mean**2, 0)).clip(SMALLEST_STD)
    return ([float(f"{each:.4g}") for each in mean], [float(f"{each:.4g}") for each in std]), len(chosen)
