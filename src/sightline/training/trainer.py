"""The fit: Lightning's trainer with what every run has, and what is done when a fit ends badly."""

import functools
import inspect
import logging
import math
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sightline.config import STRATEGIES, TrainConfig, build, build_each, is_own, locate, taken_by_name, to_plain
from sightline.distributed.rank import Rank
from sightline.errors import BadInput
from sightline.runs.record import RunRecord
from sightline.training.recipe import recipe_callbacks
from sightline.training.resume import Start

if TYPE_CHECKING:  # imported inside functions: bad input is refused before torch loads
    import pytorch_lightning as pl
    import torch

    from sightline.callbacks.divergence import Divergence
    from sightline.callbacks.rollback import Rollback
    from sightline.data.datamodule import ImageDataModule
    from sightline.models.learner import Learner
    from sightline.models.runtimes import Placement

log = logging.getLogger(__name__)
PROFILERS = {"simple": "SimpleProfiler", "advanced": "AdvancedProfiler", "pytorch": "PyTorchProfiler"}
"""Lightning's profilers; each writes into the run folder instead of the log."""


@dataclass(frozen=True)
class FitPlan:
    """All that a fit needs beside its folder."""

    cfg: TrainConfig
    rank: Rank
    learner: "Learner"
    datamodule: "ImageDataModule"
    device: str
    """Its kind, like `cuda`."""
    arguments: dict[str, Any]
    """Of Lightning's trainer."""
    callbacks: list[Any]
    """Those of the configuration, beyond the ones that every run has."""
    loggers: list[Any]

    placement: "Placement"
    """Where and how the finished model is measured."""

    @property
    def precision(self) -> str:
        """Of the training."""
        return self.arguments["precision"]

    @property
    def runtime(self) -> str:
        """What computes where no gradient is needed: what lies in the folder already decides nothing."""
        return "torch" if self.cfg.runtime == "auto" else self.cfg.runtime

    def placement_in(self, trainer: "pl.Trainer") -> "Placement":
        """The same on the very device that this process trained on."""
        return replace(self.placement, device=trainer.strategy.root_device)


def plan_fit(cfg: TrainConfig, rank: Rank, learner: "Learner", datamodule: "ImageDataModule") -> FitPlan:
    """A fit that can begin.

    Raises: BadInput when Lightning or a callback or logger refuses its settings.
    """
    from sightline.models.inference import choose_device, choose_precision
    from sightline.models.runtimes import Placement, check_runtime

    device = choose_device(cfg.trainer.accelerator)
    precision = choose_precision(cfg.precision, device)
    placement = Placement(device, precision, cfg.model.channels_last, Path(cfg.paths.cache))
    check_runtime(cfg.runtime, placement)
    callbacks: list[Any] = [*recipe_callbacks(cfg), *_build_callbacks(cfg)]
    loggers = _build_loggers(cfg)
    arguments = _accepted_arguments(cfg, rank, device)
    _check_batches(arguments, datamodule, learner)
    return FitPlan(cfg, rank, learner, datamodule, device.type, arguments, callbacks, loggers, placement)


def _build_callbacks(cfg: TrainConfig) -> list[Any]:
    """Raises: BadInput for an object that is no callback."""
    import pytorch_lightning as pl

    made = build_each(cfg.callbacks, "callbacks")
    for name, callback in made.items():
        if not isinstance(callback, pl.Callback):
            raise BadInput(_explain_kind(f"callbacks.{name}", cfg.callbacks[name], callback, "Callback"))
    return list(made.values())


def _build_loggers(cfg: TrainConfig) -> list[Any]:
    """Loggers, or what makes one with `save_dir`, the run folder, where it takes that.

    Raises: BadInput for an object that is neither.
    """
    from pytorch_lightning.loggers import Logger

    made = []
    for name, node in cfg.logger.items():
        if node is None:
            continue
        key, folder = f"logger.{name}", {"save_dir": ""}
        takes_folder = "save_dir" not in node and taken_by_name(locate(str(node["_target_"]), key), folder)
        logger = build({**node, "_partial_": True} if takes_folder else node, key)
        kind = logger.func if isinstance(logger, functools.partial) else type(logger)
        if inspect.isclass(kind) and not issubclass(kind, Logger):
            raise BadInput(_explain_kind(key, node, logger, "loggers.Logger"))
        made.append(logger)
    return made


def _explain_kind(key: str, node: Mapping[str, Any], made: Any, wanted: str) -> str:
    return f"{key} ({node['_target_']}): made {type(made).__name__}, and no pytorch_lightning.{wanted}; name one"


def _accepted_arguments(cfg: TrainConfig, rank: Rank, device: "torch.device") -> dict[str, Any]:
    """Lightning's arguments with the precision decided, once Lightning has accepted them."""
    import pytorch_lightning as pl
    from lightning_fabric.utilities.exceptions import MisconfigurationException

    from sightline.models.inference import choose_precision

    arguments = to_plain(cfg.trainer)
    arguments |= arguments.pop("further")
    arguments["precision"] = choose_precision(arguments["precision"], device)
    arguments |= _strategy(arguments, rank)
    made = _with_objects(arguments)
    try:
        pl.Trainer(**made, logger=False, enable_checkpointing=False)
    except (MisconfigurationException, ValueError, TypeError, AttributeError) as error:
        raise BadInput(f"trainer: {error}; change that setting") from error
    return arguments


def _strategy(arguments: Mapping[str, Any], rank: Rank) -> dict[str, Any]:
    """How Lightning is told of several processes, which share the data already; one process needs no strategy."""
    strategy, plugins = arguments["strategy"], arguments.get("plugins") or []
    given = plugins if isinstance(plugins, list) else [plugins]
    if rank.world_size == 1:
        return {"plugins": given, **({"strategy": "auto"} if strategy in STRATEGIES else {})}
    from sightline.distributed.environment import RankEnvironment

    return {
        "strategy": "ddp" if strategy == "auto" else strategy,
        "use_distributed_sampler": False,
        "plugins": [*given, RankEnvironment(rank)],
    }


def _with_objects(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments with the objects that `_target_` nodes among them describe, made anew for each trainer.

    Raises: BadInput when one cannot be made.
    """

    def made(value: Any, key: str) -> Any:
        if isinstance(value, list):
            return [made(each, f"{key}.{number}") for number, each in enumerate(value)]
        return build(value, key) if isinstance(value, dict) and "_target_" in value else value

    return {name: made(value, f"trainer.{name}") for name, value in arguments.items()}


def _check_batches(arguments: dict[str, Any], datamodule: "ImageDataModule", learner: "Learner") -> None:
    from sightline.data.loader import length_of

    for split, loader in (("train", datamodule.train_dataloader()), ("val", datamodule.val_dataloader())):
        share, available = arguments[f"limit_{split}_batches"], length_of(loader)
        if isinstance(share, float) and available is not None and share * available < 1:
            raise BadInput(
                f"trainer.limit_{split}_batches={share}: of {available} batch(es) that leaves none; "
                "give a number of batches, like 1, or a larger share"
            )
    every, available = arguments["val_check_interval"], length_of(datamodule.train_dataloader())
    if available is None:
        _check_endless(arguments, learner)
        return
    if isinstance(every, int) and arguments["check_val_every_n_epoch"] and every > available:
        raise BadInput(f"trainer.val_check_interval={every}: an epoch has {available} batch(es); make it smaller")
    _say_what_ends(arguments, available)


def _check_endless(arguments: dict[str, Any], learner: "Learner") -> None:
    """Raises: BadInput where a schedule must know the number of steps, and a training loader has no length."""
    is_said = arguments["max_steps"] > 0 or isinstance(arguments["limit_train_batches"], int)
    if getattr(learner.module, "counts_steps", False) and not is_said:
        raise BadInput(
            "model.scheduler: it must know the number of steps, and the training loader has no length; give one with "
            "trainer.limit_train_batches=N or trainer.max_steps=N, or choose model/scheduler=plateau"
        )


def _say_what_ends(arguments: dict[str, Any], num_batches: int) -> None:
    """Of `max_epochs` and `max_steps` the one that comes first ends a training: the other one has no effect."""
    max_epochs, max_steps = arguments["max_epochs"] or -1, arguments["max_steps"]
    if max_epochs < 1 or max_steps < 1:
        return
    limit = arguments["overfit_batches"] or arguments["limit_train_batches"] or 1.0
    used = int(limit * num_batches) if isinstance(limit, float) else min(limit, num_batches)
    steps_an_epoch = math.ceil(used / arguments["accumulate_grad_batches"])
    if max_steps > max_epochs * steps_an_epoch:
        log.warning(
            "trainer.max_steps=%d is never reached: trainer.max_epochs=%d ends the training after %d steps; "
            "add trainer.max_epochs=null to let the steps decide",
            max_steps,
            max_epochs,
            max_epochs * steps_an_epoch,
        )
    elif max_steps <= (max_epochs - 1) * steps_an_epoch:
        last = math.ceil(max_steps / steps_an_epoch)
        log.warning(
            "trainer.max_steps=%d ends the training in epoch %d of trainer.max_epochs=%d", max_steps, last, max_epochs
        )


def run_fit(plan: FitPlan, start: Start, record: RunRecord, facts: dict[str, Any]) -> "pl.Trainer":
    """Fit, from a checkpoint if there is one; after a divergence go back to the last good one, as often as is allowed.

    `facts` are what a checkpoint says of its run.

    Raises: Diverged; OutOfMemory with the batch size that would fit.
    """
    from sightline.callbacks.divergence import Diverged
    from sightline.training.batch_size import is_out_of_memory

    (divergence, rollback), module = _make_watchers(plan, record), plan.learner.module
    if hasattr(module, "schedule_from"):
        module.schedule_from = start.schedule_from  # pyright: ignore[reportArgumentType]  (ours has it)
    first = [_make_resumable(plan, start, facts), divergence, rollback, *_of_own_code(plan, record)]
    first += _validation_runtime(plan)
    make_trainer = _trainer_maker(plan, start, first)
    checkpoint = start.checkpoint
    while True:
        trainer = make_trainer()
        record.update(device=str(trainer.strategy.root_device), precision=str(trainer.precision))
        try:
            trainer.fit(module, plan.datamodule, ckpt_path=checkpoint, weights_only=True)
            return trainer
        except Diverged as diverged:
            record.update(divergence=diverged.facts)
            checkpoint = rollback.prepare(diverged, module, start.folder / "checkpoints" / "last.ckpt")
            record.update(rollbacks=rollback.done)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            cause = (str(error).splitlines() or [type(error).__name__])[0][:200]
            break  # only then are the tensors that the error's frames hold freed
    raise _explain_out_of_memory(cause, trainer, module, plan.datamodule.batch_size)


def _make_resumable(plan: FitPlan, start: Start, facts: dict[str, Any]) -> "pl.Callback":
    from sightline.callbacks.resumable import Resumable

    return Resumable(
        start.folder / "checkpoints",
        facts,
        seed=plan.cfg.seed,
        every_minutes=plan.cfg.checkpoint.every_minutes,
        schedule_from=start.schedule_from,
    )


def _validation_runtime(plan: FitPlan) -> "list[pl.Callback]":
    """What validates in the place of torch."""
    if plan.runtime == "torch":
        return []
    from sightline.training.validation_runtime import ValidationRuntime

    return [ValidationRuntime(plan.runtime)]


def _make_watchers(plan: FitPlan, record: RunRecord) -> "tuple[Divergence, Rollback]":
    """What ends a training whose loss is lost, or takes it back."""
    from sightline.callbacks.divergence import Divergence
    from sightline.callbacks.rollback import Rollback

    settings = plan.cfg.divergence
    recipe = getattr(plan.learner.module, "recipe", None)  # own modules have none
    chance_loss = getattr(recipe, "chance_loss", None) or math.log(plan.learner.spec.num_classes)
    divergence = Divergence(
        plan.datamodule.train_files,
        record.update,
        chance_loss=chance_loss,
        explosion_factor=settings.explosion_factor,
        patience_steps=settings.patience_steps,
    )
    most = settings.max_rollbacks if settings.action == "rollback" else 0
    return divergence, Rollback(most, settings.lr_factor)


def _of_own_code(plan: FitPlan, record: RunRecord) -> "list[pl.Callback]":
    """What our own module does itself: say in checkpoints which model it is, and whether going on is exact."""
    from sightline.callbacks.exactness import Exactness
    from sightline.callbacks.model_description import ModelDescription
    from sightline.models.checkpoint import NOT_MEASURED

    learner = plan.learner
    if not learner.is_own and not is_own(plan.cfg.datamodule):
        return []
    exactness = Exactness(record.update, plan.datamodule.why_inexact, looks_at_module=learner.is_own)
    if not learner.is_own:
        return [exactness]
    facts: dict[str, Any] = {"task_spec": learner.spec.to_dict(), "architecture": learner.architecture.to_dict()}
    if learner.not_measured is not None:
        facts[NOT_MEASURED] = learner.not_measured
    return [ModelDescription(facts), exactness]


def _trainer_maker(plan: FitPlan, start: Start, first: "list[pl.Callback]") -> "Callable[[], pl.Trainer]":
    """Makes trainers that share their callbacks, of which some come `first`, and loggers."""
    import pytorch_lightning as pl
    from pytorch_lightning import profilers
    from pytorch_lightning.callbacks import LearningRateMonitor, ModelCheckpoint

    from sightline.callbacks.checkpoint_files import AtomicCheckpointIO
    from sightline.callbacks.epoch_table import EpochTable
    from sightline.callbacks.plain_progress import PlainProgress
    from sightline.callbacks.tensorboard_images import TrainingImages
    from sightline.callbacks.terminal_progress import TerminalProgress
    from sightline.callbacks.throughput import Throughput
    from sightline.data.display import colours_to_display
    from sightline.data.transforms import denormalise

    run_dir, loggers, learner = start.folder, _make_loggers(plan, start), plan.learner
    spec, best, decides = learner.spec, run_dir / "checkpoints", {"monitor": learner.monitor, "mode": learner.mode}
    callbacks: list[pl.Callback] = [
        *first,
        Throughput(),
        EpochTable(run_dir / "metrics.csv"),
        ModelCheckpoint(best, "best", **decides, enable_version_counter=False),
        TrainingImages(lambda images: colours_to_display(denormalise(images, spec), spec.display_bands)),
        *plan.callbacks,
    ]
    checkpoint_io = AtomicCheckpointIO(keeps_all=plan.cfg.checkpoint.keep == "all")
    arguments = {**plan.arguments, "plugins": [*plan.arguments["plugins"], checkpoint_io]}
    if loggers:
        callbacks.append(LearningRateMonitor())
    if arguments["enable_progress_bar"]:
        callbacks.append(TerminalProgress() if sys.stdout.isatty() else PlainProgress())
    if (kind := str(arguments["profiler"])) in PROFILERS:
        profiler = getattr(profilers, PROFILERS[kind])(dirpath=run_dir, filename="profile")
        arguments["profiler"] = profiler if plan.rank.is_main else None
    return lambda: pl.Trainer(
        **_with_objects(arguments), callbacks=[*callbacks], logger=[*loggers] or False, default_root_dir=run_dir
    )


def _make_loggers(plan: FitPlan, start: Start) -> list[Any]:
    from sightline.callbacks.log_continuation import continue_log

    made: list[Any] = [logger(save_dir=start.folder) if callable(logger) else logger for logger in plan.loggers]
    if start.log_step is not None and plan.rank.is_main:
        for logger in made:
            continue_log(logger, start.log_step)
    return made


def _explain_out_of_memory(cause: str, trainer: "pl.Trainer", module: Any, batch_size: int) -> Exception:
    """The error that names the batch size whose step was tried and fits."""
    import gc

    from sightline.models.classifier import Classifier
    from sightline.training.batch_size import OutOfMemory, explain_out_of_memory, find_batch_size

    device, precision = trainer.strategy.root_device, str(trainer.precision)
    accumulated = trainer.accumulate_grad_batches
    trainer.strategy.optimizers = []
    gc.collect()
    if not isinstance(module, Classifier):
        return OutOfMemory(f"data.batch_size={batch_size}: a step does not fit into memory ({cause}); make it smaller")
    ranks = trainer.world_size
    fitting = find_batch_size(module, device=device, precision=precision, most=batch_size // ranks - 1)
    return explain_out_of_memory(cause, batch_size, accumulated, fitting and fitting * ranks)
