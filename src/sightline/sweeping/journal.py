"""Optuna's journal file, made to survive a kill at any moment."""

import os
from pathlib import Path

from filelock import FileLock
from optuna.storages.journal import BaseJournalBackend, JournalFileBackend, JournalStorage


class JournalLock:
    """The lock on a journal file for writing; its holder finds whole lines.

    It ends with its process; Optuna's own stays after a kill, and the next start waits 30 s for it.
    """

    def __init__(self, journal: Path) -> None:
        self.journal = journal
        self._lock = FileLock(journal.with_name(f".{journal.name}.lock"), poll_interval=0.005)

    def acquire(self) -> bool:
        self._lock.acquire()
        _drop_half_line(self.journal)
        return True

    def release(self) -> None:
        self._lock.release()


def open_journal(path: Path) -> JournalStorage:
    """The storage in a journal file."""
    lock = JournalLock(path)
    lock.acquire()
    lock.release()
    backend: BaseJournalBackend = JournalFileBackend(str(path), lock)  # pyright: ignore[reportArgumentType]
    return JournalStorage(backend)


def _drop_half_line(path: Path) -> None:
    """Cut off an incomplete last line, left by a kill or a full disk: a line behind it would break the journal."""
    if not path.is_file() or not (size := path.stat().st_size):
        return
    with path.open("rb+") as file:
        file.seek(-1, os.SEEK_END)
        if file.read(1) == b"\n":
            return
        file.seek(0)
        file.truncate(file.read(size).rfind(b"\n") + 1)
