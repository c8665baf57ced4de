"""Output while jobs run: their states, the log of a single one, and the commands to find them again."""

import logging
import shlex
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType

from sightline.launch.backend import Backend
from sightline.launch.job import Job, Status
from sightline.runs.override_text import quoted
from sightline.runs.project import PROGRAMS

log = logging.getLogger(__name__)
SECONDS_FOR_THE_LAST_LINES = 30.0


def commands(name: str, records: Path) -> list[str]:
    """The commands to follow, fetch and stop a job."""
    return [_command(verb, name, records) for verb in ("logs", "fetch", "stop")]


def _command(verb: str, name: str, records: Path) -> str:
    args = [str(PROGRAMS / "jobs.py"), verb, name, f"paths.runs={quoted(str(records.parent))}"]
    return f"python {shlex.join(args)}"


def say_it_runs_on(name: str, records: Path) -> None:
    """Log that a job runs on, and the commands to follow, fetch and stop it."""
    log.warning("%s runs on; follow, fetch and stop it with", name)
    for line in commands(name, records):
        log.warning("  %s", line)


@contextmanager
def command_to_fetch(name: str, records: Path) -> Iterator[None]:
    """Within it, an error also logs how to fetch the results: the same command would run a new job."""
    try:
        yield
    except BaseException:
        log.warning("%s has finished, its results are not all here; get them with", name)
        log.warning("  %s", _command("fetch", name, records))
        raise


class Follower:
    """Logs the states of jobs while it is entered; left early, also which of them run on and how to find them."""

    def __init__(self, backend: Backend, records: Path, *, shows_output: bool, leaves_running: bool) -> None:
        self.backend, self.records = backend, records
        self.shows_output, self.leaves_running = shows_output, leaves_running
        self._running: list[Job] = []
        self._thread: threading.Thread | None = None

    def __enter__(self) -> "Follower":
        return self

    def tell(self, job: Job, job_id: str, status: Status) -> None:
        """Call it when a job has begun or ended."""
        log.info("%s %s%s", job.name, status.state, f" ({status.reason})" if status.reason else "")
        if not status.is_over:
            self._running.append(job)
            if self.shows_output:
                self._thread = threading.Thread(target=self._print, args=(job_id,), daemon=True)
                self._thread.start()
        elif job in self._running:
            self._running.remove(job)

    def _print(self, job_id: str) -> None:
        try:
            for line in self.backend.logs(job_id):
                print(line, flush=True)
        except Exception as error:  # noqa: BLE001 (the job runs, whatever hides its output)
            log.warning("the output of the job cannot be shown: %s", error)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None and self._thread is not None:
            self._thread.join(SECONDS_FOR_THE_LAST_LINES)
        if error is not None and self.leaves_running:
            for job in self._running:
                say_it_runs_on(job.name, self.records)
