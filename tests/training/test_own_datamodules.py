"""A LightningDataModule of one's own in place of our data: trained on, measured, or refused with what to change."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import WITHOUT_FIGURES, Cli, compose_config
from tests.own_modules import data_words, write_modules

from sightline.errors import BadInput
from sightline.training.train import train

SHORT = ("evaluation=short", *WITHOUT_FIGURES)


@pytest.fixture(scope="module")
def code(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_modules(tmp_path_factory.mktemp("own") / "code")


def read(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text())


def fit(code: Path, name: str, output: Path, *more: str) -> dict[str, float]:
    return train(compose_config("train", *data_words(code, name, f"output={output}", *more))).metrics


@pytest.fixture(scope="module")
def own_run(cli: Cli, code: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on `Patched` as the command line makes it, with everything measured."""
    run = tmp_path_factory.mktemp("runs") / "patched"
    measured = ("stages=[fit,test,explain]", *SHORT, "explanation=integrated_gradients", "explanation.num_images=1")
    done = cli("train", *data_words(code, "Patched", *measured, "trainer.max_epochs=4", f"output={run}"))
    assert done.returncode == 0, done.stderr
    return run


def test_it_is_trained_on_measured_and_explained_as_ours_is(own_run: Path) -> None:
    metrics, record = read(own_run / "metrics.json"), read(own_run / "run.json")
    assert metrics["test/accuracy"] > 0.8
    assert record["data"]["num_images"] == {"train": 51, "val": 18, "test": 18}
    assert len(record["data"]["sha256"]) == 64
    assert record["resume"] == {"exact": True, "why": []}
    assert read(own_run / "model" / "task_spec.json")["class_names"] == ["red", "green", "blue"]
    assert list((own_run / "explanations").glob("*.png"))


def test_evaluation_opens_it_again(own_run: Path, cli: Cli, colors: Path, tmp_path: Path) -> None:
    done = cli("evaluate", f"run={own_run}", *SHORT, f"output={tmp_path / 'own'}")
    assert done.returncode == 0, done.stderr
    assert read(tmp_path / "own" / "metrics.json")["test/loss"] == read(own_run / "metrics.json")["test/loss"]
    done = cli("evaluate", f"run={own_run}", *SHORT, f"data.root={colors}", f"output={tmp_path / 'folder'}")
    assert done.returncode == 0, done.stderr
    assert cli("predict", f"run={own_run}", f"images={colors / 'test'}", f"output={tmp_path / 'p'}").returncode == 0
    done = cli(
        "explain", f"run={own_run}", "explanation=occlusion", "explanation.num_images=1", f"output={tmp_path / 'e'}"
    )
    assert done.returncode == 0, done.stderr


def test_code_and_data_are_held_to_what_they_were(own_run: Path, code: Path, cli: Cli, tmp_path: Path) -> None:
    changed = write_modules(tmp_path / "changed")
    file = changed / "own_data_of_tests.py"
    file.write_text(file.read_text().replace("0, 120", "0, 110"))
    done = cli("evaluate", f"run={own_run}", *SHORT, f"extensions={changed}")
    assert done.returncode == 2
    assert "changed" in done.stderr
    done = cli("evaluate", f"run={own_run}", *SHORT, f"extensions={changed}", "trust_code=true")
    assert done.returncode == 2
    assert "its data are not those of the run" in done.stderr


def test_floats_are_taken_as_they_are(code: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    metrics = fit(code, "Floats", tmp_path / "run", "stages=[fit,test,explain]", *SHORT, "trainer.max_epochs=4")
    assert metrics["test/accuracy"] > 0.8
    assert "data.mean=0.5 and data.std=0.5; give those that the batches have" in caplog.text
    assert "nothing is explained, because datamodule._target_=own_data_of_tests.Floats gives floats" in caplog.text


def test_a_stream_trains_and_says_that_going_on_is_approximate(code: Path, tmp_path: Path) -> None:
    metrics = fit(code, "Streamed", tmp_path / "run", "stages=[fit,test]", *SHORT, "trainer.limit_train_batches=4")
    assert math.isfinite(metrics["val/loss"])
    record = read(tmp_path / "run" / "run.json")
    why = "the training loader of own_data_of_tests.Streamed reads an iterable data set"
    assert record["resume"] == {"exact": False, "why": [why]}
    assert record["data"]["num_images"]["train"] is None
    assert record["data"]["sha256"] is None


def test_both_of_own_code(code: Path, tmp_path: Path) -> None:
    module = ("module._target_=own_modules_of_tests.Small", "checkpoint.monitor=val/loss")
    words = [word for word in data_words(code, "Weighted", *module) if not word.startswith("model.") or "lr" in word]
    metrics = train(compose_config("train", *words, f"output={tmp_path / 'run'}")).metrics
    assert {"val/accuracy", "val/margin"} <= metrics.keys()
    assert "WeightedRandomSampler" in read(tmp_path / "run" / "run.json")["resume"]["why"][0]


def test_workers_change_nothing(code: Path, tmp_path: Path) -> None:
    words = ("trainer.deterministic=true",)
    one, two = (fit(code, "Patched", tmp_path / count, f"data.num_workers={count}", *words) for count in "02")
    assert one["val/loss"] == two["val/loss"]


WRONG = [
    ("Missing", "own_data_of_tests has no Missing"),
    ("Patches", "Patches is no LightningDataModule of pytorch_lightning"),
    ("Trainless", "Trainless has no train_dataloader; add one"),
    ("Patched datamodule.depth=3", "does not take depth"),
    ("Patched datamodule.size=24", r"the images of .* are \(2, 24, 24, 3\), read as .*; set data.image_size=24"),
    ("Nameless", "does not say its classes; give it `class_names`, a list, or `num_classes`"),
    ("Dictionaries", r"its batches are dict, and must be \(images, labels\)"),
    ("Several", "val_dataloader gives list, and must give one loader"),
    ("Broken", r"cannot be set up \(.*own_data_of_tests.py line \d+: OSError: the disk is not there\)"),
    ("Patched data.batch_size=auto", "data.batch_size: not with a data module of your own"),
    ("Patched trainer.overfit_batches=1", "trainer.overfit_batches: not with a data module of your own"),
    ("Patched trainer.devices=2", "trainer.devices=2: .* divides no batch among devices"),
    ("Streamed", "model.scheduler: it must know the number of steps, and the training loader has no length"),
    ("Streamed trainer.max_epochs=auto", "nobody knows how many training images there are"),
]


@pytest.mark.parametrize(("typed", "message"), WRONG, ids=[typed for typed, _ in WRONG])
def test_what_cannot_be_trained_on_is_refused_before_anything_is_written(
    typed: str, message: str, code: Path, tmp_path: Path
) -> None:
    name, *more = typed.split()
    with pytest.raises(BadInput, match=message):
        fit(code, name, tmp_path / "run", *more)
    assert not (tmp_path / "run").exists()


def test_labels_that_no_class_has_are_refused(code: Path, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="from 0 to 1: it has 2 classes"):
        fit(code, "TooFew", tmp_path / "run")
