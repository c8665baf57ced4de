"""Answering only when sure: what accuracy that buys, and what it costs."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Coverage:
    """Accuracy among the most confident answers, by the share of images that are answered; surest first."""

    thresholds: np.ndarray
    coverages: np.ndarray
    accuracies: np.ndarray

    @property
    def area(self) -> float:
        """Mean accuracy over all coverages: 1 minus the AURC of Geifman and El-Yaniv (arXiv:1705.08500)."""
        return float(np.average(self.accuracies, weights=np.diff(self.coverages, prepend=0)))


def coverage_curve(confidences: np.ndarray, is_right: np.ndarray) -> Coverage:
    """One point for each confidence that occurs; equally confident answers are given or refused together."""
    order = np.argsort(-confidences, kind="stable")
    ordered = confidences[order]
    ends = np.flatnonzero(np.append(np.diff(ordered) != 0, True))
    counts = ends + 1
    return Coverage(ordered[ends], counts / len(ordered), np.cumsum(is_right[order])[ends] / counts)


def choose_threshold(confidences: np.ndarray, is_right: np.ndarray, target_accuracy: float) -> float | None:
    """The lowest confidence whose answers, and all surer ones, reach the accuracy; None where none do.

    Raising it answers fewer images. Zero where all answers together reach it.
    """
    curve = coverage_curve(confidences, is_right)
    reached = np.flatnonzero(curve.accuracies >= target_accuracy)
    if not len(reached):
        return None
    last = reached[-1]
    return 0.0 if last == len(curve.thresholds) - 1 else float(curve.thresholds[last])
