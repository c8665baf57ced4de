"""Exporting a finished run: what is written, what it is held to, and what is refused."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tests.conftest import BARE, Cli

from sightline.models.exported import ExportedModel


@pytest.fixture(scope="module")
def exported_run(cli: Cli, trained: Path) -> Path:
    done = cli("export", f"run={trained}")
    assert done.returncode == 0, done.stderr
    return trained


def test_the_file_answers_as_the_run_does(exported_run: Path, colors: Path) -> None:
    from sightline.finished_run import FinishedRun

    run = FinishedRun.open(exported_run, "cpu", "32-true")
    model = ExportedModel.open(exported_run / "model" / "model.onnx")
    assert model.spec == run.task_spec
    files = sorted((colors / "test").rglob("*.png"))
    pixels = np.stack([np.asarray(Image.open(file)) for file in files])
    probabilities, features = model.run(pixels)
    np.testing.assert_allclose(probabilities, run.predict(files).probabilities, atol=1e-5)
    assert features.shape == (18, run.saved.network.num_features)


def test_what_is_kept_of_an_export(exported_run: Path) -> None:
    facts = json.loads((exported_run / "model" / "export.json").read_text())
    assert facts["images"] == 9
    assert facts["fp32"]["max_probability_difference"] <= 1e-4
    assert facts["fp32"]["agreement"] == 1
    assert facts["fp32"]["accuracy_low"] <= facts["fp32"]["accuracy"] <= facts["fp32"]["accuracy_high"]


def test_a_training_exports_at_its_end(cli: Cli, colors: Path, tmp_path: Path) -> None:
    words = ["data=folder", f"data.root={colors}", f"output={tmp_path / 'run'}", *BARE, "stages=[fit,export]"]
    done = cli("train", *words)
    assert done.returncode == 0, done.stderr
    record, facts = (json.loads((tmp_path / "run" / name).read_text()) for name in ("run.json", "model/export.json"))
    assert record["status"] == "finished"
    assert "fp32" in record["exported"]["precisions"]
    assert facts["sha256"] == json.loads((tmp_path / "run" / "model" / "model.json").read_text())["sha256"]
