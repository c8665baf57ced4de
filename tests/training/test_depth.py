"""Trainings on pictures of any depth: greys of 12 bits, arrays of five bands, digits with one channel."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from tests.conftest import TINY, WITHOUT_FIGURES, compose_config

from sightline.models.checkpoint import load_model
from sightline.task_spec import TaskSpec
from sightline.training.train import TrainResult, train

SIDE, PER_CLASS = 16, 24
Make = Callable[[int, int], np.ndarray]
"""A picture of a class and a number."""


def low_bits(label: int, number: int) -> np.ndarray:
    """12 bits, of which the lowest four hold the class: all 8-bit versions of the two look the same."""
    generator = np.random.default_rng((label, number))
    coarse = generator.integers(0, 256, (SIDE // 4, SIDE // 4)).repeat(4, 0).repeat(4, 1)
    return (coarse * 16 + (0 if label == 0 else 15)).astype(np.uint16)


def near_black(label: int, number: int) -> np.ndarray:
    """12 bits with one white pixel; the classes differ by 6 levels of 4096, half a level of 256."""
    values = np.random.default_rng((label, number)).integers(0, 3, (SIDE, SIDE)) + 6 * label
    values[0, :4], values[1, :4] = 4095, 0
    return values.astype(np.uint16)


def band_four(label: int, number: int) -> np.ndarray:
    """Five bands, of which the last is bright in one class."""
    values = np.random.default_rng((label, number)).normal(0, 1, (SIDE, SIDE, 5))
    values[..., 4] += 3 * label
    return values.astype(np.float32)


def write_set(root: Path, make: Make, suffix: str) -> Path:
    for label, name in enumerate(("left", "right")):
        for split, count in (("train", PER_CLASS), ("val", 8), ("test", 8)):
            folder = root / split / name
            folder.mkdir(parents=True)
            for number in range(count):
                values = make(label, number + {"train": 0, "val": 1000, "test": 2000}[split])
                if suffix == "npy":
                    np.save(folder / f"{number}.npy", values)
                else:
                    Image.fromarray(values).save(folder / f"{number}.{suffix}")
    return root


def train_on(root: Path, folder: Path, *words: str) -> TrainResult:
    places = (f"paths.runs={folder / 'runs'}", f"paths.cache={folder / 'cache'}", "logger=none")
    settings = ("data=folder", f"data.root={root}", *TINY, *WITHOUT_FIGURES, f"data.image_size={SIDE}", "model.lr=0.01")
    return train(compose_config("train", *settings, *places, "trainer.precision=32-true", *words))


def spec_of(result: TrainResult) -> TaskSpec:
    return TaskSpec.load(result.run_dir / "model" / "task_spec.json")


def first_weights(result: TrainResult) -> torch.Tensor:
    return next(iter(load_model(result.run_dir).network.state_dict().values()))


def test_arrays_of_five_bands_are_told_apart_by_the_last(tmp_path: Path) -> None:
    root = write_set(tmp_path / "bands", band_four, "npy")
    result = train_on(root, tmp_path, "trainer.max_epochs=4")
    spec = spec_of(result)
    assert (spec.channels, spec.bit_depth) == (5, 16)
    assert first_weights(result).shape[1] == 5
    assert result.metrics["test/accuracy"] == 1


def test_greys_of_12_bits_keep_them(tmp_path: Path) -> None:
    root = write_set(tmp_path / "greys", near_black, "tif")
    result = train_on(root, tmp_path, "trainer.max_epochs=6", "data.value_range=[0,4095]")
    spec = spec_of(result)
    assert (spec.channels, spec.bit_depth, spec.value_range) == (1, 16, (0, 4095))
    assert result.metrics["test/accuracy"] == 1
