"""The LightningModule: what is trained, what stays frozen, and how long a schedule is."""

from functools import partial
from pathlib import Path

import pytest
import pytorch_lightning as pl
import torch
from torch.optim import SGD, AdamW
from torch.optim.lr_scheduler import CosineAnnealingLR, OneCycleLR, ReduceLROnPlateau, StepLR
from torch.utils.data import DataLoader, TensorDataset

from sightline.models.backbones import create_backbone
from sightline.models.classifier import Classifier, Recipe
from sightline.models.inference import choose_device, choose_precision
from sightline.models.losses import make_loss
from sightline.task_spec import TaskSpec

SPEC = TaskSpec(("a", "b", "c"), 32, (0.5,) * 3, (0.25,) * 3)


RECIPE_FOR_STEPS = Recipe(partial(SGD, lr=0.1), CosineAnnealingLR)


def make_classifier(recipe: Recipe) -> Classifier:
    network, architecture = create_backbone("test_resnet", 3)
    return Classifier(network, SPEC, architecture, recipe)


def fit(classifier: Classifier, folder: Path, *, epochs: int = 2, **arguments: object) -> pl.Trainer:
    """16 random images in batches of 4: 4 steps an epoch."""
    torch.manual_seed(0)
    loader = DataLoader(TensorDataset(torch.randn(16, 3, 32, 32), torch.arange(16) % 3), batch_size=4)
    settings = {"accelerator": "cpu", "logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    trainer = pl.Trainer(max_epochs=epochs, default_root_dir=folder, **settings, **arguments)  # pyright: ignore
    trainer.fit(classifier, loader, loader)
    return trainer


@pytest.mark.parametrize("accumulate", [1, 2])
def test_the_length_of_a_schedule_comes_from_the_trainer(accumulate: int, tmp_path: Path) -> None:
    recipe = Recipe(partial(AdamW, lr=1e-3), partial(OneCycleLR, max_lr=1e-3))
    trainer = fit(make_classifier(recipe), tmp_path, epochs=3, accumulate_grad_batches=accumulate)
    scheduler = trainer.lr_scheduler_configs[0].scheduler
    assert isinstance(scheduler, OneCycleLR)
    assert scheduler.total_steps == trainer.global_step == 12 // accumulate


def test_a_warm_up_of_a_single_step_divides_by_nothing(tmp_path: Path) -> None:
    trainer = fit(
        make_classifier(Recipe(partial(AdamW), partial(OneCycleLR, max_lr=1e-3, pct_start=0.25))), tmp_path, epochs=1
    )
    assert trainer.global_step == 4


def test_a_cosine_schedule_ends_at_nothing(tmp_path: Path) -> None:
    trainer = fit(make_classifier(Recipe(partial(SGD, lr=0.1), CosineAnnealingLR)), tmp_path)
    assert trainer.optimizers[0].param_groups[0]["lr"] == pytest.approx(0, abs=1e-9)


def test_other_schedules_move_once_an_epoch(tmp_path: Path) -> None:
    recipe = Recipe(partial(SGD, lr=0.1), partial(StepLR, step_size=1, gamma=0.5))
    trainer = fit(make_classifier(recipe), tmp_path, epochs=3)
    assert trainer.optimizers[0].param_groups[0]["lr"] == pytest.approx(0.1 * 0.5**3)


def test_a_plateau_watches_the_monitor(tmp_path: Path) -> None:
    plateau = partial(ReduceLROnPlateau, mode="min", patience=0, threshold=1e9, factor=0.1)
    recipe = Recipe(partial(SGD, lr=0.1), plateau, monitor="val/loss")
    trainer = fit(make_classifier(recipe), tmp_path, epochs=3)
    assert trainer.optimizers[0].param_groups[0]["lr"] < 0.1


def test_a_number_that_the_configuration_sets_is_kept(tmp_path: Path) -> None:
    recipe = Recipe(partial(AdamW, lr=1e-3), partial(OneCycleLR, max_lr=1e-3, total_steps=100))
    scheduler = fit(make_classifier(recipe), tmp_path).lr_scheduler_configs[0].scheduler
    assert isinstance(scheduler, OneCycleLR)
    assert scheduler.total_steps == 100


def test_a_frozen_backbone_keeps_every_tensor_and_the_head_learns(tmp_path: Path) -> None:
    classifier = make_classifier(Recipe(partial(AdamW, lr=0.1), CosineAnnealingLR, freeze="backbone"))
    before = {name: tensor.clone() for name, tensor in classifier.backbone.state_dict().items()}
    fit(classifier, tmp_path)
    after = classifier.backbone.state_dict()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed == {"fc.weight", "fc.bias"}, "running statistics of batch norm count as the backbone"


def test_without_freezing_everything_learns(tmp_path: Path) -> None:
    classifier = make_classifier(Recipe(partial(AdamW, lr=0.1), CosineAnnealingLR))
    before = {name: tensor.clone() for name, tensor in classifier.backbone.state_dict().items()}
    fit(classifier, tmp_path)
    assert all(not torch.equal(before[name], tensor) for name, tensor in classifier.backbone.state_dict().items())


def test_label_smoothing_raises_the_training_loss_alone(tmp_path: Path) -> None:
    losses = {}
    for smoothing in (0.0, 0.3):
        torch.manual_seed(1)
        recipe = Recipe(partial(SGD, lr=0.0), CosineAnnealingLR, make_loss("cross_entropy", label_smoothing=smoothing))
        metrics = fit(make_classifier(recipe), tmp_path, epochs=1).callback_metrics
        losses[smoothing] = {name: float(metrics[name]) for name in ("train/loss", "val/loss")}
    assert abs(losses[0.0]["train/loss"] - losses[0.3]["train/loss"]) > 1e-3
    assert losses[0.0]["val/loss"] == pytest.approx(losses[0.3]["val/loss"], rel=1e-3)


@pytest.mark.parametrize(
    ("features", "precision"),
    [({"amx_bf16": True}, "bf16-mixed"), ({"avx512_bf16": True}, "bf16-mixed"), ({"avx2": True}, "32-true")],
)
def test_precision_is_what_the_processor_has_in_hardware(
    features: dict[str, bool], precision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: features)
    assert choose_precision("auto", torch.device("cpu")) == precision
    assert choose_precision("64-true", torch.device("cpu")) == "64-true"


def test_the_device_of_the_run_is_preferred_where_it_is() -> None:
    assert choose_device("auto", preferred="cpu") == torch.device("cpu")
    assert choose_device("auto", preferred="xpu:0").type in ("cpu", "cuda", "mps")
