"""The learning rate that is found: from noisy losses, without a trace in the weights, and for its own run alone."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tests.conftest import BARE, Cli, compose_config, compose_task, compose_train
from tests.reliability.conftest import Struck, Undisturbed, assert_same, record_of, struck, undisturbed  # noqa: F401

from sightline.data.opening import open_data
from sightline.errors import BadInput
from sightline.training.build import build_training
from sightline.training.find_lr import find_lr, sweep_configuration
from sightline.training.lr_finder import read_sweep, sweep_lr
from sightline.training.train import train

RATES = np.geomspace(1e-6, 10, 120)


def losses(noise: float, seed: int) -> np.ndarray:
    """Falls by two around 1e-3 and is lost around 1e-1."""
    clean = 3 - 2 / (1 + (RATES / 1e-3) ** -1.5) + (RATES / 0.15) ** 2
    return clean + noise * np.random.default_rng(seed).standard_normal(len(RATES))


@pytest.mark.parametrize("noise", [0.0, 0.1, 0.3])
def test_noise_moves_the_suggestion_little(noise: float) -> None:
    for seed in range(20):
        sweep = read_sweep(RATES.tolist(), losses(noise, seed).tolist())
        assert sweep.tenth_of_divergence == pytest.approx(0.012, rel=0.5)
        assert sweep.steepest is not None
        assert sweep.tenth_of_divergence is not None
        assert 1e-4 < sweep.steepest < 1e-2
        assert sweep.suggestion is not None
        assert sweep.suggestion == min(sweep.steepest, sweep.tenth_of_divergence)


def test_a_loss_that_never_falls_suggests_nothing() -> None:
    for seed in range(20):
        flat = 2.3 + 0.02 * np.random.default_rng(seed).standard_normal(120) + np.linspace(0, 1, 120) ** 2
        assert read_sweep(RATES.tolist(), flat.tolist()).tenth_of_divergence is None


def test_a_loss_that_is_not_a_number_ends_the_sweep() -> None:
    some = losses(0.1, 0)[:90].tolist()
    sweep = read_sweep(RATES[:91].tolist(), [*some, float("nan")], complete=False)
    assert len(sweep.loss) == 90
    assert sweep.suggestion is not None


def words_of(colors: Path, *more: str) -> list[str]:
    return ["data=folder", f"data.root={colors}", *BARE, "logger=none", *more]


def test_the_sweep_leaves_every_weight_as_it_was(colors: Path) -> None:
    cfg = compose_train(*words_of(colors))
    classifier, datamodule = build_training(cfg, open_data(cfg))
    before = {name: tensor.clone() for name, tensor in classifier.state_dict().items()}
    batches = [datamodule.on_after_batch_transfer(batch, 0) for batch in datamodule.train_dataloader()]
    device = torch.device("cpu")
    sweep = sweep_lr(classifier, batches, device=device, precision="32-true", lowest=1e-5, highest=1.0, num_steps=40)
    assert len(sweep.lr) > 20
    assert all(torch.equal(tensor, before[name]) for name, tensor in classifier.state_dict().items())
    assert all(parameter.grad is None for parameter in classifier.parameters())


def test_training_uses_and_records_what_it_finds(colors: Path, tmp_path: Path) -> None:
    run, given = tmp_path / "run", tmp_path / "given"
    found = train(compose_config("train", *words_of(colors, "model.lr=auto", f"output={run}")))
    record = json.loads((run / "run.json").read_text())
    lr = record["found"]["model.lr"]
    assert record["config"]["model"]["lr"] == record["config"]["model"]["optimizer"]["lr"] == lr
    sweep = json.loads((run / "lr_finder.json").read_text())
    assert lr == pytest.approx(sweep["suggestion"], rel=0.06)
    same = train(compose_config("train", *words_of(colors, f"model.lr={lr}", f"output={given}")))
    weights = [(each / "model" / "model.safetensors").read_bytes() for each in (run, given)]
    assert weights[0] == weights[1], "the sweep left no trace"
    assert found.metrics["val/loss"] == same.metrics["val/loss"]


def test_another_model_has_a_sweep_of_its_own(colors: Path) -> None:
    sweeps = []
    for more in ("model.name=test_resnet", "model.name=test_vit", "model.loss=bce"):
        cfg = compose_train(*words_of(colors, more))
        sweeps.append(sweep_configuration(cfg, open_data(cfg), compose_task("find_lr").lr_finder))
    assert len({tuple(sweep.loss[:5]) for sweep in sweeps}) == 3, "the recipe and the network count"


def test_the_command_writes_its_table_and_picture(cli: Cli, cold_cli: Cli, colors: Path, tmp_path: Path) -> None:
    done = cold_cli("find_lr", *words_of(colors), "model.lr=0.5", f"output={tmp_path / 'found'}")
    assert done.returncode == 0, done.stderr
    assert "model.lr=0.5 is not used: it is what is looked for" in done.stderr
    content = json.loads((tmp_path / "found" / "lr_finder.json").read_text())
    assert set(content) >= {"lr", "loss", "suggestion", "steepest", "tenth_of_divergence"}
    assert len(content["lr"]) == len(content["loss"])
    with Image.open(tmp_path / "found" / "lr_finder.png") as picture:
        assert picture.size > (100, 100)
    assert json.loads((tmp_path / "found" / "run.json").read_text())["task"] == "find_lr"
    suggested = done.stdout.splitlines()[-1].removeprefix("suggested: ")
    assert compose_train(suggested).model.lr == pytest.approx(content["suggestion"], rel=0.06)
    assert "test_resnet: a short training with learning rates from 1e-06 to 10, at most 120 steps" in done.stderr
    refused = cli("find_lr", *words_of(colors), "lr_finder.num_steps=3", f"output={tmp_path / 'none'}")
    assert refused.returncode == 2
    assert "lr_finder.num_steps=3: must be 20 or more" in refused.stderr
    assert not (tmp_path / "none").exists()


def test_nothing_to_find_leaves_no_folder(colors: Path, tmp_path: Path) -> None:
    words = words_of(colors, "lr_finder.lowest=1e-12", "lr_finder.highest=1e-10", f"output={tmp_path / 'none'}")
    with pytest.raises(BadInput, match="the loss did not fall at any rate"):
        find_lr(compose_config("find_lr", *words))
    assert not (tmp_path / "none").exists()


@pytest.mark.slow
def test_a_run_that_goes_on_keeps_its_rate(struck: Struck, undisturbed: Undisturbed, tmp_path: Path) -> None:  # noqa: F811
    run = tmp_path / "run"
    assert struck(run, "model.lr=auto", fault="SIGTERM@step:9").code == 143
    ended = struck(run, "model.lr=auto")
    assert ended.code == 0, ended.log
    assert "is used" not in ended.log, "it is not sought again"
    assert record_of(run)["resumed"][-1]["from_step"] == 5
    assert_same(run, undisturbed("model.lr=auto"))
