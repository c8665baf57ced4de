"""A real network with real images in memory, as evaluators see them."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import timm
import torch
from torch.utils.data import DataLoader

from sightline.data.manifest import Manifest
from sightline.evaluation.evaluation_input import EvaluationInput
from sightline.evaluation.predictions import Predictions, Runner, predict_split
from sightline.task_spec import Calibration, TaskSpec

NAMES = tuple("abcdefg")


def make_predictions(count: int = 300, seed: int = 0) -> Predictions:
    """Seven unbalanced classes, about two thirds right."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.multinomial(torch.tensor([9.0, 5, 4, 3, 2, 1, 1]), count, replacement=True, generator=generator)
    logits = torch.randn(count, 7, generator=generator)
    logits[torch.arange(count), labels] += 2.0
    return Predictions(logits, labels)


class Images(torch.utils.data.Dataset):
    """Smooth random pictures with names, of so many channels and bits."""

    def __init__(
        self, count: int, size: int = 32, labels: torch.Tensor | None = None, channels: int = 3, bit_depth: int = 8
    ) -> None:
        coarse = torch.rand(count, channels, 4, 4, generator=torch.Generator().manual_seed(0))
        smooth = torch.nn.functional.interpolate(coarse, (size, size), mode="bilinear")
        levels = (20 + 215 * smooth).permute(0, 2, 3, 1)
        self.pixels = levels.to(torch.uint8) if bit_depth == 8 else (levels * 257).int().to(torch.uint16)
        self.pixels = self.pixels.contiguous()
        self.labels = torch.arange(count) % len(NAMES) if labels is None else labels

    def __len__(self) -> int:
        return len(self.labels)

    def name(self, index: int) -> str:
        return f"test/{NAMES[int(self.labels[index])]}/{index:04d}.png"

    def __getitems__(self, keys: list[int]) -> tuple[torch.Tensor, torch.Tensor]:
        return self.pixels[keys], self.labels[keys]


def make_spec(channels: int = 3, bit_depth: int = 8) -> TaskSpec:
    value_range = (0, 4095) if bit_depth == 16 else None
    mean, std = (0.5,) * channels, (0.25,) * channels
    return TaskSpec(NAMES, 32, mean, std, value_range=value_range, channels=channels, bit_depth=bit_depth)


def make_runner(spec: TaskSpec) -> Runner:
    torch.manual_seed(0)
    network = timm.create_model("test_resnet", num_classes=len(NAMES), in_chans=spec.channels).eval()
    return Runner(network, spec, torch.device("cpu"), "32-true")


def make_inputs(
    predictions: Predictions | None = None,
    calibration: Calibration | None = None,
    group_size: int | None = None,
    count: int = 40,
    spec: TaskSpec | None = None,
) -> EvaluationInput:
    """Given predictions, or those of the network itself; images in groups of so many, in a row."""
    spec = replace(spec or make_spec(), calibration=calibration)
    depth = {"channels": spec.channels, "bit_depth": spec.bit_depth}
    labels = getattr(predictions, "labels", None)
    images = Images(count if predictions is None else len(predictions), labels=labels, **depth)
    loader = DataLoader(images, batch_size=16, collate_fn=lambda batch: batch)
    runner = make_runner(spec)
    found = predictions or predict_split(runner, loader)
    manifest = None
    if group_size is not None:
        paths = np.array([images.name(index) for index in range(len(images))], np.dtypes.StringDType())
        groups = np.array([f"group {index // group_size}" for index in range(len(images))], np.dtypes.StringDType())
        splits = np.full(len(images), 2, np.int8)
        manifest = Manifest(Path(), NAMES, paths, images.labels.numpy().astype(np.int32), splits, groups)
    return EvaluationInput(found, runner, "test", loader, manifest)
