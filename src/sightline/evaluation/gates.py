"""Numbers that must hold."""

from collections.abc import Mapping

from sightline.config import did_you_mean
from sightline.errors import GateNotMet

LESS_IS_BETTER = (
    "loss nll nll_calibrated brier brier_calibrated ece ece_calibrated mean_error_increase label_suspects "
    "accuracy_standard_deviation p_value"
).split()


def is_met(name: str, value: float, bound: float) -> bool:
    """Whether a metric is at least its bound, or at most where less is better; never for nan."""
    return value <= bound if name.rsplit("/", 1)[-1] in LESS_IS_BETTER else value >= bound


def check_gates(metrics: Mapping[str, float], gates: Mapping[str, float]) -> None:
    """Raises: GateNotMet that names every gate that was not met, with its value and bound."""
    failed = []
    for name, bound in gates.items():
        if name not in metrics:
            failed.append(f"{name} was not measured{did_you_mean(name, metrics)}")
        elif not is_met(name, metrics[name], bound):
            more = "at most" if name.rsplit("/", 1)[-1] in LESS_IS_BETTER else "at least"
            failed.append(f"{name} is {metrics[name]:.4f} and must be {more} {bound:g}")
    if failed:
        raise GateNotMet(f"evaluation.gates: {'; '.join(failed)}")
