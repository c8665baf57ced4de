"""Train a classifier: the pure core. Needs a composed configuration and nothing else."""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, OmegaConf

from sightline.config import build, command_line_overrides, gates_of, to_plain, validate, with_value
from sightline.construction import build_training, with_batch_size
from sightline.fitting import accepted_arguments, fit, make_resumable, make_watchers, trainer_maker
from sightline.lr_finding import earlier_lr, save_sweep, with_lr
from sightline.preparation import OpenedData, StreamedData, describe_data, open_training_data
from sightline.recipe import recipe_callbacks
from sightline.resuming import Start, facts_of, find_run_to_continue, open_run
from sightline.run_record import RunRecord, now, write_json

if TYPE_CHECKING:  # imported inside functions: bad input is refused before torch loads
    import pytorch_lightning as pl

    from sightline.data.datamodule import ImageDataModule
    from sightline.models.classifier import Classifier
    from sightline.models.lr_finder import LrSweep

log = logging.getLogger(__name__)


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
    from sightline.models.inference import keep_freed_memory, set_tf32

    build_evaluators(cfg.evaluation)  # what is wrong with them shows before anything is written
    keep_freed_memory()
    set_tf32(cfg.model.tf32)
    cfg, found, sweep = _with_found(cfg, opened)
    pl.seed_everything(cfg.seed, verbose=False)
    classifier, datamodule = build_training(cfg, opened)
    arguments = accepted_arguments(cfg, datamodule)
    extras = recipe_callbacks(cfg)
    extras += [build(node, f"callbacks.{name}") for name, node in cfg.callbacks.items() if node is not None]
    loggers = [build(node, f"logger.{name}") for name, node in cfg.logger.items() if node is not None]

    data, precision = describe_data(cfg, opened), arguments["precision"]
    facts = facts_of(cfg, precision, data)
    with open_run(cfg, facts) as start, _record(cfg, precision, start) as record:
        run_dir = start.folder
        OmegaConf.save(cfg, run_dir / "config.yaml", resolve=True)
        record.update(data=data, **_describe_model(classifier), **({"found": found} if found else {}))
        if sweep is not None:
            save_sweep(run_dir, sweep, cfg.model.name)
        if opened is not None:
            opened.save(run_dir)
        resumable = make_resumable(cfg, run_dir, facts)
        divergence, rollback = make_watchers(cfg, classifier, datamodule, record)
        others = ([resumable, divergence, rollback, throughput := Throughput()], extras)
        make_trainer = trainer_maker(arguments, start, classifier, others, loggers)
        trainer = fit(make_trainer, classifier, datamodule, rollback, record, start.checkpoint)
        checkpoint = run_dir / "checkpoints" / "best.ckpt"
        if not checkpoint.is_file():
            log.warning("training ended before its first validation: the last checkpoint stands in for the best")
            trainer.save_checkpoint(checkpoint)
        metrics = {**throughput.metrics, "num_parameters": float(num_parameters(classifier))}
        metrics |= _last_train_metrics(trainer)
        if trainer.is_global_zero:
            metrics |= _export_and_measure(cfg, datamodule, trainer, checkpoint, record)
            write_json(run_dir / "metrics.json", metrics)
            metrics |= _explain(cfg, datamodule, trainer, run_dir)
            write_json(run_dir / "metrics.json", metrics)
            _log_hparams(trainer, cfg, metrics, run_dir)
            check_gates(metrics, gates_of(cfg.evaluation))
    return TrainResult(metrics, checkpoint, run_dir)


def _with_found(
    cfg: DictConfig, opened: OpenedData | StreamedData | None
) -> "tuple[DictConfig, dict[str, Any], LrSweep | None]":
    """The configuration with what `auto` stands for, the same by key, and how a learning rate was found.

    A run that goes on keeps the rate that it had found.
    """
    found, sweep = {}, None
    if cfg.data.batch_size == "auto":
        cfg = with_batch_size(cfg, opened)
        found["data.batch_size"] = cfg.data.batch_size
    if cfg.model.lr == "auto":
        earlier = earlier_lr(find_run_to_continue(cfg))
        cfg, sweep = with_lr(cfg, opened) if earlier is None else (with_value(cfg, "model.lr", earlier), None)
        found["model.lr"] = cfg.model.lr
    return cfg, found, sweep


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


def _describe_model(classifier: "Classifier") -> dict[str, Any]:
    return {"model": {**classifier.card.to_dict(), "classes": list(classifier.spec.class_names)}}


def _last_train_metrics(trainer: "pl.Trainer") -> dict[str, float]:
    names = ("train/loss", "train/accuracy")
    return {name: float(trainer.callback_metrics[name]) for name in names if name in trainer.callback_metrics}


def _export_and_measure(
    cfg: DictConfig, datamodule: "ImageDataModule", trainer: "pl.Trainer", checkpoint: Path, record: RunRecord
) -> dict[str, float]:
    """Write `model/` from the best checkpoint, then measure that file: validation always, test if there is one."""
    from sightline.checkpoint_averaging import average_if_better
    from sightline.evaluation.measurement import build_evaluators, measure_run
    from sightline.evaluation.predictions import Runner
    from sightline.models.checkpoint import load_model, save_model
    from sightline.models.views import with_views

    best, run_dir = load_model(checkpoint), record.folder
    network = best.network
    if cfg.checkpoint.average_best > 1:
        network, facts = average_if_better(cfg, best, datamodule, trainer)
        record.update(averaged=facts)
    save_model(run_dir / "model", network, best.spec, best.card)
    loaders = {"val": datamodule.val_dataloader()}
    if "test" in cfg.stages and datamodule.test is not None:
        loaders["test"] = datamodule.test_dataloader()
    elif "test" in cfg.stages:
        log.info("no test images: the report shows validation")
    saved = load_model(run_dir / "model")
    network, device = with_views(saved.network, cfg.test_time_augmentation), trainer.strategy.root_device
    runner = Runner(network, saved.spec, device, str(trainer.precision), cfg.model.channels_last)
    limits = {split: cfg.trainer[f"limit_{split}_batches"] for split in ("val", "test")}
    chosen = build_evaluators(cfg.evaluation) if "test" in cfg.stages else None
    return measure_run(run_dir, runner, loaders, limits, chosen, cfg.evaluation)


def _explain(cfg: DictConfig, datamodule: "ImageDataModule", trainer: "pl.Trainer", run_dir: Path) -> dict[str, float]:
    """Explain telling images of test, or of validation without one, by the methods that know the architecture."""
    if "explain" not in cfg.stages:
        return {}
    from sightline.explanation.explain import explain_dataset
    from sightline.models.checkpoint import load_model

    dataset = datamodule.val if datamodule.test is None else datamodule.test
    saved, device = load_model(run_dir / "model"), trainer.strategy.root_device
    return explain_dataset(run_dir / "explanations", dataset, saved, device, cfg.explanation, cfg.name)


def _log_hparams(trainer: "pl.Trainer", cfg: DictConfig, metrics: dict[str, float], run_dir: Path) -> None:
    """TensorBoard's table of hyperparameters with the final metrics, the confusion matrix and the explanations."""
    import matplotlib.image
    from pytorch_lightning.loggers import TensorBoardLogger

    from sightline.explanation.panels import join_panels

    for logger in trainer.loggers:
        if isinstance(logger, TensorBoardLogger):
            logger.log_hyperparams(_hparams(cfg), metrics)
            if (file := run_dir / "confusion_matrix.png").is_file():
                picture = matplotlib.image.imread(file)[..., :3]
                logger.experiment.add_image("confusion_matrix", picture, trainer.global_step, dataformats="HWC")
            if panels := sorted((run_dir / "explanations").glob("*.png")):
                logger.experiment.add_image("explanations", join_panels(panels), trainer.global_step, dataformats="HWC")
            logger.save()


def _hparams(cfg: DictConfig) -> dict[str, Any]:
    """What people compare runs by."""
    keys = ("seed", "data.name", "data.image_size", "data.batch_size", "model.name", "model.lr", "model.freeze")
    chosen = {key: OmegaConf.select(cfg, key) for key in keys}
    targets = {key: str(cfg.model[key]["_target_"]).split(".")[-1] for key in ("optimizer", "scheduler")}
    return {**chosen, **targets, "trainer.max_epochs": cfg.trainer.max_epochs}
