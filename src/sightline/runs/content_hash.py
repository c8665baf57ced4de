"""One hash for the content of a file or folder; files of unchanged size and time are not read again."""

import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path

from sightline.runs.files import read_json, write_text

NUM_READERS = 8
NUM_HASH_LETTERS = 32
COMPILED = "__pycache__"
Known = dict[str, list[int | str]]


def files_of(path: Path) -> Iterator[tuple[str, Path]]:
    """Every file of a folder with its path in it, links followed; a file is its own name.

    Hidden files stay here, and so does what Python compiles.
    """
    if path.is_file():
        yield path.name, path
        return
    seen: set[str] = set()
    for folder, folders, names in os.walk(path, followlinks=True):
        folders[:] = sorted(each for each in folders if not each.startswith(".") and each != COMPILED)
        if (real := os.path.realpath(folder)) in seen:
            folders.clear()
            continue
        seen.add(real)
        inside = os.path.relpath(folder, path)
        for name in sorted(names):
            file = Path(folder, name)
            if not name.startswith(".") and file.is_file():
                yield (name if inside == "." else f"{inside}/{name}"), file


class ContentHashes:
    """Hashes of what lies in files and folders: the same for the same names and bytes, wherever they lie.

    `folder` keeps the hash of each file with its size and time; nothing is written there but by `save`.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._tables: dict[Path, Known] = {}

    def of(self, path: Path) -> str:
        from concurrent.futures import ThreadPoolExecutor  # here: every program imports this file, and few hash

        known = self._tables.get(path) or _read(self._notes(path))
        found = [(name, file, file.stat()) for name, file in files_of(path)]
        seen = {name: [stat.st_size, stat.st_mtime_ns] for name, _, stat in found}
        new = [(name, file) for name, file, _ in found if known.get(name, [])[:2] != seen[name]]
        with ThreadPoolExecutor(NUM_READERS) as readers:
            digests = readers.map(_hash_file, [file for _, file in new])
            hashes = dict(zip([name for name, _ in new], digests, strict=True))
        table: Known = {name: [*seen[name], hashes[name]] if name in hashes else known[name] for name, _, _ in found}
        self._tables[path] = table
        total = hashlib.sha256()
        for name in sorted(table):
            total.update(f"{name}\0{table[name][2]}\n".encode("utf-8", "surrogateescape"))
        return total.hexdigest()[:NUM_HASH_LETTERS]

    def save(self) -> None:
        """Keep what was found for the next process."""
        for path, table in self._tables.items():
            if table != _read(self._notes(path)):
                self.folder.mkdir(parents=True, exist_ok=True)
                write_text(self._notes(path), json.dumps(table))

    def _notes(self, path: Path) -> Path:
        return self.folder / f"{hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:NUM_HASH_LETTERS]}.json"


def _hash_file(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _read(path: Path) -> Known:
    try:
        return read_json(path)
    except ValueError:
        return {}
