"""A finished run as it is opened: which one it is, and whether its probabilities are calibrated."""

import logging
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from sightline import FinishedRun
from sightline.errors import BadInput
from sightline.runs.files import read_json
from tests.conftest import Cli
from tests.saved_models import save_tiny_model


@pytest.fixture(scope="module")
def run(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the finished run whose last weights are certainly not its best."""
    folder = shutil.copytree(trained, tmp_path_factory.mktemp("copied") / "run")
    last = torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)
    last["state_dict"]["backbone.fc.bias"] += 0.1
    torch.save(last, folder / "checkpoints" / "last.ckpt")
    return folder


def test_the_best_checkpoint_answers_as_its_run(run: Path, colors: Path) -> None:
    expected, answers = (
        FinishedRun.open(path, precision="32-true").predict(colors / "test")
        for path in (run, run / "checkpoints" / "best.ckpt")
    )
    np.testing.assert_array_equal(answers.probabilities, expected.probabilities)
    assert (answers.threshold, answers.is_calibrated) == (expected.threshold, True)
    assert FinishedRun.open(run).task_spec.temperature != 1


@pytest.mark.parametrize(
    ("kind", "why"),
    [
        ("other weights", r"the calibration is of best\.ckpt, not of last\.ckpt"),
        ("trained on", r"best\.ckpt is newer than model/, which is calibrated; finish the training: resume=.*run"),
        ("elsewhere", r"lies in no run folder, which would hold the calibration; name the run itself"),
        ("no model", r"has no calibration yet"),
        ("average", r"the calibration is of the average in model/, not of best\.ckpt"),
        ("model folder", r"has no calibration; evaluate\.py run=.* adds one"),
    ],
)
def test_a_model_without_calibration_says_so(
    kind: str, why: str, run: Path, colors: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = shutil.copytree(run, tmp_path / "run")
    path = folder / "checkpoints" / "best.ckpt"
    if kind == "other weights":
        path = path.with_name("last.ckpt")
    if kind == "elsewhere":
        path = path.rename(tmp_path / "best.ckpt")
    if kind == "no model":
        shutil.rmtree(folder / "model")
    if kind in ("average", "trained on"):
        described = folder / "model" / "model.json"
        described.write_text(re.sub(r'"sha256": "\w+"', '"sha256": "0"', described.read_text()))
    if kind == "average":
        record = folder / "run.json"
        record.write_text(record.read_text().replace("{", '{"averaged": {"used": true},', 1))
    if kind == "model folder":
        spec = folder / "model" / "task_spec.json"
        spec.write_text(re.sub(r'"calibration": \{[^}]*\}', '"calibration": null', spec.read_text()))
        path = spec.parent
    predictions = FinishedRun.open(path).predict(colors / "test" / "red")
    assert re.search(rf"uncalibrated: .*{why}", caplog.text)
    assert (predictions.is_calibrated, predictions.threshold) == (False, None)


def test_what_is_opened_is_said_in_a_line(run: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    FinishedRun.open(run)
    FinishedRun.open(run / "model")
    lines = [line for line in caplog.messages if line.startswith("run: ")]
    status = r"\(test_resnet, 3 classes, finished 20\d\d-\d\d-\d\d \d\d:\d\d\)"
    assert re.fullmatch(rf"run: {run} {status}", lines[0])
    assert re.fullmatch(rf"run: {run}/model {status}", lines[1])


@pytest.mark.parametrize("task", ["predict", "explain", "evaluate"])
def test_every_command_says_which_run_and_whether_it_is_calibrated(
    task: str, run: Path, colors: Path, cli: Cli, tmp_path: Path
) -> None:
    outside = shutil.copy(run / "checkpoints" / "best.ckpt", tmp_path)
    images = f"data.root={colors}" if task == "evaluate" else f"images={colors / 'test' / 'red' / '00.png'}"
    more = ["explanation.methods=[grad_cam]"] if task == "explain" else []
    done = cli(task, f"run={outside}", images, *more, f"output={tmp_path / 'out'}")
    assert done.returncode == 0, done.stderr
    assert f"run: {outside} (test_resnet, 3 classes, without its run folder)" in done.stderr
    assert "uncalibrated: " in done.stderr
    assert read_json(tmp_path / "out" / "run.json")["calibrated"] is False
    if task == "predict":
        assert done.stdout.splitlines()[-1].endswith("(1 image(s), uncalibrated)")
        done = cli(task, f"run={run}/checkpoints/best.ckpt", images, f"output={tmp_path / 'again'}")
        assert "uncalibrated" not in done.stdout + done.stderr
        assert read_json(tmp_path / "again" / "run.json")["calibrated"] is True


DEPTHS = [(1, None), (3, None), (5, None), (1, (0, 4095)), (5, (0, 4095)), (3, (0, 4095))]


@pytest.mark.parametrize(("channels", "value_range"), DEPTHS)
def test_arrays_and_files_of_any_depth_are_answered_alike(
    channels: int, value_range: tuple[int, int] | None, tmp_path: Path
) -> None:
    run = FinishedRun.open(save_tiny_model(tmp_path / "model", channels, value_range), device="cpu")
    kind = np.uint8 if value_range is None else np.uint16
    arrays = np.random.default_rng(0).integers(0, 256 if value_range is None else 4096, (3, 40, 36, channels), kind)
    stacked = run.predict(arrays).probabilities
    assert stacked.shape == (3, 2)
    assert len(np.unique(stacked[:, 0])) > 1
    one_by_one = run.predict(list(arrays)).probabilities
    for number, array in enumerate(arrays):
        np.save(tmp_path / f"{number}.npy", array)
    files = run.predict([tmp_path / f"{number}.npy" for number in range(3)]).probabilities
    np.testing.assert_array_equal(one_by_one, stacked)
    np.testing.assert_array_equal(files, stacked)
    if channels == 1:
        np.testing.assert_array_equal(run.predict(arrays[0, ..., 0]).probabilities, stacked[:1])
        for number, array in enumerate(arrays):
            Image.fromarray(array[..., 0]).save(tmp_path / f"{number}.tif")
        tiffs = run.predict([tmp_path / f"{number}.tif" for number in range(3)]).probabilities
        np.testing.assert_array_equal(tiffs, stacked)


def test_the_depth_of_the_training_counts(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Sixteen levels of 4096 are one of 256; full range is full range, whatever the bits."""
    run = FinishedRun.open(save_tiny_model(tmp_path / "model", 1, (0, 4095)), device="cpu")
    steps = np.full((2, 32, 32, 1), 1600, np.uint16)
    steps[1, :16] += 15
    first, second = run.predict(steps).probabilities
    assert (first != second).any()
    assert "have 8 bits" not in caplog.text
    shallow = np.random.default_rng(0).integers(0, 256, (1, 32, 32, 1), np.uint8)
    deep = run.predict(shallow / np.float32(255) * 4095).probabilities
    np.testing.assert_allclose(run.predict(shallow).probabilities, deep, atol=1e-5)
    assert "1 of 1 image(s) have 8 bits, and the model was trained on deeper ones (0 to 4095" in caplog.text


def test_colours_and_greys_stand_for_each_other(tmp_path: Path) -> None:
    colours = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), np.uint8)
    greys = np.stack([np.asarray(Image.fromarray(each).convert("L")) for each in colours])[..., None]
    grey = FinishedRun.open(save_tiny_model(tmp_path / "grey", 1), device="cpu")
    np.testing.assert_array_equal(grey.predict(colours).probabilities, grey.predict(greys).probabilities)
    coloured = FinishedRun.open(save_tiny_model(tmp_path / "coloured", 3), device="cpu")
    tripled = np.repeat(greys, 3, axis=3)
    np.testing.assert_array_equal(coloured.predict(greys).probabilities, coloured.predict(tripled).probabilities)


def test_channels_that_a_model_does_not_take_are_refused_with_both_numbers(tmp_path: Path) -> None:
    run = FinishedRun.open(save_tiny_model(tmp_path / "model", 5), device="cpu")
    np.save(tmp_path / "four.npy", np.zeros((32, 32, 4), np.uint8))
    Image.new("RGB", (32, 32)).save(tmp_path / "photo.png")
    told = r"this model takes numbers \(H, W, 5\), or \(N, H, W, 5\)$"
    for shape in [(32, 32), (32, 32, 3), (2, 32, 32, 4), (5,), (1, 2, 32, 32, 5), (0, 32, 5)]:
        with pytest.raises(BadInput, match=told):
            run.predict(np.zeros(shape, np.uint8))
    for shape in [(5, 32, 32), (2, 5, 32, 32)]:
        with pytest.raises(BadInput, match=r"move its channels to the end: np.moveaxis\(array, -3, -1\)$"):
            run.predict(np.zeros(shape, np.uint8))
    assert len(run.predict(np.moveaxis(np.zeros((2, 5, 32, 32), np.uint8), -3, -1))) == 2
    with pytest.raises(BadInput, match="four.npy: has 4 channels, and the data 5"):
        run.predict(tmp_path / "four.npy")
    with pytest.raises(BadInput, match="photo.png: has 3 channels, and the data 5"):
        run.predict(tmp_path / "photo.png")
