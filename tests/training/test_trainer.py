"""Which limit ends a training is said before it begins."""

from pathlib import Path

import pytest
from tests.conftest import BARE, compose_config, compose_train

from sightline.data.opening import open_data
from sightline.distributed.rank import Rank
from sightline.training.learner import build_learner
from sightline.training.train import train
from sightline.training.trainer import plan_fit


def words_of(colors: Path, *more: str) -> list[str]:
    return ["data=folder", f"data.root={colors}", *BARE, "logger=none", *more]


EPOCHS_AND_STEPS = [
    (
        "trainer.max_epochs=2 trainer.max_steps=100",
        "trainer.max_epochs=2 ends the training after 12 steps; add trainer",
    ),
    (
        "trainer.max_epochs=2 trainer.max_steps=7 trainer.accumulate_grad_batches=2",
        "trainer.max_steps=7 is never reached",
    ),
    (
        "trainer.max_epochs=3 trainer.max_steps=7",
        "trainer.max_steps=7 ends the training in epoch 2 of trainer.max_epochs",
    ),
    ("trainer.max_epochs=3 trainer.max_steps=1 trainer.limit_train_batches=0.2", "ends the training in epoch 1 of"),
    ("trainer.max_epochs=2 trainer.max_steps=12", None),
    ("trainer.max_epochs=2 trainer.max_steps=8", None),
    ("trainer.max_epochs=null trainer.max_steps=8", None),
]
"""An epoch has six steps of eight images."""


def test_of_epochs_and_steps_the_one_that_decides_is_said(colors: Path, caplog: pytest.LogCaptureFixture) -> None:
    opened = open_data(compose_train(*words_of(colors)))
    for words, line in EPOCHS_AND_STEPS:
        cfg = compose_train(*words_of(colors, *words.split()))
        learner, datamodule = build_learner(cfg, opened)
        caplog.clear()
        plan_fit(cfg, Rank(), learner, datamodule)
        said = [each.getMessage() for each in caplog.records if each.name == "sightline.training.trainer"]
        assert len(said) == (line is not None), words
        assert line is None or line in said[0]


def test_steps_alone_can_end_a_training(colors: Path, tmp_path: Path) -> None:
    words = words_of(colors, "trainer.max_epochs=null", "trainer.max_steps=8", f"output={tmp_path / 'run'}")
    assert train(compose_config("train", *words)).metrics["train/loss"] > 0
    rows = (tmp_path / "run" / "metrics.csv").read_text().splitlines()
    assert len(rows) == 3, "two epochs, the second one short"
