"""Saved models: what is written opens again without pickle, and what is broken says so."""

import json
import pickle
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from sightline.errors import BadInput
from sightline.models.backbones import create_backbone, state_dict_sha256
from sightline.models.checkpoint import load_model, save_model
from sightline.runs.folder import run_folder
from sightline.task_spec import TaskSpec

SPEC = TaskSpec(("a", "b", "ü"), 32, (0.5,) * 3, (0.25,) * 3, "bilinear", "pad")


@pytest.fixture
def model(tmp_path: Path) -> Path:
    network, architecture = create_backbone("test_resnet", 3)
    save_model(tmp_path / "run" / "model", network, SPEC, architecture)
    return tmp_path / "run" / "model"


def test_a_model_folder_gives_the_same_network_and_task(model: Path) -> None:
    saved = load_model(model)
    assert saved.spec == SPEC
    assert not saved.network.training
    described = json.loads((model / "model.json").read_text())
    assert described["sha256"] == state_dict_sha256(saved.network.state_dict())
    assert described["weights"] == "random"
    assert load_model(model.parent).path == model


def test_a_checkpoint_and_the_model_folder_hold_the_same_network(trained: Path) -> None:
    best, exported = load_model(trained / "checkpoints" / "best.ckpt"), load_model(trained)
    assert state_dict_sha256(best.network.state_dict()) == state_dict_sha256(exported.network.state_dict())
    assert replace(exported.spec, calibration=None) == best.spec, "calibration is measured when training has ended"
    assert run_folder(trained / "checkpoints" / "best.ckpt") == run_folder(trained / "model") == trained


def test_a_checkpoint_of_the_old_layout_opens(trained: Path, tmp_path: Path) -> None:
    """It called the architecture a model card."""
    content = torch.load(trained / "checkpoints" / "best.ckpt", weights_only=True)
    content["model_card"] = content.pop("architecture")
    torch.save(content, tmp_path / "old.ckpt")
    assert load_model(tmp_path / "old.ckpt").architecture == load_model(trained).architecture


class Evil:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return print, ("code ran",)


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")  # torch: before it refuses the pickle
def test_a_pickle_is_never_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.save({"state_dict": {}, "architecture": Evil(), "task_spec": {}}, tmp_path / "evil.ckpt")
    (tmp_path / "plain.ckpt").write_bytes(pickle.dumps(Evil()))
    for name in ("evil.ckpt", "plain.ckpt"):
        with pytest.raises(BadInput, match="not a checkpoint of this project"):
            load_model(tmp_path / name)
    assert "code ran" not in capsys.readouterr().out


def write_marker(path: str) -> torch.nn.Module:
    """What a description should never get to call."""
    Path(path).touch()
    return torch.nn.Identity()


@pytest.mark.parametrize("kind", ["node", "text"])
def test_an_argument_of_a_saved_model_runs_nothing(kind: str, model: Path, tmp_path: Path) -> None:
    """Neither as a node below a network that any may name, nor as a text that would become one."""
    marker, target = tmp_path / "ran", f"{__name__}.write_marker"
    node = {"_target_": target, "path": str(marker)}
    given = node if kind == "node" else f"${{oc.create:{{_target_: {target}, path: '{marker}'}}}}"
    described = json.loads((model / "model.json").read_text())
    described |= {"target": "torch.nn.Sequential", "channels": 3, "code": {}, "arguments": {"_args_": [given]}}
    (model / "model.json").write_text(json.dumps(described))
    with pytest.raises(BadInput):
        load_model(model)
    assert not marker.exists()


@pytest.mark.parametrize("name", ["model.safetensors", "model.json", "task_spec.json"])
def test_a_torn_file_is_refused(name: str, model: Path) -> None:
    content = (model / name).read_bytes()
    (model / name).write_bytes(content[: len(content) // 2])
    with pytest.raises(BadInput, match="this model folder does not open"):
        load_model(model)


def test_weights_that_do_not_fit_are_refused(model: Path) -> None:
    described = json.loads((model / "model.json").read_text())
    (model / "model.json").write_text(json.dumps({**described, "name": "resnet10t"}))
    with pytest.raises(BadInput, match="the weights do not fit ResNet"):
        load_model(model)


def test_a_folder_without_a_model_says_why(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="give a run folder of train.py"):
        load_model(tmp_path)
    (tmp_path / "run.json").write_text(json.dumps({"task": "train", "status": "failed", "reason": "disk full"}))
    with pytest.raises(BadInput, match=r"the run is failed \(disk full\)"):
        load_model(tmp_path)
    (tmp_path / "run.json").write_text(json.dumps({"task": "evaluate", "status": "finished"}))
    with pytest.raises(BadInput, match="it is a run of evaluate"):
        load_model(tmp_path)


def test_a_network_that_uses_a_tensor_twice_is_saved(tmp_path: Path) -> None:
    network, architecture = create_backbone("coat_tiny", 2)
    spec = TaskSpec(("a", "b"), 224, (0.5,) * 3, (0.25,) * 3)
    save_model(tmp_path, network, spec, architecture)
    assert state_dict_sha256(load_model(tmp_path).network.state_dict()) == state_dict_sha256(network.state_dict())
