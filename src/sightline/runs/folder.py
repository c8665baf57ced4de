"""Finding a run folder, and reading it: metrics, status and the paths in its configuration."""

import csv
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from sightline.errors import BadInput
from sightline.runs.files import read_json, write_json, write_text
from sightline.runs.override_text import typed
from sightline.runs.record import now

NOT_METRICS = ("epoch", "step", "lr")
LATEST = "latest"
"""The name of the newest training, wherever a run is named; the link `runs/latest` is the newest run of any task."""


def find_run(run: str | Path, runs: Path) -> Path:
    """The path that `run=` names: `latest`, the newest training with a model; else as given, or below `runs`.

    A run of evaluate, explain or predict stands for the run whose model it used.

    Raises: BadInput when there is none, or several are meant, with the newest of them.
    """
    path = named_path(str(run), runs)
    if path is None:
        raise BadInput(
            f"run={run}: no such run folder, model folder or checkpoint (looked here and in {runs})"
            f"{_training_meant('run', str(run), runs)}"
        )
    _refuse_folder_of_runs("run", path, runs)
    return _trained_by(path)


def named_path(name: str, runs: Path, *, needs_model: bool = True, folder: Path | None = None) -> Path | None:
    """The path that a run's name means, resolved: `latest`, or one below `folder` (None: here) or `runs`, if any."""
    given, here = Path(name).expanduser(), Path.cwd() if folder is None else folder
    link = here / runs / LATEST
    is_latest = name == LATEST or here / given == link
    if is_latest and (newest := newest_training(here / runs, needs_model=needs_model)):
        return newest
    paths = (link,) if is_latest else (here / given, here / runs / given)
    return next((path.resolve() for path in paths if path.exists()), None)


def find_resumed(resume: str, runs: Path) -> Path:
    """The run folder that `resume=` names: `latest`, whatever its state; itself; or that of its checkpoint.

    Raises: BadInput when there is none.
    """
    path = named_path(resume, runs, needs_model=False)
    if path is None:
        hint = _training_meant("resume", resume, runs)
        raise BadInput(f"resume={resume}: no such run folder or checkpoint (looked here and in {runs}){hint}")
    _refuse_folder_of_runs("resume", path, runs)
    folder = path if path.is_dir() else path.parent.parent
    if not holds_run(folder):
        raise BadInput(f"resume={resume}: {folder} is not the folder of a run; give one that has run.json")
    return folder


def holds_run(folder: Path) -> bool:
    return (folder / "run.json").is_file() or any((folder / "checkpoints").glob("last*.ckpt"))


def _training_meant(key: str, name: str, runs: Path) -> str:
    """`; type …` with the newest training of that name, or of any; nothing where there is none."""
    needs_model = key == "run"
    named = newest_training(runs, needs_model=needs_model, among=lambda folder: folder.parent.name == Path(name).name)
    if named is not None:
        return f"; the newest training of that name: {_typed_run(key, named, runs)}"
    newest = newest_training(runs, needs_model=needs_model)
    return f"; the newest training: {_typed_run(key, newest, runs)}" if newest else ""


def _refuse_folder_of_runs(key: str, path: Path, runs: Path) -> None:
    """Raises: BadInput for a folder of trainings, with the newest of them."""
    if path.is_file() or (path / "run.json").is_file():
        return
    newest = newest_training(runs, needs_model=key == "run", among=lambda folder: path in folder.resolve().parents)
    if newest is not None:
        raise BadInput(f"{key}={path}: a folder of runs; the newest training in it: {_typed_run(key, newest, runs)}")


def _typed_run(key: str, folder: Path, runs: Path) -> str:
    return typed(key, str(folder.relative_to(runs.resolve())))


def newest_training(
    runs: Path, *, needs_model: bool = True, among: Callable[[Path], bool] = lambda _: True
) -> Path | None:
    """The training in `runs/train/<name>/<time>` that ended last, or began last where it has not ended.

    Jobs, trials and refits of sweeps, and runs in an `output` folder lie elsewhere: they go by their path.
    """
    found = []
    for record in (runs / "train").glob("*/*/run.json"):
        folder = record.parent
        if among(folder) and (not needs_model or (folder / "model" / "model.json").is_file()):
            facts = read_json(record)
            found.append((facts.get("finished") or facts.get("started") or "", str(folder)))
    return Path(max(found)[1]).resolve() if found else None


def _trained_by(path: Path) -> Path:
    """The run whose model a run of another task used, else the path itself."""
    used = read_json(path / "run.json").get("run") if path.is_dir() else None
    return Path(used) if used and Path(used).exists() else path


def run_folder(path: Path) -> Path | None:
    """The run folder that a run folder, its `model/` folder or one of its checkpoints belongs to, if there is one."""
    return next((folder for folder in (path, path.parent, path.parent.parent) if (folder / "run.json").is_file()), None)


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


PAGES = {
    "report": "evaluation/report.html",
    "explanations": "explanations/index.html",
    "data audit": "audit.html",
    "model card": "model/model_card.md",
    "numbers": "metrics.json",
    "record": "run.json",
}
"""What the pages of a run link to."""


@dataclass(frozen=True)
class Heading:
    """What stands at the top of a page of a run."""

    facts: dict[str, str]
    """The run whose model it is about, the model, the data and the date."""
    links: dict[str, str]
    """By title, addresses relative to the page's folder."""


def heading(page: Path) -> Heading:
    """The heading of a page that will lie in a folder of a run's folder, from the run's record.

    Linked is what lies there, or will: the numbers, and of a training the explanations and the card of its model.
    """
    folder = page.parent.parent
    record = read_json(folder / "run.json")
    model_run = Path(record.get("run", folder))
    facts = {
        "run": str(model_run),
        "model": record.get("model", {}).get("name"),
        "data": record.get("data", {}).get("root"),
        "date": (record.get("started") or now())[:10],
    }
    to_come = {"numbers"} | {
        "explanations" for stage in record.get("config", {}).get("stages", ()) if stage == "explain"
    }
    if record.get("task") == "train" and (folder / "model" / "model.json").is_file():
        to_come.add("model card")
    pages = {title: folder / path for title, path in PAGES.items() if title in to_come or (folder / path).is_file()}
    if model_run != folder:
        others = {f"the run's {title}": model_run / path for title, path in PAGES.items()}
        pages |= {title: path for title, path in others.items() if path.is_file()}
    links = {title: _address(path, page.parent) for title, path in pages.items() if path != page}
    return Heading({key: value for key, value in facts.items() if value}, links if record else {})


def _address(path: Path, folder: Path) -> str:
    return quote(os.fsencode(os.path.relpath(path, folder)))


def note_launch(folder: Path, **facts: Any) -> None:
    """Write into run.json where the run was launched."""
    record = folder / "run.json"
    if record.is_file():
        write_json(record, {**read_json(record), "launch": facts})


LOCAL = ("config", "data", "code", "exported")
"""Of a run's record: what holds paths of the machine that it ran on."""


def localise_paths(folder: Path, local_paths: Mapping[str, str]) -> None:
    """Replace paths of a container by those of this machine in a run's configuration, so that its data is found."""
    import yaml

    path, record = folder / "config.yaml", folder / "run.json"
    if path.is_file():
        config = yaml.safe_load(path.read_text(encoding="utf-8"))
        write_text(path, yaml.safe_dump(_localised(config, local_paths), sort_keys=False, allow_unicode=True))
    if record.is_file():
        facts = read_json(record)
        local = {key: _localised(facts[key], local_paths) for key in LOCAL if key in facts}
        write_json(record, facts | local)


def _localised(value: Any, local_paths: Mapping[str, str]) -> Any:
    if isinstance(value, dict):
        return {key: _localised(each, local_paths) for key, each in value.items()}
    if isinstance(value, list):
        return [_localised(each, local_paths) for each in value]
    for there, here in local_paths.items():
        if value == there or (isinstance(value, str) and value.startswith(f"{there}/")):
            return _local_path(value, there, here)
    return value


def _local_path(value: str, there: str, here: str) -> str:
    """The local path of a container path; a single file has a channel folder of its own there."""
    rest = value.removeprefix(there).lstrip("/")
    if "://" in here:
        return here if not rest or here.endswith(f"/{rest}") else f"{here.rstrip('/')}/{rest}"
    path = Path(here)
    return str(path if not rest or (path.name == rest and path.is_file()) else path / rest)
