"""Exact resumption: a run stopped at any step goes on to the same bits as one that was never stopped."""

import logging
import os
import random
import signal
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from lightning_utilities.core.apply_func import apply_to_collection
from pytorch_lightning.callbacks import Callback, ModelCheckpoint
from torchmetrics import Metric

from sightline.callbacks.checkpoint_files import LAST, STATE
from sightline.callbacks.epoch_means import add_epoch_means, epoch_means
from sightline.distributed.agreement import gathered, largest
from sightline.errors import Interrupted

log = logging.getLogger(__name__)
STOPPING = (signal.SIGTERM, signal.SIGINT)
NOTICE = b"stopping: this step is finished and saved first; a second signal ends the run at once\n"
STREAM = 1
"""Separates these random numbers from those of the augmentations."""


class Resumable(Callback):
    """Saves `last.ckpt` after every epoch, every some minutes and on a signal; restores what it saved.

    Must come first. Random numbers of a step follow from (seed, epoch, batch), so that no generator's state is saved.
    The one save point is the start of a batch that opens a window of gradient accumulation: there everything that
    belongs to the batch before is over, its logging, validation, early stopping and best checkpoint. `facts` are plain
    values that are saved too. Several processes agree there on whether to save and to stop. A checkpoint whose schedule
    of the learning rate did not begin at the step `schedule_from` is one to begin a new schedule from.
    """

    def __init__(
        self,
        folder: Path,
        facts: dict[str, Any],
        *,
        seed: int,
        every_minutes: float | None,
        schedule_from: int = 0,
    ) -> None:
        self.path, self.facts, self.seed, self.schedule_from = folder / LAST, facts, seed, schedule_from
        self.seconds_between = float("inf") if every_minutes is None else 60 * every_minutes
        self.signal_number: int | None = None
        self._loaded: dict[str, Any] | None = None
        self._old_optimizers: list[dict[str, Any]] = []
        self._epoch_means: dict[str, dict[str, Any]] = {}
        self._before_validation: dict[str, Any] | None = None
        self._is_exact = self._is_complete = False

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Read the state; Lightning calls this before it makes loaders and before other callbacks load theirs."""
        state = self._loaded = dict(checkpoint[STATE])
        _move(checkpoint, trainer)
        if state.get("schedule_from", 0) != self.schedule_from:
            self._old_optimizers = checkpoint["optimizer_states"]
            state = self._loaded = _begin_schedule(checkpoint, trainer)
        trainer.num_sanity_val_steps = 0  # this run has had its check
        progress = checkpoint["loops"]["fit_loop"]
        epoch = progress["epoch_progress"]["current"]["processed"]
        batch = progress["epoch_loop.batch_progress"]["current"]["completed"]
        if not state["is_complete"]:
            trainer.datamodule.seek(epoch, batch)  # pyright: ignore[reportAttributeAccessIssue]  (ours has it)

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self._loaded is None:
            return
        for optimizer, old in zip(trainer.optimizers, self._old_optimizers, strict=False):  # Lightning is to load these
            new = optimizer.state_dict()["param_groups"]
            old["param_groups"] = [
                {**fresh, "params": group["params"]} for fresh, group in zip(new, old["param_groups"], strict=True)
            ]
        self._old_optimizers = []
        metrics = apply_to_collection(self._loaded["callback_metrics"], torch.Tensor, torch.Tensor.to, pl_module.device)
        trainer._logger_connector._callback_metrics.update(metrics)
        trainer.should_stop = self._loaded["should_stop"] or self._loaded["is_complete"]

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Install the signal handlers after Lightning's own, which they replace until it restores the original ones."""
        self._saved_at, self._saved_step = time.monotonic(), trainer.global_step
        self._gives_notice = trainer.is_global_zero
        if threading.current_thread() is threading.main_thread():
            for number in STOPPING:
                signal.signal(number, self._stop)

    def _stop(self, number: int, frame: Any) -> None:
        self.signal_number = number
        for each in STOPPING:
            signal.signal(each, signal.SIG_DFL)
        if self._gives_notice:
            os.write(2, NOTICE)  # a print could meet one that is half done

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        if self._loaded is not None:
            _restore(self._loaded, trainer, pl_module)
            self._epoch_means = self._loaded.get("epoch_means", [{}] * trainer.world_size)[trainer.global_rank]
            self._loaded = None
        elif self._epoch_means:
            self._epoch_means = add_epoch_means(trainer, self._epoch_means)
        if self._opens_window(trainer, batch_idx):
            self._at_save_point(trainer, batch_idx)
        rank = (trainer.global_rank,) if trainer.global_rank else ()
        _seed((self.seed, trainer.current_epoch, batch_idx, STREAM, *rank))

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if self._epoch_means:
            self._epoch_means = add_epoch_means(trainer, self._epoch_means)

    def _opens_window(self, trainer: pl.Trainer, batch_idx: int) -> bool:
        overfits = trainer.overfit_batches > 0  # pyright: ignore[reportAttributeAccessIssue]  (set by a connector)
        if overfits:  # Lightning puts a sampler in place of ours, and that one cannot be set to a position
            return batch_idx == 0
        return batch_idx % trainer.accumulate_grad_batches == 0

    def _at_save_point(self, trainer: pl.Trainer, batch_idx: int) -> None:
        is_time = trainer.is_global_zero and time.monotonic() - self._saved_at >= self.seconds_between
        number, is_time = largest(self.signal_number or 0, is_time)
        if trainer.global_step != self._saved_step and (number or batch_idx == 0 or is_time):
            self._save(trainer)
        if number:
            raise Interrupted(number)
        self._before_validation = self._copy(trainer) if _validates_in_window(trainer, batch_idx) else None

    def _save(self, trainer: pl.Trainer) -> None:
        self._is_exact = True
        trainer.save_checkpoint(self.path, weights_only=False)
        self._is_exact = False
        self._saved_at, self._saved_step = time.monotonic(), trainer.global_step

    def _copy(self, trainer: pl.Trainer) -> dict[str, Any]:
        """The checkpoint of this save point, in memory."""
        self._is_exact = True
        checkpoint = trainer._checkpoint_connector.dump_checkpoint(weights_only=False)
        self._is_exact = False
        return apply_to_collection(checkpoint, torch.Tensor, lambda tensor: tensor.detach().to("cpu", copy=True))

    def on_validation_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Leave a validation at once on a signal, with the save point before it: it may be long."""
        if self._before_validation is None or not (number := largest(self.signal_number or 0)[0]):
            return
        if self._before_validation["global_step"] != self._saved_step:
            trainer.strategy.save_checkpoint(self._before_validation, self.path)
        raise Interrupted(number)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._before_validation = None

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._is_complete = True
        self._save(trainer)
        if number := largest(self.signal_number or 0)[0]:
            raise Interrupted(number)

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        epoch_loop = trainer.fit_loop.epoch_loop
        checkpoint[STATE] = {
            **self.facts,
            "schedule_from": self.schedule_from,
            "is_exact": self._is_exact,
            "is_complete": self._is_complete,
            "should_stop": bool(trainer.should_stop),
            "batches_that_stepped": epoch_loop._batches_that_stepped,
            "validation_progress": epoch_loop.val_loop.batch_progress.state_dict(),
            "metrics": gathered(_metric_states(pl_module)),
            "epoch_means": gathered(epoch_means(trainer)),
            "callback_metrics": dict(trainer.callback_metrics),
            "last_step_saved": {each.state_key: each._last_global_step_saved for each in _checkpoints(trainer)},
        }
        loaders = checkpoint["loops"]["fit_loop"]["state_dict"].get("combined_loader", [])
        for loader in (each for each in loaders if self._is_exact and not self._is_complete and each):
            loader["batch"] = epoch_loop.batch_idx  # this batch was taken, and is yet to be trained on


def _seed(position: tuple[int, ...]) -> None:
    """Seed all generators with a hash of a position, like (seed, epoch, batch)."""
    key = int(np.random.SeedSequence(position).generate_state(1, np.uint64)[0])
    if torch.cuda.is_initialized() or torch.backends.mps.is_available():
        torch.manual_seed(key)
    else:  # the same numbers, without a stack trace kept for CUDA's later start: 1 ms a step
        torch.default_generator.manual_seed(key)
    np.random.seed(key % 2**32)
    random.seed(key)


def _validates_in_window(trainer: pl.Trainer, batch_idx: int) -> bool:
    """Whether a validation follows one of the batches up to the next save point."""
    loop, every = trainer.fit_loop.epoch_loop, trainer.val_check_batch
    if every is None or not loop._should_check_val_epoch():
        return False
    first = loop.total_batch_idx if trainer.check_val_every_n_epoch is None else batch_idx
    return any((first + number + 1) % every == 0 for number in range(trainer.accumulate_grad_batches))


def _checkpoints(trainer: pl.Trainer) -> list[ModelCheckpoint]:
    return [each for each in trainer.checkpoint_callbacks if isinstance(each, ModelCheckpoint)]


def _metric_states(module: pl.LightningModule) -> dict[str, dict[str, Any]]:
    """Running states by the metric's name; those without an update are left out."""
    metrics = ((name, each) for name, each in module.named_modules() if isinstance(each, Metric))
    return {
        name: {"num_updates": metric._update_count, "states": dict(metric.metric_state)}
        for name, metric in metrics
        if metric._update_count
    }


def _restore(state: dict[str, Any], trainer: pl.Trainer, module: pl.LightningModule) -> None:
    """Restore what Lightning leaves out of a checkpoint, or restores wrongly; before the first batch."""
    trainer.fit_loop._restarting = False  # else a plateau scheduler misses the end of this epoch
    loop = trainer.fit_loop.epoch_loop
    loop.val_loop.batch_progress.load_state_dict(state["validation_progress"])
    loop._batches_that_stepped = state["batches_that_stepped"]
    total = loop.batch_progress.total
    total.ready = total.completed + 1  # the batch had been counted as ready before the stop, too
    metrics = dict(module.named_modules())
    for name, saved in state["metrics"][trainer.global_rank].items():
        metric = metrics[name]
        for key, value in apply_to_collection(saved["states"], torch.Tensor, torch.Tensor.to, module.device).items():
            setattr(metric, key, value)
        metric._update_count = saved["num_updates"]
    for each in _checkpoints(trainer):
        each._last_global_step_saved = state["last_step_saved"].get(each.state_key, 0)


def _begin_schedule(checkpoint: dict[str, Any], trainer: pl.Trainer) -> dict[str, Any]:
    """Prepare a checkpoint for a new schedule; returns its state for going on.

    Weights and the optimizer's state stay. The scheduler's state goes, early stopping counts anew, and where the run
    was over, one more epoch begins.
    """
    state = dict(checkpoint[STATE])
    checkpoint["lr_schedulers"] = []
    for each in trainer.early_stopping_callbacks:
        if each.state_key in checkpoint["callbacks"]:
            checkpoint["callbacks"][each.state_key] |= {"wait_count": 0, "stopped_epoch": 0}
    for each in _checkpoints(trainer):
        kept = checkpoint["callbacks"].get(each.state_key, {"best_k_models": {}})
        kept["best_k_models"] = {path: score for path, score in kept["best_k_models"].items() if Path(path).is_file()}
    if not state["is_complete"]:
        return {**state, "should_stop": False}
    loops = checkpoint["loops"]["fit_loop"]
    loops.pop("combined_loader", None)
    steps, batches = "epoch_loop.automatic_optimization.optim_progress", loops["epoch_loop.batch_progress"]
    for progress in (loops["epoch_loop.scheduler_progress"], batches, *loops[steps]["optimizer"].values()):
        progress["current"] = dict.fromkeys(progress["current"], 0)
    batches["is_last_batch"] = False
    batches["total"]["ready"] = batches["total"]["completed"] + 1  # as at the save point of an epoch's first batch
    validation = {**state["validation_progress"], "total": dict.fromkeys(state["validation_progress"]["total"], 0)}
    loops["epoch_loop.val_loop.batch_progress"] = validation
    metrics: list[dict[str, Any]] = [{} for _ in state["metrics"]]
    none = {"is_complete": False, "should_stop": False}
    return {**state, **none, "validation_progress": validation, "metrics": metrics, "epoch_means": metrics}


def _move(checkpoint: dict[str, Any], trainer: pl.Trainer) -> None:
    """Update the checkpoint paths of a moved run folder: with other paths Lightning forgets the best score."""
    for each in _checkpoints(trainer):
        state = checkpoint["callbacks"].get(each.state_key)
        if state is None or state["dirpath"] == each.dirpath:
            continue
        old, new = str(state["dirpath"]), str(each.dirpath)
        for key in ("dirpath", "best_model_path", "kth_best_model_path", "last_model_path"):
            state[key] = str(state[key]).replace(old, new, 1)
        state["best_k_models"] = {path.replace(old, new, 1): score for path, score in state["best_k_models"].items()}
