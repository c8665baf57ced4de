"""A network of one's own trains with everything that timm's have, or is answered with what it lacks."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tests.conftest import BARE, Cli, compose_config, compose_train

from sightline.config import with_own_code
from sightline.data.opening import open_data
from sightline.errors import BadInput
from sightline.evaluation.evaluate import evaluate
from sightline.models.backbones import head_modules
from sightline.models.checkpoint import load_model
from sightline.models.own_network import create_own_network
from sightline.models.parameter_groups import parameter_groups, stages
from sightline.training.build import build_classifier
from sightline.training.train import train

CODE = """
import torch
from torch import nn


def block(channels, width, stride):
    return nn.Sequential(nn.Conv2d(channels, width, 3, stride, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU())


class Small(nn.Module):
    def __init__(self, num_classes, width=8, in_chans=3):
        super().__init__()
        self.stem = block(in_chans, width, 2)
        self.middle = block(width, 2 * width, 1)
        self.head = nn.Linear(2 * width, num_classes)

    def forward(self, images):
        return self.head(self.middle(self.stem(images)).mean((2, 3)))


class Fixed(Small):
    def __init__(self):
        super().__init__(7)


class Pair(Small):
    def forward(self, images):
        return super().forward(images), None


class Broken(Small):
    def forward(self, images):
        return images.nowhere


class NoHead(nn.Module):
    def __init__(self, num_classes):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(3, num_classes))

    def forward(self, images):
        return images.mean((2, 3)) @ self.weight


def none(num_classes):
    return None
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("code")
    (folder / "own_nets.py").write_text(CODE)
    yield folder
    sys.path[:] = [each for each in sys.path if each != str(folder)]
    sys.modules.pop("own_nets", None)


def words_of(colors: Path, folder: Path, name: str = "Small", *more: str) -> list[str]:
    rest = [word for word in BARE if not word.startswith(("model.name", "data.image_size"))]
    own = [f"model._target_=own_nets.{name}", f"extensions={folder}", "data.image_size=16", "logger=none"]
    return ["data=folder", f"data.root={colors}", *rest, *own, *more]


@pytest.fixture(scope="module")
def run(colors: Path, folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Trained with every option of the recipe that asks something of a network."""
    output = tmp_path_factory.mktemp("own") / "run"
    more = ["trainer.max_epochs=2", "model.ema_decay=0.9", "model.layer_lr_decay=0.5", "model.norm_weight_decay=false"]
    more += [
        "checkpoint.average_best=2",
        "stages=[fit,test,explain]",
        "explanation=grad_cam",
        "explanation.num_images=2",
    ]
    more += [f"output={output}", "+model.arguments.width=4", "model.lr=0.01"]
    train(compose_config("train", *words_of(colors, folder, "Small", *more)))
    return output


def test_it_is_trained_measured_and_explained(run: Path) -> None:
    described = json.loads((run / "model" / "model.json").read_text())
    assert (described["target"], described["arguments"]) == ("own_nets.Small", {"width": 4})
    explained = json.loads((run / "explanations" / "explanations.json").read_text())
    assert [each["method"] for each in explained["images"]] == ["grad_cam", "grad_cam"]
    measured = evaluate(
        compose_config("evaluate", f"run={run}", f"output={run.with_name('again')}", "evaluation=short")
    )
    trained = json.loads((run / "metrics.json").read_text())
    assert {name: trained[name] for name in ("test/loss", "test/accuracy")} == {
        name: measured.metrics[name] for name in ("test/loss", "test/accuracy")
    }


def test_only_its_head_learns_where_the_backbone_is_frozen(run: Path, colors: Path, folder: Path) -> None:
    """From a file of its weights, and with the answers of a network of own code."""
    weights, output = run / "model" / "model.safetensors", run.with_name("frozen")
    more = [f"model.weights={weights}", "model.freeze=gradual", f"model.teacher={run}", "+model.arguments.width=4"]
    train(compose_config("train", *words_of(colors, folder, "Small", *more, f"output={output}")))
    before, after = load_file(weights), load_file(output / "model" / "model.safetensors")
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed == {"head.weight", "head.bias"}


def test_its_stages_and_its_head(folder: Path, colors: Path) -> None:
    with_own_code(compose_train(*words_of(colors, folder)))
    network = create_own_network("own_nets.Small", {}, num_classes=3, channels=3)
    assert head_modules(network) == ["head"]
    assert [sorted(names)[0] for names in stages(network)] == ["stem.0.weight", "middle.0.weight", "head.bias"]

    def optimizer(params: object, lr: float = 1.0, weight_decay: float = 0.1) -> None: ...

    groups = parameter_groups(network, optimizer, norm_weight_decay=False, layer_lr_decay=0.5)
    assert [(group["lr"], group["weight_decay"]) for group in groups] == [
        *[(0.25, 0.1), (0.25, 0.0)],
        *[(0.5, 0.1), (0.5, 0.0)],
        *[(1.0, 0.1), (1.0, 0.0)],
    ]


def test_a_network_of_torchvision_needs_no_code(colors: Path, tmp_path: Path) -> None:
    words = words_of(colors, tmp_path, "Small", "model._target_=torchvision.models.resnet18", "extensions=null")
    cfg = compose_train(*words, "data.image_size=32")
    cfg, code = with_own_code(cfg)
    classifier = build_classifier(cfg, open_data(cfg))
    assert (code.sha256, head_modules(classifier.backbone)) == ({}, ["fc"])
    assert classifier.backbone.fc.out_features == 3  # pyright: ignore[reportAttributeAccessIssue]


def test_a_saved_model_of_own_code_opens(run: Path) -> None:
    saved = load_model(run)
    assert saved.network(torch.zeros(2, 3, 16, 16)).shape == (2, 3)


@pytest.mark.parametrize(
    ("name", "more", "message"),
    [
        ("Fixed", "", "model._target_=own_nets.Fixed: returned (1, 7) for images (1, 3, 16, 16), and must return the"),
        (
            "Pair",
            "",
            "model._target_=own_nets.Pair: returned tuple for images (1, 3, 16, 16), and must return the logits",
        ),
        ("Broken", "", "own_nets.py line 33: AttributeError: 'Tensor' object has no attribute 'nowhere'"),
        ("none", "", "model._target_=own_nets.none: returned NoneType, and no torch.nn.Module"),
        ("Smal", "", "model._target_=own_nets.Smal: own_nets has no Smal (did you mean own_nets.Small?)"),
        (
            "Small",
            "+model.arguments.widht=3",
            "model (own_nets.Small): does not take widht (did you mean width?); it takes num_classes, width=8",
        ),
        ("Small", "model.pretrained=true", "has no effect here, it counts only with model._target_=null"),
        ("Small", "model.drop_rate=0.1", "has no effect here, it counts only with model._target_=null"),
        ("Small", "model.freeze=backbone", "the frozen backbone knows nothing; add model.weights=FILE, or set"),
    ],
)
def test_bad_input(name: str, more: str, message: str, folder: Path, colors: Path, cli: Cli, tmp_path: Path) -> None:
    done = cli("train", *words_of(colors, folder, name, *more.split(), f"paths.runs={tmp_path / 'runs'}"))
    assert done.returncode == 2, done.stderr
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "runs").exists()


def test_a_network_without_a_head_cannot_be_frozen(folder: Path, colors: Path, tmp_path: Path) -> None:
    from safetensors.torch import save_file

    save_file({"weight": torch.zeros(3, 3)}, tmp_path / "weights.safetensors")
    weights = f"model.weights={tmp_path / 'weights.safetensors'}"
    cfg = compose_train(*words_of(colors, folder, "NoHead", weights, "model.freeze=backbone"))
    cfg, _ = with_own_code(cfg)
    with pytest.raises(BadInput, match="NoHead has no linear layer or convolution; give it get_classifier"):
        build_classifier(cfg, open_data(cfg))
