"""What people see of training images in TensorBoard."""

import io
from pathlib import Path

import numpy as np
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tests.conftest import BARE, compose_config

from sightline.training.train import train


def test_the_chosen_bands_are_shown(tmp_path: Path) -> None:
    """Only the last of five bands shows anything: as red."""
    for number in range(16):
        folder = tmp_path / "bands" / "train" / "ab"[number % 2]
        folder.mkdir(parents=True, exist_ok=True)
        values = np.full((32, 32, 5), 100, np.uint16) * np.arange(5, dtype=np.uint16)
        values[..., 4] = np.random.default_rng(number).integers(0, 4096, (32, 32))
        np.save(folder / f"{number}.npy", values)
    words = ["data=folder", f"data.root={tmp_path / 'bands'}", "data.display_bands=[4,0,0]", "augmentation=none"]
    words += [f"paths.runs={tmp_path / 'runs'}", f"paths.cache={tmp_path / 'cache'}", *BARE, "stages=[fit]"]
    result = train(compose_config("train", *words))
    events = EventAccumulator(str(next(result.run_dir.rglob("events.out*")).parent), {"images": 0}).Reload()
    (shown,) = events.Images("train/images")
    pixels = np.asarray(Image.open(io.BytesIO(shown.encoded_image_string)).convert("RGB"))[2:34, 2:34]
    assert pixels[..., 0].std() > 40
    assert pixels[..., 0].max() == 255
    assert pixels[..., 1:].max() == 0
