"""What one version has and another lacks: added, removed, relabelled, moved between splits, by class."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from sightline.data.manifest import SPLITS, Manifest
from sightline.data.versions.assignment import match_rows

KINDS = ("added", "removed", "relabelled", "moved", "renamed")


@dataclass(frozen=True)
class Difference:
    """Two manifests, matched by the bytes of their images."""

    before: Manifest
    after: Manifest
    matched: np.ndarray
    """Of each row of `after` the row of `before`, or -1."""

    @classmethod
    def of(cls, before: Manifest, after: Manifest) -> "Difference":
        return cls(before, after, match_rows(before, after))

    @cached_property
    def rows(self) -> dict[str, np.ndarray]:
        """Rows by kind: of `before` for what was removed, else of `after`."""
        is_known = self.matched >= 0
        was = self.matched[is_known]
        known = np.flatnonzero(is_known)
        labels = np.array(self.before.class_names, object)[self.before.labels[was]]
        now = np.array(self.after.class_names, object)[self.after.labels[known]]
        return {
            "added": np.flatnonzero(~is_known),
            "removed": np.setdiff1d(np.arange(len(self.before)), was),
            "relabelled": known[labels != now],
            "moved": known[self.before.splits[was] != self.after.splits[known]],
            "renamed": known[self.before.paths[was] != self.after.paths[known]],
        }

    @property
    def counts(self) -> dict[str, int]:
        return {kind: len(rows) for kind, rows in self.rows.items()}

    def entries(self, kind: str, most: int | None = None) -> Iterator[dict[str, Any]]:
        """What happened to each image of a kind: its path, class, split and hash, and what changed `from` and `to`."""
        manifest = self.before if kind == "removed" else self.after
        for row in self.rows[kind][:most].tolist():
            entry = _describe(manifest, row)
            if kind in CHANGED:
                was = _describe(self.before, int(self.matched[row]))
                entry |= {"from": was[CHANGED[kind]], "to": entry[CHANGED[kind]]}
            yield entry

    def by_class(self) -> dict[str, dict[str, int]]:
        """Images by class and what happened to them; a relabelled one counts for both of its classes."""
        names = sorted({*self.before.class_names, *self.after.class_names})
        columns: list[str] = [*KINDS[:2], "relabelled_from", "relabelled_to", *KINDS[3:]]
        table = {name: dict.fromkeys(columns, 0) for name in names}

        def add(column: str, manifest: Manifest, rows: np.ndarray) -> None:
            counts = np.bincount(manifest.labels[rows], minlength=len(manifest.class_names))
            for name, number in zip(manifest.class_names, counts.tolist(), strict=True):
                table[name][column] += number

        for kind, rows in self.rows.items():
            if kind == "relabelled":
                add("relabelled_from", self.before, self.matched[rows])
                add("relabelled_to", self.after, rows)
            else:
                add(kind, self.before if kind == "removed" else self.after, rows)
        return {name: counts for name, counts in table.items() if any(counts.values())}

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {kind: list(self.entries(kind)) for kind in KINDS} | {"by_class": self.by_class()}


CHANGED = {"relabelled": "label", "moved": "split", "renamed": "path"}
"""What differs of an image of a kind."""


def _describe(manifest: Manifest, row: int) -> dict[str, str]:
    return {
        "path": str(manifest.paths[row]),
        "label": manifest.class_names[manifest.labels[row]],
        "split": SPLITS[manifest.splits[row]],
        "sha256": manifest.digests[row].tobytes().hex(),
    }
