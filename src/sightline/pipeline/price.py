"""The most that a pipeline can cost on SageMaker, before it starts."""

from collections.abc import Iterator
from dataclasses import dataclass

from sightline.aws.prices import find_price
from sightline.config import PipelineConfig
from sightline.errors import BadInput
from sightline.pipeline.definition import Definition, make_definition, open_pipeline
from sightline.runs.invocation import Invocation


@dataclass(frozen=True)
class StepBound:
    """The most of one step: its machines for as long as it may run."""

    name: str
    instance_type: str
    count: int
    max_run_minutes: float
    usd: float | None
    """None where the table has no price."""


@dataclass(frozen=True)
class Bound:
    """`usd` is the sum over steps; None where one of them has no price."""

    steps: tuple[StepBound, ...]
    usd: float | None
    table: str

    @property
    def unknown(self) -> list[str]:
        return sorted({each.instance_type for each in self.steps if each.usd is None})

    def lines(self) -> Iterator[str]:
        for each in self.steps:
            amount = "price unknown" if each.usd is None else f"{each.usd:10.2f} USD"
            yield (
                f"{each.name:10} {each.count} x {each.instance_type:16} {each.max_run_minutes:6g} min at the most "
                f"{amount:>14}"
            )
        if self.usd is None:
            yield f"the whole: unknown; no price of {', '.join(self.unknown)} ({self.table})"
        else:
            yield f"the whole: at most {self.usd:.2f} USD an attempt ({self.table}); spot is usually less"


def price(cfg: PipelineConfig, invocation: Invocation) -> Bound:
    return bound_of(make_definition(open_pipeline(cfg, invocation, sends=False)))


def bound_of(definition: Definition) -> Bound:
    """The most that an execution costs: every step once, as long as it may run."""
    steps, known = [], None
    for name, (instance_type, count, minutes) in definition.limits.items():
        found = find_price(instance_type)
        known = known or found
        usd = None if found is None else round(found.cost_usd(60 * minutes, count), 4)
        steps.append(StepBound(name, instance_type, count, minutes, usd))
    order = [each["Name"] for each in definition.document["Steps"]]
    steps.sort(key=lambda each: order.index(each.name) if each.name in order else 1)
    total = None if any(each.usd is None for each in steps) else round(sum(each.usd or 0.0 for each in steps), 2)
    table = "no price is known" if known is None else f"list prices in {known.region}, table of {known.date}"
    return Bound(tuple(steps), total, table)


def check_bound(bound: Bound, most_usd: float | None) -> None:
    """Raises: BadInput where an execution could cost more than `launch.max_cost_usd`."""
    if most_usd is None:
        return
    if bound.usd is None:
        raise BadInput(
            f"launch.max_cost_usd={most_usd:g}: the price of {', '.join(bound.unknown)} is not in the table; choose "
            "another type of machine, or set launch.max_cost_usd=null"
        )
    if bound.usd > most_usd:
        raise BadInput(
            f"launch.max_cost_usd={most_usd:g}: the whole pipeline can cost {bound.usd:.2f} USD (pipeline.py price has "
            "it by step); raise it, or lower launch.max_run_minutes or pipeline.processing_max_run_minutes"
        )
