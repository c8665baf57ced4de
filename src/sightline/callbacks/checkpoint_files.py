"""Checkpoint files, written atomically, and the newest one that opens."""

import logging
import os
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import torch
from lightning_fabric.plugins import TorchCheckpointIO

from sightline.errors import BadInput

log = logging.getLogger(__name__)
LAST, PREVIOUS = "last.ckpt", "last-previous.ckpt"
BEST, AVERAGED = "best.ckpt", "top-*.ckpt"
PARTIAL, TORN = ".partial", ".torn"
OPTIMIZER, STATE = "optimizer_states", "resume"
"""Entries of a checkpoint: Lightning's, and ours with what Lightning does not restore."""


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes checkpoints atomically: to a temporary file, synced to the disk, then renamed.

    The previous `last.ckpt` is kept as `last-previous.ckpt`. No run goes on from the best ones: unless `keeps_all` they
    are written without the optimizer's state, with AdamW a third of the size.
    """

    def __init__(self, *, keeps_all: bool = False) -> None:
        super().__init__()
        self.keeps_all = keeps_all

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        """Raises: OSError when it cannot be written; then the files are as they were."""
        path = Path(path)
        if not self.keeps_all and (path.name == BEST or path.match(AVERAGED)):
            checkpoint = {name: value for name, value in checkpoint.items() if name != OPTIMIZER}
        partial = path.with_name(path.name + PARTIAL)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            _write(checkpoint, partial)
            if path.name == LAST and path.exists():
                _keep_as_previous(path)
            partial.replace(path)
            _force_to_disk(path.parent)
        except OSError as error:
            why = error.strerror or error
            raise OSError(
                f"{path}: the checkpoint cannot be written ({why}); make room, or the folder writable, and go on from "
                "the last one that was"
            ) from error
        finally:
            _remove(partial)


def _keep_as_previous(last: Path) -> None:
    """Give it a second name: whenever the process is killed, there is a `last.ckpt`."""
    previous = last.with_name(PREVIOUS)
    previous.unlink(missing_ok=True)
    try:
        previous.hardlink_to(last)
    except OSError:  # a disk without links
        last.replace(previous)


def drop_unneeded(folder: Path, keep: str) -> None:
    """Remove what a finished run is not gone on with; `keep` is that of the configuration."""
    if keep == "all":
        return
    for path in (folder / PREVIOUS, *folder.glob(AVERAGED)):
        _remove(path)
    last = folder / LAST
    if keep == "weights" and last.is_file():
        checkpoint = torch.load(last, map_location="cpu", weights_only=True)
        checkpoint.pop(OPTIMIZER, None)
        checkpoint[STATE]["is_exact"] = False  # nothing goes on from it
        AtomicCheckpointIO().save_checkpoint(checkpoint, last)
        _remove(folder / PREVIOUS)


class _Writer:
    """A file that remembers the OSError of a failed write, which torch's own error hides."""

    def __init__(self, file: IO[bytes]) -> None:
        self.file = file
        self.error: OSError | None = None

    def write(self, content: Any) -> int:
        return self._try(self.file.write, content)

    def flush(self) -> None:
        self._try(self.file.flush)

    def _try(self, act: Callable[..., Any], *arguments: Any) -> Any:
        try:
            return act(*arguments)
        except OSError as error:
            self.error = error
            raise


def _write(checkpoint: dict[str, Any], path: Path) -> None:
    with path.open("wb") as file:
        writer = _Writer(file)
        try:
            torch.save(checkpoint, writer)  # pyright: ignore[reportArgumentType]  (needs no more than these two)
        except RuntimeError as error:
            raise writer.error or error from error
        file.flush()
        os.fsync(file.fileno())


def _force_to_disk(folder: Path) -> None:
    """Sync a file and its folder, so that its name survives a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _remove(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        log.warning("%s cannot be removed (%s)", path, error)


def newest_whole(folder: Path) -> Path | None:
    """The newest of a run's two last checkpoints that opens; a torn one is named and set aside.

    Raises: BadInput when there are some and none opens.
    """
    torn: dict[Path, str] = {}
    for path in (folder / LAST, folder / PREVIOUS):
        if not path.is_file():
            continue
        if (defect := find_defect(path)) is None:
            for other, why in torn.items():
                aside = other.with_name(other.name + TORN)
                other.replace(aside)
                log.warning("%s does not open (%s): kept as %s, going on from %s", other, why, aside.name, path.name)
            return path
        torn[path] = defect
    if torn:
        named = "; ".join(f"{path} ({why})" for path, why in torn.items())
        raise BadInput(f"resume: no checkpoint opens: {named}; remove them to begin again, or name another output")
    return None


def find_defect(path: Path) -> str | None:
    """Why a checkpoint is not whole, or None."""
    try:
        with zipfile.ZipFile(path) as archive:
            if (damaged := archive.testzip()) is not None:
                return f"{damaged} is damaged"
        torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except (OSError, zipfile.BadZipFile, RuntimeError, EOFError, pickle.UnpicklingError) as error:
        return str(error).splitlines()[0]
    return None
