"""The model card of a run (Mitchell et al., arXiv:1810.03993), in the format of the Hugging Face hub."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sightline.evaluation.learning_curves import describe_curves
from sightline.evaluation.wording import counted, percent
from sightline.export.card_facts import RunFiles, licence_note, training_facts
from sightline.export.card_sentences import (
    SPLITS,
    describe_calibration,
    describe_groups,
    describe_input,
    describe_limits,
    describe_robustness,
    describe_threshold,
    mean_corruptions,
)
from sightline.runs.file_names import as_file_name
from sightline.runs.files import write_text
from sightline.runs.override_text import typed
from sightline.runs.pages import isolated, render

if TYPE_CHECKING:
    from huggingface_hub import EvalResult

NAME = "model_card.md"
"""In a run's `model/`."""
MOST_CLASSES = 25
RESULTS = {
    "accuracy": ("accuracy", "accuracy"),
    "macro_f1": ("macro F1 (every class counted alike)", "f1"),
    "macro_precision": ("macro precision", "precision"),
    "macro_recall": ("macro recall", "recall"),
    "top5_accuracy": ("top-5 accuracy", "top5_accuracy"),
    "nll_calibrated": ("negative log-likelihood, calibrated", "nll"),
    "brier_calibrated": ("Brier score, calibrated", "brier_score"),
    "ece_calibrated": ("expected calibration error, calibrated", "expected_calibration_error"),
}
"""By metric: how the card calls it, and the type that the hub knows."""


def write_model_card(run_dir: Path, place: Path | None = None, registered_as: str | None = None) -> Path:
    """Write `model/model_card.md` from what lies in the folder of a finished training; asks no network.

    `place` is where that folder will lie, `registered_as` the name that the registry will have it by, if any.

    Raises: BadInput where there is no model in it.
    """
    from huggingface_hub import ModelCard, ModelCardData

    run, place = RunFiles.open(run_dir), place or run_dir
    name = str(run.record.get("name") or place.name)
    results = _eval_results(run)
    data = ModelCardData(
        model_name=as_file_name(registered_as or f"{name}-{place.name}") or f"model-{place.name}",
        pipeline_tag="image-classification",
        tags=["image-classification", "sightline", *filter(None, [as_file_name(str(run.model.get("name", "")))])],
        metrics=[each.metric_type for each in results] or None,
        eval_results=results or None,
    )
    body = render("sightline.export", "model_card.md.j2", name=name, **_sections(run, place, registered_as))
    text = ModelCard.from_template(data, template_str="---\n{{ card_data }}\n---\n\n{{ body }}\n", body=body)
    path = run_dir / "model" / NAME
    write_text(path, str(text))
    return path


def _interval(run: RunFiles, key: str) -> tuple[float, float, str] | None:
    """The interval to quote of a metric, and whose it is: over groups where there are any."""
    ends = {"_grouped": "bootstrap over groups", "": "Wilson" if key == "accuracy" else "bootstrap"}
    for suffix, method in ends.items():
        low, high = (run.metrics.get(f"{run.split}/{key}_{end}{suffix}") for end in ("low", "high"))
        if low is not None and high is not None and low < high:
            return low, high, method
    return None


def _eval_results(run: RunFiles) -> "list[EvalResult]":
    """The `model-index`: each metric with the ends of its interval."""
    from huggingface_hub import EvalResult

    data, found = run.data, []
    name = str(data.get("name") or run.record.get("name") or "images")
    for key, (title, kind) in RESULTS.items():
        if (value := run.metrics.get(f"{run.split}/{key}")) is None or _says_nothing(run, key):
            continue
        interval = _interval(run, key)
        args = None
        if interval is not None:
            low, high, method = interval
            args = {"low": round(low, 6), "high": round(high, 6), "level": 0.95, "method": method}
        found.append(
            EvalResult(
                task_type="image-classification",
                dataset_type=as_file_name(name) or "images",
                dataset_name=name,
                dataset_split=SPLITS[run.split],
                dataset_revision=data.get("sha256"),
                metric_type=kind,
                metric_name=title,
                metric_value=round(value, 6),
                metric_args=args,
            )
        )
    return found


def _says_nothing(run: RunFiles, key: str) -> bool:
    return key == "top5_accuracy" and run.spec.num_classes <= 5


def _sections(run: RunFiles, folder: Path, registered_as: str | None) -> dict[str, Any]:
    """Everything that the template shows."""
    spec, data = run.spec, run.data
    is_grouped = f"{run.split}/accuracy_low_grouped" in run.metrics
    worst = sorted((each for each in run.classes if each.num_images), key=lambda each: (each.recall, each.num_images))
    shown = run.classes if len(run.classes) <= MOST_CLASSES else worst[:MOST_CLASSES]
    of_all = f"The {MOST_CLASSES} least found of {len(run.classes):,} classes; the others are in per_class.csv."
    corruptions, severities = mean_corruptions(run)
    is_deep = spec.channels not in (1, 3) or spec.bit_depth != 8
    place = f"registry:{registered_as}" if registered_as else _run_word(run, folder)
    return {
        "spec": spec,
        "summary": _summary(run, data),
        "input": describe_input(spec),
        "classes": _list_names(spec.class_names),
        "answers": describe_threshold(spec),
        "data": _data_rows(run, data),
        "licence": licence_note(run.config, run.record.get("overrides", ())),
        "training": training_facts(run),
        "curves": describe_curves(run.folder),
        "split_words": counted(run.num_images.get(run.split, 0), f"{SPLITS[run.split]} image"),
        "is_grouped": is_grouped,
        "results": _result_rows(run),
        "groups": describe_groups(run, is_grouped),
        "class_rows": shown,
        "class_note": of_all if shown is not run.classes else "Every class, with 95 % intervals (Wilson).",
        "calibration": describe_calibration(run),
        "robustness": describe_robustness(run),
        "corruptions": corruptions,
        "severities": severities,
        "limits": describe_limits(run, worst),
        "exported": _exported_rows(run),
        "exported_note": f"Measured on {counted(run.exported.get('images', 0), 'validation image')}.",
        "typed_run": typed("run", place),
        "run": json.dumps(place, ensure_ascii=False),
        "picture": "picture.tif" if is_deep else "picture.jpg",
        "content_type": "image/tiff" if is_deep else "image/jpeg",
        "sha256": run.model.get("sha256", ""),
    }


def _run_word(run: RunFiles, folder: Path) -> str:
    """The run as commands take it: its place below the folder of runs, else the folder itself."""
    runs = run.config.get("paths", {}).get("runs")
    return str(folder.relative_to(runs)) if runs and folder.is_relative_to(runs) else str(folder)


def _summary(run: RunFiles, data: dict[str, Any]) -> str:
    accuracy = run.metrics.get(f"{run.split}/accuracy")
    text = f"A {run.model.get('name')} that tells {run.spec.num_classes} classes of pictures apart"
    text += f", trained on {data['name']}" if data.get("name") else ""
    if accuracy is None:
        return f"{text}."
    interval = _interval(run, "accuracy")
    bounds = f" (95 % interval {interval[0]:.4f} to {interval[1]:.4f})" if interval else ""
    count = counted(run.num_images.get(run.split, 0), f"{SPLITS[run.split]} image")
    return f"{text}. Accuracy {accuracy:.4f}{bounds} on {count}."


def _list_names(names: Sequence[str]) -> str:
    listed = ", ".join(isolated(name) for name in names[: 4 * MOST_CLASSES])
    return listed if len(names) <= 4 * MOST_CLASSES else f"{listed} and {len(names) - 4 * MOST_CLASSES:,} more"


def _data_rows(run: RunFiles, data: dict[str, Any]) -> list[tuple[str, str]]:
    skipped = data.get("skipped", {}).get("num_images", 0)
    findings = ", ".join(f"{count} {kind.replace('_', ' ')}" for kind, count in data.get("findings", {}).items())
    groups = run.audit.get("num_groups")
    rows = {
        "name": data.get("name"),
        "SHA-256 of the manifest": data.get("sha256"),
        **{f"{split} images": f"{count:,}" for split, count in run.num_images.items()},
        "groups": f"{groups:,}" if groups and groups != sum(run.num_images.values()) else None,
        "largest class against the smallest": f"{run.audit['imbalance']} to 1" if "imbalance" in run.audit else None,
        "unreadable, left out": f"{skipped:,}" if skipped else None,
        "findings of the audit": findings,
    }
    return [(key, str(value)) for key, value in rows.items() if value]


def _result_rows(run: RunFiles) -> list[tuple[str, str, str]]:
    rows = []
    for key, (title, _) in RESULTS.items():
        if (value := run.metrics.get(f"{run.split}/{key}")) is not None and not _says_nothing(run, key):
            interval = _interval(run, key)
            bounds = f"{interval[0]:.4f} to {interval[1]:.4f} ({interval[2]})" if interval else "not computed"
            rows.append((title, f"{value:.4f}", bounds))
    return rows


def _exported_rows(run: RunFiles) -> list[tuple[str, ...]]:
    rows = []
    for precision, file in (("fp32", "model.onnx"), ("int8", "model.int8.onnx")):
        found = run.exported.get(precision) or {}
        if "accuracy" in found:
            ends = f" ({found['accuracy_low']:.4f} to {found['accuracy_high']:.4f})" if "accuracy_low" in found else ""
            difference = f"{found['max_probability_difference']:.2g} in probability at most; "
            agreement = f"the same class on {percent(found['agreement'])}"
            size, time = f"{found['bytes'] / 1e6:.1f}", _milliseconds(found)
            rows.append((f"{file} ({precision})", f"{found['accuracy']:.4f}{ends}", difference + agreement, size, time))
    return rows


def _milliseconds(found: dict[str, Any]) -> str:
    return f"{found['milliseconds']:.1f}" if "milliseconds" in found else "not measured"
