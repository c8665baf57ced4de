"""Which image belongs to which split: the manifest. Never imports torch, so that bad data is refused at once."""

import csv
import hashlib
import io
import logging
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.dtypes import StringDType

from sightline.data.collection.layouts import IMAGE_SUFFIXES, ClassFiles, list_images
from sightline.errors import BadInput

log = logging.getLogger(__name__)
SPLITS = ("train", "val", "test")
TRAIN, VAL, TEST = range(3)
UNDECIDED = -1
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
    """Strings: POSIX paths below the root."""
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
        return np.unique(self.group_names, return_inverse=True)[1].astype(np.int32)

    @cached_property
    def digests(self) -> np.ndarray:
        """uint8 `(N, 32)`: the sha256 of each file's bytes."""
        files = (self.root / path for path in self.paths)
        with ThreadPoolExecutor(max_workers=min(8, 2 * (os.cpu_count() or 1))) as pool:
            joined = bytearray().join(pool.map(_sha256, files))
        return np.frombuffer(joined, np.uint8).reshape(-1, 32)

    def with_digests(self, digests: np.ndarray) -> "Manifest":
        """The same manifest with hashes that somebody else has computed."""
        self.__dict__["digests"] = digests
        return self

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
        partial = path.with_name(f".{path.name}-{os.getpid()}")
        with partial.open("w", encoding="utf-8", newline="") as file:
            file.writelines(self.table())
        partial.replace(path)

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
        names = np.unique(labels)
        manifest = cls(
            root,
            tuple(str(name) for name in names),
            paths,
            np.searchsorted(names, labels).astype(np.int32),
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
        """Paths of a split whose files are gone or differ from the table."""
        rows = self.select(split).rows
        return [str(self.paths[row]) for row in rows if not self._is_unchanged(row)]

    def _is_unchanged(self, row: int) -> bool:
        path = self.root / self.paths[row]
        return path.is_file() and _sha256(path) == self.digests[row].tobytes()


@dataclass(frozen=True)
class Selection:
    """Some images of a manifest, by their rows."""

    manifest: Manifest
    rows: np.ndarray

    def __len__(self) -> int:
        return len(self.rows)

    def path(self, index: int) -> Path:
        return self.manifest.root / self.manifest.paths[self.rows[index]]

    @property
    def paths(self) -> Iterator[Path]:
        return (self.path(index) for index in range(len(self)))

    @cached_property
    def labels(self) -> np.ndarray:
        """int32: the index of each image's class."""
        return self.manifest.labels[self.rows]


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


@dataclass(frozen=True)
class SplitRule:
    """How images that no folder has placed are split."""

    val_fraction: float = 0.15
    test_fraction: float = 0.15
    group_pattern: str | None = None
    """Regular expression; images whose paths agree in its brackets are one group."""
    groups_span_classes: bool = False
    """Whether the same group name in two classes is one group (a patient) or two (a counter)."""
    num_folds: int | None = None
    fold: int = 0


def make_manifest(
    root: str | Path,
    rule: SplitRule = SplitRule(),
    *,
    origin: str = "",
    class_pattern: str | None = None,
    pinned: Manifest | None = None,
) -> Manifest:
    """Find the images of a data set and split what has no split of its own.

    Where val or test lacks, that share of the groups of each class is taken from train, by the hash of the group's
    name: the same files give the same split everywhere. Rows of a pinned manifest keep their split, and new images of
    a known group follow it. With folds, all that is not test is dealt out again, and one fold is validation.

    Raises: BadInput when the folder cannot be trained on.
    """
    root = Path(root).expanduser().absolute()
    found = list_images(root, origin=origin, class_pattern=class_pattern)
    class_names = _check_classes(root, found)
    given = {part.split for part in found}
    if "val" not in given and rule.val_fraction == 0 and rule.num_folds is None:
        raise BadInput(
            f"data.val_fraction=0: {root} has no val/, and the best checkpoint is chosen on validation; "
            "set it above 0, say 0.15, or make val/"
        )
    shares = {} if "test" in given or rule.test_fraction == 0 else {TEST: rule.test_fraction}
    if "val" not in given and rule.num_folds is None:
        shares[VAL] = rule.val_fraction
    manifest, keys = _tabulate(root if root.is_dir() else root.parent, class_names, found, rule)
    is_open = manifest.splits == TRAIN
    splits = np.where(is_open & bool(shares), UNDECIDED, manifest.splits)
    if pinned is not None:
        _pin(pinned, manifest, splits)
    spans = rule.groups_span_classes or any(part.groups for part in found)
    dealer = _Dealer(manifest, keys, spans)
    dealer.deal(splits, is_open, lambda known, label: _share_out(known, shares, label))
    if rule.num_folds is not None:
        dealer.deal_folds(splits, rule.num_folds, rule.fold)
    manifest = replace(manifest, splits=splits)
    _check_splits(manifest, shares)
    return manifest


def find_test_images(root: str | Path, class_names: Iterable[str], class_pattern: str | None = None) -> Manifest:
    """The test images of a folder for a model of these classes.

    Raises: BadInput when there are none or the model does not know their class.
    """
    root, class_names = Path(root).expanduser().absolute(), tuple(class_names)
    found = [part for part in list_images(root, class_pattern=class_pattern, needs="test") if part.split == "test"]
    if not any(part.names for part in found):
        raise BadInput(f"data.root={root}: no images found; put them into {root / 'test'}/<class>/")
    if unknown := sorted({part.label for part in found} - set(class_names)):
        raise BadInput(
            f"data.root={root}: test/ has classes that the model does not know: {_names(unknown)}; "
            f"it knows {_names(class_names)}"
        )
    return _tabulate(root if root.is_dir() else root.parent, class_names, found, SplitRule())[0]


def _check_classes(root: Path, found: Sequence[ClassFiles]) -> tuple[str, ...]:
    classes = {
        split: {part.label: len(part.names) for part in found if part.split == split}
        for split in dict.fromkeys(part.split for part in found)
    }
    train = classes.get("train", {})
    if not any(train.values()):
        suffixes = " ".join(sorted(IMAGE_SUFFIXES))
        raise BadInput(f"data.root={root}: no images found in {root / 'train'}/<class>/ (looked for {suffixes})")
    if empty := [name for name, count in train.items() if not count]:
        raise BadInput(f"data.root={root}: no images in train/ for {_names(empty)}; add some or remove the folder")
    if len(train) < 2:
        raise BadInput(
            f"data.root={root}: one class only ({_names(train)}); "
            f"a classifier needs at least two folders in {root / 'train'}"
        )
    for split in set(classes) - {"train"}:
        if not any(classes[split].values()):
            raise BadInput(f"data.root={root}: no images found in {split}/<class>/; add some or remove it")
        if unknown := sorted(set(classes[split]) - set(train)):
            raise BadInput(
                f"data.root={root}: {split}/ has classes that train/ lacks: {_names(unknown)}; "
                "add them to train/ or remove them"
            )
    return tuple(sorted(train))


def _tabulate(
    root: Path, class_names: tuple[str, ...], found: Sequence[ClassFiles], rule: SplitRule
) -> tuple[Manifest, np.ndarray]:
    """What a layout found as a manifest, sorted by path, and the hash of each image's group (uint64)."""
    index = {name: number for number, name in enumerate(class_names)}
    paths, labels, splits, groups, keys = [], [], [], [], []
    for part in found:
        names, count = part.names, len(part.names)
        prefix = f"{part.folder}/" if part.folder else ""
        in_groups = _group(part, rule)
        paths.append(np.array([prefix + name for name in names], StringDType()))
        labels.append(np.full(count, index[part.label], np.int32))
        splits.append(np.full(count, SPLITS.index(part.split), np.int8))
        keys.append(np.array([_key(g) for g in in_groups or (f"{part.label}/{n}" for n in names)], np.uint64))
        groups.append(np.array(in_groups or paths[-1], StringDType()))
    is_grouped = rule.group_pattern is not None or any(part.groups for part in found)
    path, label, split, group, key = (np.concatenate(column) for column in (paths, labels, splits, groups, keys))
    order = np.argsort(path, kind="stable")
    names = group[order] if is_grouped else None
    return Manifest(root, class_names, path[order], label[order], split[order], names), key[order]


def _key(group: str) -> int:
    return int.from_bytes(hashlib.sha256(group.encode()).digest()[:8])


def _group(part: ClassFiles, rule: SplitRule) -> list[str] | None:
    """The group of each image: what the layout states, what the pattern's brackets match, or none."""
    if part.groups is not None or rule.group_pattern is None:
        return part.groups
    prefix = "" if rule.groups_span_classes else f"{part.label}/"
    groups = []
    for name in part.names:
        match = re.search(rule.group_pattern, name)
        if match is None:
            raise BadInput(
                f"data.group_pattern={rule.group_pattern}: does not match {part.label}/{name}; "
                "change it so that it fits every image, or set data.group_pattern=null if the images are independent"
            )
        groups.append(prefix + "/".join(text or "" for text in match.groups()))
    return groups


def _pin(pinned: Manifest, manifest: Manifest, splits: np.ndarray) -> None:
    """Give the rows that a pinned manifest knows the splits they have there.

    Raises: BadInput when it was made with other groups.
    """
    places = np.searchsorted(pinned.paths, manifest.paths)
    places[places == len(pinned)] = 0
    is_known = pinned.paths[places] == manifest.paths
    here, there = np.flatnonzero(is_known), places[is_known]
    mine = manifest.paths if manifest.group_names is None else manifest.group_names
    theirs = pinned.paths if pinned.group_names is None else pinned.group_names
    if len(others := here[mine[here] != theirs[there]]):
        raise BadInput(
            f"data.group_pattern: the manifest that pins the split groups {manifest.paths[others[0]]} differently; "
            "restore the pattern, or split anew with data.manifest=none"
        )
    splits[here] = pinned.splits[there]
    if gone := len(pinned) - len(np.unique(there)):
        log.warning("%d image(s) of the pinned manifest are gone from %s", gone, manifest.root)


class _Dealer:
    """Gives the groups of each class to splits, in the order of their hashes."""

    def __init__(self, manifest: Manifest, keys: np.ndarray, spans_classes: bool) -> None:
        self.class_names, self.labels = manifest.class_names, manifest.labels
        self.keys, self.spans_classes = keys, spans_classes

    def deal(self, splits: np.ndarray, is_open: np.ndarray, decide: Callable[[np.ndarray, str], np.ndarray]) -> None:
        """Fill in the undecided rows among the open ones.

        `decide` gets, for one class, the split of each of its groups so far (`UNDECIDED` where there is none) and the
        class's name, and returns the same array decided.
        """
        if not np.any(splits == UNDECIDED):
            return
        rows_by_class = np.argsort(self.labels, kind="stable")
        ends = np.searchsorted(self.labels[rows_by_class], np.arange(len(self.class_names) + 1))
        for label, name in enumerate(self.class_names):
            rows = rows_by_class[ends[label] : ends[label + 1]]
            rows = rows[is_open[rows]]
            groups, members = np.unique(self.keys[rows], return_inverse=True)
            known = np.full(len(groups), UNDECIDED, np.int8)
            np.maximum.at(known, members, splits[rows])
            decided = decide(known, name)
            is_new = splits[rows] == UNDECIDED
            splits[rows[is_new]] = decided[members[is_new]]
            if self.spans_classes:
                self._spread(splits, is_open, groups, decided)

    def _spread(self, splits: np.ndarray, is_open: np.ndarray, groups: np.ndarray, decided: np.ndarray) -> None:
        """Let the images of other classes follow their group."""
        rows = np.flatnonzero(is_open & (splits == UNDECIDED))
        places = np.minimum(np.searchsorted(groups, self.keys[rows]), len(groups) - 1)
        follows = groups[places] == self.keys[rows] if len(groups) else np.zeros(len(rows), bool)
        splits[rows[follows]] = decided[places[follows]]

    def deal_folds(self, splits: np.ndarray, num_folds: int, fold: int) -> None:
        """Make one of several equal parts of all that is not test the validation split, and the rest train."""
        is_open = splits != TEST
        splits[is_open] = UNDECIDED

        def decide(known: np.ndarray, label: str) -> np.ndarray:
            if len(known) < num_folds:
                raise BadInput(
                    f"data.num_folds={num_folds}: class {label} has {len(known)} image(s) or group(s) outside test, "
                    f"too few for one in each fold; set it to {max(2, len(known))} or less, or add images"
                )
            numbers = np.arange(len(known)) % num_folds
            return np.where(known != UNDECIDED, known, np.where(numbers == fold, VAL, TRAIN)).astype(np.int8)

        self.deal(splits, is_open, decide)


def _share_out(known: np.ndarray, shares: Mapping[int, float], label: str) -> np.ndarray:
    """A split for each group of one class, in the order given: at least one group for every split."""
    count = len(known)
    if 0 < count <= len(shares):
        names = [SPLITS[split] for split in shares]
        raise BadInput(
            f"class {label}: {count} image(s) or group(s) cannot be split into train and {' and '.join(names)}; "
            f"add images, or make {' and '.join(f'{name}/' for name in names)} yourself, or set data.test_fraction=0"
        )
    decided, promised = known.copy(), 0
    for number, (split, share) in enumerate(shares.items(), start=1):
        room = count - promised - (len(shares) - number) - 1  # one group each for the splits to come and for train
        wanted = max(1, min(room, round(share * count)))
        promised += wanted
        lacking = max(0, wanted - int(np.sum(decided == split)))
        decided[np.flatnonzero(decided == UNDECIDED)[:lacking]] = split
    decided[decided == UNDECIDED] = TRAIN
    return decided


def _check_splits(manifest: Manifest, shares: Mapping[int, float]) -> None:
    """Every class has images to train on and, where we have split, to validate on.

    Raises: BadInput, which can only follow from pinned rows or from groups that lie in several classes.
    """
    for split in (TRAIN, *shares):
        counts = np.bincount(manifest.labels[manifest.splits == split], minlength=len(manifest.class_names))
        if lacking := [manifest.class_names[label] for label in np.flatnonzero(counts == 0)]:
            raise BadInput(
                f"{SPLITS[split]}: no images of {_names(lacking)}, because all of their groups went elsewhere; "
                "add images, or split anew with data.manifest=none"
            )


def _names(names: Iterable[str], most: int = 5) -> str:
    names = list(names)
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
