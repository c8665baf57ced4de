"""`python src/jobs.py`: what was submitted, how it fares, and its results."""

import argparse
import json
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from sightline.errors import Interrupted
from sightline.launch.backend import Backend
from sightline.launch.job import State, Status
from sightline.launch.log_following import say_it_runs_on
from sightline.launch.records import JobRecord, backend_of, fetch_recorded, find_record, read_records

VERBS = {
    "list": "every job, the latest last",
    "status": "how a job fares, and why",
    "logs": "its output, followed until it ends",
    "metrics": "what it has reported, as JSON lines",
    "fetch": "its run folder into a folder here (--into)",
    "stop": "end it; the same command that started it goes on with it",
}

WIDTH_OF_THE_OTHERS = 80
MAX_COLUMNS = 1000
"""Of a line that a program reads."""


def main(runs: Path, words: Sequence[str] | None = None) -> None:
    """Do what one command line says.

    Raises: BadInput when there is no such job.
    """
    parser = argparse.ArgumentParser(prog="jobs.py", description=__doc__)
    verbs = parser.add_subparsers(dest="verb", required=True)
    for verb, text in VERBS.items():
        added = verbs.add_parser(verb, help=text, description=text)
        added.add_argument("--runs", type=Path, default=runs, help=f"paths.runs (default {runs})")
        if verb != "list":
            added.add_argument("job", help="its name, as `list` shows it")
        if verb == "fetch":
            added.add_argument("--into", type=Path, help="default: runs/jobs/<name>")
    given = parser.parse_args(words)
    jobs = given.runs.absolute() / "jobs"
    if given.verb == "list":
        return _list(jobs)
    record = find_record(jobs, given.job)
    try:
        return _do(given, record, jobs)
    except Interrupted:
        if given.verb == "logs" and not backend_of(record, jobs).status(record.job_id).is_over:
            say_it_runs_on(record.name, jobs)
        raise


def _list(jobs: Path) -> None:
    if not (records := read_records(jobs)):
        print(f"no jobs in {jobs}")
        return
    table = Table(box=None, padding=(0, 2, 0, 0))
    for column in ("job", "backend", "state", "submitted", "reason"):
        table.add_column(column, no_wrap=column != "reason", overflow="fold")
    for record in records:
        state, reason = _state_of(record, jobs)
        table.add_row(record.name, record.backend, state, record.submitted, reason)
    console = Console(highlight=False)
    longest = max(len(record.name) for record in records)
    console.width = max(console.width, longest + WIDTH_OF_THE_OTHERS) if console.is_terminal else MAX_COLUMNS
    console.print(table, soft_wrap=True)


def _state_of(record: JobRecord, jobs: Path) -> tuple[str, str]:
    """State and reason; one job that cannot be asked for hides no other."""
    if record.is_finished:
        return State.SUCCEEDED, ""
    try:
        status = backend_of(record, jobs).status(record.job_id)
    except Exception as error:  # noqa: BLE001 (of any client)
        return "unknown", (str(error).splitlines() or [type(error).__name__])[0]
    return status.state, status.reason or ""


def _do(given: argparse.Namespace, record: JobRecord, jobs: Path) -> None:
    backend = backend_of(record, jobs)
    if given.verb == "status":
        print(_describe(backend.status(record.job_id)))
    elif given.verb == "logs":
        _print_lines(backend.logs(record.job_id), backend, record)
    elif given.verb == "metrics":
        _print_lines((json.dumps(vars(point)) for point in backend.metrics(record.job_id)), backend, record)
    elif given.verb == "fetch":
        status = backend.status(record.job_id)
        folder = fetch_recorded(backend, record, given.into or jobs / record.name)
        if not status.is_over:
            print(f"{record.name} is {status.state}: this is what it has so far", file=sys.stderr)
        print(f"results: {folder}")
    else:
        _stop(backend, record)


def _describe(status: Status) -> str:
    """State and reason, which may begin with the state."""
    reason = status.reason or str(status.state)
    return reason if reason.startswith(status.state) else f"{status.state}: {reason}"


def _print_lines(lines: Iterable[str], backend: Backend, record: JobRecord) -> None:
    """Print what there is; say why when that is nothing."""
    is_empty = True
    for line in lines:
        print(line, flush=True)
        is_empty = False
    if is_empty:
        print(f"nothing of {record.name}, which is {_describe(backend.status(record.job_id))}", file=sys.stderr)


def _stop(backend: Backend, record: JobRecord) -> None:
    status = backend.status(record.job_id)
    backend.stop(record.job_id)
    if status.is_over:
        print(f"{record.name} is over: {_describe(status)}")
    else:
        print(f"{record.name} was told to stop; the command that started it goes on with it")
