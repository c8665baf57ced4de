"""The average of the weights: its value, where it is validated and saved, and that training never sees it."""

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from tests.conftest import BARE, compose_config
from tests.models.test_classifier import fit, make_classifier
from torch.optim import SGD
from torch.optim.lr_scheduler import ConstantLR

from sightline.callbacks.weight_ema import WeightEMA
from sightline.models.checkpoint import load_model
from sightline.models.classifier import Recipe
from sightline.training.train import train

RECIPE = Recipe(partial(SGD, lr=0.1), partial(ConstantLR, factor=1.0))


class Witness(pl.Callback):
    """Writes down the weights after every step, and those that are validated."""

    def __init__(self) -> None:
        self.trained: list[dict[str, torch.Tensor]] = []
        self.validated: list[dict[str, torch.Tensor]] = []

    def on_train_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        self.trained.append(copy(pl_module))

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: Any, *args: Any, **more: Any) -> None:
        self.trained.append(copy(pl_module))

    def on_validation_batch_start(self, trainer: pl.Trainer, pl_module: Any, *args: Any, **more: Any) -> None:
        self.validated.append(copy(pl_module))


def copy(classifier: Any) -> dict[str, torch.Tensor]:
    return {name: tensor.detach().clone() for name, tensor in classifier.backbone.state_dict().items()}


def averaged(history: list[dict[str, torch.Tensor]], decay: float) -> dict[str, torch.Tensor]:
    """By the definition, in 64 bits."""
    average = {name: tensor.double() for name, tensor in history[0].items()}
    for number, values in enumerate(history[1:], start=1):
        kept = min(decay, (1 + number) / (10 + number))
        average = {name: kept * average[name] + (1 - kept) * value for name, value in values.items()}
    return average


@pytest.mark.parametrize("accumulate", [1, 2])
def test_validation_sees_the_average_and_training_goes_on_from_its_own_weights(accumulate: int, tmp_path: Path) -> None:
    torch.manual_seed(3)
    classifier = make_classifier(RECIPE)
    start = classifier.state_dict()
    start = {name: tensor.clone() for name, tensor in start.items()}
    with_average, without = Witness(), Witness()
    arguments = {"accumulate_grad_batches": accumulate}
    fit(classifier, tmp_path, callbacks=[WeightEMA(0.3), with_average], **arguments)
    classifier.load_state_dict(start)
    fit(classifier, tmp_path, callbacks=[without], **arguments)

    for ours, theirs in zip(with_average.trained, without.trained, strict=True):
        assert all(torch.equal(ours[name], theirs[name]) for name in theirs), "averaging changed the training"
    steps = [with_average.trained[0], *with_average.trained[accumulate::accumulate]]
    expected = averaged(steps, 0.3)
    for name, value in with_average.validated[-1].items():
        if value.is_floating_point():  # batch norm's statistics too
            torch.testing.assert_close(value.double(), expected[name], rtol=1e-4, atol=1e-6)
        else:
            assert torch.equal(value, steps[-1][name]), "counters are copied"
    assert not torch.allclose(with_average.validated[-1]["fc.weight"], steps[-1]["fc.weight"])


def test_before_its_first_update_the_average_is_the_weights(tmp_path: Path) -> None:
    witness = Witness()
    fit(
        make_classifier(RECIPE),
        tmp_path,
        callbacks=[WeightEMA(0.999), witness],
        num_sanity_val_steps=1,
        accumulate_grad_batches=4,
        val_check_interval=2,
        epochs=1,
    )
    first = witness.trained[0]
    for seen in witness.validated[:2]:  # the check before training, and a validation with no step taken yet
        assert all(torch.equal(seen[name], first[name]) for name in dict(first) if "running" not in name)


def test_a_short_run_is_averaged_over_its_last_part(tmp_path: Path) -> None:
    """A decay of 0.9999 alone would keep 99.9 % of the random start after eight steps."""
    witness = Witness()
    fit(make_classifier(RECIPE), tmp_path, callbacks=[WeightEMA(0.9999), witness])
    start, end = witness.trained[0]["fc.weight"], witness.trained[-1]["fc.weight"]
    average = witness.validated[-1]["fc.weight"]
    assert torch.dist(average, end) < 0.5 * torch.dist(average, start)


@pytest.mark.parametrize("precision", ["32-true", "bf16-true"])
def test_the_best_checkpoint_and_the_model_hold_the_average(precision: str, colors: Path, tmp_path: Path) -> None:
    words = ["data=folder", f"data.root={colors}", "model.lr=0.01", f"trainer.precision={precision}", *BARE]
    cfg = compose_config("train", *words, "model.ema_decay=0.9", f"output={tmp_path / 'run'}")
    result = train(cfg)
    checkpoint = torch.load(tmp_path / "run" / "checkpoints" / "best.ckpt", weights_only=True)
    saved = load_model(tmp_path / "run").network.state_dict()["fc.weight"]
    assert saved.dtype == torch.float32
    assert torch.equal(saved, checkpoint["state_dict"]["backbone.fc.weight"].float())
    assert not torch.equal(saved, checkpoint["ema"]["trained"]["fc.weight"].float())
    plain = train(compose_config("train", *words, f"output={tmp_path / 'plain'}"))
    assert result.metrics["val/loss"] != plain.metrics["val/loss"], "the metrics are those of the average"
