"""Paired comparison of two runs on the same images: whether a difference is more than chance."""

import numpy as np
from scipy.stats import binomtest

from sightline.evaluation.evaluation_input import EvaluationInput, Section, Table
from sightline.evaluation.intervals import Interval, macro_f1, resample, weighted_mean
from sightline.evaluation.predictions import Predictions
from sightline.evaluation.wording import counted, describe_interval

MIN_SURE = 0.05


def compare(inputs: EvaluationInput, other: Predictions, name: str, other_name: str) -> Section:
    """The difference to another run, with paired intervals over groups, and McNemar's exact test.

    The test counts the images that exactly one run gets right (Q. McNemar, Psychometrika 12, 1947); it takes images
    as independent, so for grouped data only the interval is to be believed.
    """
    mine, theirs = inputs.predictions.is_right, other.is_right
    only_mine, only_theirs = int((mine & ~theirs).sum()), int((theirs & ~mine).sum())
    disagreements = only_mine + only_theirs
    p_value = binomtest(only_mine, disagreements).pvalue if disagreements else 1.0
    gain = float(mine.mean() - theirs.mean())
    interval = resample(weighted_mean(mine.astype(float) - theirs), inputs.groups, seed=inputs.seed)
    f1_gain, f1 = _compare_macro_f1(inputs, other)
    is_real = (interval.low > 0 or interval.high < 0) and (inputs.has_groups or p_value < MIN_SURE)
    prefix = f"{inputs.split}/against"
    metrics = {
        f"{prefix}/accuracy_difference": gain,
        f"{prefix}/accuracy_difference_low": interval.low,
        f"{prefix}/accuracy_difference_high": interval.high,
        f"{prefix}/macro_f1_difference": f1_gain,
        f"{prefix}/macro_f1_difference_low": f1.low,
        f"{prefix}/macro_f1_difference_high": f1.high,
        f"{prefix}/p_value": float(p_value),
        f"{prefix}/only_this_right": float(only_mine),
        f"{prefix}/only_other_right": float(only_theirs),
    }
    evidence = "by the interval over groups" if inputs.has_groups else f"p = {p_value:.2g}, McNemar's exact test"
    if not disagreements:
        first = f"{name} and {other_name} are right and wrong on the same images."
    else:
        gained = counted(only_mine, "image") if only_mine else "no image"
        first = (
            f"{name} gets {gained} right that {other_name} gets wrong, and {only_theirs or 'none'} the other way; "
            f"that {'is more than' if is_real else 'may be'} chance ({evidence})."
        )
    source = f" with 95 % confidence, paired bootstrap{' over groups' if inputs.has_groups else ''}"
    text = (
        f"{first} Accuracy {mine.mean():.4f} against {theirs.mean():.4f}, a difference of {gain:+.4f} "
        f"{describe_interval(interval.low, interval.high, source, sign='+')}."
    )
    rows = [(key, f"{value:.6f}") for key, value in metrics.items()]
    return Section("Comparison", metrics, text, {"comparison": Table(("metric", "value"), rows)})


def _compare_macro_f1(inputs: EvaluationInput, other: Predictions) -> tuple[float, Interval]:
    labels, num_classes = inputs.labels.numpy(), inputs.spec.num_classes
    mine = macro_f1(labels, inputs.predictions.predicted.numpy(), num_classes)
    theirs = macro_f1(labels, other.predicted.numpy(), num_classes)

    def difference(weights: np.ndarray) -> float:
        return mine(weights) - theirs(weights)

    return difference(np.ones(len(labels))), resample(difference, inputs.groups, seed=inputs.seed)
