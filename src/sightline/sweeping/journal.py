"""Optuna's journal file, made to survive a kill at any moment."""

import fcntl
import os
from pathlib import Path

from optuna.storages.journal import BaseJournalBackend, JournalFileBackend, JournalStorage


class FileLock:
    """A lock that ends with its process; Optuna's own stays after a kill, and the next start waits 30 s for it."""

    def __init__(self, path: Path) -> None:
        self.path, self._descriptor = path, -1

    def acquire(self) -> bool:
        self._descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o644)
        fcntl.flock(self._descriptor, fcntl.LOCK_EX)
        return True

    def release(self) -> None:
        os.close(self._descriptor)


def open_journal(path: Path) -> JournalStorage:
    """The storage in a journal file, without the half line that a kill may have left."""
    lock = FileLock(path.with_name(f".{path.name}.lock"))
    lock.acquire()
    try:
        _drop_half_line(path)
    finally:
        lock.release()
    backend: BaseJournalBackend = JournalFileBackend(str(path), lock)  # pyright: ignore[reportArgumentType]
    return JournalStorage(backend)


def _drop_half_line(path: Path) -> None:
    if path.is_file() and (content := path.read_bytes()) and not content.endswith(b"\n"):
        os.truncate(path, content.rfind(b"\n") + 1)
