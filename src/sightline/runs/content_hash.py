"""What a file or folder holds, as one hash; files whose size and time have not changed are not read again."""

import hashlib
import json
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from sightline.runs.files import read_json, write_text

NUM_READERS = 8
NUM_HASH_LETTERS = 32
Known = dict[str, list[int | str]]


def files_of(path: Path) -> Iterator[tuple[str, Path]]:
    """Every file of a folder with its path in it, links followed; a file is its own name. Dot files stay here."""
    if path.is_file():
        yield path.name, path
        return
    seen: set[str] = set()
    for folder, folders, names in os.walk(path, followlinks=True):
        folders[:] = sorted(each for each in folders if not each.startswith("."))
        if (real := os.path.realpath(folder)) in seen:
            folders.clear()
            continue
        seen.add(real)
        inside = os.path.relpath(folder, path)
        for name in sorted(names):
            file = Path(folder, name)
            if not name.startswith(".") and file.is_file():
                yield (name if inside == "." else f"{inside}/{name}"), file


def content_hash(path: Path, memory: Path) -> str:
    """The same for the same names and bytes, wherever they lie and whatever the order on disk.

    `memory` is a folder that keeps the hash of each file with its size and time; where its parent is not there, nothing
    is kept.
    """
    notes = memory / f"{hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:NUM_HASH_LETTERS]}.json"
    known = _read(notes)
    found = [(name, file, file.stat()) for name, file in files_of(path)]
    old = {name: known[name] for name, _, stat in found if known.get(name, [])[:2] == [stat.st_size, stat.st_mtime_ns]}
    new = [(name, file) for name, file, _ in found if name not in old]
    with ThreadPoolExecutor(NUM_READERS) as readers:
        hashes = dict(zip((name for name, _ in new), readers.map(_hash_file, (file for _, file in new)), strict=True))
    table: Known = {name: old.get(name) or [stat.st_size, stat.st_mtime_ns, hashes[name]] for name, _, stat in found}
    if new or len(table) != len(known):
        _write(notes, table)
    total = hashlib.sha256()
    for name in sorted(table):
        total.update(f"{name}\0{table[name][2]}\n".encode("utf-8", "surrogateescape"))
    return total.hexdigest()[:NUM_HASH_LETTERS]


def _hash_file(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _write(path: Path, table: Known) -> None:
    if not path.parent.parent.is_dir():  # nothing was ever begun there, and a plan begins nothing
        return
    path.parent.mkdir(exist_ok=True)
    write_text(path, json.dumps(table))


def _read(path: Path) -> Known:
    try:
        return read_json(path)
    except ValueError:
        return {}
