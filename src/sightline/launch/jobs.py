"""`python src/jobs.py`: what was submitted, how it fares, and its results."""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

from sightline.errors import Interrupted
from sightline.launch.backend import Backend
from sightline.launch.follow import say_it_runs_on
from sightline.launch.job import State
from sightline.launch.records import JobRecord, backend_of, fetch_recorded, find_record, read_records

VERBS = {
    "list": "every job, the latest last",
    "status": "how a job fares, and why",
    "logs": "its output, followed until it ends",
    "metrics": "what it has reported, as JSON lines",
    "fetch": "its run folder into a folder here (--into)",
    "stop": "end it; the same command that started it goes on with it",
}


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
    return _do(given, record, jobs)


def _list(jobs: Path) -> None:
    """A line for each job, whole however long it is: names are there to be copied."""
    rows = [("job", "backend", "state", "submitted", "reason")]
    for record in read_records(jobs):
        state, reason = _state_of(record, jobs)
        rows.append((record.name, record.backend, state, record.submitted, " ".join(reason.split())))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def _state_of(record: JobRecord, jobs: Path) -> tuple[str, str]:
    """State and reason; one job that cannot be asked for hides no other."""
    if record.is_finished:
        return State.SUCCEEDED, ""
    try:
        status = backend_of(record, jobs).status(record.job_id)
    except Exception as error:  # noqa: BLE001 (of any client)
        return "unknown", (str(error).splitlines() or [type(error).__name__])[0]
    return status.state, status.reason or ""


def _follow(backend: Backend, record: JobRecord, jobs: Path) -> None:
    """Print what a job prints; one that runs goes on when nobody looks any more."""
    try:
        for line in backend.logs(record.job_id):
            print(line, flush=True)
    except Interrupted:
        if not backend.status(record.job_id).is_over:
            say_it_runs_on(record.name, jobs)
        raise


def _do(given: argparse.Namespace, record: JobRecord, jobs: Path) -> None:
    backend = backend_of(record, jobs)
    if given.verb == "status":
        status = backend.status(record.job_id)
        print(status.state + (f": {status.reason}" if status.reason else ""))
    elif given.verb == "logs":
        _follow(backend, record, jobs)
    elif given.verb == "metrics":
        for point in backend.metrics(record.job_id):
            print(json.dumps(vars(point)))
    elif given.verb == "fetch":
        print(f"results: {fetch_recorded(backend, record, given.into or jobs / record.name)}")
    else:
        backend.stop(record.job_id)
