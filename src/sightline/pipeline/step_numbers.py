"""The few numbers that are shown of each step."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sightline.runs.files import read_json
from sightline.runs.folder import read_points


def numbers_of(step: str, folder: Path) -> dict[str, Any]:
    """The few numbers that say what a step made of it."""
    metrics = read_json(folder / "metrics.json")
    if step == "prepare":
        return {name.removeprefix("num_images/"): metrics[name] for name in metrics if name.startswith("num_images/")}
    if step == "train":
        points = {point.name: point.value for point in read_points(folder)}
        return {name: round(points[name], 4) for name in ("val/accuracy", "val/loss") if name in points}
    if step == "export":
        facts = read_json(folder / "model" / "export.json")
        return {
            f"{precision} accuracy": round(facts[precision]["accuracy"], 4)
            for precision in ("fp32", "int8")
            if precision in facts
        }
    if step == "evaluate":
        names = ("accuracy", "accuracy_low", "accuracy_high", "ece_calibrated", "corruption/mean_accuracy")
        names = (*names, "against/accuracy_difference")
        return {name: round(metrics[f"test/{name}"], 4) for name in names if f"test/{name}" in metrics}
    if step == "explain":
        images = read_json(folder / "explanations" / "explanations.json").get("images", [])
        return {"images": len({each["image"] for each in images})} if images else {}
    if step == "gate":
        decision = read_json(folder / "gate.json")
        return {"passed": decision["passed"], "conditions": len(decision["conditions"])} if decision else {}
    return {}


def describe_numbers(numbers: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {_shown(value)}" for name, value in numbers.items())


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:,}" if isinstance(value, int) else f"{value:g}" if isinstance(value, float) else str(value)
