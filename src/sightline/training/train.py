"""Train a classifier: the pure core. Needs a composed configuration and nothing else."""

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sightline.config import (
    TrainConfig,
    check_processes,
    save_yaml,
    to_plain,
    validate,
    with_own_code,
    with_value,
)
from sightline.data.opening import check_root, open_data
from sightline.data.training_data import TrainingData
from sightline.distributed.process_group import ProcessGroup
from sightline.distributed.rank import Rank, all_devices, rank_from_environment, silence_other_ranks
from sightline.runs.files import write_json
from sightline.runs.invocation import UNTOLD, Invocation
from sightline.runs.record import RunRecord, now
from sightline.training.build import check_augmentation, with_batch_size
from sightline.training.find_lr import save_sweep, with_lr
from sightline.training.fine_tuning import found_before, with_max_epochs, with_network
from sightline.training.learner import build_learner
from sightline.training.resume import Start, find_run_to_continue, open_run, resume_fingerprint
from sightline.training.statistics import with_statistics
from sightline.training.trainer import FitPlan, plan_fit, run_fit
from sightline.training.unlabelled import predict_unlabelled

if TYPE_CHECKING:  # imported inside functions: bad input is refused before torch loads
    import pytorch_lightning as pl
    from omegaconf import DictConfig

    from sightline.evaluation.predictions import Runner
    from sightline.training.lr_finder import LrSweep

log = logging.getLogger(__name__)
BEST = Path("checkpoints", "best.ckpt")
EVENTS = ("found", "divergence", "rollbacks", "warnings")
"""What run.json keeps when a run goes on."""


@dataclass(frozen=True)
class TrainResult:
    metrics: dict[str, float]
    checkpoint: Path | None
    run_dir: Path


def train(cfg: "DictConfig | TrainConfig", invocation: Invocation = UNTOLD) -> TrainResult:
    """Fit a classifier, keep its best checkpoint, and measure that one on validation and once on test.

    With several devices this process fits together with others; the first one writes and measures, and the result of
    another one has no metrics.

    Raises: BadInput before anything is written when the configuration or the data cannot work.
    """
    cfg, rank = _with_devices(validate(cfg), invocation)
    cfg, code = with_own_code(cfg, invocation)
    check_root(cfg)
    before = found_before(find_run_to_continue(cfg))
    cfg, guesses = with_network(cfg, before)
    processes = ProcessGroup(rank, train, cfg, invocation)
    with processes.main_process_first():
        opened = open_data(cfg, before)
        cfg, measured = with_statistics(cfg, opened, before)
    check_augmentation(cfg, opened, invocation.overrides)
    import pytorch_lightning as pl

    from sightline.evaluation.gates import check_gates
    from sightline.evaluation.measurement import build_evaluators
    from sightline.models.inference import keep_freed_memory, set_tf32
    from sightline.models.own_metrics import check_metrics

    build_evaluators(cfg.evaluation)  # what is wrong with them shows before anything is written
    check_metrics(cfg.evaluation.metrics, len(opened.class_names))
    keep_freed_memory()
    set_tf32(cfg.model.tf32)
    cfg, more = with_max_epochs(cfg, opened.num_images["train"])
    guesses += [*measured, *more]
    cfg, found, sweep = _with_found(cfg, opened, before)
    found |= {guess.key: guess.value for guess in guesses}
    found |= {"data.channels": opened.channels, "data.bit_depth": opened.bit_depth}
    pl.seed_everything(cfg.seed, verbose=False)
    learner, datamodule = build_learner(cfg, opened, rank.rank, rank.world_size)
    if "explain" in cfg.stages and (own := cfg.explanation.own_methods()) and learner.not_measured is None:
        from sightline.explanation.own_method import check_own_methods

        check_own_methods(own, learner.module, learner.spec)
    plan = plan_fit(cfg, rank, learner, datamodule)
    data = {"name": cfg.data.name, **opened.describe()}
    facts = resume_fingerprint(cfg, plan.precision, data)
    with _open_first(plan, facts, invocation) as (start, record):
        if start is not None and record is not None:
            save_yaml(cfg, start.folder / "config.yaml")
            record.update(data=data, model=plan.learner.describe(), **({"found": found} if found else {}))
            record.add_guesses([*guesses, *opened.guesses])
            code.save(record)
            if sweep is not None:
                save_sweep(start.folder, sweep, cfg.model.name)
            opened.save(start.folder)
        with processes.join(plan.device):
            start, record, trainer = _fit(plan, start, record, facts)
        metrics = _finish(plan, opened, trainer, record) if rank.is_main else {}
        if rank.is_main:
            check_gates(metrics, cfg.evaluation.bounds(), cfg.evaluation.modes())
    return TrainResult(metrics, start.folder / BEST, start.folder)


def _with_devices(cfg: TrainConfig, invocation: Invocation) -> tuple[TrainConfig, Rank]:
    """The configuration with the number of devices in it, and which of the processes this one is.

    Raises: BadInput when the configuration, the environment and this number do not go together.
    """
    count = cfg.trainer.num_devices()
    if count is None:
        count = all_devices(cfg.trainer.accelerator, invocation.ranks)
        cfg = with_value(cfg, "trainer.devices", count)
    rank = rank_from_environment(count, cfg.trainer.num_nodes, invocation.ranks)
    check_processes(cfg, rank.world_size)
    if not rank.is_main:
        silence_other_ranks()
    return cfg, rank


@contextmanager
def _open_first(
    plan: FitPlan, facts: dict[str, Any], invocation: Invocation
) -> Iterator[tuple[Start | None, RunRecord | None]]:
    """The first process's run and its record; the others get to know them when all meet."""
    if not plan.rank.is_main:
        yield None, None
        return
    from sightline.callbacks.checkpoint_files import drop_unneeded

    with open_run(plan.cfg, facts, invocation) as start:
        with _record(plan, start, invocation) as record:
            yield start, record
        drop_unneeded(start.folder / "checkpoints", plan.cfg.checkpoint.keep)


def _fit(
    plan: FitPlan, start: Start | None, record: RunRecord | None, facts: dict[str, Any]
) -> "tuple[Start, RunRecord, pl.Trainer]":
    """Fit together with the other processes, each of which gets the first one's start."""
    from sightline.distributed.agreement import of_the_first

    start = of_the_first(start)
    assert start is not None
    record = record or _record(plan, start, UNTOLD)
    trainer = run_fit(plan, start, record, facts)
    if not of_the_first((start.folder / BEST).is_file()):
        log.warning("training ended before its first validation: the last checkpoint stands in for the best")
        trainer.save_checkpoint(start.folder / BEST)
    return start, record, trainer


def _finish(plan: FitPlan, opened: TrainingData, trainer: "pl.Trainer", record: RunRecord) -> dict[str, float]:
    """Write `model/` and all that is measured and explained."""
    from sightline.callbacks.throughput import Throughput
    from sightline.models.backbones import num_parameters

    callbacks: list[Any] = trainer.callbacks  # pyright: ignore[reportAttributeAccessIssue]  (Lightning's stub lacks it)
    throughput = next(each for each in callbacks if isinstance(each, Throughput))
    metrics = {**throughput.metrics, "num_parameters": float(num_parameters(plan.learner.module))}
    metrics |= _last_train_metrics(trainer)
    plan.datamodule.set_rank(0, 1)
    run_dir = record.folder
    if plan.learner.is_own:
        from sightline.training.own_module import measure_itself

        metrics |= measure_itself(plan.cfg, plan.learner, plan.datamodule, run_dir / BEST)
    metrics |= _export_and_measure(plan, trainer, record) if plan.learner.not_measured is None else {}
    write_json(run_dir / "metrics.json", metrics)
    if opened.unlabelled and "test" in plan.cfg.stages and plan.learner.not_measured is None:
        predict_unlabelled(plan.cfg, opened, _runner(plan, trainer, run_dir), record)
    metrics |= _explain(plan, trainer, run_dir)
    write_json(run_dir / "metrics.json", metrics)
    _log_hparams(trainer, plan, metrics, run_dir)
    return metrics


def _with_found(
    cfg: TrainConfig, opened: TrainingData, before: Mapping[str, Any]
) -> "tuple[TrainConfig, dict[str, Any], LrSweep | None]":
    """The configuration with what `auto` stands for, the same by key, and how a learning rate was found.

    A run that goes on keeps the rate that it had found `before`.
    """
    found, sweep = {}, None
    if cfg.data.batch_size == "auto":
        cfg = with_batch_size(cfg, opened)
        found["data.batch_size"] = cfg.data.batch_size
    if cfg.model.lr == "auto":
        earlier = before.get("model.lr")
        cfg, sweep = with_lr(cfg, opened) if earlier is None else (with_value(cfg, "model.lr", earlier), None)
        found["model.lr"] = cfg.model.lr
    return cfg, found, sweep


def _record(plan: FitPlan, start: Start, invocation: Invocation) -> RunRecord:
    cfg = plan.cfg
    happened = {name: start.earlier[name] for name in EVENTS if name in start.earlier}
    resumed = list(start.earlier.get("resumed", []))
    if start.earlier or start.checkpoint:
        changed = {"changed": {key: list(pair) for key, pair in start.changed.items()}} if start.changed else {}
        resumed.append({"from_step": start.step, "at": now(), **changed})
    return RunRecord(
        start.folder,
        invocation,
        earlier=start.earlier,
        writes=plan.rank.is_main,
        task="train",
        name=cfg.name,
        config=to_plain(cfg),
        seed=cfg.seed,
        precision=plan.precision,
        resumed=resumed,
        **happened,
    )


def _last_train_metrics(trainer: "pl.Trainer") -> dict[str, float]:
    names = ("train/loss", "train/accuracy")
    return {name: float(trainer.callback_metrics[name]) for name in names if name in trainer.callback_metrics}


def _export_and_measure(plan: FitPlan, trainer: "pl.Trainer", record: RunRecord) -> dict[str, float]:
    """Write `model/` from the best checkpoint, then measure that file: validation always, test if there is one."""
    from sightline.evaluation.measurement import build_evaluators, measure_run
    from sightline.models.checkpoint import IMPORTED, load_model, save_model
    from sightline.training.checkpoint_averaging import average_if_better

    cfg, datamodule, run_dir = plan.cfg, plan.datamodule, record.folder
    best = load_model(run_dir / BEST, IMPORTED)
    network = best.network
    if cfg.checkpoint.average_best > 1:
        network, facts = average_if_better(cfg, best, datamodule, trainer)
        record.update(averaged=facts)
    save_model(run_dir / "model", network, best.spec, best.architecture)
    loaders = {"val": datamodule.measured("val")}
    if "test" in cfg.stages and datamodule.test is not None:
        loaders["test"] = datamodule.measured("test")
    elif "test" in cfg.stages:
        log.info("no test images: the report shows validation")
    limits = {"val": cfg.trainer.limit_val_batches, "test": cfg.trainer.limit_test_batches}
    chosen = build_evaluators(cfg.evaluation) if "test" in cfg.stages else None
    runner = _runner(plan, trainer, run_dir)
    return measure_run(run_dir, runner, loaders, limits, chosen, cfg.evaluation, name=cfg.name)


def _runner(plan: FitPlan, trainer: "pl.Trainer", run_dir: Path) -> "Runner":
    """The network of `model/` as it lies there, with the run's views, device and precision."""
    from sightline.evaluation.predictions import Runner
    from sightline.models.checkpoint import IMPORTED, load_model
    from sightline.models.views import with_views

    saved = load_model(run_dir / "model", IMPORTED)
    network, device = with_views(saved.network, saved.spec.views), trainer.strategy.root_device
    return Runner(network, saved.spec, device, str(trainer.precision), plan.cfg.model.channels_last)


def _explain(plan: FitPlan, trainer: "pl.Trainer", run_dir: Path) -> dict[str, float]:
    """Explain telling images of test, or of validation without one, by the methods that know the architecture."""
    cfg, datamodule = plan.cfg, plan.datamodule
    if "explain" not in cfg.stages or plan.learner.not_measured is not None:
        return {}
    from sightline.explanation.explain import explain_dataset
    from sightline.models.checkpoint import IMPORTED, load_model

    dataset = datamodule.val if datamodule.test is None else datamodule.test
    if why := getattr(dataset, "why_unshown", None):
        log.warning("nothing is explained, because %s", why)
        return {}
    saved, device = load_model(run_dir / "model", IMPORTED), trainer.strategy.root_device
    return explain_dataset(run_dir / "explanations", dataset, saved, device, cfg.explanation, cfg.name)


def _log_hparams(trainer: "pl.Trainer", plan: FitPlan, metrics: dict[str, float], run_dir: Path) -> None:
    """TensorBoard's table of hyperparameters with the final metrics, the confusion matrix and the explanations."""
    import matplotlib.image
    from pytorch_lightning.loggers import TensorBoardLogger

    for logger in trainer.loggers:
        if isinstance(logger, TensorBoardLogger):
            logger.log_hyperparams(_hparams(plan), metrics, step=trainer.global_step)
            if (file := run_dir / "confusion_matrix.png").is_file():
                picture = matplotlib.image.imread(file)[..., :3]
                logger.experiment.add_image("confusion_matrix", picture, trainer.global_step, dataformats="HWC")
            if panels := sorted((run_dir / "explanations").glob("*.png")):
                from sightline.explanation.panels import join_panels

                logger.experiment.add_image("explanations", join_panels(panels), trainer.global_step, dataformats="HWC")
            logger.save()


def _hparams(plan: FitPlan) -> dict[str, Any]:
    """What people compare runs by; of our own recipe where that trains."""
    cfg, data, model = plan.cfg, plan.cfg.data, plan.cfg.model
    recipe = {
        "model.freeze": model.freeze,
        "optimizer": str(model.optimizer["_target_"]).split(".")[-1],
        "scheduler": str(model.scheduler["_target_"]).split(".")[-1],
    }
    return {
        "seed": cfg.seed,
        "data.name": data.name,
        "data.image_size": data.image_size,
        "data.batch_size": data.batch_size,
        "model.name": plan.learner.architecture.name,
        "model.lr": model.lr,
        **({} if plan.learner.is_own else recipe),
        "trainer.max_epochs": cfg.trainer.max_epochs,
    }
