"""Optuna's journal file, made to survive a kill at any moment."""

import fcntl
import os
from pathlib import Path

from optuna.storages.journal import BaseJournalBackend, JournalFileBackend, JournalStorage


class JournalLock:
    """The lock on a journal that somebody writes to; whoever gets it finds whole lines.

    It ends with its process; Optuna's own stays after a kill, and the next start waits 30 s for it.
    """

    def __init__(self, journal: Path) -> None:
        self.journal, self._descriptor = journal, -1

    def acquire(self) -> bool:
        lock = self.journal.with_name(f".{self.journal.name}.lock")
        self._descriptor = os.open(lock, os.O_RDWR | os.O_CREAT, 0o644)
        fcntl.flock(self._descriptor, fcntl.LOCK_EX)
        _drop_half_line(self.journal)
        return True

    def release(self) -> None:
        os.close(self._descriptor)


def open_journal(path: Path) -> JournalStorage:
    """The storage in a journal file."""
    lock = JournalLock(path)
    lock.acquire()
    lock.release()
    backend: BaseJournalBackend = JournalFileBackend(str(path), lock)  # pyright: ignore[reportArgumentType]
    return JournalStorage(backend)


def _drop_half_line(path: Path) -> None:
    """Cut off what a kill or a full disk has left; a line behind it would make the journal unreadable."""
    if not path.is_file() or not (size := path.stat().st_size):
        return
    with path.open("rb+") as file:
        file.seek(-1, os.SEEK_END)
        if file.read(1) == b"\n":
            return
        file.seek(0)
        file.truncate(file.read(size).rfind(b"\n") + 1)
