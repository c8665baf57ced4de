"""The learning rate of a configuration, found on its own network and data; never kept for another."""

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from sightline.config import (
    FindLrConfig,
    LrFinderConfig,
    TrainConfig,
    to_plain,
    validate_task,
    with_own_code,
    with_value,
)
from sightline.data.opening import check_root, open_data
from sightline.data.training_data import TrainingData
from sightline.data.versions.checkout import with_data_version
from sightline.runs.files import write_json
from sightline.runs.invocation import UNTOLD, Invocation
from sightline.runs.override_text import override, value_of
from sightline.runs.record import RunRecord, open_folder
from sightline.training.build import build_training
from sightline.training.fine_tuning import with_max_epochs, with_network
from sightline.training.statistics import with_statistics

if TYPE_CHECKING:  # imported inside functions: bad input is refused before torch loads
    import torch
    from matplotlib.figure import Figure
    from omegaconf import DictConfig

    from sightline.data.datamodule import ImageDataModule
    from sightline.training.lr_finder import LrSweep

log = logging.getLogger(__name__)
ANY_LR = 1e-3
"""Stands for the rate that is sought: only the shares of an optimizer's groups follow from it."""


@dataclass(frozen=True)
class LrResult:
    metrics: dict[str, float]
    run_dir: Path
    suggested: str
    """The override that a training takes, like `model.lr=0.0012`."""


def find_lr(cfg: "DictConfig | FindLrConfig", invocation: Invocation = UNTOLD) -> LrResult:
    """Sweep the learning rate of a training configuration and write `lr_finder.json` and `lr_finder.png`.

    Raises: BadInput when the configuration cannot be trained, or the loss falls at no rate.
    """
    cfg = validate_task(cfg, FindLrConfig)
    if (typed := value_of(invocation.overrides, "model.lr")) is not None:
        log.info("model.lr=%s is not used: it is what is looked for", typed)
    cfg, code = with_own_code(cfg, invocation)
    check_root(cfg)
    cfg = with_data_version(cfg)
    from sightline.training.lr_finder import require_suggestion

    cfg, guesses = with_network(cfg, {})
    opened = open_data(cfg)
    cfg, measured = with_statistics(cfg, opened, {})
    cfg, more = with_max_epochs(cfg, opened.num_images["train"])
    sweep = sweep_configuration(cfg, opened, cfg.lr_finder)
    lr = require_suggestion(sweep)
    folder = open_folder(Path(cfg.paths.runs), "find_lr", cfg.name, cfg.output)
    facts = {"task": "find_lr", "name": cfg.name, "config": to_plain(cfg)}
    with RunRecord(folder, invocation, **facts) as record:
        record.update(data={"name": cfg.data.name, **opened.describe()})
        record.add_guesses([*guesses, *measured, *more, *opened.guesses])
        code.save(record)
        save_sweep(folder, sweep, cfg.model.name)
        metrics = {"lr": lr}
        metrics |= {name: value for name in ("steepest", "tenth_of_divergence") if (value := getattr(sweep, name))}
        write_json(folder / "metrics.json", metrics)
    return LrResult(metrics, folder, override("model.lr", _in_two_digits(lr)))


def with_lr(cfg: TrainConfig, opened: TrainingData) -> "tuple[TrainConfig, LrSweep]":
    """The configuration with the rate that was found for it, as if it had been given, and how it was found.

    Raises: BadInput when the loss falls at no rate.
    """
    from sightline.training.lr_finder import require_suggestion

    sweep = sweep_configuration(cfg, opened, LrFinderConfig())
    cfg = with_value(cfg, "model.lr", _in_two_digits(require_suggestion(sweep)))
    log.info("model.lr=auto: %g is used", cfg.model.lr)
    return cfg, sweep


def _in_two_digits(lr: float) -> float:
    return float(f"{lr:.2g}")


def sweep_configuration(cfg: TrainConfig, opened: TrainingData, finder: LrFinderConfig) -> "LrSweep":
    """The sweep of a network of its own, with the seed, the data and the recipe of the configuration."""
    import pytorch_lightning as pl

    from sightline.models.inference import choose_device, choose_precision
    from sightline.training.lr_finder import sweep_lr

    cfg = with_value(cfg, "model.lr", ANY_LR)
    pl.seed_everything(cfg.seed, verbose=False)
    classifier, datamodule = build_training(cfg, opened)
    if cfg.model.freeze == "gradual":
        classifier.train_last_stages(1)
    device = choose_device(cfg.trainer.accelerator)
    log.info(
        "%s: a short training with learning rates from %g to %g, at most %d steps",
        cfg.model.name,
        finder.lowest,
        finder.highest,
        finder.num_steps,
    )
    return sweep_lr(
        classifier,
        _Batches(datamodule, device),
        device=device,
        precision=choose_precision(cfg.trainer.precision, device),
        lowest=finder.lowest,
        highest=finder.highest,
        num_steps=finder.num_steps,
    )


class _Batches:
    """Training batches as the network sees them, from the first epoch on."""

    def __init__(self, datamodule: "ImageDataModule", device: "torch.device") -> None:
        self.datamodule, self.device, self.epoch = datamodule, device, 0

    def __iter__(self) -> "Iterator[tuple[torch.Tensor, ...]]":
        self.datamodule.seek(self.epoch, 0)
        self.epoch += 1
        for batch in self.datamodule.train_dataloader():
            moved = tuple(column.to(self.device, non_blocking=True) for column in batch)
            yield self.datamodule.on_after_batch_transfer(moved, 0)


def save_sweep(folder: Path, sweep: "LrSweep", model: str) -> None:
    """`lr_finder.json` and `lr_finder.png` into a folder."""
    write_json(folder / "lr_finder.json", {"model": model, **sweep.to_dict()})
    draw_sweep(sweep, model).savefig(folder / "lr_finder.png", dpi=110)


def draw_sweep(sweep: "LrSweep", model: str) -> "Figure":
    """The loss over the learning rate, with what was read from it."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 5), layout="constrained")
    axes = figure.subplots()
    axes.plot(sweep.lr, sweep.loss, color="0.8", label="loss of each batch")
    axes.plot(sweep.lr, sweep.smoothed, color="tab:blue", label="smoothed")
    for name, value, style in (
        ("steepest descent", sweep.steepest, ":"),
        ("a tenth of divergence", sweep.tenth_of_divergence, "--"),
        ("suggestion", sweep.suggestion, "-"),
    ):
        if value is not None:
            axes.axvline(value, linestyle=style, color="tab:red", label=f"{name}: {value:.2g}")
    axes.set(xscale="log", xlabel="learning rate", ylabel="training loss", title=f"Learning rate of {model}")
    if sweep.smoothed:
        axes.set_ylim(0.9 * min(sweep.loss), 1.5 * max(sweep.smoothed[:5]))
    axes.legend()
    return figure
