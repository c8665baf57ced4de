"""What a version holds: which files, which of them make it what it is, and how they are hashed and checked."""

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sightline.errors import BadInput
from sightline.registry.version import FILES_FILE, VERSION_FILE, broken
from sightline.runs.files import read_json

IDENTITY = (
    "manifest.csv",
    "model/model.int8.onnx",
    "model/model.json",
    "model/model.onnx",
    "model/model.safetensors",
    "model/task_spec.json",
)
"""The files that a version's `sha256` is over, those of them that there are; sorted."""
NEEDED = ("model/model.json", "model/model.safetensors", "model/task_spec.json")
EXPORTED = "model/model.onnx"
LEFT_OUT = ("checkpoints", "tensorboard", "resume", VERSION_FILE, FILES_FILE)
"""Of a run's folder: what training goes on from and what it was watched by, and what a registry writes itself."""
CHUNK_BYTES = 1 << 20


@dataclass(frozen=True)
class Package:
    """A folder that can be registered, with the hash of each of its files."""

    folder: Path
    files: Mapping[str, str]
    """By path in the folder, with `/`: the sha256 in hexadecimal."""
    metrics: Mapping[str, float]

    @property
    def sha256(self) -> str:
        return identity(self.files)

    @property
    def files_json(self) -> bytes:
        """What files.json holds."""
        text = json.dumps({"sha256": self.sha256, "files": dict(sorted(self.files.items()))}, indent=2) + "\n"
        return text.encode()

    @property
    def files_sha256(self) -> str:
        return hashlib.sha256(self.files_json).hexdigest()


def identity(files: Mapping[str, str]) -> str:
    """The `sha256` of a version: that of what `sha256sum` prints for the files of IDENTITY, in this order."""
    lines = [f"{files[name]}  {name}\n" for name in IDENTITY if name in files]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def read_package(folder: Path) -> Package:
    """Read and hash what of a run's folder is registered.

    Raises: BadInput for a folder that holds no exported model, or a file that no registry keeps.
    """
    if not folder.is_dir():
        raise BadInput(f"{folder}: no such folder; name a finished run")
    names = dict(_files_to_keep(folder))
    if missing := [name for name in NEEDED if name not in names]:
        raise BadInput(f"{folder}: has no {missing[0]}; name the folder of a finished run")
    if EXPORTED not in names:
        raise BadInput(f"{folder}: is not exported (no {EXPORTED}); python src/export.py run={folder} makes it")
    try:
        metrics = read_json(folder / "metrics.json")
        files = {name: hash_file(path) for name, path in sorted(names.items())}
    except (OSError, ValueError) as error:
        raise BadInput(f"{folder}: cannot be read ({error}); correct it") from error
    return Package(folder, files, metrics)


def _files_to_keep(folder: Path) -> Iterator[tuple[str, Path]]:
    """What is there and neither hidden nor left out; links only where they stay inside the folder."""
    for name, path in all_files(folder):
        parts = name.split("/")
        if parts[0] in LEFT_OUT or any(part.startswith(".") or part == "__pycache__" for part in parts):
            continue
        if not path.resolve().is_relative_to(folder.resolve()):
            raise BadInput(f"{path}: is a link that leads out of {folder}; put the file itself there")
        if not name.isprintable():
            raise BadInput(f"{str(path)!r}: no registry keeps a file of such a name; rename it")
        yield name, path


def all_files(folder: Path) -> Iterator[tuple[str, Path]]:
    """Every file below a folder, hidden ones and links too, by its path in it."""
    for place, folders, names in os.walk(folder):
        folders.sort()
        inside = os.path.relpath(place, folder)
        links = [each for each in folders if Path(place, each).is_symlink()]
        for name in sorted([*names, *links]):
            yield (name if inside == "." else f"{Path(inside).as_posix()}/{name}"), Path(place, name)


def hash_file(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def copy_file(source: Path, target: Path) -> str:
    """Copy a file and return the hash of the bytes that were written."""
    target.parent.mkdir(parents=True, exist_ok=True)
    found = hashlib.sha256()
    with source.open("rb") as given, target.open("xb") as kept:
        while chunk := given.read(CHUNK_BYTES):
            found.update(chunk)
            kept.write(chunk)
    return found.hexdigest()


def copy_package(package: Package, folder: Path) -> None:
    """Copy its files into a new folder, with files.json beside them.

    Raises: BadInput for a file that changes meanwhile.
    """
    for name, sha256 in package.files.items():
        if copy_file(package.folder / name, folder / name) != sha256:
            raise BadInput(f"{package.folder / name}: changed while it was registered; do it again when it is finished")
    (folder / FILES_FILE).write_bytes(package.files_json)


def read_files_json(content: bytes, place: str) -> dict[str, str]:
    """The hashes in a files.json, by file.

    Raises: BadInput that names the place for what no registry wrote.
    """
    try:
        values: Any = json.loads(content)
        files = {str(name): str(sha256) for name, sha256 in values["files"].items()}
        if values["sha256"] != identity(files):
            raise broken(place, "its sha256 is not that of its files")
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        if isinstance(error, BadInput):
            raise
        raise broken(place, str(error)) from error
    return files


def find_differences(folder: Path, sha256: str, files_sha256: str) -> list[str]:
    """What of a version's folder is not as it was registered, a line each; nothing where all is.

    A file that changed, is gone or was not there, or a files.json that was written anew.
    """
    table = folder / FILES_FILE
    if not table.is_file():
        return [f"{FILES_FILE}: is gone"]
    content = table.read_bytes()
    found = []
    if hashlib.sha256(content).hexdigest() != files_sha256:
        found.append(f"{FILES_FILE}: was changed")
    try:
        files = read_files_json(content, str(table))
    except BadInput:
        return found or [f"{FILES_FILE}: was changed"]
    if identity(files) != sha256 and not found:
        found.append(f"{VERSION_FILE}: its sha256 is of other files")
    there = dict(all_files(folder))
    for name in sorted({*files, *there} - {FILES_FILE, VERSION_FILE}):
        if name not in there:
            found.append(f"{name}: is gone")
        elif name not in files:
            found.append(f"{name}: was not there")
        elif there[name].is_symlink() or hash_file(there[name]) != files[name]:
            found.append(f"{name}: was changed")
    return found
