"""Model quality metrics in the form that SageMaker's model registry reads."""

from collections.abc import Callable
from typing import Any

import numpy as np

from sightline.evaluation.evaluation_input import EvaluationInput
from sightline.evaluation.intervals import resample, weighted_mean
from sightline.evaluation.scores import confusion_matrix

NUM_RESAMPLES = 200
BETAS = {"weighted_f0_5": 0.5, "weighted_f1": 1.0, "weighted_f2": 2.0}
Statistic = Callable[[np.ndarray], float]


def describe_quality(inputs: EvaluationInput) -> dict[str, Any]:
    """`multiclass_classification_metrics` as SageMaker's model quality monitor writes them; deviations by bootstrap."""
    names = inputs.spec.class_names
    matrix = confusion_matrix(inputs.predictions).tolist()
    statistics: dict[str, Statistic] = {
        "accuracy": weighted_mean(inputs.predictions.is_right.astype(float)),
        "weighted_precision": _weighted(inputs, lambda hits, label, predicted: hits / predicted),
        "weighted_recall": _weighted(inputs, lambda hits, label, predicted: hits / label),
    }
    for name, beta in BETAS.items():
        statistics[name] = _weighted(inputs, _f_score(beta))
    table = {name: dict(zip(names, row, strict=True)) for name, row in zip(names, matrix, strict=True)}
    values = {name: _value(inputs, statistic) for name, statistic in statistics.items()}
    return {"multiclass_classification_metrics": {"confusion_matrix": table, **values}}


def _f_score(beta: float) -> Callable[..., np.ndarray]:
    return lambda hits, label, predicted: (1 + beta**2) * hits / (beta**2 * label + predicted)


def _weighted(inputs: EvaluationInput, score: Callable[..., np.ndarray]) -> Statistic:
    """The mean of a class's score, weighted by how many images the class has."""
    labels, predicted = inputs.labels.numpy(), inputs.predictions.predicted.numpy()
    right, count = inputs.predictions.is_right, inputs.spec.num_classes

    def statistic(weights: np.ndarray) -> float:
        hits = np.bincount(labels[right], weights[right], count)
        of_label = np.bincount(labels, weights, count)
        of_predicted = np.bincount(predicted, weights, count)
        with np.errstate(divide="ignore", invalid="ignore"):
            scores = np.where(hits > 0, score(hits, of_label, of_predicted), 0.0)
        return float(np.average(scores, weights=of_label))

    return statistic


def _value(inputs: EvaluationInput, statistic: Statistic) -> dict[str, float]:
    deviation = resample(statistic, inputs.groups, seed=inputs.seed, num_resamples=NUM_RESAMPLES).standard_deviation
    return {"value": statistic(np.ones(len(inputs.labels))), "standard_deviation": deviation}
