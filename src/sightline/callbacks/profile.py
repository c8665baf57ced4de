"""Writes where the time of training goes: `profile.html` and `profile.json`."""

import logging
import os
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback

from sightline.callbacks.profile_report import Setting, summarise, write_page
from sightline.callbacks.resources import Resources
from sightline.callbacks.step_times import StepTimes, cost_of_an_action
from sightline.runs.files import write_json

log = logging.getLogger(__name__)


class Profile(Callback):
    """Times every step's parts and looks at the machine meanwhile; the first `warm_up` steps are left out.

    On a GPU it waits for the device after each part, so that its time is counted where it belongs: parts that overlap
    in an ordinary run add up here.
    """

    def __init__(self, warm_up: int = 10, every_seconds: float = 0.25) -> None:
        self.warm_up, self.every_seconds = warm_up, every_seconds

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Profile the main process alone."""
        is_cuda = trainer.strategy.root_device.type == "cuda"
        self.times = StepTimes(torch.cuda.synchronize if is_cuda else None)
        trainer.profiler = self.times  # pyright: ignore[reportAttributeAccessIssue]  (Lightning's stub lacks it)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.resources = Resources(self.every_seconds)
        self.resources.start()

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.times.end_step()

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.times.end_step()

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        if hasattr(self, "resources"):
            self.resources.finish()

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        samples = self.resources.finish()
        if not trainer.is_global_zero:
            return
        folder = Path(trainer.default_root_dir)
        steps = self.times.steps[self.warm_up :] if len(self.times.steps) > self.warm_up else self.times.steps
        profile = summarise(steps, samples, describe(trainer), cost_of_an_action())
        profile["warm_up_steps"] = len(self.times.steps) - len(steps)
        write_json(folder / "profile.json", profile)
        write_page(profile, folder / "profile.html")
        log.info("%s See %s", profile["bottleneck"]["text"], folder / "profile.html")


def describe(trainer: pl.Trainer) -> Setting:
    """The settings that the advice depends on."""
    datamodule: Any = trainer.datamodule  # pyright: ignore[reportAttributeAccessIssue]  (Lightning's stub lacks it)
    return Setting(
        device=trainer.strategy.root_device.type,
        precision=str(trainer.precision),
        cores=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        batch_size=getattr(datamodule, "batch_size", 0),
        num_workers=getattr(datamodule, "num_workers", 0),
        is_cached=getattr(getattr(datamodule, "train", None), "store", None) is not None,
    )
