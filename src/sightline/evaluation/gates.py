"""Gates: bounds that the metrics of an evaluation must meet."""

from collections.abc import Mapping

from sightline.config import did_you_mean
from sightline.errors import GateNotMet
from sightline.metrics import NONE_OWN, Mode, meets, mode_of


def check_gates(metrics: Mapping[str, float], gates: Mapping[str, float], modes: Mapping[str, Mode] = NONE_OWN) -> None:
    """Raises: GateNotMet that names every gate that was not met, with its value and bound.

    `modes` are those of the user's own metrics.
    """
    failed = []
    for name, bound in gates.items():
        if name not in metrics:
            failed.append(f"{name} was not measured{did_you_mean(name, metrics)}")
        elif not meets(name, metrics[name], bound, modes):
            more = "at most" if mode_of(name, modes) == "min" else "at least"
            failed.append(f"{name} is {metrics[name]:.4f} and must be {more} {bound:g}")
    if failed:
        raise GateNotMet(f"evaluation.gates: {'; '.join(failed)}")
