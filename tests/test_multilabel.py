"""Several classes an image: the format is fixed, a model of that kind opens, and no task takes it yet."""

import json
import shutil
from pathlib import Path

import pytest
import torch

from sightline.data.manifest import Manifest
from sightline.errors import BadInput
from sightline.finished_run import FinishedRun
from sightline.models.checkpoint import load_model
from sightline.training.train import train
from tests.conftest import BARE, Cli, compose_config

MESSAGE = r"several classes an image \(kind=multilabel\): not yet"


@pytest.fixture
def several(trained: Path, tmp_path: Path) -> Path:
    """A run whose model and checkpoints say that they tell several classes."""
    run = tmp_path / "run"
    shutil.copytree(trained, run)
    spec = run / "model" / "task_spec.json"
    spec.write_text(json.dumps({**json.loads(spec.read_text()), "kind": "multilabel"}))
    for checkpoint in (run / "checkpoints").glob("*.ckpt"):
        content = torch.load(checkpoint, weights_only=True)
        content["task_spec"]["kind"] = "multilabel"
        torch.save(content, checkpoint)
    return run


def test_a_model_of_several_classes_opens_and_no_task_takes_it(several: Path, cli: Cli, tmp_path: Path) -> None:
    assert load_model(several).spec.kind == "multilabel"
    with pytest.raises(BadInput, match=MESSAGE):
        FinishedRun.open(several)
    for task, *words in (("evaluate",), ("predict", f"images={tmp_path}"), ("explain",)):
        done = cli(task, f"run={several}", *words, f"output={tmp_path / task}")
        assert done.returncode == 2, done.stderr
        assert "several classes an image (kind=multilabel): not yet" in done.stderr
        assert not (tmp_path / task).exists()


def test_a_run_of_several_classes_does_not_go_on(several: Path) -> None:
    words = (*(word for word in BARE if "max_epochs" not in word), "trainer.max_epochs=9", "model.lr=0.01")
    root = json.loads((several / "run.json").read_text())["data"]["root"]
    with pytest.raises(BadInput, match=MESSAGE):
        train(compose_config("train", "data=folder", f"data.root={root}", *words, f"resume={several}"))


def test_a_manifest_of_lists_is_said_to_be_not_yet(colors: Path, trained: Path, tmp_path: Path) -> None:
    rows = (trained / "manifest.csv").read_text().replace(",blue,", ',"[""blue"", ""red""]",')
    (tmp_path / "manifest.csv").write_text(rows)
    with pytest.raises(BadInput, match=rf'label=\["blue", "red"\]: {MESSAGE}'):
        Manifest.load(tmp_path / "manifest.csv", colors)
    words = ("data=folder", f"data.root={colors}", *BARE, f"data.manifest={tmp_path / 'manifest.csv'}")
    with pytest.raises(BadInput, match=MESSAGE):
        train(compose_config("train", *words, f"paths.runs={tmp_path / 'runs'}"))
    assert not (tmp_path / "runs").exists()
