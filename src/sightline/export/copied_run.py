"""A run's folder without what only training needs, in a folder of its own that counts when it is whole."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sightline.errors import BadInput
from sightline.runs.record import open_folder

NOT_COPIED = ("checkpoints", "tensorboard", "version.json", "files.json")
"""What only training needs, and what makes a folder a version of a registry."""
RECORD = "run.json"
"""What makes a folder a run's; it comes last."""
UNFINISHED = ".export"
"""The hidden folder in which the copy is made."""


@contextmanager
def copied_run(run: Path, output: Path) -> Iterator[Path]:
    """A copy of a run's folder to work in; at the end it is `output`, and after an error there is none.

    Checkpoints, TensorBoard's files and what is hidden stay behind. What a killed process left in `output` goes.

    Raises: BadInput where `output` cannot be, or holds other things.
    """
    output = output.expanduser().absolute()
    if output.resolve().is_relative_to(run.resolve()) or run.resolve().is_relative_to(output.resolve()):
        raise BadInput(f"output={output}: lies in the run's own folder, or that in it; name another folder")
    unfinished = output / UNFINISHED
    if unfinished.is_dir() and not (output / RECORD).exists():
        for name in _names(run):
            _remove(output / name)
    open_folder(output.parent, "export", output.name, str(output))
    try:
        _remove(unfinished)
        unfinished.mkdir()
        for name in _names(run):
            _copy(run / name, unfinished / name)
        yield unfinished
        for path in sorted(unfinished.iterdir(), key=lambda path: path.name == RECORD):
            path.rename(output / path.name)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def _names(run: Path) -> list[str]:
    return sorted(path.name for path in run.iterdir() if not path.name.startswith(".") and path.name not in NOT_COPIED)


def _copy(source: Path, target: Path) -> None:
    if source.is_dir():
        hidden = shutil.ignore_patterns(".*")
        shutil.copytree(source, target, ignore=hidden, ignore_dangling_symlinks=True)
    else:
        shutil.copy2(source, target)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
