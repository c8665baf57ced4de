"""Train a classifier: the pure core. Needs a composed configuration and nothing else."""

import copy
import logging
import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, OmegaConf

from sightline.config import build, command_line_overrides, model_arguments, to_plain, validate
from sightline.errors import BadInput
from sightline.preparation import OpenedData, StreamedData, make_datamodule, open_training_data
from sightline.resuming import Start, facts_of, open_run
from sightline.run_record import RunRecord, now, write_json

if TYPE_CHECKING:  # imported inside functions: bad input is refused before torch loads
    import pytorch_lightning as pl
    from torch import nn

    from sightline.callbacks.divergence import Divergence
    from sightline.callbacks.resumable import Resumable
    from sightline.callbacks.rollback import Rollback
    from sightline.data.datamodule import ImageDataModule
    from sightline.evaluation.subject import Evaluator
    from sightline.models.backbones import ModelCard
    from sightline.models.classifier import Classifier
    from sightline.task_spec import TaskSpec

log = logging.getLogger(__name__)
NUM_SYNTHETIC_CLASSES = 10
PROFILERS = {"simple": "SimpleProfiler", "advanced": "AdvancedProfiler", "pytorch": "PyTorchProfiler"}
"""Lightning's profilers; each writes into the run folder instead of the log."""


@dataclass(frozen=True)
class TrainResult:
    metrics: dict[str, float]
    checkpoint: Path | None
    run_dir: Path


def train(cfg: DictConfig) -> TrainResult:
    """Fit a classifier, keep its best checkpoint, and measure that one on validation and once on test.

    Raises: BadInput before anything is written when the configuration or the data cannot work.
    """
    validate(cfg)
    opened = open_training_data(cfg)
    import pytorch_lightning as pl

    from sightline.callbacks.throughput import Throughput
    from sightline.evaluation.gates import check_gates
    from sightline.evaluation.measurement import build_evaluators
    from sightline.models.backbones import num_parameters
    from sightline.models.inference import keep_freed_memory

    evaluators = build_evaluators(cfg.evaluation)
    keep_freed_memory()
    found = {}
    if cfg.data.batch_size == "auto":
        cfg = _with_batch_size(cfg, opened)
        found = {"found": {"data.batch_size": cfg.data.batch_size}}
    pl.seed_everything(cfg.seed, verbose=False)
    classifier, datamodule = _build(cfg, opened)
    trainer_arguments = _trainer_arguments(cfg, datamodule)
    extras = [build(node, f"callbacks.{name}") for name, node in cfg.callbacks.items() if node is not None]
    loggers = [build(node, f"logger.{name}") for name, node in cfg.logger.items() if node is not None]

    data, precision = _describe_data(cfg, opened), trainer_arguments["precision"]
    facts = facts_of(cfg, precision, data)
    with open_run(cfg, facts) as start, _record(cfg, precision, start) as record:
        run_dir = start.folder
        OmegaConf.save(cfg, run_dir / "config.yaml", resolve=True)
        record.update(data=data, **_describe_model(classifier), **found)
        if opened is not None:
            opened.save(run_dir)
        resumable = _make_resumable(cfg, run_dir, facts)
        divergence, rollback = _make_watchers(cfg, classifier, datamodule, record)
        others = ([resumable, divergence, rollback, throughput := Throughput()], extras)
        make_trainer = _trainer_maker(trainer_arguments, start, classifier, others, loggers)
        trainer = _fit(make_trainer, classifier, datamodule, rollback, record, start.checkpoint)
        checkpoint = run_dir / "checkpoints" / "best.ckpt"
        if not checkpoint.is_file():
            log.warning("training ended before its first validation: the last checkpoint stands in for the best")
            trainer.save_checkpoint(checkpoint)
        metrics = {**throughput.metrics, "num_parameters": float(num_parameters(classifier))}
        metrics |= _last_train_metrics(trainer)
        if trainer.is_global_zero:
            metrics |= _export_and_measure(cfg, evaluators, datamodule, trainer, checkpoint, run_dir)
            write_json(run_dir / "metrics.json", metrics)
            _log_hparams(trainer, cfg, metrics, run_dir)
            check_gates(metrics, cfg.evaluation.gates)
    return TrainResult(metrics, checkpoint, run_dir)


def _with_batch_size(cfg: DictConfig, opened: OpenedData | StreamedData | None) -> DictConfig:
    """The configuration with the batch size that fits into memory, as if it had been given.

    Raises: BadInput when not even two images fit.
    """
    from sightline.models.batch_size import find_batch_size
    from sightline.models.inference import choose_device, choose_precision

    num_images = _describe_data(cfg, opened)["num_images"]["train"]
    device = choose_device(cfg.trainer.accelerator)
    precision = choose_precision(cfg.trainer.precision, device)
    size = find_batch_size(_build_classifier(cfg, opened), device=device, precision=precision, most=num_images)
    if size is None:
        raise BadInput(
            f"data.batch_size=auto data.image_size={cfg.data.image_size}: not even two images fit into memory; "
            "use a smaller data.image_size or model.name"
        )
    log.info("data.batch_size=auto: %d images fit (%d steps an epoch)", size, num_images // size)
    cfg = copy.deepcopy(cfg)
    cfg.data.batch_size = size
    return cfg


def _build(cfg: DictConfig, opened: OpenedData | StreamedData | None) -> "tuple[Classifier, ImageDataModule]":
    from sightline.models.backbones import num_parameters

    classifier = _build_classifier(cfg, opened)
    datamodule = make_datamodule(cfg, opened, classifier.spec)
    classifier.check_optimizer()
    card, network, arguments = classifier.card, classifier.backbone, model_arguments(cfg.model)
    settings = f" with {arguments}" if arguments else ""
    log.info(
        "%s%s: %s parameters, weights: %s", card.name, settings, f"{num_parameters(network):,}", card.weights_origin
    )
    if cfg.model.compile:
        network.compile()
    return classifier, datamodule


def _build_classifier(cfg: DictConfig, opened: OpenedData | StreamedData | None) -> "Classifier":
    from sightline.models.backbones import create_backbone
    from sightline.models.classifier import Classifier, Recipe

    model = cfg.model
    class_names = opened.class_names if opened else tuple(str(n) for n in range(NUM_SYNTHETIC_CLASSES))
    network, card = create_backbone(
        model.name,
        len(class_names),
        arguments=model_arguments(model),
        pretrained=model.pretrained,
        weights=model.weights,
    )
    spec = _task_spec(cfg, class_names, network)
    _check_input(network, card, spec)
    recipe = Recipe(
        _build_optimizer(cfg),
        _build_scheduler(cfg),
        model.label_smoothing,
        model.freeze,
        cfg.checkpoint.monitor,
    )
    return Classifier(network, spec, card, recipe, channels_last=model.channels_last)


def _build_optimizer(cfg: DictConfig) -> Any:
    node, changes = cfg.model.optimizer, {}
    if cfg.trainer.gradient_clip_val and "fused" in node:
        changes["fused"] = False  # Lightning refuses to clip the gradients of a fused optimizer in mixed precision
    return build(node, "model.optimizer", **changes)


def _build_scheduler(cfg: DictConfig) -> Any:
    node, changes = cfg.model.scheduler, {}
    if node["_target_"].endswith("ReduceLROnPlateau"):
        changes["mode"] = _better(cfg.checkpoint.monitor)
    return build(node, "model.scheduler", **changes)


def _better(metric: str) -> str:
    """Whether less or more of a metric is better."""
    return "min" if metric.endswith("loss") else "max"


def _task_spec(cfg: DictConfig, class_names: Sequence[str], network: "nn.Module") -> "TaskSpec":
    from sightline.models.backbones import input_statistics
    from sightline.task_spec import TaskSpec

    data = cfg.data
    mean, std = (data.mean, data.std) if data.mean is not None else input_statistics(network)
    return TaskSpec(tuple(class_names), data.image_size, tuple(mean), tuple(std), data.interpolation, data.crop)


def _check_input(network: "nn.Module", card: "ModelCard", spec: "TaskSpec") -> None:
    """One image through the network: a size that it cannot take shows here, before anything is written."""
    import torch

    try:
        with torch.inference_mode():
            outputs = network.eval()(torch.zeros(1, 3, spec.image_size, spec.image_size))
    except (RuntimeError, AssertionError, ValueError) as error:
        raise BadInput(
            f"data.image_size={spec.image_size}: {card.name} does not take such images ({error}); "
            "change it to the size that the model was made for, or choose another model.name"
        ) from error
    finally:
        network.train()
    assert outputs.shape == (1, spec.num_classes), outputs.shape


def _trainer_arguments(cfg: DictConfig, datamodule: "ImageDataModule") -> dict[str, Any]:
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


def _record(cfg: DictConfig, precision: str, start: Start) -> RunRecord:
    resumed = list(start.earlier.get("resumed", []))
    if start.earlier or start.checkpoint:
        resumed.append({"from_step": start.step, "at": now()})
    return RunRecord(
        start.folder,
        earlier=start.earlier,
        task="train",
        name=cfg.name,
        overrides=command_line_overrides(),
        config=to_plain(cfg),
        seed=cfg.seed,
        precision=precision,
        resumed=resumed,
    )


def _describe_data(cfg: DictConfig, opened: OpenedData | StreamedData | None) -> dict[str, Any]:
    if opened is None:
        counts = {"train": cfg.data.num_synthetic, "val": cfg.data.batch_size, "test": 0}
        return {"name": cfg.data.name, "num_images": counts, "sha256": None}
    return {"name": cfg.data.name, **opened.describe()}


def _describe_model(classifier: "Classifier") -> dict[str, Any]:
    return {"model": {**classifier.card.to_dict(), "classes": list(classifier.spec.class_names)}}


def _make_resumable(cfg: DictConfig, run_dir: Path, facts: dict[str, Any]) -> "Resumable":
    from sightline.callbacks.resumable import Resumable

    return Resumable(run_dir / "checkpoints", facts, seed=cfg.seed, every_minutes=cfg.checkpoint.every_minutes)


def _make_watchers(
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


def _trainer_maker(
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
        ModelCheckpoint(best, "best", monitor=monitor, mode=_better(monitor), enable_version_counter=False),
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


def _fit(
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


def _last_train_metrics(trainer: "pl.Trainer") -> dict[str, float]:
    names = ("train/loss", "train/accuracy")
    return {name: float(trainer.callback_metrics[name]) for name in names if name in trainer.callback_metrics}


def _export_and_measure(
    cfg: DictConfig,
    evaluators: "list[Evaluator]",
    datamodule: "ImageDataModule",
    trainer: "pl.Trainer",
    checkpoint: Path,
    run_dir: Path,
) -> dict[str, float]:
    """Write `model/` from the best checkpoint, then measure that file: validation always, test if there is one."""
    from sightline.evaluation.measurement import measure_run
    from sightline.evaluation.predictions import Runner
    from sightline.models.checkpoint import load_model, save_model

    best = load_model(checkpoint)
    save_model(run_dir / "model", best.network, best.spec, best.card)
    loaders = {"val": datamodule.val_dataloader()}
    if "test" in cfg.stages and datamodule.test is not None:
        loaders["test"] = datamodule.test_dataloader()
    elif "test" in cfg.stages:
        log.info("no test images: the report shows validation")
    saved = load_model(run_dir / "model")
    runner = Runner(
        saved.network, saved.spec, trainer.strategy.root_device, str(trainer.precision), cfg.model.channels_last
    )
    limits = {split: cfg.trainer[f"limit_{split}_batches"] for split in ("val", "test")}
    chosen = evaluators if "test" in cfg.stages else None
    return measure_run(run_dir, runner, loaders, limits, chosen, cfg.evaluation)


def _log_hparams(trainer: "pl.Trainer", cfg: DictConfig, metrics: dict[str, float], run_dir: Path) -> None:
    """TensorBoard's table of hyperparameters with the final metrics, and the confusion matrix."""
    import matplotlib.image
    from pytorch_lightning.loggers import TensorBoardLogger

    for logger in trainer.loggers:
        if isinstance(logger, TensorBoardLogger):
            logger.log_hyperparams(_hparams(cfg), metrics)
            if (file := run_dir / "confusion_matrix.png").is_file():
                picture = matplotlib.image.imread(file)[..., :3]
                logger.experiment.add_image("confusion_matrix", picture, trainer.global_step, dataformats="HWC")
            logger.save()


def _hparams(cfg: DictConfig) -> dict[str, Any]:
    """What people compare runs by."""
    keys = ("seed", "data.name", "data.image_size", "data.batch_size", "model.name", "model.lr", "model.freeze")
    chosen = {key: OmegaConf.select(cfg, key) for key in keys}
    targets = {key: str(cfg.model[key]["_target_"]).split(".")[-1] for key in ("optimizer", "scheduler")}
    return {**chosen, **targets, "trainer.max_epochs": cfg.trainer.max_epochs}
