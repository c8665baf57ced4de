"""Selective prediction (reject option): accuracy among the answers that a confidence threshold lets through."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Coverage:
    """The accuracy-coverage curve: accuracy among the most confident answers, by the share that is answered."""

    thresholds: np.ndarray
    coverages: np.ndarray
    accuracies: np.ndarray

    @property
    def area(self) -> float:
        """Mean accuracy over all coverages: 1 minus the AURC of Geifman and El-Yaniv (arXiv:1705.08500)."""
        return float(np.average(self.accuracies, weights=np.diff(self.coverages, prepend=0)))


def coverage_curve(confidences: np.ndarray, is_right: np.ndarray) -> Coverage:
    """The curve of N predictions, a point for each confidence: equal ones are answered or rejected together."""
    order = np.argsort(-confidences, kind="stable")
    ordered = confidences[order]
    ends = np.flatnonzero(np.append(np.diff(ordered) != 0, True))
    counts = ends + 1
    return Coverage(ordered[ends], counts / len(ordered), np.cumsum(is_right[order])[ends] / counts)


def choose_threshold(confidences: np.ndarray, is_right: np.ndarray, target_accuracy: float) -> float | None:
    """The lowest threshold whose answers reach the accuracy; None where none do.

    Raising it answers fewer images. Zero where all answers together reach it.
    """
    curve = coverage_curve(confidences, is_right)
    reached = np.flatnonzero(curve.accuracies >= target_accuracy)
    if not len(reached):
        return None
    last = reached[-1]
    return 0.0 if last == len(curve.thresholds) - 1 else float(curve.thresholds[last])
