"""A loss of one's own, by a class or a function: what it is given, and what is said of one that is none."""

from pathlib import Path

import pytest
import torch
from tests.conftest import BARE, Cli, compose_config, compose_train
from torch import nn

from sightline.command import read_overrides
from sightline.config import with_own_code
from sightline.data.opening import open_data
from sightline.errors import BadInput
from sightline.models.own_loss import build_own_loss, check_own_loss
from sightline.training.build import build_classifier
from sightline.training.train import train


class Smoothed(nn.Module):
    """Takes all that is offered."""

    def __init__(self, num_classes: int, class_weights: torch.Tensor | None, label_smoothing: float = 0.0) -> None:
        super().__init__()
        self.given = (num_classes, class_weights, label_smoothing)

    def forward(self, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        return nn.functional.cross_entropy(logits, targets)


def scaled(logits: torch.Tensor, labels: torch.Tensor, factor: float = 1.0) -> torch.Tensor:
    return factor * nn.functional.cross_entropy(logits, labels)


def of_labels(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    return nn.functional.nll_loss(logits.log_softmax(1), labels)


def of_each(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    return nn.functional.cross_entropy(logits, labels, reduction="none")


def constant(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    return torch.tensor(1.0)


def node(name: str, **arguments: object) -> dict[str, object]:
    return {"_target_": f"{__name__}.{name}", **arguments}


def test_it_is_given_what_it_takes(caplog: pytest.LogCaptureFixture) -> None:
    weights = torch.ones(3)
    made = build_own_loss(node("Smoothed"), 3, class_weights=weights, label_smoothing=0.1)
    assert isinstance(made, Smoothed)
    assert made.given == (3, weights, 0.1)
    assert not caplog.messages
    build_own_loss(node("scaled"), 3, class_weights=weights, label_smoothing=0.0)
    assert ["model.class_weights has no effect" in line for line in caplog.messages] == [True]


@pytest.mark.parametrize(
    ("name", "takes_shares", "message"),
    [
        ("of_each", False, "returned a tensor (4,), and must return one number"),
        ("constant", False, "returned a number that does not depend on the logits"),
        ("of_labels", True, "does not take logits (4, 3) and shares of the classes (4, 3)"),
    ],
)
def test_what_is_no_loss_is_named(name: str, takes_shares: bool, message: str) -> None:
    made = build_own_loss(node(name), 3, class_weights=None, label_smoothing=0.0)
    with pytest.raises(BadInput) as caught:
        check_own_loss(made, name, 3, takes_shares=takes_shares)
    assert message in str(caught.value)


def words_of(colors: Path, *more: str) -> list[str]:
    return ["data=folder", f"data.root={colors}", *BARE, "logger=none", "augmentation=none", *more]


def test_what_it_returns_is_what_training_minimises(colors: Path, tmp_path: Path) -> None:
    """With a factor on it SGD without momentum goes as far as with that factor on its rate."""
    plain = ["model/optimizer=sgd", "model.optimizer.momentum=0", "model.optimizer.nesterov=false", "model.lr=0.01"]
    found = {}
    for name, loss in (("ours", "cross_entropy"), ("own", f"{{_target_: {__name__}.scaled, factor: 2}}")):
        more = [f"model.loss={loss}", f"output={tmp_path / name}", *plain]
        found[name] = train(compose_config("train", *words_of(colors, *more))).metrics
    assert found["own"]["train/loss"] > 1.5 * found["ours"]["train/loss"]
    assert found["own"]["val/loss"] == pytest.approx(found["ours"]["val/loss"], rel=0.5), "always the cross entropy"


def test_it_is_typed_in_any_of_three_ways(colors: Path) -> None:
    target = f"{__name__}.scaled"
    for typed in (
        [f"model.loss={{_target_: {target}, factor: 3}}"],
        [f"model.loss._target_={target}", "model.loss.factor=3"],
        [f"+model.loss._target_={target}", "+model.loss.factor=3"],
    ):
        words, _ = read_overrides("train", words_of(colors, *typed))
        cfg, _ = with_own_code(compose_train(*words))
        classifier = build_classifier(cfg, open_data(cfg))
        labels, logits = torch.tensor([0, 1]), torch.zeros(2, 3)
        assert float(classifier.loss(logits, labels)) == pytest.approx(3 * torch.log(torch.tensor(3.0)).item())
        assert classifier.recipe.chance_loss == pytest.approx(3.2958, abs=1e-3)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("model.loss=bcee", "model.loss=bcee: must be one of cross_entropy, bce, focal (did you mean bce?)"),
        ("model.loss={alpha:1}", "model.loss={'alpha': 1}: no _target_ is set; add model.loss._target_=MODULE.CLASS"),
        (
            "model.loss._target_=torch.nn.CrossEntropyLos",
            "model.loss._target_=torch.nn.CrossEntropyLos: torch.nn has no CrossEntropyLos (did you mean",
        ),
        (
            "model.loss={_target_:torch.nn.CrossEntropyLoss,wieght:1}",
            "model.loss (torch.nn.CrossEntropyLoss): does not take wieght (did you mean weight?); it takes weight=None",
        ),
    ],
)
def test_bad_input(words: str, message: str, cli: Cli, tmp_path: Path) -> None:
    done = cli("train", f"paths.runs={tmp_path / 'runs'}", "model.name=test_resnet", *words.split())
    assert done.returncode == 2, done.stderr
    assert message in done.stderr
    assert not list(tmp_path.rglob("*"))
