"""Which sweep a running trial belongs to, and whether the process of that sweep is alive."""

import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import FileLock, Timeout

if TYPE_CHECKING:
    import optuna

POLL_SECONDS = 0.005
SEEN = "seen:"
SEEN_EVERY_SECONDS = 30.0
GONE_AFTER_SECONDS = 300.0
"""A sweep of another machine without a sign of life for so long is over."""


class Owner:
    """This sweep among those that share a study: a name and the lock on it, which ends with the process."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.host = socket.gethostname().split(".")[0] or "host"
        self.name, self._lock = self._take_name()
        self._seen_at = 0.0

    def _take_name(self) -> tuple[str, FileLock]:
        number = 0
        while True:
            name = f"{self.host}-{number}"
            lock = FileLock(self.folder / f"{name}.lock", thread_local=False)
            try:
                lock.acquire(blocking=False)
                return name, lock
            except Timeout:
                number += 1

    def release(self) -> None:
        self._lock.release()

    @contextmanager
    def asking(self) -> Iterator[None]:
        """A lock: one sweep of this folder at a time makes a trial and writes its name into it."""
        with FileLock(self.folder / "asking.lock", poll_interval=POLL_SECONDS):
            yield

    def show_life(self, study: "optuna.Study") -> None:
        """Write a sign of life into the study, for sweeps on other machines, which cannot see the lock."""
        if time.monotonic() - self._seen_at > SEEN_EVERY_SECONDS:
            self._seen_at = time.monotonic()
            study.set_user_attr(SEEN + self.name, time.time())

    def is_gone(self, name: str | None, study: "optuna.Study") -> bool:
        """Whether the sweep of that name is over; None is one that died before it wrote its name."""
        if name is None:
            others = (key.removeprefix(SEEN) for key in study.user_attrs if key.startswith(SEEN))
            return all(self.is_gone(other, study) for other in others if other != self.name)
        if name == self.name:
            return True  # an earlier process of this name
        lock = self.folder / f"{name}.lock"
        if lock.is_file():
            return not _is_held(lock)
        seen = study.user_attrs.get(SEEN + name, 0.0)
        return time.time() - seen > GONE_AFTER_SECONDS


def _is_held(path: Path) -> bool:
    try:
        with FileLock(path, blocking=False):
            return False
    except Timeout:
        return True
