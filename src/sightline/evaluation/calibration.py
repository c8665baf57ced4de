"""Calibration: whether what a model says with 90 % is right nine times in ten, and the temperature that makes it so."""

from dataclasses import dataclass

import numpy as np
import torch
from scipy.optimize import minimize_scalar
from torchmetrics.functional.classification import multiclass_calibration_error

from sightline.evaluation.predictions import Predictions
from sightline.evaluation.selective_prediction import choose_threshold
from sightline.task_spec import Calibration

NUM_BINS = 15
COLDEST, HOTTEST = 0.05, 20.0


def calibrate(validation: Predictions, target_accuracy: float) -> Calibration:
    """Fit the temperature on validation, and choose the confidence threshold for `target_accuracy`."""
    temperature = fit_temperature(validation)
    confidences = validation.probabilities(temperature).amax(dim=1).numpy()
    threshold = choose_threshold(confidences, validation.is_right, target_accuracy)
    return Calibration(temperature, threshold, target_accuracy, len(validation))


def fit_temperature(predictions: Predictions) -> float:
    """The divisor of the logits with the smallest negative log-likelihood (Guo et al., arXiv:1706.04599).

    The targets are Platt's (N + 1) / (N + 2) instead of 1, the rest spread over the other classes: without a mistake
    among the images no finite temperature would be the best (J. Platt, Advances in Large Margin Classifiers, 1999).
    """
    logits, labels = predictions.logits.double(), predictions.labels
    count, num_classes = logits.shape
    if num_classes < 2:
        return 1.0
    wrong = 1.0 / (count + 2)

    def loss(log_temperature: float) -> float:
        logs = (logits / float(np.exp(log_temperature))).log_softmax(dim=1)
        right = logs.gather(1, labels[:, None])[:, 0]
        others = (logs.sum(dim=1) - right) / (num_classes - 1)
        return float(-((1 - wrong) * right + wrong * others).mean())

    found = minimize_scalar(loss, bounds=(np.log(COLDEST), np.log(HOTTEST)), method="bounded")
    return float(np.exp(found.x))


def expected_calibration_error(probabilities: torch.Tensor, labels: torch.Tensor) -> float:
    """Mean distance of confidence and accuracy over 15 bins (Naeini et al., AAAI 2015)."""
    num_classes = probabilities.shape[1]
    return float(multiclass_calibration_error(probabilities, labels, num_classes, n_bins=NUM_BINS))


def brier_score(probabilities: torch.Tensor, labels: torch.Tensor) -> float:
    """Mean squared distance of the probabilities to the label's one, 0 to 2 (G. W. Brier, 1950)."""
    truth = torch.nn.functional.one_hot(labels, probabilities.shape[1])
    return float((probabilities - truth).square().sum(dim=1).mean())


@dataclass(frozen=True)
class Bin:
    """Images whose confidence lies between two bounds."""

    low: float
    high: float
    num_images: int
    confidence: float
    accuracy: float


def reliability(probabilities: torch.Tensor, predictions: Predictions) -> list[Bin]:
    """The bins of the reliability diagram that hold images."""
    confidences = probabilities.amax(dim=1).numpy()
    edges = np.linspace(0, 1, NUM_BINS + 1).tolist()
    bin_of = np.clip(np.digitize(confidences, edges, right=True) - 1, 0, NUM_BINS - 1)
    bins = []
    for number in np.unique(bin_of):
        inside = bin_of == number
        accuracy, confidence = predictions.is_right[inside].mean(), confidences[inside].mean()
        bins.append(Bin(edges[number], edges[number + 1], int(inside.sum()), float(confidence), float(accuracy)))
    return bins
