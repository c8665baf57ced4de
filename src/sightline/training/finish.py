"""What follows the fit: the exported model, all that is measured and explained of it, and what loggers get of that."""

import logging
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sightline.data.training_data import TrainingData
from sightline.runs.files import write_json
from sightline.runs.record import RunRecord
from sightline.training.trainer import FitPlan
from sightline.training.unlabelled import predict_unlabelled

if TYPE_CHECKING:  # imported inside functions: bad input is refused before torch loads
    import pytorch_lightning as pl

    from sightline.evaluation.evaluation_input import Section
    from sightline.evaluation.predictions import Runner

log = logging.getLogger(__name__)
BEST = Path("checkpoints", "best.ckpt")


def finish(plan: FitPlan, opened: TrainingData, trainer: "pl.Trainer", record: RunRecord) -> dict[str, float]:
    """Write `model/` and all that is measured, explained and exported.

    Raises: GateNotMet when everything is there, and the exported model answers differently.
    """
    from sightline.callbacks.throughput import Throughput
    from sightline.evaluation.learning_curves import learning_curves
    from sightline.evaluation.report import write_sections
    from sightline.export.model_card import write_model_card
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
    curves = list(filter(None, [learning_curves(run_dir)]))
    if plan.learner.not_measured is None:
        metrics |= _export_and_measure(plan, trainer, record, curves)
    else:
        write_sections(run_dir, curves)
    write_json(run_dir / "metrics.json", metrics)
    if opened.unlabelled and "test" in plan.cfg.stages and plan.learner.not_measured is None:
        predict_unlabelled(plan.cfg, opened, _runner(plan, trainer, run_dir), record)
    metrics |= _explain(plan, trainer, run_dir)
    write_json(run_dir / "metrics.json", metrics)
    if plan.learner.not_measured is None:
        write_model_card(run_dir)
    _log_hparams(trainer, plan, metrics, run_dir)
    _export_files(plan, opened, record)
    return metrics


def _last_train_metrics(trainer: "pl.Trainer") -> dict[str, float]:
    names = ("train/loss", "train/accuracy")
    return {name: float(trainer.callback_metrics[name]) for name in names if name in trainer.callback_metrics}


def _export_and_measure(
    plan: FitPlan, trainer: "pl.Trainer", record: RunRecord, further: "Sequence[Section]"
) -> dict[str, float]:
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
    assert runner.runtime is not None
    record.update(runtime=runner.runtime.name)
    return measure_run(run_dir, runner, loaders, limits, chosen, cfg.evaluation, name=cfg.name, further=further)


def _runner(plan: FitPlan, trainer: "pl.Trainer", run_dir: Path) -> "Runner":
    """The network of `model/` as it lies there, with the run's views and device; what computes is as configured."""
    from sightline.data.transforms import normalise
    from sightline.evaluation.predictions import Runner
    from sightline.models.checkpoint import IMPORTED, load_model
    from sightline.models.runtimes import make_runtime
    from sightline.models.views import with_views

    saved = load_model(run_dir / "model", IMPORTED)
    network, placement = with_views(saved.network, saved.spec.views), plan.placement_in(trainer)
    runtime = make_runtime(plan.runtime, saved, placement, partial(normalise, spec=saved.spec))
    return Runner(network, saved.spec, placement.device, placement.precision, placement.channels_last, runtime)


def _explain(plan: FitPlan, trainer: "pl.Trainer", run_dir: Path) -> dict[str, float]:
    """Explain telling images of test, or of validation without one, by the methods that know the architecture."""
    cfg, datamodule = plan.cfg, plan.datamodule
    if "explain" not in cfg.stages or plan.learner.not_measured is not None:
        return {}
    from sightline.data.transforms import normalise
    from sightline.explanation.explain import explain_dataset
    from sightline.models.checkpoint import IMPORTED, load_model
    from sightline.models.runtimes import make_runtime

    dataset = datamodule.val if datamodule.test is None else datamodule.test
    if why := getattr(dataset, "why_unshown", None):
        log.warning("nothing is explained, because %s", why)
        return {}
    saved = load_model(run_dir / "model", IMPORTED)
    placement = replace(plan.placement_in(trainer), precision="32-true")
    plain = replace(saved, spec=replace(saved.spec, views="none"))
    runtime = make_runtime(plan.runtime, plain, placement, partial(normalise, spec=saved.spec))
    folder = run_dir / "explanations"
    return explain_dataset(folder, dataset, saved, placement.device, cfg.explanation, cfg.name, runtime)


def _export_files(plan: FitPlan, opened: TrainingData, record: RunRecord) -> None:
    """Write the files that others run.

    Raises: GateNotMet where their answers differ.
    """
    cfg, learner = plan.cfg, plan.learner
    if "export" not in cfg.stages:
        return
    if learner.not_measured is not None:
        log.warning("nothing is exported: the module %s", learner.not_measured)
        return
    from sightline.export.agreement import Batches
    from sightline.export.model_card import write_model_card
    from sightline.export.model_files import Trained, export_model, summary
    from sightline.models.checkpoint import IMPORTED, load_model

    saved = load_model(record.folder / "model", IMPORTED)
    val = Batches(plan.datamodule.measured("val"), saved.spec, cfg.trainer.limit_val_batches)
    loading = {"batch_size": plan.datamodule.batch_size, "num_workers": plan.datamodule.num_workers}
    train = Batches(opened.make_loader("train", saved.spec, **loading), saved.spec)
    told = (opened.manifest, cfg.model.channels_last, cfg.extensions, cfg.trust_code)
    trained = Trained(record.folder, cfg.name, saved, val, train, *told)
    record.update(exported=summary(export_model(trained, cfg.export)))
    write_model_card(record.folder)


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
