"""Images of a version that look like ones of another split: measured on those, a model knew the answer."""

from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np

from sightline.data.audit.near_duplicates import find_alike, group_rows
from sightline.data.display import load_displayed
from sightline.data.manifest import SPLITS, Manifest

MAX_FILES = 6


def find_leaks(
    manifest: Manifest, facts: np.ndarray, is_new: np.ndarray, max_pixels: int, num_workers: int | None = None
) -> list[dict[str, Any]]:
    """Sets of equal or alike images in more than one split that have a new image: `{files, splits, kind}`.

    `facts` are those of `inspection.FACTS` for each row; `is_new` says which rows are looked at, beside all others.
    """
    if not is_new.any():
        return []
    keys = np.ascontiguousarray(facts["pixels"]).view(np.uint64)
    contents = group_rows(np.flatnonzero(facts["status"] == 0), keys[facts["status"] == 0])
    has_new = np.array([bool(is_new[rows].any()) for rows in contents])
    in_splits = np.array([int(np.bitwise_or.reduce(1 << manifest.splits[rows].astype(int))) for rows in contents])
    found = [
        _leak(manifest, rows, "duplicate")
        for rows, new, splits in zip(contents, has_new, in_splits, strict=True)
        if new and splits & (splits - 1)
    ]

    def is_wanted(pairs: np.ndarray) -> np.ndarray:
        return has_new[pairs].any(axis=1) & (in_splits[pairs[:, 0]] != in_splits[pairs[:, 1]])

    channels = np.bincount(facts["channels"][facts["status"] == 0]).argmax() if len(contents) else 3
    load = partial(load_displayed, channels=int(channels), max_pixels=max_pixels)
    for members in find_alike(manifest, facts, contents, load, num_workers, is_wanted):
        found.append(_leak(manifest, np.concatenate([contents[member] for member in members]), "near_duplicate"))
    return found


def _leak(manifest: Manifest, rows: np.ndarray, kind: str) -> dict[str, Any]:
    splits = [SPLITS[number] for number in np.unique(manifest.splits[rows])]
    return {"kind": kind, "splits": splits, "files": [str(path) for path in _spread(manifest, rows)]}


def _spread(manifest: Manifest, rows: np.ndarray) -> Iterator[str]:
    """A few files of a set, the first of each split among them."""
    first = [rows[manifest.splits[rows] == split][0] for split in np.unique(manifest.splits[rows])]
    rest = [row for row in rows if row not in first]
    yield from (str(manifest.paths[row]) for row in [*first, *rest][:MAX_FILES])
