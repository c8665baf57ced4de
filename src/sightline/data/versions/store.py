"""The versions of data sets: named manifests, written once, over objects that all of them share."""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from sightline.config.constraints import did_you_mean
from sightline.data.manifest import SPLITS, Manifest
from sightline.data.versions.places import KEY, OBJECTS, Item, Place, open_place
from sightline.errors import BadInput
from sightline.runs.files import write_bytes
from sightline.runs.record import now

NAME = re.compile(r"[A-Za-z0-9][\w.-]{0,99}", re.ASCII)
TAG = re.compile(r"[A-Za-z][\w.-]{0,99}", re.ASCII)
TAGS = "tags"


@dataclass(frozen=True)
class DataVersion:
    """One version of a data set: which images are in it, with their class, split and group."""

    name: str
    number: int
    sha256: str
    """Of the table, as `Manifest.sha256`."""
    facts: Mapping[str, Any]
    """What its JSON file tells: created, by, why, source, counts, changes, corrections."""
    table: Path = field(repr=False)
    """The table on this disk."""
    tags: tuple[str, ...] = ()

    def spelled(self) -> str:
        return f"{self.name}/{self.number}"

    def named(self) -> dict[str, Any]:
        """For run.json."""
        return {"name": self.name, "version": self.number, "sha256": self.sha256}

    @cached_property
    def manifest(self) -> Manifest:
        """Its rows; the images themselves come by `Versions.checkout`."""
        return Manifest.load(self.table, Path(self.name))


def open_versions(place: str, cache: Path) -> "Versions":
    """The versions at a folder or s3://bucket/prefix; tables that lie elsewhere are kept below `cache`.

    Raises: BadInput for an address that is neither.
    """
    return Versions(open_place(place), Path(cache).expanduser().absolute())


class Versions:
    """All data sets of one place, with their versions."""

    def __init__(self, place: Place, cache: Path) -> None:
        self.place, self.cache = place, cache

    def names(self) -> list[str]:
        """Names that have a version, sorted."""
        folders = [each for each in self.place.names() if each != OBJECTS and NAME.fullmatch(each)]
        return [each for each in folders if self.numbers(each)]

    def numbers(self, name: str) -> list[int]:
        """The numbers of a name's versions, ascending; none where there is no such name."""
        found = [re.fullmatch(r"(\d+)\.json", each) for each in self.place.names(name)]
        return sorted(int(match[1]) for match in found if match)

    def load(self, name: str, number: int | None = None) -> DataVersion:
        """A version, the newest where no number is given.

        Raises: BadInput when there is none, or its table is damaged.
        """
        numbers = self.numbers(check_name(name))
        if not numbers:
            known = self.names()
            have = f"there are {', '.join(known)}" if known else "there are none yet"
            raise BadInput(
                f"{name}: no data set of that name in {KEY}={self.place.address}{did_you_mean(name, known)}; {have}. "
                f"Make it with data_versions.py create {name} data.root=FOLDER"
            )
        number = numbers[-1] if number is None else number
        text = self.place.read(f"{name}/{number}.json") if number in numbers else None
        if text is None:
            raise BadInput(f"{name}/{number}: no such version; there are {_listed(numbers)}")
        facts = json.loads(text)
        tags = tuple(tag for tag, at in self.tags(name).items() if at == number)
        return DataVersion(name, number, facts["sha256"], facts, self._table(name, number, facts["sha256"]), tags)

    def find(self, spelled: str) -> DataVersion:
        """The version that `NAME`, `NAME/3` or `NAME/tag` names.

        Raises: BadInput when there is none.
        """
        name, slash, which = spelled.partition("/")
        if not slash:
            return self.load(name)
        if which.isdecimal():
            return self.load(name, int(which))
        tags = self.tags(check_name(name))
        if which not in tags:
            known = [*tags, *map(str, self.numbers(name))]
            if not known:
                self.load(name)
            raise BadInput(
                f"{spelled}: no such version or tag{did_you_mean(which, known)}; there are {', '.join(known)}"
            )
        return self.load(name, tags[which])

    def tags(self, name: str) -> dict[str, int]:
        """Numbers of versions by tag."""
        found = {}
        for each in self.place.names(f"{name}/{TAGS}"):
            text = self.place.read(f"{name}/{TAGS}/{each}")
            if each.endswith(".json") and text is not None:
                found[each.removesuffix(".json")] = json.loads(text)["version"]
        return found

    def tag(self, version: DataVersion, word: str, by: str) -> int | None:
        """Give a version a name of its own; return the number of the version that had it before, if another one had.

        Raises: BadInput for a word that cannot be one.
        """
        if TAG.fullmatch(word) is None:
            raise BadInput(f"{word}: a tag begins with a letter and holds letters, digits, `.`, `_` and `-` alone")
        before = self.tags(version.name).get(word)
        facts = {"version": version.number, "by": by, "at": now()}
        self.place.write(f"{version.name}/{TAGS}/{word}.json", _as_json(facts))
        return None if before == version.number else before

    def create(
        self, name: str, manifest: Manifest, facts: Mapping[str, Any], *, after: int, known: Manifest | None = None
    ) -> DataVersion | None:
        """Store a manifest's images and write it as the version after the number `after`; 0 begins a name.

        None where another process has written that version in the meantime: what is to be written has to be made anew
        from it. `known` is a manifest whose images are stored already. Killed at any moment, the version is there
        whole or not at all: it is there once its JSON file is.

        Raises: BadInput for a file that has changed since it was hashed, or a place that cannot be written.
        """
        self.put_images(manifest, known)
        return self._commit(check_name(name), manifest, facts, after + 1)

    def put_images(self, manifest: Manifest, known: Manifest | None = None) -> int:
        """Store the images of a manifest that are not stored yet; return how many those were."""
        digests = as_texts(manifest.digests)
        rows = dict(zip(digests.tolist(), range(len(manifest)), strict=True))
        new = rows.keys() - (set[bytes]() if known is None else set(as_texts(known.digests).tolist()))
        named = {digest.ljust(32, b"\0").hex(): rows[digest] for digest in new}
        missing = self.place.missing(sorted(named))
        self.place.put([(digest, manifest.file(named[digest])) for digest in missing])
        return len(missing)

    def _commit(self, name: str, manifest: Manifest, facts: Mapping[str, Any], number: int) -> DataVersion | None:
        text = "".join(manifest.table()).encode()
        sha256 = hashlib.sha256(text).hexdigest()
        if self.place.missing([sha256]):
            self.place.write(f"{OBJECTS}/{sha256}", text)  # the table under its hash is what the JSON file refers to
        told = {"name": name, "version": number, "created": now(), "sha256": sha256, **count(manifest), **facts}
        if not self.place.write_new(f"{name}/{number}.json", _as_json(told)):
            return None
        self.place.write(f"{name}/{number}.csv", text)
        return self.load(name, number)

    def _table(self, name: str, number: int, sha256: str) -> Path:
        """A version's table on this disk, with the bytes that its JSON file states.

        Raises: BadInput when it is damaged.
        """
        kept = self.cache / "data_versions" / "tables" / f"{sha256}.csv"
        key = f"{name}/{number}.csv"
        if kept.is_file() and hashlib.sha256(kept.read_bytes()).hexdigest() == sha256:
            return kept
        for source in (key, f"{OBJECTS}/{sha256}"):  # a killed writer may have left the second one alone
            text = self.place.read(source)
            if text is not None and hashlib.sha256(text).hexdigest() == sha256:
                kept.parent.mkdir(parents=True, exist_ok=True)
                write_bytes(kept, text)
                return kept
        raise BadInput(
            f"{self.place.address}/{key}: is not what {number}.json states (sha256 {sha256[:12]}…): bring it back from "
            "a backup"
        )

    def checkout(self, version: DataVersion, folder: Path, *, link: bool = False) -> Manifest:
        """Put the images of a version where its table says, below a folder that is there, every byte held to its hash.

        Raises: BadInput for an object that is gone or damaged, or a path that leads out of the folder.
        """
        manifest = Manifest.load(version.table, folder)
        digests = [each.tobytes().hex() for each in manifest.digests]
        files = [manifest.file(row) for row in range(len(manifest))]
        for path in {file.parent for file in files}:
            if not path.is_relative_to(folder) or ".." in path.parts:
                raise BadInput(f"{version.spelled()}: {path} lies outside the folder; nothing is checked out")
            path.mkdir(parents=True, exist_ok=True)
        items: list[Item] = list(zip(digests, files, strict=True))
        try:
            self.place.get(items, link=link)
        except OSError as error:
            raise BadInput(f"{folder}: cannot be written ({error.strerror or error}); name another folder") from error
        return manifest


def check_name(name: str) -> str:
    """Raises: BadInput for what cannot be the name of a data set."""
    if NAME.fullmatch(name) is None or name == OBJECTS:
        raise BadInput(f"{name}: a data set's name has letters, digits, `.`, `_` and `-` alone, and is not {OBJECTS}")
    return name


def count(manifest: Manifest) -> dict[str, Any]:
    """Images by split, and by class and split."""
    counts = np.zeros((len(manifest.class_names), len(SPLITS)), int)
    np.add.at(counts, (manifest.labels, manifest.splits), 1)
    by_class = {
        name: dict(zip(SPLITS, row, strict=True))
        for name, row in zip(manifest.class_names, counts.tolist(), strict=True)
    }
    return {"num_images": manifest.num_images, "by_class": by_class}


def as_texts(digests: np.ndarray) -> np.ndarray:
    """Digests uint8 `(N, 32)` as bytes `(N,)` that numpy sorts and compares; zeros at their ends do not show."""
    return np.ascontiguousarray(digests).view("S32").reshape(-1)


def _as_json(facts: Mapping[str, Any]) -> bytes:
    return (json.dumps(facts, indent=2, ensure_ascii=False) + "\n").encode("utf-8", "backslashreplace")


def _listed(numbers: Sequence[int]) -> str:
    return f"1 to {numbers[-1]}" if numbers == list(range(1, numbers[-1] + 1)) else ", ".join(map(str, numbers))
