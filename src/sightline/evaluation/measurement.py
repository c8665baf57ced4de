"""Measuring a network on a split, as training and evaluate.py do: calibrate, evaluate, write the report."""

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sightline.config import EvaluationConfig, build_each
from sightline.data.manifest import Manifest
from sightline.errors import BadInput
from sightline.evaluation.calibration import calibrate
from sightline.evaluation.evaluation_input import EvaluationInput, Evaluator, Section, Table
from sightline.evaluation.evaluators import PerClass, Scores
from sightline.evaluation.predictions import Predictions, Runner, predict_split
from sightline.evaluation.report import write_report
from sightline.evaluation.scores import measure
from sightline.models.own_metrics import build_metrics

if TYPE_CHECKING:
    from torch.utils.data import DataLoader

log = logging.getLogger(__name__)
TARGET_ACCURACY = 0.95
"""The default accuracy that the confidence threshold is chosen for."""


def build_evaluators(evaluation: EvaluationConfig) -> list[Evaluator]:
    """The objects of `evaluation.evaluators`, in their order.

    Raises: BadInput for arguments that they do not take.
    """
    made = build_each(evaluation.evaluators, "evaluation.evaluators")
    for name, evaluator in made.items():
        if not callable(evaluator):
            raise BadInput(
                f"evaluation.evaluators.{name}: {type(evaluator).__name__} cannot be called; an evaluator takes an "
                "EvaluationInput and returns a Section"
            )
    return list(made.values())


def with_calibration(runner: Runner, validation: Predictions, target_accuracy: float | None) -> Runner:
    """The same network, calibrated on validation."""
    known = runner.spec.calibration
    target = target_accuracy or (known.target_accuracy if known else TARGET_ACCURACY)
    return replace(runner, spec=replace(runner.spec, calibration=calibrate(validation, target)))


def measure_split(
    folder: Path,
    inputs: EvaluationInput,
    evaluators: Sequence[Evaluator],
    *,
    name: str,
    evaluation: EvaluationConfig,
    further: Sequence[Section] = (),
) -> dict[str, float]:
    """Write the report of a split into a run's folder and return its metrics."""
    if why := getattr(inputs.loader.dataset, "why_unshown", None):
        log.warning("only scores and classes are reported, because %s", why)
        evaluators = [Scores(), PerClass()]
    sections = [_section_of(evaluator, inputs) for evaluator in evaluators]
    if evaluation.modes():
        metrics = measure_further(inputs.predictions, inputs.split, evaluation)
        rows = [(metric, f"{value:.6f}") for metric, value in metrics.items()]
        sections.append(Section("Further metrics", metrics, tables={"further": Table(("metric", "value"), rows)}))
    gates, modes = evaluation.bounds(), evaluation.modes()
    return write_report(folder, inputs, [*sections, *further], name=name, gates=gates, modes=modes)


def _section_of(evaluator: Evaluator, inputs: EvaluationInput) -> Section:
    """Raises: BadInput for an evaluator that makes something else."""
    made: Any = evaluator(inputs)
    if not isinstance(made, Section):
        raise BadInput(
            f"evaluation.evaluators: {type(evaluator).__qualname__} returned {type(made).__name__}, and no Section of "
            "sightline.evaluation.evaluation_input; change that code"
        )
    return made


def measure_further(predictions: Predictions, split: str, evaluation: EvaluationConfig) -> dict[str, float]:
    """The metrics of `evaluation.metrics` by name, like `test/auroc`."""
    metrics = build_metrics(evaluation.metrics, predictions.logits.shape[1])
    found = {}
    for name, metric in metrics.items():
        metric.update(predictions.logits, predictions.labels)
        found[f"{split}/{name}"] = float(metric.compute())
    return found


def measure_run(
    folder: Path,
    runner: Runner,
    loaders: "dict[str, DataLoader]",
    limits: dict[str, Any],
    evaluators: Sequence[Evaluator] | None,
    evaluation: EvaluationConfig,
    *,
    name: str,
    further: Sequence[Section] = (),
) -> dict[str, float]:
    """Measure a trained network: calibrate it on `loaders["val"]`, then report on test, or on validation without one.

    The calibration goes into the `task_spec.json` of the folder's model. Without evaluators only the scores are taken.
    """
    validation = predict_split(runner, loaders["val"], limits["val"])
    runner = with_calibration(runner, validation, evaluation.target_accuracy)
    runner.spec.save(folder / "model" / "task_spec.json")
    split = "test" if "test" in loaders else "val"
    predictions = predict_split(runner, loaders["test"], limits["test"]) if split == "test" else validation
    table = folder / "manifest.csv"
    inputs = EvaluationInput(
        predictions,
        runner,
        split,
        loaders[split],
        Manifest.load(table, folder) if table.is_file() else None,
        evaluation.seed,
    )
    chosen = [Scores(), PerClass()] if evaluators is None else evaluators
    metrics = measure_split(folder, inputs, chosen, name=name, evaluation=evaluation, further=further)
    return {**measure(validation, "val"), **measure_further(validation, "val", evaluation), **metrics}
