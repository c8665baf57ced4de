"""Training on the validation images too, once nothing is left to choose."""

import csv
from pathlib import Path

import torch
from tests.conftest import BARE, compose_config

from sightline.training.train import train


def test_trains_on_both_and_keeps_the_last_epoch(colors: Path, tmp_path: Path) -> None:
    """60 images, 9 of them validation: 6 batches of 8 without them (a part is left over), 7 with them."""
    words = [word for word in BARE if "max_epochs" not in word]
    common = [
        "data=folder",
        f"data.root={colors}",
        *words,
        "trainer.max_epochs=2",
        "logger=none",
        "divergence.explosion_factor=1e9",
        "model.lr=1.0",
    ]
    steps = {}
    for setting in ("false", "true"):
        folder = tmp_path / setting
        train(compose_config("train", *common, f"data.with_validation={setting}", f"output={folder}"))
        with (folder / "metrics.csv").open() as file:
            steps[setting] = [int(row["step"]) for row in csv.DictReader(file)]
    assert steps["false"] == [6, 12]
    assert steps["true"] == [7, 14]
    best = torch.load(tmp_path / "true" / "checkpoints" / "best.ckpt", weights_only=True)
    assert best["epoch"] == 1, "the last epoch, whatever validation says"
