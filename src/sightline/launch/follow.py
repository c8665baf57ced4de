"""What is said while jobs run: their states, the output of a single one, and how to find them again."""

import logging
import shlex
import threading
from pathlib import Path
from types import TracebackType

from sightline.errors import Interrupted
from sightline.launch.backend import Backend
from sightline.launch.job import Job, Status

log = logging.getLogger(__name__)
SECONDS_FOR_THE_LAST_LINES = 30.0
PROGRAM = Path(__file__).resolve().parents[2] / "jobs.py"


def commands(name: str, records: Path) -> list[str]:
    """What to type to follow, fetch and stop a job."""
    ends = shlex.join([name, "--runs", str(records.parent)])
    return [f"python {PROGRAM} {verb} {ends}" for verb in ("logs", "fetch", "stop")]


class Follower:
    """Says what jobs do while it is entered; where they go on without us, an interruption says that, too."""

    def __init__(self, backend: Backend, records: Path, *, shows_output: bool) -> None:
        self.backend, self.records = backend, records
        self.shows_output = shows_output and backend.is_remote
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
        if isinstance(error, Interrupted) and self.backend.is_remote:
            for job in self._running:
                log.warning("%s runs on; find it again with", job.name)
                for line in commands(job.name, self.records):
                    log.warning("  %s", line)
