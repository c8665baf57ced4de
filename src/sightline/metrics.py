"""Metrics by name: which exist, whether the minimum or maximum is best, which are printed. `split/metric`."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Literal

Mode = Literal["min", "max"]
FIT_METRICS = tuple(
    f"val/{name}" for name in ("loss", "accuracy", "top5_accuracy", "macro_precision", "macro_recall", "macro_f1")
)
"""What validation reports in every epoch."""
FINAL_METRICS = (
    *FIT_METRICS,
    "val/accuracy_low",
    "val/accuracy_high",
    "train/loss",
    "train/accuracy",
    "train/images_per_second",
    "train/seconds",
    "num_parameters",
)
"""What a run reports at its end, the test set left out."""
EPOCH_LINE = ("train/loss", "train/accuracy", "val/loss", "val/accuracy")
"""Printed after each epoch, and what decides on the best checkpoint."""
TRAIN_TABLE = (
    "val/accuracy",
    "test/loss",
    "test/accuracy",
    "test/macro_f1",
    "train/images_per_second",
    "train/seconds",
)
"""Printed at the end of a training, and the user's own metrics."""
EVALUATE_TABLE = tuple(
    "loss accuracy accuracy_low accuracy_high top5_accuracy macro_precision macro_recall macro_f1".split()
)
"""Printed at the end of an evaluation, of its split, and the user's own metrics."""
EXPLAIN_TABLE = tuple(
    "insertion_auc random_insertion_auc deletion_auc random_deletion_auc correlation_with_shuffled_weights "
    "worst_completeness_error num_not_converged steps seconds_per_image".split()
)
"""Printed at the end of an explanation, of each method."""
FIND_LR_TABLE = ("lr", "steepest", "tenth_of_divergence")
REFIT_TABLE = ("test/accuracy", "test/macro_f1")
"""Printed at the end of a sweep that trained its best settings again."""
MIN_IS_BEST = frozenset(
    "loss step_loss nll nll_calibrated brier brier_calibrated ece ece_calibrated mean_error_increase label_suspects "
    "accuracy_standard_deviation p_value seconds seconds_per_image num_parameters deletion_auc "
    "worst_completeness_error completeness_error num_not_converged".split()
)
"""Last parts of the names of metrics whose least value is the best."""
NONE_OWN: Mapping[str, Mode] = MappingProxyType({})


def mode_of(name: str, own: Mapping[str, Mode] = NONE_OWN) -> Mode:
    """Whether the least (`min`) or the greatest (`max`) value of a metric is its best, by its name.

    `own` has the modes of the user's metrics.
    """
    last = name.rsplit("/", 1)[-1]
    return own.get(last, "min" if last in MIN_IS_BEST or last.endswith(("loss", "error")) else "max")


def meets(name: str, value: float, bound: float, own: Mapping[str, Mode] = NONE_OWN) -> bool:
    """Whether a metric is at least its bound, or at most where less is better; never for nan."""
    return value <= bound if mode_of(name, own) == "min" else value >= bound
