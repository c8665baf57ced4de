"""A finished run as it is opened: which one it is, and whether its probabilities are calibrated."""

import logging
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from sightline import FinishedRun
from sightline.runs.files import read_json
from tests.conftest import Cli


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
