"""The verbs of `python src/jobs.py`: list, status, logs, metrics, results and end of submitted jobs."""

import json
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from sightline.errors import BadInput, Interrupted
from sightline.launch.backend import Backend
from sightline.launch.job import State, Status
from sightline.launch.log_following import say_it_runs_on
from sightline.launch.records import JobRecord, backend_of, fetch_recorded, find_record, read_records
from sightline.launch.submission import read_plans, say_how_to_follow, submit_plans

if TYPE_CHECKING:
    from sightline.config import JobsConfig

WIDTH_OF_THE_OTHERS = 80
MAX_COLUMNS = 1000
"""Width of the table where a program reads it."""


class Lines(Iterator[Any]):
    """A stream of a job's log lines or metrics, with what is needed to say why it is empty."""

    def __init__(self, lines: Iterable[Any], backend: Backend, record: JobRecord, jobs: Path) -> None:
        self.lines, self.backend, self.record, self.jobs = iter(lines), backend, record, jobs

    def __next__(self) -> Any:
        return next(self.lines)


def list_jobs(cfg: "JobsConfig") -> list[dict[str, str]]:
    """Every job, the latest last."""
    jobs = jobs_folder(cfg)
    found = []
    for record in read_records(jobs):
        state, reason = _state_of(record, jobs)
        row = {"job": record.name, "backend": record.backend, "state": state, "submitted": record.submitted}
        found.append({**row, "reason": reason})
    if not found:
        print(f"no jobs in {jobs}", file=sys.stderr)
    return found


def submit(cfg: "JobsConfig", plan: str) -> list[dict[str, str]]:
    """Start what launch.dry_run=true printed: a file, or - for the input."""
    try:
        text = sys.stdin.read() if plan == "-" else Path(plan).read_text(encoding="utf-8")
    except OSError as error:
        raise BadInput(f"{plan}: cannot be read ({error.strerror}); name a file, or - for the input") from error
    jobs = jobs_folder(cfg)
    submitted = submit_plans(read_plans(text, plan), jobs)
    return [{"job": each["job"]["name"], "backend": each["backend"], "jobs": str(jobs)} for each in submitted]


def status(cfg: "JobsConfig", job: str) -> dict[str, Any]:
    """How a job fares, and why."""
    backend, record = _find(cfg, job)
    return _as_data(record, backend.status(record.job_id))


def logs(cfg: "JobsConfig", job: str) -> Lines:
    """Its output, followed until it ends.

    With --json: a list of lines, once it has ended.
    """
    backend, record = _find(cfg, job)
    return Lines(backend.logs(record.job_id), backend, record, jobs_folder(cfg))


def metrics(cfg: "JobsConfig", job: str) -> Lines:
    """What it has reported, as JSON lines."""
    backend, record = _find(cfg, job)
    return Lines(backend.metrics(record.job_id), backend, record, jobs_folder(cfg))


def fetch(cfg: "JobsConfig", job: str) -> dict[str, Any]:
    """Its run folder into a folder here (into=DIR)."""
    backend, record = _find(cfg, job)
    found = backend.status(record.job_id)
    folder = fetch_recorded(backend, record, Path(cfg.into) if cfg.into else jobs_folder(cfg) / record.name)
    if not found.is_over:
        print(f"{record.name} is {found.state}: this is what it has so far", file=sys.stderr)
    return {**_as_data(record, found), "folder": str(folder)}


def stop(cfg: "JobsConfig", job: str) -> dict[str, Any]:
    """End it; the same command that started it goes on with it.

    The state is that before the order.
    """
    backend, record = _find(cfg, job)
    found = backend.status(record.job_id)
    backend.stop(record.job_id)
    return _as_data(record, found)


def jobs_folder(cfg: "JobsConfig") -> Path:
    """The folder of the job records."""
    return Path(cfg.paths.runs).expanduser().absolute() / "jobs"


def _find(cfg: "JobsConfig", job: str) -> tuple[Backend, JobRecord]:
    """Raises: BadInput when there is no such job."""
    record = find_record(jobs_folder(cfg), job)
    return backend_of(record, jobs_folder(cfg)), record


def _state_of(record: JobRecord, jobs: Path) -> tuple[str, str]:
    """State and reason; one job that cannot be asked for hides no other."""
    if record.is_finished:
        return State.SUCCEEDED, ""
    try:
        found = backend_of(record, jobs).status(record.job_id)
    except Exception as error:  # noqa: BLE001 (of any client)
        return "unknown", (str(error).splitlines() or [type(error).__name__])[0]
    return found.state, found.reason or ""


def _as_data(record: JobRecord, found: Status) -> dict[str, Any]:
    return {"job": record.name, "state": found.state, "is_over": found.is_over, "reason": found.reason}


def _print_jobs(rows: list[dict[str, str]]) -> None:
    if not rows:
        return
    table = Table(box=None, padding=(0, 2, 0, 0))
    for column in rows[0]:
        table.add_column(column, no_wrap=column != "reason", overflow="fold")
    for row in rows:
        table.add_row(*row.values())
    console = Console(highlight=False, markup=False)
    longest = max(len(row["job"]) for row in rows)
    console.width = max(console.width, longest + WIDTH_OF_THE_OTHERS) if console.is_terminal else MAX_COLUMNS
    console.print(table, soft_wrap=True)


def _describe(state: str, reason: str | None) -> str:
    """State and reason, which may begin with the state."""
    return reason if reason and reason.startswith(state) else f"{state}: {reason}" if reason else state


def _print_logs(lines: Lines) -> None:
    try:
        _print_lines(lines)
    except Interrupted:
        if not lines.backend.status(lines.record.job_id).is_over:
            say_it_runs_on(lines.record.name, lines.jobs)
        raise


def _print_lines(lines: Lines) -> None:
    is_empty = True
    for line in lines:
        print(line if isinstance(line, str) else json.dumps(vars(line)), flush=True)
        is_empty = False
    if is_empty:
        found = lines.backend.status(lines.record.job_id)
        print(f"nothing of {lines.record.name}, which is {_describe(found.state, found.reason)}", file=sys.stderr)


def _print_stop(found: dict[str, Any]) -> None:
    if found["is_over"]:
        print(f"{found['job']} is over: {_describe(found['state'], found['reason'])}")
    else:
        print(f"{found['job']} was told to stop; the command that started it goes on with it")


def _print_submitted(rows: list[dict[str, str]]) -> None:
    for row in rows:
        say_how_to_follow(row["job"], Path(row["jobs"]))


VERBS: dict[str, Callable[..., Any]] = {
    "list": list_jobs,
    "submit": submit,
    "status": status,
    "logs": logs,
    "metrics": metrics,
    "fetch": fetch,
    "stop": stop,
}
PRINTED: dict[str, Callable[[Any], None]] = {
    "list": _print_jobs,
    "submit": _print_submitted,
    "status": lambda found: print(_describe(found["state"], found["reason"])),
    "logs": _print_logs,
    "metrics": _print_lines,
    "fetch": lambda found: print(f"results: {found['folder']}"),
    "stop": _print_stop,
}
