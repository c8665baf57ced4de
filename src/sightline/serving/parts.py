"""Parts of a list of pictures: each a run of neighbours with a file of its own, and what puts the files together again.

Beside `predictions-00003-of-00016.csv` lies a `.json` that says what its rows were computed with and which they are.
"""

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sightline.data.predicted_classes import Row
from sightline.errors import BadInput
from sightline.runs.files import read_json
from sightline.serving.prediction_files import FORMATS, read_table

if TYPE_CHECKING:
    from sightline.data.collection.named_pictures import FileList

NAME = re.compile(rf"predictions-(\d+)-of-(\d+)\.({'|'.join(FORMATS)})")
SAME = {"model": "model", "precision": "precision", "runtime": "runtime", "list_sha256": "list of pictures"}
"""What all rows of one table have in common, and how people call it."""
MAX_NAMED = 5


@dataclass(frozen=True)
class Part:
    """One of several parts of a list, counted from 0."""

    number: int
    count: int

    @property
    def stem(self) -> str:
        """Of its files' names; of the only part `predictions`."""
        return "predictions" if self.count == 1 else f"predictions-{self.number:05d}-of-{self.count:05d}"

    def of(self, files: "FileList") -> "FileList":
        """Its pictures: neighbours in the list; parts differ by one picture at most."""
        return files[len(files) * self.number // self.count : len(files) * (self.number + 1) // self.count]

    def __str__(self) -> str:
        return f"part {self.number} of {self.count}"


def differences(there: Mapping[str, Any], here: Mapping[str, Any]) -> list[str]:
    """What differs in how rows were computed, in people's words."""
    return [words for key, words in SAME.items() if there.get(key) != here.get(key)]


def check_same(where: Path, there: Mapping[str, Any], here: Mapping[str, Any]) -> None:
    """Raises: BadInput where rows that are there were computed with something else."""
    if other := differences(there, here):
        raise BadInput(
            f"output={where.parent}: {where.name} was computed with another {' and another '.join(other)}; "
            "name another folder, or remove it"
        )


@dataclass(frozen=True)
class WrittenPart:
    """A part's table and what stands beside it."""

    part: Part
    table: Path
    note: dict[str, Any]

    @property
    def name(self) -> str:
        """Of the model."""
        return self.note["name"]

    def rows(self) -> Iterator[Row]:
        """Its rows.

        Raises: BadInput where they are not those of its note: one lacks, is double, or is another's.
        """
        digest, count, seen = hashlib.sha256(), 0, set[str]()
        for row in read_table(self.table):
            digest.update(row.file.encode() + b"\n")
            count += 1
            if row.file in seen:
                raise self._wrong(f"has {row.file} twice")
            seen.add(row.file)
            yield row
        if count != self.note["num_images"]:
            lacking = self.note["num_images"] - count
            total = self.note["num_images"]
            raise self._wrong(f"lacks {lacking} row(s) of {total}" if lacking > 0 else f"has {count} rows for {total}")
        if digest.hexdigest() != self.note["files_sha256"]:
            raise self._wrong("has rows of other pictures, or in another order")

    def _wrong(self, what: str) -> BadInput:
        again = f"part={self.part.number} num_parts={self.part.count}"
        return BadInput(f"merge: {self.table} {what}; remove it and run {again} again")


def find_parts(places: Sequence[str]) -> list[WrittenPart]:
    """All parts below folders, in their order.

    Raises: BadInput where one lacks or is there twice, or they are not of one computation.
    """
    found: dict[int, WrittenPart] = {}
    for table in _tables(places):
        parsed = NAME.fullmatch(table.name)
        assert parsed is not None
        part, note = Part(int(parsed[1]), int(parsed[2])), read_json(table.with_suffix(".json"))
        if "files_sha256" not in note:
            raise BadInput(f"merge: {table} has no {table.with_suffix('.json').name} beside it; run {part} again")
        first = next(iter(found.values()), None)
        if first is not None:
            if part.count != first.part.count or table.suffix != first.table.suffix:
                raise BadInput(f"merge: {first.table} and {table} are no parts of one table; name the folder of one")
            if other := differences(note, first.note):
                raise BadInput(
                    f"merge: {first.table} and {table} were computed with another {' and another '.join(other)}; "
                    "name the folders of one of them, or run the parts again"
                )
            if part.number in found:
                raise BadInput(f"merge: {part} is there twice: {found[part.number].table} and {table}; remove one")
        found[part.number] = WrittenPart(part, table, note)
    if not found:
        raise BadInput(f"merge={', '.join(places)}: no predictions-…-of-… found there; name the folder of the parts")
    count = next(iter(found.values())).part.count
    if lacking := [number for number in range(count) if number not in found]:
        some = ", ".join(map(str, lacking[:MAX_NAMED])) + (", …" if len(lacking) > MAX_NAMED else "")
        raise BadInput(
            f"merge={', '.join(places)}: {len(lacking)} of {count} parts are missing or unfinished: {some}; run them, "
            f"like part={lacking[0]} num_parts={count}"
        )
    return [found[number] for number in range(count)]


def _tables(places: Sequence[str]) -> list[Path]:
    """Files of parts at places: folders, searched through, or patterns of them."""
    from glob import glob

    found = dict[Path, None]()
    for place in places:
        path = Path(place).expanduser().absolute()
        folders = [path] if path.is_dir() else [Path(each) for each in sorted(glob(str(path))) if Path(each).is_dir()]  # noqa: PTH207
        if not folders:
            raise BadInput(f"merge={place}: no such folder; name the folder that the parts were written into")
        for folder in folders:
            tables = (each for each in folder.rglob("predictions-*-of-*.*") if NAME.fullmatch(each.name))
            found |= dict.fromkeys(sorted(each.resolve() for each in tables))
    return list(found)


@contextmanager
def alone(path: Path) -> Iterator[None]:
    """Only one process at a time computes a part.

    Raises: BadInput where another does.
    """
    import fcntl

    with path.open("a+b") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise BadInput(f"{path}: another process is computing it; wait for it, or name another output") from error
        try:
            yield
        finally:
            fcntl.flock(file, fcntl.LOCK_UN)  # closing is not enough: workers have it too


def name_computation(computed_with: Mapping[str, Any]) -> str:
    """A short name of a computation."""
    return hashlib.sha256(json.dumps(computed_with, sort_keys=True).encode()).hexdigest()[:12]
