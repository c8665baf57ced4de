"""Tiny models as a training leaves them, for images of any channels and depth."""

from pathlib import Path

import torch

from sightline.models.backbones import create_backbone, with_channels
from sightline.models.checkpoint import save_model
from sightline.task_spec import TaskSpec, ValueRange

NAME = "test_resnet"


def save_tiny_model(
    folder: Path,
    channels: int,
    value_range: ValueRange | None = None,
    *,
    bit_depth: int | None = None,
    display_bands: tuple[int, ...] | None = None,
) -> Path:
    """A model folder with random weights and the classes a and b; of 16 bits where there is a range of values."""
    torch.manual_seed(0)
    network, architecture = create_backbone(NAME, 2, arguments=with_channels(NAME, {}, channels))
    mean, std = (0.5,) * channels, (0.25,) * channels
    depth = bit_depth or (8 if value_range is None else 16)
    sizes = {"channels": channels, "bit_depth": depth, "value_range": value_range, "display_bands": display_bands}
    save_model(folder, network.eval(), TaskSpec(("a", "b"), 32, mean, std, **sizes), architecture)
    return folder
