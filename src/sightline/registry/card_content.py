"""A version's model card by SageMaker's schema: what the console shows beside the model's own model_card.md."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sightline.runs.files import read_json

SHOWN = (
    *("accuracy", "accuracy_low", "accuracy_high", "top5_accuracy", "macro_precision", "macro_recall", "macro_f1"),
    *("nll_calibrated", "brier_calibrated", "ece_calibrated"),
)
"""Metrics of the test images, without `test/`."""
MAX_TEXT, MAX_SHORT, MAX_VALUE = 2048, 1024, 255
LIMITS = (
    "It knows these classes alone: a picture of anything else is given one of them, too. "
    "Whatever is unlike the images that it was measured on was not measured; model_card.md in the package says more."
)


def describe_package(package: Path, gate: Mapping[str, Any] | None, artifact: str) -> dict[str, Any]:
    """The card of a package, from its files alone; `artifact` is where its archive lies."""
    record, spec = read_json(package / "run.json"), read_json(package / "model" / "task_spec.json")
    metrics = read_json(package / "metrics.json")
    names = [str(name) for name in spec.get("class_names", ())]
    data = record.get("data", {})
    dataset = " ".join(filter(None, [data.get("name"), f"sha256:{data['sha256']}" if data.get("sha256") else ""]))
    training: dict[str, Any] = {"user_provided_hyper_parameters": _hyper_parameters(record, package)}
    if dataset:
        training["training_datasets"] = [dataset[:MAX_SHORT]]
    evaluation = describe_evaluation(metrics, gate)
    return {
        "model_overview": {
            "model_description": f"Tells {len(names)} classes of pictures apart: {', '.join(names)}"[:MAX_SHORT],
            "model_artifact": [artifact],
            "algorithm_type": str(read_json(package / "model" / "model.json").get("name", ""))[:MAX_SHORT],
            "problem_type": "Image classification",
        },
        "intended_uses": {
            "purpose_of_model": "A picture in, one of its classes out, with a probability.",
            "factors_affecting_model_efficiency": LIMITS,
            "risk_rating": "Unknown",
        },
        "training_details": {"training_job_details": training},
        "evaluation_details": [evaluation] if evaluation else [],
        "additional_information": {"caveats_and_recommendations": LIMITS},
    }


def describe_evaluation(metrics: Mapping[str, Any], gate: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """The numbers of the test images, and what the gate said of them; None where there is neither."""
    shown = {
        f"test/{name}": float(metrics[f"test/{name}"])
        for name in SHOWN
        if math.isfinite(metrics.get(f"test/{name}", math.nan))
    }
    if not shown and not gate:
        return None
    found: dict[str, Any] = {"name": "test images of the exported model"}
    if gate and gate.get("sentence"):
        found["evaluation_observation"] = str(gate["sentence"])[:MAX_TEXT]
    if shown:
        rows = [{"name": name, "type": "number", "value": value} for name, value in shown.items()]
        found["metric_groups"] = [{"name": "test", "metric_data": rows}]
    return found


def _hyper_parameters(record: Mapping[str, Any], package: Path) -> list[dict[str, str]]:
    """What was typed for the training, and what it was built from."""
    known = {"seed": record.get("seed"), "commit": record.get("commit"), "precision": record.get("precision")}
    known |= {"weights": read_json(package / "model" / "model.json").get("weights")}
    rows = {str(name): str(value) for name, value in known.items() if value is not None}
    for each in record.get("overrides", ()):
        name, _, value = str(each).partition("=")
        rows[name] = value
    return [{"name": name[:MAX_VALUE], "value": value[:MAX_VALUE]} for name, value in list(rows.items())[:100] if name]
