"""What a run folder tells of its run: the files that every task writes anyway."""

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sightline.launch.job import MetricPoint

NOT_METRICS = ("epoch", "step", "lr")


def read_points(folder: Path) -> list[MetricPoint]:
    """The rows of `metrics.csv`, one an epoch, then `metrics.json` once the run is finished."""
    return [*_rows(folder / "metrics.csv"), *_final(folder / "metrics.json")]


def _rows(path: Path) -> Iterator[MetricPoint]:
    if not path.is_file():
        return
    time = path.stat().st_mtime
    with path.open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            for name, value in row.items():
                if name not in NOT_METRICS and value:
                    yield MetricPoint(name, int(row["epoch"]), float(value), time)


def _final(path: Path) -> Iterator[MetricPoint]:
    metrics = read_json(path)
    if metrics:
        time = path.stat().st_mtime
        for name, value in metrics.items():
            yield MetricPoint(name, None, float(value), time)


def read_json(path: Path) -> dict[str, Any]:
    """A JSON file's content; nothing where there is no file."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}


def reason_of(folder: Path) -> str | None:
    """Why the run ended, by its own record."""
    record = read_json(folder / "run.json")
    return record.get("reason") if record.get("status") in ("failed", "interrupted") else None
