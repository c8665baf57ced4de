"""The names of the metrics that an evaluation will report, known before it runs. Never imports torch."""

import re
from collections.abc import Iterable, Mapping
from typing import Any

from sightline.config import EvaluationConfig

SCORES = (
    "loss accuracy accuracy_low accuracy_high accuracy_low_grouped accuracy_high_grouped accuracy_standard_deviation "
    "top5_accuracy macro_precision macro_recall macro_f1 macro_f1_low macro_f1_high"
).split()
CALIBRATION = "nll brier ece nll_calibrated brier_calibrated ece_calibrated temperature".split()
REJECTING = "mean_selective_accuracy threshold coverage accuracy_answered".split()
CORRUPTIONS = "mean_accuracy clean_accuracy mean_error_increase altered_images".split()
AGAINST = [
    f"against/{name}{end}" for name in ("accuracy_difference", "macro_f1_difference") for end in ("", "_low", "_high")
] + [f"against/{name}" for name in ("p_value", "only_this_right", "only_other_right")]
OURS = "sightline.evaluation."
BY_EVALUATOR = {
    f"{OURS}evaluators.Scores": SCORES,
    f"{OURS}evaluators.PerClass": [],
    f"{OURS}evaluators.CalibrationError": CALIBRATION,
    f"{OURS}evaluators.Rejecting": REJECTING,
    f"{OURS}evaluators.Failures": ["label_suspects"],
    f"{OURS}robustness.Corruptions": [f"corruption/{name}" for name in CORRUPTIONS],
}
"""Of each evaluator of ours, without the split."""
OF_ONE_CORRUPTION = re.compile(r"corruption/(?P<name>[a-z0-9_]+)/(?P<severity>[1-5])/accuracy")


def is_reported(name: str, evaluation: EvaluationConfig, split: str, *, against: bool = False) -> bool | None:
    """Whether an evaluation will report a metric; None where evaluators of own code may.

    `against` says that it compares with another run.
    """
    prefix, _, rest = name.partition("/")
    if prefix != split:
        return False
    if rest in known_names(evaluation, against=against):
        return True
    targets = [str(node["_target_"]) for node in _nodes(evaluation)]
    if (found := OF_ONE_CORRUPTION.fullmatch(rest)) and any(_measures(node, found) for node in _nodes(evaluation)):
        return True
    return False if all(target in BY_EVALUATOR for target in targets) else None


def known_names(evaluation: EvaluationConfig, *, against: bool = False) -> list[str]:
    """Without the split; those of single corruptions left out."""
    found = [name for node in _nodes(evaluation) for name in BY_EVALUATOR.get(str(node["_target_"]), [])]
    return [*found, *evaluation.modes(), *(AGAINST if against else [])]


def evaluators_of(name: str) -> list[str]:
    """The evaluators of ours that report a metric, by their class."""
    rest = name.partition("/")[2]
    is_corruption = bool(OF_ONE_CORRUPTION.fullmatch(rest))
    return [
        target.rsplit(".", 1)[-1]
        for target, names in BY_EVALUATOR.items()
        if rest in names or (is_corruption and target.endswith(".Corruptions"))
    ]


def _nodes(evaluation: EvaluationConfig) -> Iterable[Mapping[str, Any]]:
    return [node for node in evaluation.evaluators.values() if node is not None]


def _measures(node: Mapping[str, Any], corruption: re.Match[str]) -> bool:
    if not str(node["_target_"]).endswith(".Corruptions"):
        return False
    names, severities = node.get("names"), node.get("severities") or range(1, 6)
    return (names is None or corruption["name"] in names) and int(corruption["severity"]) in severities
