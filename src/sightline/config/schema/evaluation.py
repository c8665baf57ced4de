"""The evaluation group: what is measured after the predictions of a split, and what must hold of it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sightline.config.constraints import Needs, key
from sightline.config.instantiation import check_targets
from sightline.errors import BadInput


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
        if not any(node is not None for node in self.evaluators.values()):
            raise BadInput("evaluation.evaluators: none is left; choose evaluation=default, short or full")
        check_targets(self.evaluators, "evaluation.evaluators")

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
        gates = {} if self.gates is None else self.gates
        try:
            return {str(name): float(bound) for name, bound in gates.items()}
        except (AttributeError, TypeError, ValueError) as error:
            raise BadInput(
                f"evaluation.gates={gates}: must be numbers by metric, like '{{test/accuracy: 0.9}}' in quotes"
            ) from error
