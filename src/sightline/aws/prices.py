"""Prices of machines: a dated table, an upper bound before a job and the cost after it."""

import functools
import json
from dataclasses import dataclass
from pathlib import Path

from sightline.errors import BadInput

TABLE = Path(__file__).with_name("prices.json")


@dataclass(frozen=True)
class Price:
    """The on-demand price of one machine of a type."""

    usd_per_hour: float
    region: str
    date: str
    source: str

    def cost_usd(self, seconds: float, count: int = 1) -> float:
        return round(seconds / 3600 * self.usd_per_hour * count, 4)


@functools.cache
def _table() -> dict:
    return json.loads(TABLE.read_text(encoding="utf-8"))


def find_price(instance_type: str) -> Price | None:
    """The price of a type of machine, where the table has it."""
    table = _table()
    usd = table["usd_per_hour"].get(instance_type)
    return None if usd is None else Price(usd, table["region"], table["date"], table["source"])


def describe_bound(instance_type: str, count: int, minutes: float, spot: bool) -> str:
    """One line with the most that a job can cost."""
    price = find_price(instance_type)
    if price is None:
        return f"{count} x {instance_type}, at most {minutes:g} minutes; its price is not in the table"
    most = price.cost_usd(60 * minutes, count)
    usually = "; spot machines are usually much cheaper" if spot else ""
    return (
        f"{count} x {instance_type}, at most {minutes:g} minutes: at most {most:.2f} USD "
        f"(list price in {price.region}, table of {price.date}{usually})"
    )


def check_bound(instance_type: str, count: int, minutes: float, most_usd: float | None) -> None:
    """Raises: BadInput when a job could cost more than `launch.max_cost_usd`."""
    if most_usd is None:
        return
    price = find_price(instance_type)
    if price is None:
        raise BadInput(
            f"launch.max_cost_usd={most_usd:g}: the price of launch.instance_type={instance_type} is not in "
            f"{TABLE.name}; add it there, or set launch.max_cost_usd=null"
        )
    bound = price.cost_usd(60 * minutes, count)
    if bound > most_usd:
        affordable = int(most_usd / (price.usd_per_hour * count) * 60)
        raise BadInput(
            f"launch.max_cost_usd={most_usd:g}: {count} x {instance_type} for {minutes:g} minutes can cost {bound:.2f} "
            f"USD ({price.usd_per_hour:g} an hour in {price.region}, table of {price.date}); raise it, or set "
            f"launch.max_run_minutes={affordable} or less"
        )
