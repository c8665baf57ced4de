"""The evaluation group: what is measured after the predictions of a split, and what must hold of it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sightline.config.constraints import Needs, key
from sightline.config.instantiation import check_targets
from sightline.errors import BadInput
from sightline.metrics import EVALUATE_TABLE, FINAL_METRICS, MIN_IS_BEST, Mode

TAKEN = frozenset(
    "accuracy_answered accuracy_high_grouped accuracy_low_grouped against coverage corruption macro_f1_high "
    "macro_f1_low mean_selective_accuracy temperature threshold".split()
)
"""Names of ours beyond those that stand in `sightline.metrics`."""


@dataclass
class EvaluationConfig:
    """What is measured after the predictions of a split, and what must hold of it."""

    target_accuracy: float | None = key(
        None,
        "of the answers that are not rejected; null: the model's own, at first 0.95",
        above=0,
        below=1,
        hint=", like 0.95",
    )
    gates: Any = key(None, "{metric: the least it may be}; where less is better, the most")
    seed: int = key(0, "of resampling and of corruptions", minimum=0)
    metrics: dict[str, Any] = key(
        {},
        "more metrics by name, of torchmetrics or functions of all logits and labels, by `_target_`: val/NAME in each "
        "epoch, and of the split at the end; `mode: min` where less is better",
    )
    evaluators: dict[str, Any] = key(
        {},
        "sections of the report, in this order",
        needs=Needs(
            "test in stages", lambda cfg: "test" in getattr(cfg, "stages", ("test",)), may_stay=True, of_group=True
        ),
    )

    def check(self) -> None:
        if self.seed >= 2**32:
            raise BadInput(f"evaluation.seed={self.seed}: must be below 2**32")
        self.bounds()
        self._check_metrics()
        if not any(node is not None for node in self.evaluators.values()):
            raise BadInput("evaluation.evaluators: none is left; choose evaluation=default, short or full")
        check_targets(self.evaluators, "evaluation.evaluators")

    def _check_metrics(self) -> None:
        known = {name.rpartition("/")[2] for name in FINAL_METRICS} | MIN_IS_BEST | TAKEN | {*EVALUATE_TABLE}
        for name, node in self.metrics.items():
            key = f"evaluation.metrics.{name}"
            if not name.isidentifier() or name in known:
                why = "is a metric already" if name in known else "must be letters, digits and _"
                raise BadInput(f"{key}: {name} {why}; give it another name")
            if node is None:
                continue
            if not isinstance(node, dict) or "_target_" not in node:
                raise BadInput(f"{key}={node}: no _target_ is set; write {{_target_: MODULE.CLASS}}")
            if (mode := node.get("mode", "max")) not in ("min", "max"):
                raise BadInput(f"{key}.mode={mode}: must be min where less is better, or max")
        check_targets(self.metrics, "evaluation.metrics")

    def modes(self) -> dict[str, Mode]:
        """Whether the least or the greatest value is the best, of each of the further metrics by name."""
        return {name: node.get("mode", "max") for name, node in self.metrics.items() if node is not None}

    def metrics_of(self, split: str) -> tuple[str, ...]:
        """The names of the further metrics with the split before them."""
        return tuple(f"{split}/{name}" for name in self.modes())

    def check_splits(self, splits: Sequence[str]) -> None:
        """Raises: BadInput for a gate on a split that the task does not measure."""
        for name in self.bounds():
            if name.split("/")[0] not in splits:
                raise BadInput(
                    f"evaluation.gates: {name} is not a metric of {' or '.join(splits)}; "
                    f"name one like {splits[0]}/accuracy"
                )

    def bounds(self) -> dict[str, float]:
        """The bound of every metric that has a gate.

        Raises: BadInput when they are not numbers by name.
        """
        return read_bounds("evaluation.gates", self.gates)


def read_bounds(key: str, gates: Any) -> dict[str, float]:
    """The bounds that a key of gates holds, by metric; null is none.

    Raises: BadInput when they are not numbers by name.
    """
    try:
        return {str(name): float(bound) for name, bound in ({} if gates is None else gates).items()}
    except (AttributeError, TypeError, ValueError) as error:
        raise BadInput(f"{key}={gates}: must be numbers by metric, like '{{test/accuracy: 0.9}}' in quotes") from error
