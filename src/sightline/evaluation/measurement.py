"""Measuring a network on a split, as training and evaluate.py do: calibrate, evaluate, write the report."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sightline.config import EvaluationConfig, build_each
from sightline.data.manifest import Manifest
from sightline.evaluation.calibration import calibrate
from sightline.evaluation.evaluation_input import EvaluationInput, Evaluator, Section
from sightline.evaluation.evaluators import PerClass, Scores
from sightline.evaluation.predictions import Predictions, Runner, predict_split
from sightline.evaluation.report import write_report
from sightline.evaluation.scores import measure

if TYPE_CHECKING:
    from torch.utils.data import DataLoader

TARGET_ACCURACY = 0.95
"""The default accuracy that the confidence threshold is chosen for."""


def build_evaluators(evaluation: EvaluationConfig) -> list[Evaluator]:
    """The objects of `evaluation.evaluators`, in their order.

    Raises: BadInput for arguments that they do not take.
    """
    return list(build_each(evaluation.evaluators, "evaluation.evaluators").values())


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
    gates: dict[str, float],
    further: Sequence[Section] = (),
) -> dict[str, float]:
    """Write the report of a split into a run's folder and return its metrics."""
    sections = [evaluator(inputs) for evaluator in evaluators]
    return write_report(folder, inputs, [*sections, *further], name=name, gates=gates)


def measure_run(
    folder: Path,
    runner: Runner,
    loaders: "dict[str, DataLoader]",
    limits: dict[str, Any],
    evaluators: Sequence[Evaluator] | None,
    evaluation: EvaluationConfig,
    *,
    name: str,
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
    gates = evaluation.bounds()
    metrics = measure_split(folder, inputs, chosen, name=name, gates=gates)
    return {**measure(validation, "val"), **metrics}
