"""The evaluation as files: one HTML page that needs no network, tables as CSV, figures as PNG, numbers as JSON."""

import base64
import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from sightline.data.display import describe_display
from sightline.evaluation.evaluation_input import EvaluationInput, Picture, Section, Table
from sightline.evaluation.figures import arrange, to_svg
from sightline.evaluation.model_quality import describe_quality
from sightline.evaluation.wording import describe_interval, percent
from sightline.metrics import NONE_OWN, Mode, meets, mode_of
from sightline.runs.files import write_json, write_text
from sightline.runs.folder import heading
from sightline.runs.pages import render

TEMPLATE = "report.html.j2"
IN_RUN_FOLDER = ("confusion_matrix", "per_class", "learning_curves")
"""Tables and figures that lie beside metrics.json; the others in evaluation/."""
MAX_ROWS = 25
PICTURE_SIZE = 128
HEADLINES = {
    "accuracy": ("images answered right", "accuracy"),
    "macro_f1": ("every class counted alike", "macro F1"),
    "top5_accuracy": ("right among the first five", "top-5 accuracy"),
    "ece_calibrated": ("confidence error (after correction)", "expected calibration error, calibrated"),
    "coverage": ("images answered", "coverage at the threshold"),
    "corruption/mean_accuracy": ("accuracy on damaged copies", "mean over the corruptions"),
}
"""The tiles: what the number is in plain words, and its term."""


def write_sections(folder: Path, sections: Sequence[Section]) -> None:
    """Every table and figure of the sections as a file in a run's folder."""
    for section in sections:
        for name, table in section.tables.items():
            _write_csv(_place(folder, name) / f"{name}.csv", table)
        for name, figure in section.figures.items():
            arrange(figure)
            figure.savefig(_place(folder, name) / f"{name}.png", dpi=110)


def _place(folder: Path, name: str) -> Path:
    """The folder for a table or a figure of a run; it is made."""
    place = folder if name in IN_RUN_FOLDER else folder / "evaluation"
    place.mkdir(parents=True, exist_ok=True)
    return place


def write_report(
    folder: Path,
    inputs: EvaluationInput,
    sections: Sequence[Section],
    *,
    name: str,
    gates: Mapping[str, float],
    modes: Mapping[str, Mode] = NONE_OWN,
) -> dict[str, float]:
    """Write everything below `folder` and return the metrics of all sections; `modes` are of the user's own metrics."""
    metrics = {key: value for section in sections for key, value in section.metrics.items()}
    write_sections(folder, sections)
    (folder / "evaluation").mkdir(parents=True, exist_ok=True)
    write_json(folder / "evaluation" / "evaluation.json", describe_quality(inputs))
    page = folder / "evaluation" / "report.html"
    text = render(
        "sightline.evaluation",
        TEMPLATE,
        name=name,
        split=inputs.split,
        num_images=len(inputs.predictions),
        num_classes=inputs.spec.num_classes,
        display=describe_display(inputs.spec.channels, inputs.spec.display_bands),
        heading=heading(page),
        headlines=_headlines(metrics, inputs),
        gates=[_describe_gate(gate, bound, metrics, modes) for gate, bound in gates.items()],
        sections=[_show(section) for section in sections],
    )
    write_text(page, text)
    return metrics


def _write_csv(path: Path, table: Table) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(table.columns)
        writer.writerows(table.rows)


def _headlines(metrics: Mapping[str, float], inputs: EvaluationInput) -> list[dict[str, str]]:
    """The few numbers at the top, with their intervals."""
    shown = []
    for key, (title, term) in HEADLINES.items():
        says_nothing = key == "top5_accuracy" and inputs.spec.num_classes <= 5
        if (name := f"{inputs.split}/{key}") not in metrics or says_nothing:
            continue
        grouped = "_grouped" if f"{name}_low_grouped" in metrics else ""
        low, high = metrics.get(f"{name}_low{grouped}"), metrics.get(f"{name}_high{grouped}")
        bounds = "" if low is None or high is None or low == high else describe_interval(low, high)
        value = f"{metrics[name]:.4f}"
        if key == "coverage" and inputs.spec.calibration is not None:
            goal, value = inputs.spec.calibration.target_accuracy, percent(metrics[name])
            is_reached = metrics[f"{inputs.split}/accuracy_answered"] >= goal
            title = f"answered{'' if is_reached else ', but not'} with the wanted {percent(goal)} accuracy"
        shown.append({"title": title, "term": term, "value": value, "interval": bounds})
    return shown


def _describe_gate(name: str, bound: float, metrics: Mapping[str, float], modes: Mapping[str, Mode]) -> dict[str, Any]:
    value = metrics.get(name)
    return {
        "name": name,
        "bound": f"{'≤' if mode_of(name, modes) == 'min' else '≥'} {bound:g}",
        "value": "not measured" if value is None else f"{value:.4f}",
        "is_met": value is not None and meets(name, value, bound, modes),
    }


def _show(section: Section) -> dict[str, Any]:
    pictures = {title: [_show_picture(each) for each in found] for title, found in section.pictures.items()}
    tables = {
        name: {"columns": table.columns, "rows": table.rows[:MAX_ROWS], "num_rows": len(table.rows)}
        for name, table in section.tables.items()
        if name not in section.figures and table.rows
    }
    return {
        "title": section.title,
        "text": section.text,
        "figures": {name: to_svg(figure) for name, figure in section.figures.items()},
        "tables": tables,
        "files": {name: f"../{name}.csv" if name in IN_RUN_FOLDER else f"{name}.csv" for name in section.tables},
        "pictures": pictures,
    }


def _show_picture(picture: Picture) -> dict[str, Any]:
    return {"address": to_address(picture.pixels), "lines": picture.lines}


def to_address(pixels: np.ndarray) -> str:
    """uint8 `(H, W, 3)` as a data address of at most 128 pixels a side."""
    image = Image.fromarray(pixels)
    image.thumbnail((PICTURE_SIZE, PICTURE_SIZE), Image.Resampling.LANCZOS)
    file = io.BytesIO()
    if max(image.size) <= 40:
        image.save(file, "PNG")
        return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()
    image.save(file, "JPEG", quality=85)
    return "data:image/jpeg;base64," + base64.b64encode(file.getvalue()).decode()
