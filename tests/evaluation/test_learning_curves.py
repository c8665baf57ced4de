"""Learning curves: of whatever a run has measured, and a sentence that says no more than the numbers do."""

import csv
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from tests.conftest import BARE, Cli
from tests.evaluation.test_report import plain

from sightline.evaluation.evaluation_input import Section
from sightline.evaluation.learning_curves import learning_curves

FALLING = [
    {"train/loss": 1.0, "train/accuracy": 0.6, "val/loss": 0.9, "val/accuracy": 0.65},
    {"train/loss": 0.5, "train/accuracy": 0.85, "val/loss": 0.7, "val/accuracy": 0.76},
    {"train/loss": 0.1, "train/accuracy": 0.99, "val/loss": 0.8, "val/accuracy": 0.75},
]


def curves_of(
    folder: Path, rows: Sequence[Mapping[str, float]], num_val: int = 1000, **config: Any
) -> tuple[str, list[str]]:
    """The section's text and the titles of its panels, of a run with these epochs and settings."""
    folder.mkdir(parents=True, exist_ok=True)
    columns = list(dict.fromkeys(name for row in rows for name in row))
    with (folder / "metrics.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, ["epoch", "step", "lr", *columns])
        writer.writeheader()
        writer.writerows({"epoch": number, "step": number, "lr": 0.1, **row} for number, row in enumerate(rows))
    record = {"config": config, "data": {"num_images": {"val": num_val}}}
    (folder / "run.json").write_text(json.dumps(record))
    section = learning_curves(folder)
    assert isinstance(section, Section)
    return section.text, [axes.get_title() for axes in section.figures["learning_curves"].axes]


def test_a_run_has_them_as_a_picture_and_in_its_report(trained: Path) -> None:
    with Image.open(trained / "learning_curves.png") as picture:
        assert picture.width > 800
        assert len(set(picture.convert("L").resize((200, 60)).tobytes())) > 20
    text = plain(trained / "evaluation" / "report.html")
    assert "Learning curves" in text
    assert "of 4, the best by val/accuracy," in text
    assert "on augmented images" in text, "experiment=photos crops and mirrors"


def test_a_run_of_one_epoch_that_measures_nothing_has_them_too(cli: Cli, colors: Path, tmp_path: Path) -> None:
    words = [word for word in BARE if not word.startswith("stages")]
    done = cli("train", "data=folder", f"data.root={colors}", *words, "stages=[fit]", f"output={tmp_path / 'run'}")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "run" / "learning_curves.png").is_file()
    text = plain(tmp_path / "run" / "evaluation" / "report.html")
    assert "In epoch 1 of 1, the best by val/accuracy," in text


def test_the_gap_is_that_of_the_epoch_that_is_kept(tmp_path: Path) -> None:
    text, panels = curves_of(tmp_path, FALLING)
    assert panels == ["loss", "accuracy", "learning rate"]
    assert text.startswith(
        "In epoch 2 of 3, the best by val/accuracy, 85 % of the training images and 76 % of the validation "
        "images were answered right: 9 percentage points fewer of validation."
    )
    assert "knows its training images better than new ones (95 % interval of validation, 1,000 images: 0.73" in text
    assert "lowest in epoch 2 (0.7) and 0.8 at the end, while that of training fell further: a sign of overf" in text


@pytest.mark.parametrize(
    ("train", "num_val", "said"),
    [
        (0.85, 20, "So many images cannot tell this from no gap at all"),
        (0.85, 1000, "knows its training images better than new ones"),
        (0.5, 1000, "Training was the harder of the two"),
    ],
)
def test_what_may_be_read_from_the_gap_depends_on_how_many_images_there_are(
    train: float, num_val: int, said: str, tmp_path: Path
) -> None:
    text, _ = curves_of(tmp_path, [{**FALLING[1], "train/accuracy": train}], num_val)
    assert said in text
    assert "sign of overfitting" not in text
    part, _ = curves_of(tmp_path, [{**FALLING[1]}], num_val, trainer={"limit_val_batches": 2})
    assert "interval" not in part, "how many images there were is not known"


def test_what_makes_training_another_measurement_is_named(tmp_path: Path) -> None:
    text, _ = curves_of(
        tmp_path,
        FALLING,
        model={"label_smoothing": 0.1, "drop_rate": 0.2, "ema_decay": 0.99, "loss": "cross_entropy"},
        augmentation={"mixup": 0.2, "horizontal_flip": 0.5, "start_size": 0.5},
    )
    for reason in ("mixed with others", "augmented images", "smaller images", "dropout", "an average of the weights"):
        assert reason in text
    assert "The losses differ by what they count (label smoothing, mixed images)" in text
    plainly, _ = curves_of(tmp_path, FALLING, model={"loss": "cross_entropy"}, augmentation={"mixup": 0.0})
    assert "was taken while the weights were still changing, so" in plainly
    assert "The losses differ" not in plainly


def test_without_validation_or_with_one_that_was_trained_on_there_is_no_gap(tmp_path: Path) -> None:
    text, panels = curves_of(tmp_path, [{"train/loss": 1.0, "train/accuracy": 0.5}] * 2)
    assert "In epoch 2 of 2, the last, which is kept, no gap can be told: no number of training has" in text
    assert panels == ["loss", "accuracy", "learning rate"]
    seen, _ = curves_of(tmp_path, FALLING, data={"with_validation": True})
    assert "no gap can be told: the validation images were trained on too" in seen


def test_what_modules_of_ones_own_log_is_drawn_under_their_names(tmp_path: Path) -> None:
    rows = [{"train_f1": 0.5, "val_f1": 0.4, "val_margin": 3.0, "speed": 7.0}, {"train_f1": 0.7, "val_f1": 0.5}]
    own: dict[str, Any] = {"module": {"_target_": "mine.Net"}, "checkpoint": {"monitor": "val_margin", "mode": "min"}}
    text, panels = curves_of(tmp_path, rows, **own)
    assert panels == ["f1", "margin", "learning rate"]
    assert "In epoch 1 of 2, the best by val_margin, train_f1 is 0.5 and val_f1 0.4. Whether the two" in text
    assert curves_of(tmp_path, [{"speed": 1.0}], **own)[1] == ["learning rate"]


def test_epochs_without_validation_and_numbers_that_are_none_leave_holes(tmp_path: Path) -> None:
    rows = [FALLING[0], {"train/loss": float("nan"), "train/accuracy": 0.7}, FALLING[1]]
    text, _ = curves_of(tmp_path, rows)
    assert text.startswith("In epoch 3 of 3,")
    assert "nan" not in text


def test_a_folder_without_epochs_has_none(tmp_path: Path) -> None:
    assert learning_curves(tmp_path) is None
