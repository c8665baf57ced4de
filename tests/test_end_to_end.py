"""What a person gets: train, evaluate to the same numbers, predict, and use the model file with timm alone."""

import csv
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from sightline.data.transforms import normalise
from sightline.finished_run import FinishedRun
from sightline.task_spec import TaskSpec
from tests.conftest import BARE, COLORS, PROJECT, TINY, Cli, write_image


def metrics_of(folder: Path) -> dict[str, float]:
    return json.loads((folder / "metrics.json").read_text())


def test_the_run_folder_holds_what_the_contract_names(trained: Path, runs: Path) -> None:
    for name in (
        "run.json metrics.json config.yaml metrics.csv manifest.csv confusion_matrix.csv confusion_matrix.png "
        "per_class.csv per_class.png learning_curves.png checkpoints/best.ckpt checkpoints/last.ckpt "
        "model/model.safetensors model/task_spec.json model/model.json"
    ).split():
        assert (trained / name).is_file(), name
    assert list((trained / "tensorboard").glob("events.*"))
    assert trained.parent == runs / "train" / "colors"


def test_the_record_says_what_ran_and_how_it_ended(trained: Path, colors: Path) -> None:
    facts = json.loads((trained / "run.json").read_text())
    assert facts["task"] == "train"
    assert facts["status"] == "finished"
    assert facts["reason"] is None
    assert f"data.root={colors}" in facts["overrides"]
    assert [*facts["argv"][1:], "experiment=photos"] == facts["overrides"]
    assert facts["data"]["num_images"] == {"train": 51, "val": 9, "test": 18}
    assert len(facts["data"]["sha256"]) == 64
    assert facts["config"]["data"]["root"] == str(colors)
    assert facts["versions"]["torch"] == torch.__version__.split("+")[0]
    assert facts["seconds"] > 0
    assert facts["finished"] >= facts["started"]
    assert len(facts["commit"]) == 40


def test_metrics_have_the_contracts_names(trained: Path) -> None:
    metrics = metrics_of(trained)
    for name in (
        "train/loss val/loss val/accuracy test/loss test/accuracy test/accuracy_low test/accuracy_high "
        "test/top5_accuracy test/macro_precision test/macro_recall test/macro_f1 train/images_per_second train/seconds "
        "num_parameters"
    ).split():
        assert isinstance(metrics[name], float), name
    assert metrics["test/accuracy"] > 0.9
    assert metrics["test/accuracy_low"] < metrics["test/accuracy"] <= metrics["test/accuracy_high"]


def test_every_epoch_is_a_row(trained: Path) -> None:
    with (trained / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["epoch"] for row in rows] == ["0", "1", "2", "3"]
    assert [row["step"] for row in rows] == ["6", "12", "18", "24"]
    for column in ("lr", "train/loss", "train/accuracy", "val/loss", "val/accuracy", "val/macro_f1"):
        assert all(float(row[column]) >= 0 for row in rows), column


def test_the_best_epoch_is_the_one_that_was_kept(trained: Path) -> None:
    with (trained / "metrics.csv").open() as file:
        accuracies = [float(row["val/accuracy"]) for row in csv.DictReader(file)]
    assert metrics_of(trained)["val/accuracy"] == pytest.approx(max(accuracies))
    best = torch.load(trained / "checkpoints" / "best.ckpt", weights_only=True)
    assert best["epoch"] == accuracies.index(max(accuracies))


def test_checkpoints_open_without_pickle(trained: Path) -> None:
    """Those that a finished run needs: one to use, and one to train on from."""
    assert sorted(path.name for path in (trained / "checkpoints").iterdir()) == ["best.ckpt", "last.ckpt"]
    for name in ("best", "last"):
        checkpoint = torch.load(trained / "checkpoints" / f"{name}.ckpt", weights_only=True)
        assert checkpoint["task_spec"]["class_names"] == ["blue", "green", "red"]
        assert checkpoint["architecture"]["name"] == "test_resnet"


def test_tensorboard_shows_scalars_images_and_hparams(trained: Path) -> None:
    events = EventAccumulator(str(trained / "tensorboard"))
    events.Reload()
    tags = events.Tags()
    assert {"train/loss", "train/step_loss", "val/accuracy", "lr-AdamW"} <= set(tags["scalars"])
    assert {"train/images", "confusion_matrix"} <= set(tags["images"])
    accuracies = events.Scalars("val/accuracy")
    assert [event.step for event in accuracies] == sorted(event.step for event in accuracies)
    assert accuracies[-1].value == pytest.approx(metrics_of(trained)["val/accuracy"])
    plugin = events.summary_metadata["_hparams_/session_start_info"].plugin_data
    assert plugin.plugin_name == "hparams"


def test_evaluate_gives_the_runs_own_numbers_exactly(trained: Path, cold_cli: Cli, tmp_path: Path) -> None:
    done = cold_cli("evaluate", f"run={trained}", f"output={tmp_path / 'again'}")
    assert done.returncode == 0, done.stderr
    expected = {name: value for name, value in metrics_of(trained).items() if name.startswith("test/")}
    again = metrics_of(tmp_path / "again")
    assert {name: again[name] for name in expected} == expected
    assert (tmp_path / "again" / "confusion_matrix.csv").read_text() == (trained / "confusion_matrix.csv").read_text()


@pytest.mark.parametrize("part", ["model", "checkpoints/best.ckpt"])
def test_evaluate_measures_any_folder(part: str, trained: Path, colors: Path, cli: Cli, tmp_path: Path) -> None:
    done = cli("evaluate", f"run={trained / part}", f"data.root={colors}", f"output={tmp_path / 'other'}")
    assert done.returncode == 0, done.stderr
    expected = metrics_of(trained)["test/accuracy"]
    assert metrics_of(tmp_path / "other")["test/accuracy"] == expected
    assert re.search(rf"^test/accuracy +{expected:.4f}", done.stdout, re.MULTILINE)


def test_evaluate_notices_changed_test_images(trained: Path, colors: Path, cli: Cli) -> None:
    file = colors / "test" / "red" / "00.png"
    kept = file.read_bytes()
    try:
        Image.new("RGB", (32, 32)).save(file)
        done = cli("evaluate", f"run={trained}")
    finally:
        file.write_bytes(kept)
    assert done.returncode == 2
    assert "1 test image(s) are gone or differ from those of the run, the first is test/red/00.png" in done.stderr


def test_digits_that_are_gone_are_made_again_where_a_run_is_measured(cli: Cli, tmp_path: Path) -> None:
    words = ["experiment=digits", "model.name=test_resnet", "trainer.max_epochs=1", "trainer.limit_train_batches=1"]
    done = cli("train", *words, "stages=[fit]", f"paths.data={tmp_path / 'data'}", f"output={tmp_path / 'run'}")
    assert done.returncode == 0, done.stderr
    shutil.rmtree(tmp_path / "data" / "digits")
    places = [f"paths.cache={tmp_path / 'cache'}", f"output={tmp_path / 'new'}"]
    again = cli("evaluate", f"run={tmp_path / 'run'}", *places)
    assert again.returncode == 0, again.stderr
    assert metrics_of(tmp_path / "new")["test/accuracy"] > 0


def test_latest_is_the_newest_training_whatever_ran_since(
    trained: Path, runs: Path, colors: Path, cli: Cli, tmp_path: Path
) -> None:
    """An evaluation of another model moves the link `runs/latest`, and not what `run=latest` means."""
    other = shutil.copytree(trained / "model", tmp_path / "other")
    done = cli("evaluate", f"run={other}", f"data.root={colors}", f"paths.runs={runs}")
    assert done.returncode == 0, done.stderr
    folder = Path(done.stdout.strip().splitlines()[-1].removeprefix("results: "))
    assert json.loads((folder / "run.json").read_text())["task"] == "evaluate"
    assert (runs / "latest").resolve() == folder
    done = cli("evaluate", "run=latest", f"paths.runs={runs}", "split=val", f"output={tmp_path / 'again'}")
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "again" / "run.json").read_text())["run"] == str(trained)
    assert metrics_of(tmp_path / "again")["val/accuracy"] == metrics_of(trained)["val/accuracy"]


def test_predict_writes_classes_and_pictures(trained: Path, cold_cli: Cli, tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    for name in ("blue", "red"):
        write_image(photos / name / "photo.jpg", COLORS[name], seed=9, size=(90, 50))
    (photos / "broken.png").write_bytes(b"not an image")
    done = cold_cli("predict", f"run={trained}", f"images={photos}", "pictures=true", f"output={tmp_path / 'out'}")
    assert done.returncode == 0, done.stderr
    assert "broken.png" in done.stderr
    assert "" not in done.stdout.splitlines(), "bars that are not drawn leave empty lines"
    assert "UserWarning" not in done.stderr
    with (tmp_path / "out" / "predictions.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["file"] for row in rows] == ["blue/photo.jpg", "red/photo.jpg"]
    assert [row["class"] for row in rows] == ["blue", "red"]
    assert list(rows[0]) == ["file", "class", "probability"] + [
        f"{column}_{rank}" for rank in range(2, 6) for column in ("class", "probability")
    ]
    total = sum(float(rows[0][key]) for key in ("probability", "probability_2", "probability_3"))
    assert total == pytest.approx(1, abs=1e-4)
    with Image.open(tmp_path / "out" / "pictures" / "red" / "photo.jpg.png") as picture:
        assert picture.width >= 200
        assert picture.height > picture.width * 50 / 90
    record = json.loads((tmp_path / "out" / "run.json").read_text())
    assert record["unreadable"] == [str(photos / "broken.png")]


def test_the_model_file_alone_gives_the_same_probabilities(trained: Path, colors: Path) -> None:
    files = sorted((colors / "test").rglob("*.png"))
    expected = torch.from_numpy(FinishedRun.open(trained, precision="32-true").predict(files).probabilities)

    card = json.loads((trained / "model" / "model.json").read_text())
    spec = TaskSpec.load(trained / "model" / "task_spec.json")
    network = timm.create_model(card["name"], num_classes=card["num_classes"], **card["arguments"])
    network.load_state_dict(load_file(trained / "model" / "model.safetensors"))
    pixels = torch.from_numpy(np.stack([np.asarray(Image.open(file).convert("RGB")) for file in files]))
    with torch.inference_mode():
        logits = network.eval()(normalise(pixels, spec).contiguous(memory_format=torch.channels_last))
    assert spec.calibration is not None
    probabilities = (logits / spec.calibration.temperature).softmax(1)
    torch.testing.assert_close(probabilities, expected, rtol=1e-4, atol=1e-5)


def test_the_same_seed_gives_the_same_model(colors: Path, cli: Cli, cold_cli: Cli, tmp_path: Path) -> None:
    """The second has an interpreter of its own: other hashes, and random numbers that nobody has drawn from."""
    hashes = {}
    for name, seed, workers in (("a", 3, 0), ("b", 3, 2), ("c", 4, 0)):
        words = [word for word in BARE if "num_workers" not in word]
        more = [f"seed={seed}", f"data.num_workers={workers}", "trainer.deterministic=true", "logger=none"]
        start = cold_cli if name == "b" else cli
        done = start("train", "data=folder", f"data.root={colors}", f"output={tmp_path / name}", *words, *more)
        assert done.returncode == 0, done.stderr
        hashes[name] = json.loads((tmp_path / name / "model" / "model.json").read_text())["sha256"]
    assert hashes["a"] == hashes["b"]
    assert hashes["a"] != hashes["c"]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_leaves_an_interrupted_run(number: int, code: int, colors: Path, tmp_path: Path) -> None:
    words = ["data=folder", f"data.root={colors}", *TINY[:3], "data.num_workers=2", "trainer.max_epochs=100000"]
    process = subprocess.Popen(
        [sys.executable, str(PROJECT / "src" / "train.py"), *words, f"output={tmp_path / 'run'}", "logger=none"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline().startswith("epoch 1/100000"), "training began"
    os.killpg(process.pid, number)  # as a terminal or a scheduler does: the workers get it too
    start = time.monotonic()
    _, errors = process.communicate(timeout=60)
    assert process.returncode == code, errors
    assert time.monotonic() - start < 20
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    assert record["status"] == "interrupted"
    assert record["reason"] == f"stopped by {signal.Signals(number).name}"
    assert errors.splitlines()[-1] == f"stopped by {signal.Signals(number).name}"


@pytest.mark.slow
def test_several_runs_in_one_command(colors: Path, cli: Cli, tmp_path: Path) -> None:
    words = ["data=folder", f"data.root={colors}", *BARE, "debug=one_batch", f"paths.runs={tmp_path}"]
    done = cli("train", "-m", "seed=1,2", *words)
    assert done.returncode == 0, done.stderr
    seeds = [json.loads(file.read_text())["seed"] for file in sorted((tmp_path / "train").rglob("run.json"))]
    assert sorted(seeds) == [1, 2]


@pytest.mark.slow
def test_the_default_command_reads_the_digits(cli: Cli, tmp_path: Path) -> None:
    """What `make train` promises."""
    done = cli("train", f"paths.runs={tmp_path / 'runs'}", f"paths.data={tmp_path / 'data'}")
    assert done.returncode == 0, done.stderr
    metrics = metrics_of(Path(done.stdout.strip().splitlines()[-1].removeprefix("results: ")))
    assert metrics["test/accuracy"] >= 0.98
