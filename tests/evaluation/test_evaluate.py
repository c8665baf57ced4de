"""The command: its report, its gates, its thresholds and its comparison."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from tests.conftest import Cli, compose_config
from tests.saved_models import save_tiny_model

from sightline.errors import BadInput
from sightline.evaluation.evaluate import evaluate


def test_gates_comparison_and_report_in_one_command(trained: Path, cli: Cli, tmp_path: Path) -> None:
    gates = "evaluation.gates={test/accuracy: 1.01, test/corruption/mean_accuracy: 0.01}"
    severities = "evaluation.evaluators.corruptions.severities=[3]"
    done = cli("evaluate", f"run={trained}", f"against={trained}", gates, severities, f"output={tmp_path / 'out'}")
    assert done.returncode == 4, done.stderr
    assert done.stderr.splitlines()[-1].startswith("error: evaluation.gates: test/accuracy is ")
    assert "mean_accuracy" not in done.stderr.splitlines()[-1]
    assert f"{trained} and {trained} are right and wrong on the same images." in done.stdout + done.stderr
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert metrics["test/against/accuracy_difference"] == 0
    assert metrics["test/corruption/gaussian_noise/3/accuracy"] <= 1
    page = (tmp_path / "out" / "evaluation" / "report.html").read_text()
    assert page.count('<p class="gate') == 2
    assert page.count('<p class="gate met') == 1
    for title in ("Scores", "Classes", "Calibration", "Selective prediction", "Failures", "Robustness", "Comparison"):
        assert f">{title}</h2>" in page
    assert "top-5 accuracy" not in page, "of three classes it says nothing"
    record = json.loads((tmp_path / "out" / "run.json").read_text())
    assert record["status"] == "failed"
    assert "test/accuracy is" in record["reason"]


def test_another_goal_is_stored_with_the_model(trained: Path, cli: Cli, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(trained, run)
    before = json.loads((run / "model" / "task_spec.json").read_text())["calibration"]
    words = ["evaluation=short", "evaluation.target_accuracy=0.5", f"output={tmp_path / 'out'}"]
    done = cli("evaluate", f"run={run}", *words)
    assert done.returncode == 0, done.stderr
    after = json.loads((run / "model" / "task_spec.json").read_text())["calibration"]
    assert before["target_accuracy"] == 0.95
    assert after == {**before, "target_accuracy": 0.5, "threshold": 0.0}
    assert json.loads((tmp_path / "out" / "metrics.json").read_text())["test/coverage"] == 1


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["evaluation.gates={train/loss: 1}"], "train/loss is not a metric of test"),
        (["evaluation.gates={test/accuracy: high}"], "must be numbers by metric"),
        (["evaluation.target_accuracy=95"], "must be between 0 and 1, like 0.95"),
        (["evaluation.evaluators.corruptions.names=[rain]"], "no such corruption"),
        (["evaluation.evaluators.mine._target_=os.system"], "(os.system): missing a required argument"),
        (["against=nowhere"], "against=nowhere: no such run folder"),
    ],
)
def test_bad_input_leaves_no_folder(words: list[str], said: str, trained: Path, cli: Cli, tmp_path: Path) -> None:
    words = [f"+{word}" if "mine" in word else word for word in words]
    done = cli("evaluate", f"run={trained}", f"output={tmp_path / 'out'}", *words)
    assert done.returncode == 2, done.stderr
    assert said in done.stderr
    assert not (tmp_path / "out").exists()


def test_images_of_any_depth_are_measured_and_others_refused(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    root = tmp_path / "data"
    for number in range(8):
        folder = root / "test" / "ab"[number % 2]
        folder.mkdir(parents=True, exist_ok=True)
        values = np.random.default_rng(number).integers(0, 4096, (32, 32, 5), np.uint16)
        np.save(folder / f"{number}.npy", values)
    model = save_tiny_model(tmp_path / "bands", 5, (0, 4095), display_bands=(3, 1, 0))
    words = ["accelerator=cpu", f"data.root={root}", "data.num_workers=0", f"paths.runs={tmp_path / 'runs'}"]
    severities = "evaluation.evaluators.corruptions.severities=[3]"
    result = evaluate(compose_config("evaluate", f"run={model}", *words, severities, f"output={tmp_path / 'out'}"))
    assert "test/corruption/gaussian_noise/3/accuracy" in result.metrics
    assert "test/corruption/jpeg_compression/3/accuracy" not in result.metrics
    page = (tmp_path / "out" / "evaluation" / "report.html").read_text()
    assert "Of the 5 bands, from 0, the pictures show bands 3, 1, 0 as red, green and blue" in page
    colours = save_tiny_model(tmp_path / "colours", 3)
    with pytest.raises(BadInput, match="8 of 8 images have 5 channels, and the model was trained on 3"):
        evaluate(compose_config("evaluate", f"run={colours}", *words))
    with pytest.raises(BadInput, match=r"it takes images of 3 channel\(s\), and run=.* of 5"):
        evaluate(compose_config("evaluate", f"run={model}", f"against={colours}", *words))
    assert not (tmp_path / "runs").exists()
