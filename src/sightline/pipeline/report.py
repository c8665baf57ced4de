"""The page of a pipeline's run: its graph with states, times and numbers, the gate, and links to the reports."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from sightline.pipeline.step_numbers import describe_numbers
from sightline.runs.files import write_text
from sightline.runs.pages import render

if TYPE_CHECKING:
    from sightline.pipeline.record import PipelineRecord, StepRecord

PAGE = "pipeline.html"
PLACES = {
    "merge": (0, 0.5),
    "prepare": (1, 0.5),
    "train": (2, 0.5),
    "export": (3, 0.5),
    "evaluate": (4, 0),
    "explain": (4, 1),
    "gate": (5, 0.5),
    "register": (6, 0.5),
}
"""Column and row of each step."""
ARROWS = (
    *(("merge", "prepare"), ("prepare", "train"), ("train", "export"), ("export", "evaluate"), ("export", "explain")),
    *(("evaluate", "gate"), ("explain", "gate"), ("gate", "register")),
)
WIDTH, HEIGHT, GAP, ROW = 146, 74, 30, 96
REPORTS = {
    "prepare": {"data audit": "audit.html", "split": "manifest.csv"},
    "train": {"report": "evaluation/report.html", "record": "run.json"},
    "export": {"what was exported": "model/export.json"},
    "evaluate": {"report": "evaluation/report.html", "numbers": "metrics.json"},
    "explain": {"explanations": "explanations/index.html"},
    "gate": {"decision": "gate.json", "model card": "package/model/model_card.md"},
}
"""Of each step: what its folder holds for people."""
OUTCOMES = {
    "running": "running",
    "finished": "finished",
    "gate_not_met": "not registered: the gate was not met",
    "failed": "failed",
    "interrupted": "interrupted; the same command goes on with it",
}


def write_page(record: "PipelineRecord") -> None:
    """Write `pipeline.html` into the folder of a run, whole."""
    shown = [step for step in record.steps if not (step.name == "merge" and step.status == "skipped")]
    skips = len(record.steps) != len(shown)
    boxes = {step.name: _box(step, skips) for step in shown}
    columns = max(PLACES[name][0] for name in boxes) + (0 if skips else 1)
    text = render(
        "sightline.pipeline",
        f"{PAGE}.j2",
        name=record.name,
        outcome=OUTCOMES.get(record.status, record.status),
        status=record.status,
        sentence=record.sentence,
        facts=_facts(record),
        boxes=[*boxes.values()],
        arrows=[_arrow(boxes[a], boxes[b]) for a, b in ARROWS if a in boxes and b in boxes],
        width=columns * (WIDTH + GAP) - GAP + 4,
        height=ROW + HEIGHT + 4,
        steps=[_row(record, step) for step in shown],
        seconds=_seconds(record.seconds),
        usd=f"{record.usd:.2f}",
        conditions=(record.gate or {}).get("conditions", []),
    )
    write_text(record.folder / PAGE, text)


def _box(step: "StepRecord", skips_merge: bool) -> dict[str, Any]:
    column, row = PLACES[step.name]
    x, y = (column - skips_merge) * (WIDTH + GAP) + 2, row * ROW + 2
    numbers = [
        f"{name} {describe_numbers({name: value}).removeprefix(name).strip()}" for name, value in step.numbers.items()
    ]
    how = step.status if step.seconds is None else f"{step.status}, {_seconds(step.seconds)}"
    first = numbers[0] if numbers else ""
    return {
        "name": step.name,
        "status": step.status,
        "x": x,
        "y": y,
        "w": WIDTH,
        "h": HEIGHT,
        "how": how,
        "number": first,
    }


def _arrow(start: dict[str, Any], end: dict[str, Any]) -> str:
    """The path of an arrow from box to box."""
    x, y = start["x"] + WIDTH, start["y"] + HEIGHT / 2
    to_x, to_y = end["x"] - 5, end["y"] + HEIGHT / 2
    middle = (x + to_x) / 2
    return f"M{x} {y} C{middle} {y} {middle} {to_y} {to_x} {to_y}"


def _row(record: "PipelineRecord", step: "StepRecord") -> dict[str, Any]:
    links = {}
    if step.output is not None and "://" not in step.output:
        found = {title: Path(step.output) / name for title, name in REPORTS.get(step.name, {}).items()}
        links = {title: _address(path, record.folder) for title, path in found.items() if path.exists()}
        links["folder"] = _address(Path(step.output), record.folder)
    return {
        "name": step.name,
        "status": step.status,
        "seconds": "" if step.seconds is None else _seconds(step.seconds),
        "usd": "" if step.usd is None else f"{step.usd:.2f}",
        "machine": step.machine or "",
        "numbers": step.reason or describe_numbers(step.numbers),
        "key": (step.inputs_sha256 or "")[:12],
        "reused": step.reused_from and Path(step.reused_from).name,
        "links": links,
    }


def _facts(record: "PipelineRecord") -> dict[str, str]:
    version, data = record.version or {}, record.data
    shown = {
        "started": record.started,
        "finished": record.finished,
        "where": record.backend,
        "commit": (record.commit or "")[:12],
        "data": " ".join(str(data[name]) for name in ("name", "sha256") if data.get(name))[:60],
        "champion": (record.champion or {}).get("name", "none yet, or none wanted"),
        "version": f"{version['name']}/{version['version']}, {version['status']}" if version else "",
        "sha256": version.get("sha256", ""),
    }
    return {name: str(value) for name, value in shown.items() if value}


def _seconds(value: float) -> str:
    return f"{value:.1f} s" if value < 100 else f"{value / 60:.1f} min"


def _address(path: Path, folder: Path) -> str:
    return quote(os.fsencode(os.path.relpath(path, folder)))
