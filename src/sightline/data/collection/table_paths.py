"""From the paths of a table to files: as they stand, or so read that all of them are files, which is a guess."""

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any, TypeVar

from sightline.data.collection.table_files import Files
from sightline.data.collection.table_text import Rows
from sightline.errors import BadInput
from sightline.runs.guesses import Guess, ambiguous
from sightline.runs.override_text import override

T = TypeVar("T")
ANY_SUFFIX, ANY_FOLDER = "*", "**"
_UP = re.compile(r"^(?:\./)*(?:\.\./)+")
"""What the paths of another working folder begin with, like `../input/`."""
NUM_SAMPLED = 30
"""Rows that suggest how paths may be read, and that decide which readings are tried on all of them."""


@dataclass(frozen=True)
class Reading:
    """How a table's paths are read."""

    remove: str = ""
    """What they begin with that is not here."""
    folder: str = ""
    """Where the rest of them lies; `**`: anywhere, by the file's name, which no other file has."""
    suffix: str = ""
    """What they lack; `*`: any, where no other file is called alike."""

    @property
    def rank(self) -> tuple[bool | int, ...]:
        """Of two readings the smaller one takes more from the paths and less from what is found."""
        num_removed = len(self.remove.split("/")) if self.remove else 0
        any_folder, any_suffix = self.folder == ANY_FOLDER, self.suffix == ANY_SUFFIX
        return any_folder, bool(self.folder), any_suffix, num_removed, bool(self.suffix)

    def find(self, paths: Sequence[str], files: Files) -> list[str | None]:
        """The file that each path names; None where there is none, or several."""
        wanted = [self._place(path, files) for path in paths]
        found = files.find([path or "" for path in wanted])
        return [file if path else None for path, file in zip(wanted, found, strict=True)]

    def _place(self, path: str, files: Files) -> str | None:
        if self.remove:
            beginning = self.remove.rstrip("/") + "/"
            if not path.startswith(beginning):
                return None
            path = path[len(beginning) :]
        elif is_absolute(path):
            return None
        if self.folder == ANY_FOLDER:
            places = [place for place in files.places(path) if self.suffix in (place[1], ANY_SUFFIX)]
            return f"{places[0][0]}/{path}{places[0][1]}".lstrip("/") if len(places) == 1 else None
        if self.folder:
            path = f"{self.folder}/{path}"
        if self.suffix != ANY_SUFFIX:
            return path + self.suffix
        suffixes = files.suffixes(path)
        return None if len(suffixes) > 1 else path + "".join(suffixes)

    def parts(self) -> dict[str, str]:
        """As one would type it."""
        return {name: text for name, text in vars(self).items() if text}


def is_absolute(path: str) -> bool:
    """Whether a path begins outside the table's folder, as `/data`, `C:/`, `s3://bucket` and `../input` do."""
    return path.startswith(("/", "../")) or "://" in path or re.match("[A-Za-z]:/", path) is not None


def find_paths(
    rows: Rows, texts: Sequence[str], files: Files, told: Mapping[str, Any]
) -> tuple[list[str], list[Guess]]:
    """The file of each row, below the table's folder, and how the paths were read where they do not say it themselves.

    Raises: BadInput when a path leaves the folder, or names no file.
    """
    paths = [_tidy(rows, row, text, files) for row, text in enumerate(texts)]
    if told:
        reading = Reading(**told)
        found = reading.find(paths, files)
        if None in found:
            raise _missing(rows, texts, paths, reading, files)
        return [file for file in found if file is not None], []
    plain = Reading().find(paths, files)
    if None not in plain:
        return [file for file in plain if file is not None], []
    best = Reading()
    for is_deep in (False, True):
        complete, partial = _try_readings(paths, files, is_deep)
        if complete:
            guesses = [_guess(reading, plain) for reading in complete]
            others = [reading.find(paths, files) for reading in complete[1:]]
            found = complete[0].find(paths, files)
            if clash := next((guess for guess, other in zip(guesses[1:], others, strict=True) if other != found), None):
                raise ambiguous(guesses[0], clash)
            return [file for file in found if file is not None], guesses[:1]
        best = min(best, partial, key=lambda reading: reading.find(paths, files).count(None))
    raise _missing(rows, texts, paths, best, files)


def _guess(reading: Reading, plain: list[str | None]) -> Guess:
    num_plain = len(plain) - plain.count(None)
    return Guess(
        "data.table_paths",
        reading.parts(),
        f"so every path of the table is a file; as they stand {num_plain or 'none'} of {len(plain)} are",
    )


def _tidy(rows: Rows, row: int, text: str, files: Files) -> str:
    """A path without what every system writes differently: `/` between folders, relative to the table's folder."""
    if not text:
        raise rows.wrong(row, "path=: is empty; write where the image is")
    path = text
    if "\\" in path and files.find([path]) == [None]:
        path = path.replace("\\", "/")
    for address in files.addresses:
        if path.startswith(address.rstrip("/") + "/"):
            path = path[len(address.rstrip("/")) + 1 :]
    if ".." in _UP.sub("", path).split("/"):
        raise rows.wrong(row, f"path={text}: leaves the table's folder; write it relative to {files.addresses[0]}")
    return path if "://" in path else PurePosixPath(path).as_posix()


def likely_file(path: str, files: Files, *, is_deep: bool) -> str | None:
    """The file that a text names if it is read as a path; None where it cannot be."""
    path = path.replace("\\", "/")
    for address in files.addresses:
        path = path.removeprefix(address.rstrip("/") + "/")
    if not path or ".." in _UP.sub("", path).split("/"):
        return None
    reading = next(_readings(path, files, is_deep), None)
    return None if reading is None else reading.find([path], files)[0]


def _readings(path: str, files: Files, is_deep: bool) -> Iterator[Reading]:
    """The ways to read one path as a file: where it says, or, if deep, in any folder."""
    root = "/" if path.startswith("/") else ""
    parts = path.strip("/").split("/")
    for num_removed in range(len(parts)):
        remove, tail = root + "/".join(parts[:num_removed]), "/".join(parts[num_removed:])
        if not remove and is_absolute(path):
            continue
        if is_deep:
            places = files.places(tail)
        else:
            places = [("", suffix) for suffix in [""] * (files.find([tail]) != [None]) + files.suffixes(tail)]
        for folder, suffix in places:
            for any_folder in (folder, ANY_FOLDER) if is_deep and "/" not in tail else (folder,):
                for any_suffix in (suffix, ANY_SUFFIX) if suffix else ("",):
                    yield Reading(remove, any_folder, any_suffix)


def _try_readings(paths: Sequence[str], files: Files, is_deep: bool) -> tuple[list[Reading], Reading]:
    """The readings of the best rank by which every path is a file, and, where there is none, the one of most files."""
    sample = spread(paths)
    hits = {
        reading: len(sample) - reading.find(sample, files).count(None)
        for reading in {reading for path in sample for reading in _readings(path, files, is_deep)}
    }
    likely = [reading for reading in hits if hits[reading] == max(hits.values())]
    complete: list[Reading] = []
    best, num_missing = Reading(), len(paths)
    for reading in sorted(likely, key=lambda reading: reading.rank):
        if complete and reading.rank != complete[0].rank:
            break
        found = reading.find(paths, files)
        if None not in found:
            complete.append(reading)
        if found.count(None) < num_missing:
            best, num_missing = reading, found.count(None)
    return complete, best


def spread(rows: Sequence[T]) -> list[T]:
    """Some of the rows, evenly apart, from the first to the last."""
    count = min(len(rows), NUM_SAMPLED)
    return [rows[number * (len(rows) - 1) // max(1, count - 1)] for number in range(count)]


def _missing(rows: Rows, texts: Sequence[str], paths: Sequence[str], how: Reading, files: Files) -> BadInput:
    """The error for rows that name no file in the best reading: the first, how many, and what is there instead."""
    found = how.find(paths, files)
    row = found.index(None)
    where, count = files.addresses[0], found.count(None)
    problem = f"path={texts[row]}: no such file in {where}"
    if paths[row].startswith("../") or (is_absolute(paths[row]) and count == len(found)):
        problem = f"path={texts[row]}: leaves the table's folder; write it relative to {where}"
    near = _nearest(paths[row], files)
    facts = [f"{count} of {len(found)} rows name no file"] if count > 1 else []
    if how.parts() and count < len(found):
        facts.append(f"the others do, with {override('data.table_paths', how.parts())}")
    others = f" ({'; '.join(facts)})" if facts else ""
    plural = "" if count == 1 else "s"
    fix = f"correct the path{plural} or remove the {rows.unit}{plural}"
    return rows.wrong(row, f"{problem}{near}{others}; {fix}")


def _nearest(path: str, files: Files) -> str:
    """What is there that a path may have meant."""
    folder, _, name = path.rpartition("/")
    names = files.names_in(folder)
    if alike := sorted(other for other in names if _loosely(other) == _loosely(name)):
        return f", but there is {alike[0]}"
    stem = os.path.splitext(name)[0]  # noqa: PTH122
    for written in (name, stem):
        if places := files.places(written):
            above, suffix = places[0]
            return f", but there is {above}/{written}{suffix}" if above else f", but there is {written}{suffix}"
    return ""


def _loosely(name: str) -> str:
    """A file's name without its suffix, its case and its blanks."""
    return re.sub(r"[\W_]+", "", os.path.splitext(name)[0].lower())  # noqa: PTH122
