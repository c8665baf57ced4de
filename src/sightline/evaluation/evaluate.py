"""Measure a trained model on a split: the one way to a run's test numbers, in training and afterwards."""

import logging
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sightline.config import (
    EvaluateConfig,
    check_views,
    find_code_of_run,
    open_code,
    targets_of,
    to_plain,
    validate_task,
    with_own_code,
    with_value,
)
from sightline.config.own_code import are_of_trusted_packages
from sightline.data.levels import are_alike
from sightline.data.training_data import FolderData, TrainingData
from sightline.data.versions.checkout import with_data_version
from sightline.errors import BadInput
from sightline.finished_run import (
    FinishedRun,
    batch_limit,
    find_images,
    find_own_images,
    make_loader_of,
)
from sightline.models.exported import FILES
from sightline.registry.names import with_local_runs
from sightline.runs.files import write_json
from sightline.runs.folder import find_run
from sightline.runs.invocation import UNTOLD, Invocation
from sightline.runs.record import RunRecord, open_folder

if TYPE_CHECKING:
    import numpy as np
    from omegaconf import DictConfig

    from sightline.evaluation.evaluation_input import EvaluationInput, Section
    from sightline.evaluation.predictions import Runner

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class EvaluateResult:
    metrics: dict[str, float]
    run_dir: Path
    own_metrics: tuple[str, ...] = ()
    """The names of those that the user brought, by `split/metric`."""


def evaluate(
    cfg: "DictConfig | EvaluateConfig", invocation: Invocation = UNTOLD, rows: "np.ndarray | None" = None
) -> EvaluateResult:
    """Measure a finished run on its own split, exactly as training did, or on any folder with `test/<class>/…`.

    Of `rows` of the run's manifest, where they are given, and of no other image.

    Raises: BadInput before anything is written; GateNotMet when everything is.
    """
    cfg = with_local_runs(with_data_version(validate_task(cfg, EvaluateConfig)))
    find_run(cfg.run, Path(cfg.paths.runs))  # before torch loads, which takes seconds
    cfg, code = with_own_code(cfg, invocation)
    from sightline.evaluation.evaluation_input import EvaluationInput
    from sightline.evaluation.gates import check_gates
    from sightline.evaluation.measurement import build_evaluators, measure_split
    from sightline.evaluation.predictions import predict_split
    from sightline.models.inference import keep_freed_memory

    keep_freed_memory()
    evaluators = build_evaluators(cfg.evaluation)
    run = _open(cfg, cfg.run)
    cfg = _with_metrics_of(cfg, run)
    other = None if cfg.against is None else _open_other(cfg, run)
    runner = _runner(cfg, run)
    images = find_images(cfg, run) if rows is None else _only(find_images(cfg, run), rows)
    loader = make_loader_of(cfg, run, images, cfg.split)
    output = open_folder(Path(cfg.paths.runs), "evaluate", run.name, cfg.output)
    with RunRecord(output, invocation, **_facts(cfg, run, images)) as record:
        record.add_guesses(images.guesses)
        code.save(record)
        runner = _calibrated(cfg, run, runner)
        assert runner.runtime is not None
        record.update(calibrated=runner.spec.calibration is not None, runtime=runner.runtime.name)
        predictions = predict_split(runner, loader, batch_limit(cfg, run, cfg.split))
        manifest = run.manifest if images.manifest is None else images.manifest
        inputs = EvaluationInput(predictions, runner, cfg.split, loader, manifest, cfg.evaluation.seed)
        further = [] if other is None else [_compare(cfg, inputs, run, other, images)]
        metrics = measure_split(output, inputs, evaluators, name=run.name, evaluation=cfg.evaluation, further=further)
        write_json(output / "metrics.json", metrics)
        check_gates(metrics, cfg.evaluation.bounds(), cfg.evaluation.modes())
    return EvaluateResult(metrics, output, cfg.evaluation.metrics_of(cfg.split))


def _only(images: TrainingData, rows: "np.ndarray") -> TrainingData:
    """Raises: BadInput for images that are no files."""
    if not isinstance(images, FolderData):
        raise BadInput("images in shards, or of a data module of one's own, are measured as a whole")
    return replace(images, manifest=images.manifest.keep(rows))


def _open(cfg: EvaluateConfig, run: str, precision: str | None = None) -> FinishedRun:
    places = {"data_root": cfg.data.own_root, "runs": cfg.paths.runs, "extensions": cfg.extensions}
    how = {"precision": precision or cfg.precision, "runtime": cfg.runtime}
    opened = FinishedRun.open(run, cfg.accelerator, **how, **places, trust_code=cfg.trust_code)
    return replace(opened, cache=Path(cfg.paths.cache))


def _with_metrics_of(cfg: EvaluateConfig, run: FinishedRun) -> EvaluateConfig:
    """The configuration with the metrics that the run was trained with, where their code is what it was then."""
    from sightline.models.own_metrics import check_metric

    nodes = {
        name: node
        for name, node in run.settings.get("evaluation", {}).get("metrics", {}).items()
        if node is not None and name not in cfg.evaluation.metrics
    }
    known = {**run.settings.get("code_sha256", {}), **cfg.code_sha256}
    for name, node in nodes.items():
        try:
            targets, place = targets_of(node, f"evaluation.metrics.{name}"), cfg.extensions
            if place is None and run.folder is not None and not are_of_trusted_packages(targets):
                place = find_code_of_run(run.folder, trusts=cfg.trust_code)
            open_code(targets, place, known=known, record=run.folder, trusts=cfg.trust_code)
            check_metric(name, node, run.task_spec.num_classes)
        except BadInput as error:
            log.warning("%s of the run is left out: %s", name, error)
            continue
        cfg = with_value(cfg, "evaluation.metrics", {**cfg.evaluation.metrics, name: node})
    return cfg


def _open_other(cfg: EvaluateConfig, run: FinishedRun) -> FinishedRun:
    """The run to compare with, at the same precision; where that is int8 and it has none, at fp32.

    Raises: BadInput when there is none, or its classes or channels are others.
    """
    try:
        place = find_run(str(cfg.against), Path(cfg.paths.runs))
        lacks = cfg.precision == "int8" and not any((place / each / FILES["int8"]).is_file() for each in ("", "model"))
        other = _open(cfg, str(cfg.against), "32-true" if lacks else None)
    except BadInput as error:
        raise BadInput(str(error).replace("run=", "against=", 1)) from error
    mine, theirs = run.task_spec.class_names, other.task_spec.class_names
    if mine != theirs:
        differing = ", ".join(sorted(set(mine) ^ set(theirs))[:5]) or "the same in another order"
        raise BadInput(
            f"against={cfg.against}: the two models know different classes ({differing}); give one of the same"
        )
    channels, others = run.task_spec.channels, other.task_spec.channels
    if not are_alike(channels, others):
        raise BadInput(
            f"against={cfg.against}: it takes images of {others} channel(s), and run={cfg.run} of {channels}; give one "
            "of the same"
        )
    return other


def _views(cfg: EvaluateConfig, run: FinishedRun) -> str:
    """Raises: BadInput for views that would change a class."""
    views = cfg.test_time_augmentation or run.task_spec.views
    check_views(views, run.settings.get("data", {}).get("orientation_matters", False))
    return views


def _facts(cfg: EvaluateConfig, run: FinishedRun, images: TrainingData) -> dict[str, Any]:
    return {
        "task": "evaluate",
        "name": run.trained.get("name"),
        "run": str(run.path),
        "config": to_plain(cfg),
        "device": str(run.device),
        "precision": run.precision,
        "data": images.describe(),
        "model": run.describe_model(),
    }


def _runner(cfg: EvaluateConfig, run: FinishedRun) -> "Runner":
    """The network with its own views, unless the command names others."""
    from sightline.evaluation.predictions import Runner
    from sightline.models.views import with_views

    spec = replace(run.task_spec, views=_views(cfg, run))
    network = with_views(run.saved.network, spec.views)
    runtime = run.make_runtime(spec.views)
    return Runner(network, spec, run.device, run.precision, run.channels_last, runtime)


def _calibrated(cfg: EvaluateConfig, run: FinishedRun, runner: "Runner") -> "Runner":
    """The calibrated network; fitted now where it is not yet, or another target accuracy or other views are asked for.

    A calibration for the model's own views is stored with the model.
    """
    from sightline.evaluation.measurement import with_calibration
    from sightline.evaluation.predictions import predict_split

    known, target = run.task_spec.calibration, cfg.evaluation.target_accuracy
    is_own = runner.spec.views == run.task_spec.views
    if known is not None and is_own and target in (None, known.target_accuracy):
        return runner
    try:
        images = find_own_images(cfg, run, "val")
    except BadInput as error:
        log.warning("uncalibrated: the validation images of the run are needed for that (%s)", error)
        return runner
    validation = predict_split(runner, make_loader_of(cfg, run, images, "val"), batch_limit(cfg, run, "val"))
    runner = with_calibration(runner, validation, target)
    kept = next((folder for folder in (run.path, run.path / "model") if (folder / "task_spec.json").is_file()), None)
    is_kept = "registry" not in run.describe_model() and run.precision != "int8"  # a version never changes
    if kept is not None and is_own and is_kept:
        runner.spec.save(kept / "task_spec.json")
        log.info("temperature %.4f and threshold are stored in %s", runner.spec.temperature, kept / "task_spec.json")
    return runner


def _compare(
    cfg: EvaluateConfig, inputs: "EvaluationInput", run: FinishedRun, other: FinishedRun, images: TrainingData
) -> "Section":
    """The other model on the same images."""
    from sightline.evaluation.comparison import compare
    from sightline.evaluation.predictions import Predictions, predict_split

    theirs = predict_split(
        _runner(cfg, other), make_loader_of(cfg, other, images, cfg.split), batch_limit(cfg, other, cfg.split)
    )
    if len(theirs) != len(inputs.predictions):
        raise BadInput(
            f"against={cfg.against}: it was trained with another limit of batches; measure a folder with data.root"
        )
    precision = "" if other.precision == run.precision else " (fp32: it has no int8)"
    names = str(run.path), f"{other.path}{precision}"
    section = compare(inputs, Predictions(theirs.logits, inputs.labels), *names)
    log.info("%s", section.text)
    return section
