"""Confidence intervals of metrics: Wilson's for a share, bootstrap over groups for any statistic."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.stats import binomtest, bootstrap

LEVEL = 0.95
NUM_RESAMPLES = 1000


@dataclass(frozen=True)
class Interval:
    """A 95 % interval and the standard deviation of the estimate."""

    low: float
    high: float
    standard_deviation: float


def wilson(num_right: int, num_images: int) -> tuple[float, float]:
    """The 95 % interval of a share by Wilson's score (E. B. Wilson, J. Am. Stat. Assoc. 22, 1927)."""
    interval = binomtest(num_right, num_images).proportion_ci(confidence_level=LEVEL, method="wilson")
    return float(interval.low), float(interval.high)


def resample(
    statistic: Callable[[np.ndarray], float], groups: np.ndarray, *, seed: int, num_resamples: int = NUM_RESAMPLES
) -> Interval:
    """The percentile bootstrap of a statistic over groups of images, which are drawn whole.

    `groups` int `(N,)` numbers each image's group from 0; `statistic` takes a weight for each image `(N,)`.
    """
    count = int(groups.max()) + 1
    if count < 2:  # nothing to draw from
        value = statistic(np.ones(len(groups)))
        return Interval(value, value, 0.0)
    found = bootstrap(
        (np.arange(count),),
        lambda drawn: statistic(np.bincount(drawn, minlength=count)[groups]),
        vectorized=False,
        batch=50,
        n_resamples=num_resamples,
        confidence_level=LEVEL,
        method="percentile",
        rng=np.random.default_rng(seed),
    )
    low, high = found.confidence_interval
    return Interval(float(low), float(high), float(found.standard_error))


def weighted_mean(values: np.ndarray) -> Callable[[np.ndarray], float]:
    """The statistic of a plain mean, for `resample`."""
    return lambda weights: float(np.average(values, weights=weights))


def macro_f1(labels: np.ndarray, predicted: np.ndarray, num_classes: int) -> Callable[[np.ndarray], float]:
    """The statistic of the macro F1 over the classes that occur, for `resample`."""
    right = labels == predicted

    def statistic(weights: np.ndarray) -> float:
        hits = np.bincount(labels[right], weights[right], num_classes)
        total = np.bincount(labels, weights, num_classes) + np.bincount(predicted, weights, num_classes)
        occurs = total > 0
        return float(np.mean(2 * hits[occurs] / total[occurs]))

    return statistic
