"""What a run folder tells of its run: the files that every task writes anyway."""

import csv
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sightline.runs.files import read_json, write_json, write_text

NOT_METRICS = ("epoch", "step", "lr")


@dataclass(frozen=True)
class MetricPoint:
    """One number that a run has reported; `step` is the epoch, None for what it measured at its end."""

    name: str
    step: int | None
    value: float
    time: float | None = None
    """Seconds since 1970, where it is known."""


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


def reason_of(folder: Path) -> str | None:
    """Why the run ended, by its own record."""
    record = read_json(folder / "run.json")
    return record.get("reason") if record.get("status") in ("failed", "interrupted") else None


def note_launch(folder: Path, **facts: Any) -> None:
    """Write into a run's record where it was run."""
    record = folder / "run.json"
    if record.is_file():
        write_json(record, {**read_json(record), "launch": facts})


def name_places_here(folder: Path, places: Mapping[str, str]) -> None:
    """Put places of this machine for those of a container into a run's configuration, so that its data is found."""
    import yaml

    path, record = folder / "config.yaml", folder / "run.json"
    if path.is_file():
        config = yaml.safe_load(path.read_text(encoding="utf-8"))
        write_text(path, yaml.safe_dump(_renamed(config, places), sort_keys=False, allow_unicode=True))
    if record.is_file():
        facts = read_json(record)
        write_json(record, facts | {key: _renamed(facts[key], places) for key in ("config", "data") if key in facts})


def _renamed(value: Any, places: Mapping[str, str]) -> Any:
    if isinstance(value, dict):
        return {key: _renamed(each, places) for key, each in value.items()}
    if isinstance(value, list):
        return [_renamed(each, places) for each in value]
    for there, here in places.items():
        if value == there or (isinstance(value, str) and value.startswith(f"{there}/")):
            return _renamed_path(value, there, here)
    return value


def _renamed_path(value: str, there: str, here: str) -> str:
    """A file travels alone in a folder of its own, and is that file here."""
    rest = value.removeprefix(there).lstrip("/")
    path = Path(here)
    return str(path if not rest or (path.name == rest and path.is_file()) else path / rest)
