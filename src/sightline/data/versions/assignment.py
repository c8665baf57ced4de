"""The next version from the one before: known images keep their split, val and test stay, new ones are trained on."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.dtypes import StringDType

from sightline.data.manifest import TEST, TRAIN, VAL, Manifest, unique_texts
from sightline.data.versions.store import as_texts
from sightline.errors import BadInput

MAX_NAMED = 3
Corrections = Mapping[str, Mapping[str, Any]]
"""By the sha256 of an image: its class as its source has it (`from`), the right one (`to`), who said so and when."""


@dataclass(frozen=True)
class Assigned:
    """The images of the next version, and what had to be said about them."""

    manifest: Manifest
    is_new: np.ndarray
    """Of each row: whether the version before lacks the image."""
    left_out: dict[str, list[str]] = field(default_factory=dict)
    """Paths by reason."""
    test_changes: dict[str, list[str]] = field(default_factory=dict)
    """Paths in val and test that were changed, as somebody allowed, by what became of them."""
    corrected: int = 0
    """Images whose class is another one than their source says, as annotations had it."""


def match_rows(before: Manifest, after: Manifest) -> np.ndarray:
    """For each row of `after` the row of `before` with the same bytes, -1 where there is none; each is taken once.

    Of several with the same bytes the one with the same path is taken, else they are paired in their order.
    """
    _, ids = np.unique(np.concatenate([as_texts(before.digests), as_texts(after.digests)]), return_inverse=True)
    _, paths = unique_texts(np.concatenate([before.paths, after.paths]))
    size = len(before)
    row_of = np.full(int(paths.max(initial=0)) + 1, -1)
    row_of[paths[:size]] = np.arange(size)
    matched = row_of[paths[size:]]
    matched[(matched >= 0) & (ids[matched] != ids[size:])] = -1
    free_before = np.setdiff1d(np.arange(size), matched)
    free_after = np.flatnonzero(matched < 0)
    keys_before, keys_after = (_numbered(part, len(ids)) for part in (ids[:size][free_before], ids[size:][free_after]))
    _, one, other = np.intersect1d(keys_before, keys_after, assume_unique=True, return_indices=True)
    matched[free_after[other]] = free_before[one]
    return matched


def _numbered(ids: np.ndarray, size: int) -> np.ndarray:
    """A number for each id and how often, less than `size`, it stood before: none twice."""
    order = np.argsort(ids, kind="stable")
    ordered = ids[order]
    first = np.r_[True, ordered[1:] != ordered[:-1]][: len(ids)]
    starts = np.flatnonzero(first)
    ranks = np.empty(len(ids), np.int64)
    ranks[order] = np.arange(len(ids)) - np.repeat(starts, np.diff(np.r_[starts, len(ids)]))
    return ids.astype(np.int64) * size + ranks


def assign(
    before: Manifest,
    source: Manifest,
    stated: np.ndarray,
    corrections: Corrections,
    *,
    allow_test_changes: bool,
    merged: Collection[str] = (),
) -> Assigned:
    """The rows of the next version: `source` has them all, and `stated` the split that it says of each.

    `stated` holds indices into SPLITS, `TRAIN` where nothing is said; of val and test the source says nothing at all
    where no row has them. Images that were `merged` (by their sha256) came with annotations: they stay, though the
    source lacks them.

    Raises: BadInput for changes of val and test that nobody allowed.
    """
    source, corrected = _correct(source, corrections)
    matched = match_rows(before, source)
    is_known = matched >= 0
    splits = np.where(is_known, before.splits[matched], TRAIN).astype(np.int8)
    speaks = (stated != TRAIN) | np.isin(splits, stated[stated != TRAIN])
    is_moved = is_known & speaks & (stated != splits)
    copies = _find_copies(before, source, is_known)
    is_added = ~is_known & (stated != TRAIN) & ~copies
    names = np.array(before.class_names, object)[before.labels[matched]]
    is_relabelled = is_known & (splits != TRAIN)
    is_relabelled &= names != np.array(source.class_names, object)[source.labels]
    stays = _find_merged(before, source, merged)
    gone = np.setdiff1d(np.flatnonzero(before.splits != TRAIN), np.r_[matched, stays])
    changes = {
        "removed": _as_list(before.paths[gone]),
        "relabelled": _as_list(source.paths[is_relabelled]),
        "moved": _as_list(source.paths[is_moved]),
        "added": _as_list(source.paths[is_added]),
    }
    changes = {what: paths for what, paths in changes.items() if paths}
    if changes and not allow_test_changes:
        raise refuse_test_changes(changes)
    splits[is_moved | is_added] = stated[is_moved | is_added]
    manifest = replace(source, splits=splits).with_digests(source.digests)
    follows = _follows_held_out(manifest, ~is_known & ~copies & (splits == TRAIN))
    left_out = {
        "copies of images in val or test": _as_list(source.paths[copies]),
        "of a group that is in val or test": _as_list(source.paths[follows]),
    }
    kept = ~(copies | follows)
    manifest, is_new = manifest.keep(kept), ~is_known[kept]
    if len(stays):
        manifest, order = join(manifest, before.keep(stays))
        is_new = np.r_[is_new, np.zeros(len(stays), bool)][order]
    return Assigned(
        without_unused_classes(manifest),
        is_new,
        {reason: paths for reason, paths in left_out.items() if paths},
        changes,
        corrected,
    )


def refuse_test_changes(changes: Mapping[str, Sequence[str]]) -> BadInput:
    """The error for changes of val and test, by what became of the images."""
    said = [f"{len(paths)} would be {what}, the first is {paths[0]}" for what, paths in changes.items()]
    return BadInput(
        f"val and test stay as they are from version to version, so that numbers compare: {'; '.join(said)}. Undo "
        "that, or say allow_test_changes=true"
    )


def without_unused_classes(manifest: Manifest) -> Manifest:
    """The same manifest with the classes alone that have images."""
    used, labels = np.unique(manifest.labels, return_inverse=True)
    if len(used) == len(manifest.class_names):
        return manifest
    names = tuple(manifest.class_names[number] for number in used)
    changed = replace(manifest, class_names=names, labels=labels.astype(np.int32))
    return changed.with_digests(manifest.digests)


def _correct(source: Manifest, corrections: Corrections) -> tuple[Manifest, int]:
    """The source with the classes that annotations have corrected, where it still says what was wrong."""
    if not corrections:
        return source, 0
    rows_of: dict[bytes, list[int]] = {}
    wanted = {bytes.fromhex(digest).rstrip(b"\0") for digest in corrections}
    digests = as_texts(source.digests)
    for row in np.flatnonzero(np.isin(digests, np.array(sorted(wanted)))).tolist():
        rows_of.setdefault(digests[row], []).append(row)
    names = list(source.class_names)
    labels, num_corrected = source.labels.copy(), 0
    for digest, correction in corrections.items():
        for row in rows_of.get(bytes.fromhex(digest).rstrip(b"\0"), ()):
            if names[labels[row]] != correction["from"]:
                continue  # the source has changed its mind since
            if correction["to"] not in names:
                names.append(correction["to"])
            labels[row] = names.index(correction["to"])
            num_corrected += 1
    return with_classes(source, names, labels), num_corrected


def with_classes(manifest: Manifest, names: Sequence[str], labels: np.ndarray) -> Manifest:
    """The same rows with other classes, `labels` being indices into `names`; the names become sorted."""
    order = sorted(range(len(names)), key=lambda number: names[number])
    position = np.empty(len(names), np.int32)
    position[order] = np.arange(len(names))
    changed = replace(manifest, class_names=tuple(names[number] for number in order), labels=position[labels])
    return changed.with_digests(manifest.digests)


def join(one: Manifest, other: Manifest) -> tuple[Manifest, np.ndarray]:
    """The rows of two manifests, sorted by path below the first one's root, and where each stood in both together.

    A path of the second one that the first one has, too, gets a part of the image's hash.
    """
    taken = set(one.paths.tolist())
    if any(path in taken for path in other.paths):
        named = zip(map(str, other.paths), other.digests, strict=True)
        renamed = [f"{path}-{digest.tobytes().hex()[:12]}" if path in taken else path for path, digest in named]
        digests = other.digests
        other = replace(other, paths=np.array(renamed, StringDType())).with_digests(digests)
    names = sorted({*one.class_names, *other.class_names})
    paths = np.concatenate([one.paths, other.paths])
    order = np.argsort(paths, kind="stable")
    labels = [
        np.array([names.index(name) for name in each.class_names], np.int32)[each.labels] for each in (one, other)
    ]
    groups = None
    if one.group_names is not None or other.group_names is not None:
        own = [each.paths if each.group_names is None else each.group_names for each in (one, other)]
        groups = np.concatenate(own)[order]
    joined = Manifest(
        one.root,
        tuple(names),
        paths[order],
        np.concatenate(labels)[order],
        np.concatenate([one.splits, other.splits])[order],
        groups,
    )
    return joined.with_digests(np.concatenate([one.digests, other.digests])[order]), order


def _find_copies(before: Manifest, source: Manifest, is_known: np.ndarray) -> np.ndarray:
    """Which rows hold the bytes of an image in val or test once more."""
    held_out = as_texts(before.digests[before.splits != TRAIN])
    copies = np.zeros(len(source), bool)
    rows = np.flatnonzero(~is_known)
    copies[rows] = np.isin(as_texts(source.digests[rows]), held_out)
    return copies


def _follows_held_out(manifest: Manifest, is_new: np.ndarray) -> np.ndarray:
    """Which new rows belong to a group that has images in val or test."""
    follows = np.zeros(len(manifest), bool)
    if manifest.group_names is None or not is_new.any():
        return follows
    is_held_out = np.zeros(int(manifest.groups.max(initial=0)) + 1, bool)
    is_held_out[manifest.groups[np.isin(manifest.splits, (VAL, TEST))]] = True
    return is_new & is_held_out[manifest.groups]


def _find_merged(before: Manifest, source: Manifest, merged: Collection[str]) -> np.ndarray:
    """The rows of `before` that came with annotations and that the source lacks."""
    digests = np.array([bytes.fromhex(each) for each in merged], "S32")
    rows = np.flatnonzero(np.isin(as_texts(before.digests), digests))
    return rows[~np.isin(as_texts(before.digests[rows]), as_texts(source.digests))]


def _as_list(paths: np.ndarray) -> list[str]:
    return [str(path) for path in paths]


def name_some(paths: Sequence[str]) -> str:
    """The first few paths, and how many more there are."""
    more = f" and {len(paths) - MAX_NAMED} more" if len(paths) > MAX_NAMED else ""
    return ", ".join(paths[:MAX_NAMED]) + more
