"""A run whose loss is lost ends with its step, images and learning rate, or goes back and on."""

import csv
import json
import logging
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from tests.conftest import BARE, Cli, compose_config
from torch.utils.data import DataLoader, TensorDataset

from sightline.callbacks import divergence as divergence_module
from sightline.callbacks.divergence import Diverged, Divergence
from sightline.data import datamodule as datamodule_module
from sightline.data.transforms import normalise
from sightline.training.train import train

SHORT = [word for word in BARE if "max_epochs" not in word]


def words_of(colors: Path, folder: Path, *more: str) -> list[str]:
    """Six steps an epoch."""
    return ["data=folder", f"data.root={colors}", f"output={folder}", *SHORT, "logger=none", *more]


def record_of(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "run.json").read_text())


def rows_of(folder: Path) -> list[dict[str, str]]:
    with (folder / "metrics.csv").open() as file:
        return list(csv.DictReader(file))


# --- Stop ---


def test_a_hopeless_learning_rate_ends_the_run(colors: Path, cli: Cli, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    done = cli("train", *words_of(colors, folder, "model.lr=1e12", "trainer.max_epochs=9"))
    assert done.returncode == 1, done.stdout
    last, record = done.stderr.splitlines()[-1], record_of(folder)
    facts = record["divergence"]
    assert f"step {facts['step']} (epoch {facts['epoch'] + 1}, batch {facts['batch'] + 1})" in last
    assert f"learning rate {facts['lr']:g}" in last
    assert facts["files"][0] in last
    assert "divergence.action=rollback" in last
    assert record["status"] == "failed"
    assert record["reason"] in last
    assert len(facts["files"]) == 8
    assert all((colors / name).is_file() for name in facts["files"])


Poison = Callable[[Callable[[torch.Tensor, int], bool]], None]


@pytest.fixture
def poison(monkeypatch: pytest.MonkeyPatch) -> Poison:
    """Makes those training batches nan whose pixels and number, counted over the epochs, meet a condition."""

    def install(condition: Callable[[torch.Tensor, int], bool]) -> None:
        calls = iter(range(10**9))

        def spoil(pixels: torch.Tensor, spec: Any) -> torch.Tensor:
            images = normalise(pixels, spec)
            if torch.is_grad_enabled() and condition(pixels, next(calls)):
                images = images * math.nan
            return images

        monkeypatch.setattr(datamodule_module, "normalise", spoil)

    return install


def test_the_batch_of_a_poisoned_image_is_named(colors: Path, tmp_path: Path, poison: Poison) -> None:
    """Whatever the epoch and the batch, the names are those of the images that were in it."""
    from PIL import Image

    bad = "train/red/07.png"
    pixels = torch.from_numpy(np.asarray(Image.open(colors / bad)).copy())
    poison(lambda images, call: any(torch.equal(image, pixels) for image in images))
    words = words_of(colors, tmp_path / "run", "augmentation=none", "trainer.max_epochs=3")
    with pytest.raises(Diverged, match="the loss became nan: step"):
        train(compose_config("train", *words))
    assert bad in record_of(tmp_path / "run")["divergence"]["files"]


def test_nothing_that_diverged_is_saved(colors: Path, tmp_path: Path, poison: Poison) -> None:
    """The sixth batch is the last before validation, and before the checkpoints."""
    poison(lambda images, call: call == 5)
    with pytest.raises(Diverged):
        train(compose_config("train", *words_of(colors, tmp_path / "run", "trainer.max_epochs=2")))
    assert not list((tmp_path / "run").rglob("*.ckpt"))


@pytest.mark.parametrize("number", [1, 5])
def test_nothing_that_diverged_is_saved_while_losses_are_on_their_way(
    number: int, colors: Path, tmp_path: Path, poison: Poison, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a GPU, and with a checkpoint at every step."""
    monkeypatch.setattr(divergence_module, "send_to_host", lambda loss: (loss.detach(), LateEvent()))
    poison(lambda images, call: call == number)
    words = words_of(colors, tmp_path / "run", "trainer.max_epochs=2", "checkpoint.every_minutes=1e-9")
    with pytest.raises(Diverged):
        train(compose_config("train", *words))
    saved = [torch.load(path, weights_only=True) for path in (tmp_path / "run").rglob("*.ckpt")]
    assert max(checkpoint["global_step"] for checkpoint in saved) == number
    assert all(value.isfinite().all() for checkpoint in saved for value in checkpoint["state_dict"].values())


# --- Rollback ---


def test_a_run_goes_back_to_its_last_checkpoint(colors: Path, tmp_path: Path, poison: Poison) -> None:
    words = ["model/optimizer=sgd", "trainer.max_epochs=3", "divergence.action=rollback", "divergence.lr_factor=0.5"]
    undisturbed = train(compose_config("train", *words_of(colors, tmp_path / "good", *words))).run_dir
    assert "rollbacks" not in record_of(undisturbed)
    calls = []

    def is_bad(images: torch.Tensor, call: int) -> bool:
        calls.append(call)
        return call == 8  # the third batch of the second epoch, once

    poison(is_bad)
    result = train(compose_config("train", *words_of(colors, tmp_path / "run", *words)))
    record = record_of(result.run_dir)
    assert record["status"] == "finished"
    (rollback,) = record["rollbacks"]
    assert (rollback["step"], rollback["to_step"], rollback["lr_scale"]) == (8, 6, 0.5)
    assert rollback["reason"] == "the loss became nan"
    rows, expected = rows_of(result.run_dir), rows_of(undisturbed)
    assert [row["step"] for row in rows] == ["6", "12", "18"]
    assert [row["epoch"] for row in rows] == ["0", "1", "2"]
    assert all(row["train/loss"] not in ("", "nan") for row in rows)
    factors = [float(row["lr"]) / float(other["lr"]) for row, other in zip(rows, expected, strict=True)]
    assert factors == pytest.approx([1, 0.5, 0.5])
    assert rows[0] == expected[0]


def test_without_a_checkpoint_it_starts_over(colors: Path, tmp_path: Path) -> None:
    words = ["model.lr=1e12", "trainer.max_epochs=2", "divergence.action=rollback", "divergence.lr_factor=1e-14"]
    result = train(compose_config("train", *words_of(colors, tmp_path / "run", *words)))
    (rollback,) = record_of(result.run_dir)["rollbacks"]
    assert rollback["to_step"] == 0
    assert [row["step"] for row in rows_of(result.run_dir)] == ["6", "12"]
    assert result.metrics["train/loss"] < 2


def test_it_gives_up_after_so_many_rollbacks(colors: Path, tmp_path: Path, poison: Poison) -> None:
    poison(lambda images, call: True)
    words = ["divergence.action=rollback", "divergence.max_rollbacks=2"]
    with pytest.raises(Diverged, match="2 rollback.s. did not help"):
        train(compose_config("train", *words_of(colors, tmp_path / "run", *words)))
    record = record_of(tmp_path / "run")
    assert record["status"] == "failed"
    assert [rollback["lr_scale"] for rollback in record["rollbacks"]] == pytest.approx([0.3, 0.09])


@pytest.mark.parametrize("scheduler", ["one_cycle", "cosine", "plateau", "constant"])
def test_every_schedule_goes_on_with_the_smaller_rate(
    scheduler: str, colors: Path, tmp_path: Path, poison: Poison
) -> None:
    poison(lambda images, call: call == 8)
    words = [f"model/scheduler={scheduler}", "divergence.action=rollback", "trainer.max_epochs=2"]
    result = train(compose_config("train", *words_of(colors, tmp_path / "run", *words)))
    poison(lambda images, call: False)
    good = train(compose_config("train", *words_of(colors, tmp_path / "good", *words)))
    rates = [float(rows_of(run.run_dir)[-1]["lr"]) for run in (result, good)]
    assert rates[0] == pytest.approx(0.3 * rates[1])


# --- What counts, on losses that are written down ---


class Scripted(pl.LightningModule):
    """Its losses are those of a list."""

    def __init__(self, losses: Iterator[float]) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(1, 1)
        self.losses = losses

    def training_step(self, batch: Any, batch_idx: int) -> dict[str, torch.Tensor]:
        loss = self.layer(batch[0]).mean() * 0 + next(self.losses)
        return {"loss": loss, "mean_loss": loss.detach()}

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.25)


def watch(losses: list[float], accumulated: int = 1, **settings: Any) -> list[dict[str, Any]]:
    """Train on these losses, one a batch; returns what was noted for run.json."""
    notes: list[dict[str, Any]] = []
    watcher = Divergence(
        lambda epoch, batch: [f"{epoch}/{batch}"], lambda **facts: notes.append(facts), chance_loss=1.0, **settings
    )
    loader = DataLoader(TensorDataset(torch.zeros(len(losses), 1)), batch_size=1)
    quiet: dict[str, Any] = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    trainer = pl.Trainer(
        max_epochs=1,
        callbacks=[watcher],
        enable_model_summary=False,
        accelerator="cpu",
        accumulate_grad_batches=accumulated,
        **quiet,
    )
    trainer.fit(Scripted(iter(losses)), loader)
    return notes


@pytest.mark.parametrize("accumulated", [1, 2])
def test_an_explosion_is_several_large_losses(accumulated: int) -> None:
    watch([1.0, 1e6, *[1.0] * 8, 1e6, 1e6, *[1.0] * 9], accumulated)  # bad batches
    watch([15.0] * 12, accumulated)  # large from the start
    with pytest.raises(Diverged, match="exploded to 30, above divergence.explosion_factor=20 times 1:") as caught:
        watch([*[1.0] * 8, *[30.0] * 8], accumulated)
    assert caught.value.facts["batch"] == 10
    assert caught.value.facts["files"] == ["0/10"]


@pytest.mark.parametrize("lost", [math.nan, math.inf, -math.inf])
def test_one_loss_that_is_no_number_is_enough(lost: float) -> None:
    with pytest.raises(Diverged, match=rf"the loss became {lost}: step 3 \(epoch 1, batch 4\), learning rate 0.25"):
        watch([1.0, 1.0, 1.0, lost, 1.0])


def noisy(means: np.ndarray) -> list[float]:
    return (means + np.random.default_rng(0).normal(0, 0.3, len(means))).tolist()


def test_a_loss_that_does_not_fall_is_reported_once(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        notes = watch(noisy(np.full(300, 2.3)), patience_steps=50)
    warnings = [line for line in caplog.messages if "loss_not_decreasing" in line]
    assert len(warnings) == 1
    assert notes == [{"warnings": warnings}]


@pytest.mark.parametrize(
    "means",
    [
        np.linspace(2.3, 0.7, 300),  # under noise that is larger than what it falls in many steps
        np.concatenate([np.linspace(2.3, 0.1, 100), np.full(200, 0.1)]),  # learnt
    ],
)
def test_a_loss_that_falls_or_has_fallen_is_not(means: np.ndarray) -> None:
    assert watch(noisy(means), patience_steps=100) == []


def test_a_run_that_learns_nothing_says_so(colors: Path, tmp_path: Path) -> None:
    words = ["model.lr=1e-12", "divergence.patience_steps=8", "trainer.max_epochs=4", "augmentation=none"]
    result = train(compose_config("train", *words_of(colors, tmp_path / "run", *words)))
    assert "loss_not_decreasing" in record_of(result.run_dir)["warnings"][0]


class LateEvent:
    """Arrives only when somebody waits."""

    waits = 0

    def query(self) -> bool:
        return False

    def synchronize(self) -> None:
        LateEvent.waits += 1


def test_a_gpu_is_not_waited_for_at_every_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """The loss of a batch is looked at later, and the batch is still named rightly."""
    monkeypatch.setattr(divergence_module, "send_to_host", lambda loss: (loss.detach(), LateEvent()))
    monkeypatch.setattr(LateEvent, "waits", 0)
    with pytest.raises(Diverged) as caught:
        watch([*[1.0] * 5, math.nan, *[1.0] * 20])
    assert caught.value.facts["batch"] == 5
    assert LateEvent.waits == 6
    with pytest.raises(Diverged):
        watch([1.0, 1.0, math.nan])  # nothing is left unseen at the end
