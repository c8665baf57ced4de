"""The billed seconds and the cost of a training job, from the descriptions of its attempts."""

import time
from collections.abc import Sequence
from typing import Any

from sightline.aws.prices import find_price


def cost_of(attempts: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """For run.json: machine seconds are those of one machine; the cost is that of all of them."""
    trained = sum(each.get("TrainingTimeInSeconds", 0) for each in attempts)
    billed = sum(_billed(each) for each in attempts)
    resources = attempts[-1]["ResourceConfig"]
    instance_type, count = resources["InstanceType"], resources["InstanceCount"]
    price = find_price(instance_type)
    is_spot = bool(attempts[-1].get("EnableManagedSpotTraining"))
    return {
        "instance_type": instance_type,
        "instance_count": count,
        "spot": is_spot,
        "seconds_trained": trained,
        "seconds_billed": round(billed, 1),
        "cost_usd": None if price is None else price.cost_usd(billed, count),
        "spot_saving": round(1 - billed / trained, 4) if is_spot and trained else None,
        "price": None if price is None else vars(price),
    }


def _billed(described: dict[str, Any]) -> float:
    """Billed seconds of an attempt; of a running one, those until now."""
    if "BillableTimeInSeconds" in described:
        return described["BillableTimeInSeconds"]
    started = described.get("TrainingStartTime")
    if started is None or described.get("TrainingEndTime") is not None:
        return 0.0
    return max(0.0, time.time() - started.timestamp())
