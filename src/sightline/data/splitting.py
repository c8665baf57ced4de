"""Splitting a data set: by folder, by a pinned manifest, or by the hash of each group. No torch here."""

import hashlib
import logging
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path

import numpy as np
from numpy.dtypes import StringDType

from sightline.config import DataConfig
from sightline.data.collection.image_files import FOUND_OUT, ClassFiles, LayoutRule, Listing, image_suffixes
from sightline.data.collection.layouts import list_images
from sightline.data.manifest import SPLITS, TEST, TRAIN, VAL, Manifest, unique_texts
from sightline.errors import BadInput
from sightline.runs.file_names import to_text

log = logging.getLogger(__name__)
UNDECIDED = -1


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
    small_classes: str = "error"
    """What becomes of classes with too few groups for every split: `error`, `train_only` or `leave_out`."""

    @classmethod
    def of(cls, data: DataConfig) -> "SplitRule":
        return cls(**{each.name: getattr(data, each.name) for each in fields(cls)})


@dataclass(frozen=True)
class Split:
    """Images in their splits, and what became of classes that are too small to be split."""

    manifest: Manifest
    small_classes: dict[str, str] = field(default_factory=dict)
    """`train_only` or `left_out` by class."""


def make_manifest(
    root: str | Path, rule: SplitRule = SplitRule(), layout: LayoutRule = FOUND_OUT, pinned: Manifest | None = None
) -> Manifest:
    """Find the images of a data set and split what has no split of its own, as `split_images` does."""
    return split_images(list_images(Path(root).expanduser().absolute(), layout), rule, pinned).manifest


def split_images(listing: Listing, rule: SplitRule = SplitRule(), pinned: Manifest | None = None) -> Split:
    """The images that were found, in their splits.

    Where val or test lacks, that share of the groups of each class is taken from train, by the hash of the group's
    name: the same files give the same split everywhere. Rows of a pinned manifest keep their split, and new images of
    a known group follow it. With folds, all that is not test is dealt out again, and one fold is validation.

    Raises: BadInput when they cannot be trained on.
    """
    root, found = listing.root, listing.files
    class_names = _check_classes(root, found)
    given = {part.split for part in found}
    _say_what_is_given(listing, given, rule)
    if "val" not in given and rule.val_fraction == 0 and rule.num_folds is None:
        raise BadInput(
            f"data.val_fraction=0: {root} has no val/, and the best checkpoint is chosen on validation; "
            "set it above 0, say 0.15, or make val/"
        )
    shares = {} if "test" in given or rule.test_fraction == 0 else {TEST: rule.test_fraction}
    if "val" not in given and rule.num_folds is None:
        shares[VAL] = rule.val_fraction
    manifest, keys = _tabulate(root, class_names, found, rule)
    is_open = manifest.splits == TRAIN
    splits = np.where(is_open & bool(shares), UNDECIDED, manifest.splits)
    if pinned is not None:
        _pin(pinned, manifest, splits)
    spans = rule.groups_span_classes or any(part.groups for part in found)
    dealer = _Dealer(manifest, keys, spans)
    dealer.deal(splits, is_open, lambda known, _: _share_out(known, shares))
    small = _find_small(replace(manifest, splits=splits), keys, is_open, shares)
    if rule.num_folds is not None:
        small |= dealer.deal_folds(splits, rule.num_folds, rule.fold)
    if small:
        _check_small(small, shares, rule)
    if small and rule.small_classes == "leave_out":
        listing = replace(listing, files=[part for part in found if part.label not in small])
        rest = split_images(listing, rule, None if pinned is None else _without(pinned, small))
        return replace(rest, small_classes=dict.fromkeys(small, "left_out") | rest.small_classes)
    manifest = replace(manifest, splits=splits)
    _check_splits(manifest, shares, small)
    return Split(manifest, dict.fromkeys(small, "train_only"))


def _say_what_is_given(listing: Listing, given: Container[str], rule: SplitRule) -> None:
    """A split or groups that the data state themselves go before what the rule says of them."""
    for split, share in (("val", rule.val_fraction), ("test", rule.test_fraction)):
        if split in given and share not in (0, getattr(SplitRule, f"{split}_fraction")):
            log.info("data.%s_fraction=%g is not used: %s has a %s split of its own", split, share, listing.root, split)
    if rule.group_pattern is not None and any(part.groups for part in listing.files):
        log.info("data.group_pattern=%s is not used: %s states the groups itself", rule.group_pattern, listing.root)


def _find_small(
    manifest: Manifest, keys: np.ndarray, is_open: np.ndarray, shares: Mapping[int, float]
) -> dict[str, int]:
    """The number of groups of each class that is missing in a split because it has too few for all."""
    small: dict[str, int] = {}
    for split in shares:
        counts = np.bincount(manifest.labels[manifest.splits == split], minlength=len(manifest.class_names))
        for label in np.flatnonzero(counts == 0):
            num_groups = len(np.unique(keys[is_open & (manifest.labels == label)]))
            if num_groups <= len(shares):
                small[manifest.class_names[label]] = num_groups
    return small


def _check_small(small: dict[str, int], shares: Mapping[int, float], rule: SplitRule) -> None:
    """Say what becomes of classes that are too small, which are given with their number of groups.

    Raises: BadInput unless `data.small_classes` tells what to do with them.
    """
    named = _names(f"{label} ({count})" for label, count in small.items())
    if rule.small_classes != "error":
        fate = {"train_only": "trained on, but in no other split", "leave_out": "left out"}[rule.small_classes]
        log.warning("data.small_classes=%s: too few images or groups to split: %s: %s", rule.small_classes, named, fate)
        return
    ways = "set data.small_classes to train_only (trained on, not measured) or leave_out"
    if rule.num_folds is not None:
        raise BadInput(
            f"data.num_folds={rule.num_folds}: class {named}: too few images or groups outside test for one in each "
            f"fold; set it to {max(2, min(small.values()))} or less, or add images, or {ways}"
        )
    names = [SPLITS[split] for split in shares]
    no_test = "set data.test_fraction=0, or " if TEST in shares else ""
    raise BadInput(
        f"class {named}: too few images or groups to be split into train and {' and '.join(names)}; add images, or "
        f"make {' and '.join(f'{name}/' for name in names)} yourself, or {no_test}{ways}"
    )


def _without(manifest: Manifest, labels: Container[str]) -> Manifest:
    is_kept = np.array([name not in labels for name in manifest.class_names])
    return manifest.keep(is_kept[manifest.labels])


def find_test_images(listing: Listing, class_names: Iterable[str]) -> Manifest:
    """The test images that were found, for a model of these classes.

    Raises: BadInput when there are none or the model does not know their class.
    """
    root, class_names = listing.root, tuple(class_names)
    known = {_compose(name): name for name in class_names}
    found = [part for part in listing.files if part.split == "test"]
    if not any(part.names for part in found):
        raise BadInput(f"data.root={root}: no images found; put them into {root / 'test'}/<class>/")
    if unknown := sorted({part.label for part in found} - set(known)):
        raise BadInput(
            f"data.root={root}: test/ has classes that the model does not know: {_names(unknown)}"
            f"{_written_alike(unknown, known)}; it knows {_names(class_names)}"
        )
    found = [replace(part, label=known[part.label]) for part in found]
    return _tabulate(root, class_names, found, SplitRule())[0]


def _check_classes(root: Path, found: Sequence[ClassFiles]) -> tuple[str, ...]:
    classes: dict[str, Counter[str]] = {part.split: Counter() for part in found}
    for part in found:
        classes[part.split][part.label] += len(part.names)
    train = classes.get("train", Counter())
    if not any(train.values()):
        suffixes = " ".join(sorted(image_suffixes()))
        raise BadInput(f"data.root={root}: no images found in {root / 'train'}/<class>/ (looked for {suffixes})")
    if empty := [name for name, count in train.items() if not count]:
        raise BadInput(f"data.root={root}: no images in train/ for {_names(empty)}; add some or remove the folder")
    if len(train) < 2:
        raise BadInput(
            f"data.root={root}: one class only ({_names(train)}); "
            f"a classifier needs at least two folders in {root / 'train'}"
        )
    by_letters: dict[str, str] = {}
    for name in sorted(train):
        if (other := by_letters.setdefault(_loosely(name), name)) != name:
            log.warning(
                "classes %r and %r differ only by case or blanks: if they are one, give them one name", other, name
            )
    for split in set(classes) - {"train"}:
        if not any(classes[split].values()):
            raise BadInput(f"data.root={root}: no images found in {split}/<class>/; add some or remove it")
        if unknown := sorted(set(classes[split]) - set(train)):
            none_known = split == "test" and len(unknown) == len(classes[split])
            hint = ", or, if they are no classes, put their images into test/ itself" if none_known else ""
            raise BadInput(
                f"data.root={root}: {split}/ has classes that train/ lacks: {_names(unknown)}"
                f"{_written_alike(unknown, train)}; add them to train/ or remove them{hint}"
            )
    return tuple(sorted(train))


def _compose(name: str) -> str:
    """In Unicode's composed form, as labels are."""
    return unicodedata.normalize("NFC", name)


def _loosely(name: str) -> str:
    """A class's name by how it reads: its case and the number of its blanks do not matter."""
    return " ".join(name.casefold().split())


def _written_alike(unknown: Iterable[str], known: Iterable[str]) -> str:
    """A hint for classes that are written differently elsewhere."""
    by_letters = {_loosely(name): name for name in known}
    alike = [f"{name} and {by_letters[_loosely(name)]}" for name in unknown if _loosely(name) in by_letters]
    return f" ({_names(alike)} differ only by case or blanks: give them one name)" if alike else ""


def _tabulate(
    root: Path, class_names: tuple[str, ...], found: Sequence[ClassFiles], rule: SplitRule
) -> tuple[Manifest, np.ndarray]:
    """Listed images as a manifest, sorted by path, and the hash of each image's group, uint64 `(N,)`."""
    index = {name: number for number, name in enumerate(class_names)}
    paths, labels, splits, groups, keys = [], [], [], [], []
    for part in found:
        names, count = [to_text(name) for name in part.names], len(part.names)
        prefix = f"{to_text(part.folder)}/" if part.folder else ""
        in_groups = _group(part, names, rule)
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


def _group(part: ClassFiles, names: Sequence[str], rule: SplitRule) -> list[str] | None:
    """The group of each image: what the layout states, what the pattern's brackets match, or none."""
    if part.groups is not None or rule.group_pattern is None:
        return part.groups
    prefix = "" if rule.groups_span_classes else f"{part.label}/"
    groups = []
    for name in names:
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
    different, numbers = unique_texts(np.concatenate([pinned.paths, manifest.paths]))
    row_of = np.full(len(different), -1)
    row_of[numbers[: len(pinned)]] = np.arange(len(pinned))
    found = row_of[numbers[len(pinned) :]]
    here, there = np.flatnonzero(found >= 0), found[found >= 0]
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
    """Assigns the groups of each class to splits, in the order of their hashes."""

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
        """Put images of other classes into the split of their group."""
        rows = np.flatnonzero(is_open & (splits == UNDECIDED))
        found = np.minimum(np.searchsorted(groups, self.keys[rows]), len(groups) - 1)
        follows = groups[found] == self.keys[rows] if len(groups) else np.zeros(len(rows), bool)
        splits[rows[follows]] = decided[found[follows]]

    def deal_folds(self, splits: np.ndarray, num_folds: int, fold: int) -> dict[str, int]:
        """Make one of several equal parts of all that is not test the validation split, and the rest train.

        Returns the number of groups of each class that has too few for one in each fold: all of it is train.
        """
        small: dict[str, int] = {}
        is_open = splits != TEST
        splits[is_open] = UNDECIDED

        def decide(known: np.ndarray, label: str) -> np.ndarray:
            if len(known) < num_folds:
                small[label] = len(known)
                return np.where(known == UNDECIDED, TRAIN, known).astype(np.int8)
            numbers = np.arange(len(known)) % num_folds
            return np.where(known != UNDECIDED, known, np.where(numbers == fold, VAL, TRAIN)).astype(np.int8)

        self.deal(splits, is_open, decide)
        return small


def _share_out(known: np.ndarray, shares: Mapping[int, float]) -> np.ndarray:
    """A split for each group of one class, in the order given: at least one for every split, or all for train."""
    count, decided, promised = len(known), known.copy(), 0
    for number, (split, share) in enumerate(shares.items(), start=1):
        room = count - promised - (len(shares) - number) - 1  # one group each for the splits to come and for train
        wanted = max(1, min(room, round(share * count))) if count > len(shares) else 0
        promised += wanted
        lacking = max(0, wanted - int(np.sum(decided == split)))
        decided[np.flatnonzero(decided == UNDECIDED)[:lacking]] = split
    decided[decided == UNDECIDED] = TRAIN
    return decided


def _check_splits(manifest: Manifest, shares: Mapping[int, float], small: Container[str]) -> None:
    """Every class has images to train on and, where we have split, to validate on, unless it is too small for that.

    Raises: BadInput, which can only follow from pinned rows or from groups that lie in several classes.
    """
    for split in (TRAIN, *shares):
        counts = np.bincount(manifest.labels[manifest.splits == split], minlength=len(manifest.class_names))
        names = [manifest.class_names[label] for label in np.flatnonzero(counts == 0)]
        if lacking := [name for name in names if split == TRAIN or name not in small]:
            raise BadInput(
                f"{SPLITS[split]}: no images of {_names(lacking)}, because all of their groups went elsewhere; "
                "add images, or split anew with data.manifest=none"
            )


def _names(names: Iterable[str], most: int = 5) -> str:
    names = list(names)
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
