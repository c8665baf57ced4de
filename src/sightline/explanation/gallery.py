"""The explanations of a run as files: `index.html`, a panel for each image, and `explanations.json`."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from rich.progress import Progress

from sightline.data.display import describe_display, name_bands, to_display
from sightline.explanation.attribution import METHODS, Cases, Explained, Explainer
from sightline.explanation.faithfulness import (
    agreement,
    importance_order,
    insertion_deletion,
    random_order,
    randomisation_check,
)
from sightline.explanation.panels import DPI, draw_panel
from sightline.explanation.verdict import is_better_than_random, judge
from sightline.runs.drawn_names import drawable
from sightline.runs.files import write_json, write_text
from sightline.runs.folder import heading
from sightline.runs.pages import render

TEMPLATE = "index.html.j2"
MAX_STEM, MAX_NAME = 80, 24
"""Characters of an image's name in its panel's file name, and of a class in its title."""


@dataclass(frozen=True)
class Case:
    """Name, label, prediction and explained class of one image."""

    image: str
    label: str | None
    predicted: str
    target: str
    probability: float


def write_explanations(
    folder: Path, explainer: Explainer, cases: Cases, known: Sequence[Case], methods: Sequence[str], name: str
) -> dict[str, Any]:
    """Explain every case by every method and write it all below `folder`; returns the summary."""
    folder.mkdir(parents=True, exist_ok=True)
    rows, spec = [], explainer.spec
    bands = name_bands(spec.channels, spec.display_bands)
    with Progress(transient=True) as progress:
        task = progress.add_task("Explaining", total=len(methods) * (len(cases) + 1) + len(cases))
        explainer.on_progress = partial(progress.advance, task)
        maps = {method: explainer.explain(method, cases) for method in methods}
        for number, case in enumerate(known):
            panel = f"{number:03d}_{re.sub(r'[^A-Za-z0-9.-]+', '_', Path(case.image).stem)[:MAX_STEM]}.png"
            measured = _measure(explainer, cases, number, maps)
            explained = {method: maps[method][number] for method in methods}
            captions = [_caption(explained[method], *measured[method], measured["random"]) for method in methods]
            picture = to_display(cases.pixels[number].numpy(), spec.display_bands)
            figure = draw_panel(picture, explained, _title(_drawable(case)), captions, bands)
            figure.savefig(folder / panel, dpi=DPI)
            rows += [_row(case, method, explained[method], measured, panel) for method in methods]
            progress.advance(task)
        correlations = {}
        for method in methods:
            correlations[method] = randomisation_check(explainer, method, cases)
            progress.advance(task)
    summary = _summarise(explainer, cases, maps, rows, correlations)
    write_json(folder / "explanations.json", {"summary": summary, "images": rows})
    _write_page(folder, name, summary, rows, known)
    return summary


def _measure(
    explainer: Explainer, cases: Cases, number: int, maps: Mapping[str, Sequence[Explained]]
) -> dict[str, tuple[float, float]]:
    """Insertion and deletion area by method, and under `random` those of a random pixel order."""
    image, label = cases.pixels[number], int(cases.classes[number])
    orders = {method: importance_order(found[number].values) for method, found in maps.items()}
    orders["random"] = random_order(image.shape[0] * image.shape[1], explainer.seed + number)
    return {method: insertion_deletion(explainer, image, label, order) for method, order in orders.items()}


def _drawable(case: Case) -> Case:
    """The case with names that fit above a panel."""
    label = None if case.label is None else drawable(case.label, MAX_NAME)
    shown = replace(case, label=label, predicted=drawable(case.predicted, MAX_NAME))
    return replace(shown, target=drawable(case.target, MAX_NAME))


def _title(case: Case) -> str:
    label = "" if case.label is None else f", label {case.label}" + ("" if case.label == case.predicted else " (wrong)")
    target = "" if case.target == case.predicted else f", explained: {case.target}"
    return f"{case.predicted} {case.probability:.1%}{label}{target}"


def _caption(explained: Explained, insertion: float, deletion: float, random: tuple[float, float]) -> str:
    lines = []
    if explained.completeness_error is not None:
        lines.append(f"completeness error {explained.completeness_error:.2%}")
        lines.append(f"{explained.steps} steps" + ("" if explained.converged else ": NOT CONVERGED"))
    lines.append(f"insertion {insertion:.2f} (random {random[0]:.2f})")
    lines.append(f"deletion {deletion:.2f} (random {random[1]:.2f})")
    return "\n".join(lines)


def _row(
    case: Case, method: str, explained: Explained, measured: Mapping[str, tuple[float, float]], panel: str
) -> dict[str, Any]:
    (insertion, deletion), (random_insertion, random_deletion) = measured[method], measured["random"]
    return {
        "image": case.image,
        "label": case.label,
        "predicted": case.predicted,
        "target": case.target,
        "probability": round(case.probability, 6),
        "method": method,
        "steps": explained.steps,
        "completeness_error": explained.completeness_error,
        "converged": explained.converged,
        "grid": explained.grid,
        "insertion_auc": insertion,
        "deletion_auc": deletion,
        "random_insertion_auc": random_insertion,
        "random_deletion_auc": random_deletion,
        "seconds": round(explained.seconds, 4),
        "panel": panel,
    }


def _summarise(
    explainer: Explainer,
    cases: Cases,
    maps: Mapping[str, Sequence[Explained]],
    rows: Sequence[dict[str, Any]],
    correlations: Mapping[str, float],
) -> dict[str, Any]:
    """The summary over all images, by method; `correlations` with the maps of shuffled weights."""
    by_method: dict[str, Any] = {}
    verdicts: dict[str, Any] = {}
    for method in maps:
        mine = [row for row in rows if row["method"] == method]
        errors = [row["completeness_error"] for row in mine if row["completeness_error"] is not None]
        means = {key: float(np.mean([row[key] for row in mine])) for key in ("insertion_auc", "deletion_auc", "steps")}
        by_method[method] = {
            **means,
            "random_insertion_auc": float(np.mean([row["random_insertion_auc"] for row in mine])),
            "random_deletion_auc": float(np.mean([row["random_deletion_auc"] for row in mine])),
            "better_than_random": float(np.mean([is_better_than_random(row) for row in mine])),
            "seconds_per_image": float(np.mean([row["seconds"] for row in mine])),
            "worst_completeness_error": max(errors, default=None),
            "num_not_converged": sum(row["converged"] is False for row in mine),
            "correlation_with_shuffled_weights": correlations[method],
        }
        verdicts[method] = asdict(judge(mine, correlations[method]))
    return {
        "num_images": len(cases),
        "display": describe_display(explainer.spec.channels, explainer.spec.display_bands),
        "baseline": explainer.baseline,
        "tolerance": explainer.settings.tolerance,
        "max_steps": explainer.settings.max_steps,
        "batch_size": explainer.settings.batch_size,
        **({"grad_cam_layer": asdict(explainer.map_layer)} if "grad_cam" in maps else {}),
        "verdicts": verdicts,
        "methods": by_method,
        "agreement": agreement(maps),
    }


def _write_page(
    folder: Path, name: str, summary: dict[str, Any], rows: Sequence[dict[str, Any]], known: Sequence[Case]
) -> None:
    panels = list(dict.fromkeys(row["panel"] for row in rows))
    marked = {row["panel"] for row in rows if row["converged"] is False}
    shown = [
        {"file": panel, "title": _title(case), "image": case.image, "is_marked": panel in marked}
        for panel, case in zip(panels, known, strict=True)
    ]
    page = folder / "index.html"
    text = render(
        "sightline.explanation",
        TEMPLATE,
        name=name,
        heading=heading(page),
        summary=summary,
        panels=shown,
        order=[*METHODS, *(method for method in summary["methods"] if method not in METHODS)],
    )
    write_text(page, text)
