"""Reading and atomic writing of files: a reader sees the old file or the new one, never half of it."""

import json
import os
import shutil
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


def read_json(path: Path) -> dict[str, Any]:
    """A JSON file's content; `{}` where there is no file."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}


def write_json(path: Path, value: Any) -> None:
    r"""Write JSON atomically, indented, with `NaN` for what is no number; a byte that is no UTF-8 becomes `\udce9`."""
    text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=True) + "\n"
    write_bytes(path, text.encode("utf-8", "backslashreplace"))


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 atomically; undecodable bytes of file names are kept (surrogateescape)."""
    write_bytes(path, text.encode("utf-8", "surrogateescape"))


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file atomically, also when other processes or machines write it at the same time."""
    with whole_file(path) as partial:
        partial.write_bytes(content)


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """The path of a hidden temporary file, which is renamed at the end; after an error nothing has changed."""
    partial = path.with_name(f".{path.name}.{socket.gethostname()}-{os.getpid()}.partial")
    try:
        yield partial
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


@contextmanager
def whole_folder(folder: Path) -> Iterator[Path]:
    """A hidden temporary folder, which is renamed at the end; if another process was first, its folder stays."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        yield partial
        partial.chmod(0o755)
        try:
            os.rename(partial, folder)  # noqa: PTH104 (whole or not at all)
        except OSError:
            if not folder.is_dir():
                raise
    finally:
        shutil.rmtree(partial, ignore_errors=True)
