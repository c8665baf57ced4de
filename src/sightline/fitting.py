"""The fit: Lightning's trainer with what every run has, and what is done when a fit ends badly."""

import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig

from sightline.config import to_plain
from sightline.errors import BadInput
from sightline.recipe import better
from sightline.resuming import Start
from sightline.run_record import RunRecord

if TYPE_CHECKING:  # imported inside functions: bad input is refused before torch loads
    import pytorch_lightning as pl

    from sightline.callbacks.divergence import Divergence
    from sightline.callbacks.resumable import Resumable
    from sightline.callbacks.rollback import Rollback
    from sightline.data.datamodule import ImageDataModule
    from sightline.models.classifier import Classifier

PROFILERS = {"simple": "SimpleProfiler", "advanced": "AdvancedProfiler", "pytorch": "PyTorchProfiler"}
"""Lightning's profilers; each writes into the run folder instead of the log."""


def accepted_arguments(cfg: DictConfig, datamodule: "ImageDataModule") -> dict[str, Any]:
    """Lightning's arguments with the precision decided, once Lightning has accepted them."""
    import pytorch_lightning as pl
    from lightning_fabric.utilities.exceptions import MisconfigurationException

    from sightline.models.inference import choose_device, choose_precision

    arguments = to_plain(cfg.trainer)
    device = choose_device(arguments["accelerator"])
    arguments["precision"] = choose_precision(arguments["precision"], device)
    try:
        pl.Trainer(**arguments, logger=False, enable_checkpointing=False)
    except (MisconfigurationException, ValueError, TypeError) as error:
        raise BadInput(f"trainer: {error}; change that setting") from error
    for split, loader in (("train", datamodule.train_dataloader()), ("val", datamodule.val_dataloader())):
        share, available = arguments[f"limit_{split}_batches"], len(loader)
        if isinstance(share, float) and share * available < 1:
            raise BadInput(
                f"trainer.limit_{split}_batches={share}: of {available} batch(es) that leaves none; "
                "give a number of batches, like 1, or a larger share"
            )
    every, available = arguments["val_check_interval"], len(datamodule.train_dataloader())
    if isinstance(every, int) and arguments["check_val_every_n_epoch"] and every > available:
        raise BadInput(f"trainer.val_check_interval={every}: an epoch has {available} batch(es); make it smaller")
    return arguments


def make_resumable(cfg: DictConfig, run_dir: Path, facts: dict[str, Any]) -> "Resumable":
    from sightline.callbacks.resumable import Resumable

    return Resumable(run_dir / "checkpoints", facts, seed=cfg.seed, every_minutes=cfg.checkpoint.every_minutes)


def make_watchers(
    cfg: DictConfig, classifier: "Classifier", datamodule: "ImageDataModule", record: RunRecord
) -> "tuple[Divergence, Rollback]":
    """What ends a training whose loss is lost, or takes it back."""
    from sightline.callbacks.divergence import Divergence
    from sightline.callbacks.rollback import Rollback

    settings = cfg.divergence
    divergence = Divergence(
        datamodule.train_files,
        record.update,
        chance_loss=math.log(classifier.spec.num_classes),
        explosion_factor=settings.explosion_factor,
        patience_steps=settings.patience_steps,
    )
    most = settings.max_rollbacks if settings.action == "rollback" else 0
    return divergence, Rollback(most, settings.lr_factor)


def trainer_maker(
    arguments: dict[str, Any],
    start: Start,
    classifier: "Classifier",
    others: "tuple[list[pl.Callback], list[Any]]",
    loggers: list[Any],
) -> "Callable[[], pl.Trainer]":
    """Makes trainers that share their callbacks and loggers; `others` are callbacks that come first and last."""
    import pytorch_lightning as pl
    from pytorch_lightning import profilers
    from pytorch_lightning.callbacks import LearningRateMonitor, ModelCheckpoint, RichProgressBar

    from sightline.callbacks.checkpoint_files import AtomicCheckpointIO
    from sightline.callbacks.epoch_table import EpochTable
    from sightline.callbacks.log_continuation import continue_log
    from sightline.callbacks.plain_progress import PlainProgress
    from sightline.callbacks.tensorboard_images import TrainingImages
    from sightline.data.transforms import denormalise

    spec, monitor, run_dir = classifier.spec, classifier.recipe.monitor, start.folder
    best = run_dir / "checkpoints"
    made: list[Any] = [logger(save_dir=run_dir) if callable(logger) else logger for logger in loggers]
    if start.log_step is not None:
        for logger in made:
            continue_log(logger, start.log_step)
    callbacks: list[pl.Callback] = [
        *others[0],
        EpochTable(run_dir / "metrics.csv"),
        ModelCheckpoint(best, "best", monitor=monitor, mode=better(monitor or ""), enable_version_counter=False),
        TrainingImages(lambda images: denormalise(images, spec)),
        *others[1],
    ]
    if made:
        callbacks.append(LearningRateMonitor())
    if arguments["enable_progress_bar"]:
        callbacks.append(RichProgressBar(leave=True) if sys.stdout.isatty() else PlainProgress())
    if arguments["profiler"] in PROFILERS:
        profiler = getattr(profilers, PROFILERS[arguments["profiler"]])
        arguments = {**arguments, "profiler": profiler(dirpath=run_dir, filename="profile")}
    fixed: dict[str, Any] = {"default_root_dir": run_dir, "plugins": AtomicCheckpointIO()}
    return lambda: pl.Trainer(**arguments, callbacks=[*callbacks], logger=list(made) or False, **fixed)


def fit(
    make_trainer: "Callable[[], pl.Trainer]",
    classifier: "Classifier",
    datamodule: "ImageDataModule",
    rollback: "Rollback",
    record: RunRecord,
    checkpoint: Path | None,
) -> "pl.Trainer":
    """Fit, from a checkpoint if there is one; after a divergence go back to the last good one, as often as is allowed.

    Raises: Diverged; OutOfMemory with the batch size that would fit.
    """
    from sightline.callbacks.divergence import Diverged
    from sightline.models.batch_size import is_out_of_memory

    while True:
        trainer = make_trainer()
        record.update(device=str(trainer.strategy.root_device), precision=str(trainer.precision))
        try:
            trainer.fit(classifier, datamodule, ckpt_path=checkpoint, weights_only=True)
            return trainer
        except Diverged as diverged:
            record.update(divergence=diverged.facts)
            checkpoint = rollback.prepare(diverged, classifier, record.folder / "checkpoints" / "last.ckpt")
            record.update(rollbacks=rollback.done)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            cause = (str(error).splitlines() or [type(error).__name__])[0][:200]
            break  # only then are the tensors that the error's frames hold freed
    raise _explain_out_of_memory(cause, trainer, classifier, datamodule.batch_size)


def _explain_out_of_memory(cause: str, trainer: "pl.Trainer", classifier: "Classifier", batch_size: int) -> Exception:
    """The error that names the batch size whose step was tried and fits."""
    import gc

    from sightline.models.batch_size import explain_out_of_memory, find_batch_size

    device, precision = trainer.strategy.root_device, str(trainer.precision)
    accumulated = trainer.accumulate_grad_batches
    trainer.strategy.optimizers = []
    gc.collect()
    fitting = find_batch_size(classifier, device=device, precision=precision, most=batch_size - 1)
    return explain_out_of_memory(cause, batch_size, accumulated, fitting)
