"""The manifest: every image of a data set with its class, split and group. Never imports torch."""

import csv
import hashlib
import io
import json
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.dtypes import StringDType

from sightline.config import SPLITS
from sightline.errors import BadInput
from sightline.runs.file_names import to_name
from sightline.runs.files import whole_file
from sightline.task_spec import NOT_YET

TRAIN, VAL, TEST = range(3)
COLUMNS = ("path", "label", "split", "group", "sha256")
ROWS_AT_ONCE = 4096


@dataclass(frozen=True, eq=False)
class Manifest:
    """Every image of a data set with its split, sorted by path; equal files give an equal manifest on every machine.

    A column is one array, so that ten million images fit: about 50 bytes and the path's length for each.
    """

    root: Path
    class_names: tuple[str, ...]
    paths: np.ndarray
    """Strings: POSIX paths below the root, as `to_text` writes them; `file` has the file."""
    labels: np.ndarray
    """int32: indices into `class_names`."""
    splits: np.ndarray
    """int8: indices into `SPLITS`."""
    group_names: np.ndarray | None = None
    """Strings: images of one group stay in one split; None where every image is its own."""

    def __len__(self) -> int:
        return len(self.paths)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Manifest) and (self.root, self.sha256) == (other.root, other.sha256)

    @cached_property
    def num_images(self) -> dict[str, int]:
        counts = np.bincount(self.splits, minlength=len(SPLITS))
        return {split: int(count) for split, count in zip(SPLITS, counts, strict=True)}

    @cached_property
    def groups(self) -> np.ndarray:
        """int32: images with the same number are of one group."""
        if self.group_names is None:
            return np.arange(len(self), dtype=np.int32)
        return unique_texts(self.group_names)[1]

    @cached_property
    def digests(self) -> np.ndarray:
        """uint8 `(N, 32)`: the sha256 of each file's bytes."""
        files = (self.file(row) for row in range(len(self)))
        with ThreadPoolExecutor(max_workers=min(8, 2 * (os.cpu_count() or 1))) as pool:
            joined = bytearray().join(pool.map(_sha256, files))
        return np.frombuffer(joined, np.uint8).reshape(-1, 32)

    def with_digests(self, digests: np.ndarray) -> "Manifest":
        """The same manifest with hashes of the files that are known already."""
        self.__dict__["digests"] = digests
        return self

    def file(self, row: int) -> Path:
        """The file of a row."""
        return self.root / to_name(self.paths[row])

    def rows(self) -> Iterator[tuple[str, str, str, str, str]]:
        """The table's rows: path, label, split, group and sha256."""
        groups = self.paths if self.group_names is None else self.group_names
        for row in range(len(self)):
            label, split = self.class_names[self.labels[row]], SPLITS[self.splits[row]]
            yield self.paths[row], label, split, groups[row], self.digests[row].tobytes().hex()

    def table(self) -> Iterator[str]:
        """The manifest as CSV, some thousand lines at a time."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(COLUMNS)
        rows = self.rows()
        while chunk := list(islice(rows, ROWS_AT_ONCE)):
            writer.writerows(chunk)
            yield text.getvalue()
            text.seek(text.truncate(0))

    @cached_property
    def sha256(self) -> str:
        """Hash of the table: it changes when a file, a label or a split does."""
        digest = hashlib.sha256()
        for text in self.table():
            digest.update(text.encode())
        return digest.hexdigest()

    def save(self, path: Path) -> None:
        """Write the table, whole or not at all."""
        with whole_file(path) as partial, partial.open("w", encoding="utf-8", newline="") as file:
            file.writelines(self.table())

    @classmethod
    def load(cls, path: Path, root: Path) -> "Manifest":
        """A manifest as it was saved, with the files' hashes of that time.

        Raises: BadInput when the file is none.
        """
        with path.open(encoding="utf-8", newline="") as file:
            reader = csv.reader(file)
            if tuple(next(reader, ())) != COLUMNS:
                raise BadInput(f"{path}: not a manifest; its first line must be {','.join(COLUMNS)}")
            columns = _read_columns(reader, path)
        paths, labels, splits, groups, digests = columns
        names, indices = unique_texts(labels)
        if several := [str(name) for name in names if is_label_list(name)]:
            raise BadInput(f"{path}: label={several[0]}: {NOT_YET}; keep one class for each image")
        manifest = cls(
            root,
            tuple(str(name) for name in names),
            paths,
            indices,
            splits,
            None if np.array_equal(paths, groups) else groups,
        )
        return manifest.with_digests(digests)

    def select(self, split: str) -> "Selection":
        """The images of one split, in the manifest's order."""
        return Selection(self, np.flatnonzero(self.splits == SPLITS.index(split)))

    def keep(self, rows: np.ndarray) -> "Manifest":
        """The manifest of some rows alone (numbers, or one boolean for each row)."""
        groups = None if self.group_names is None else self.group_names[rows]
        kept = replace(
            self, paths=self.paths[rows], labels=self.labels[rows], splits=self.splits[rows], group_names=groups
        )
        return kept.with_digests(self.digests[rows]) if "digests" in self.__dict__ else kept

    def find_changed(self, split: str) -> list[str]:
        """Paths of a split whose files are gone or have another hash than in the table."""
        rows = self.select(split).rows
        return [str(self.paths[row]) for row in rows if not self._is_unchanged(row)]

    def _is_unchanged(self, row: int) -> bool:
        path = self.file(row)
        return path.is_file() and _sha256(path) == self.digests[row].tobytes()


@dataclass(frozen=True)
class Selection:
    """Images of a manifest, by their rows."""

    manifest: Manifest
    rows: np.ndarray

    def __len__(self) -> int:
        return len(self.rows)

    def path(self, index: int) -> Path:
        return self.manifest.file(self.rows[index])

    @property
    def paths(self) -> Iterator[Path]:
        return (self.path(index) for index in range(len(self)))

    @cached_property
    def labels(self) -> np.ndarray:
        """int32: the index of each image's class."""
        return self.manifest.labels[self.rows]


def is_label_list(label: str) -> bool:
    """Whether a label is a list of classes in JSON, `["cat", "dog"]`, as a manifest of the kind multilabel has them."""
    if not (label.startswith('["') and label.endswith('"]')):
        return False
    try:
        names = json.loads(label)
    except ValueError:
        return False
    return all(isinstance(name, str) for name in names)


def unique_texts(texts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The different texts, sorted, and the number of each text among them, int32 `(N,)`.

    Of StringDType, numpy 2.4 sorts by `kind="stable"` alone without fault: `argsort`, as in `np.unique`, ends the
    process for some orders, and `searchsorted` takes texts of 16 bytes and more for others.
    """
    order = np.argsort(texts, kind="stable")
    ordered = texts[order]
    is_first = np.ones(len(texts), bool)
    is_first[1:] = ordered[1:] != ordered[:-1]
    numbers = np.empty(len(texts), np.int32)
    numbers[order] = np.cumsum(is_first) - 1
    return ordered[is_first], numbers


def _sha256(path: Path) -> bytes:
    return hashlib.sha256(path.read_bytes()).digest()


def _read_columns(reader: Iterator[list[str]], path: Path) -> tuple[np.ndarray, ...]:
    """Paths, labels, splits, groups and digests, some thousand rows at a time."""
    parts: list[tuple[np.ndarray, ...]] = []
    try:
        while chunk := list(islice(reader, ROWS_AT_ONCE)):
            texts = [np.array(column, StringDType()) for column in list(zip(*chunk, strict=True))[:4]]
            splits = np.array([SPLITS.index(row[2]) for row in chunk], np.int8)
            digests = np.frombuffer(bytes.fromhex("".join(row[4] for row in chunk)), np.uint8).reshape(-1, 32)
            parts.append((texts[0], texts[1], splits, texts[3], digests))
    except (ValueError, IndexError) as error:
        raise BadInput(f"{path}: not a manifest ({error}); make it anew with prepare.py") from error
    if not parts:
        raise BadInput(f"{path}: names no images; remove it")
    return tuple(np.concatenate(column) for column in zip(*parts, strict=True))
