"""The audit of a data set: bad files, duplicates, contradicting labels, and leaks between splits."""

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from sightline.data.audit.inspection import STATUSES, Inspection
from sightline.data.audit.near_duplicates import find_alike, group_rows
from sightline.data.audit.value_range import with_value_range
from sightline.data.manifest import SPLITS, Manifest
from sightline.data.transforms import load_rgb
from sightline.runs.record import package_versions
from sightline.task_spec import ValueRange

BAD_KINDS = STATUSES[1:]
KINDS = (
    *BAD_KINDS,
    *("leak", "contradicting_labels", "flat", "duplicate", "near_duplicate", "several_frames", "odd_mode", "odd_size"),
)
"""Kinds of findings, worst first."""

SHARED = 0.9
"""A mode or size that so many images share makes the others odd."""
LARGEST_ASPECT, SMALLEST_SIDE = 3, 16


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong, with the paths of the files that share it."""

    kind: str
    files: tuple[str, ...]
    detail: str
    splits: tuple[str, ...]
    """The splits that these files lie in."""

    @property
    def touches_test(self) -> bool:
        return "test" in self.splits


@dataclass(frozen=True)
class Audit:
    """All findings, worst kind first and leaks into test before others, and the data set in numbers."""

    summary: dict[str, Any]
    findings: list[Finding]

    @property
    def bad_files(self) -> list[Finding]:
        """Files that cannot be trained on: one finding a file, whose kind and detail say why."""
        return [finding for finding in self.findings if finding.kind in BAD_KINDS]

    @property
    def leaks(self) -> list[Finding]:
        """Images or groups that lie in more than one split."""
        return [finding for finding in self.findings if finding.kind == "leak"]

    def to_dict(self) -> dict[str, Any]:
        findings = [{"kind": one.kind, "files": list(one.files), "detail": one.detail} for one in self.findings]
        return {"summary": self.summary, "findings": findings}


def audit(
    manifest: Manifest,
    inspection: Inspection,
    *,
    value_range: ValueRange | None = None,
    load: Callable[[str], Image.Image | np.ndarray] = load_rgb,
    num_workers: int | None = None,
) -> Audit:
    """What is wrong with the images of a manifest, by the facts about its files (one row an image, decoded).

    `value_range` is that of its deep greys, and `load` reads an image as training would, with that range.

    Images with equal pixels form a set, and so do images that look alike. A set is a `leak` where its splits differ
    and `contradicting_labels` where its labels do (both, if both); else it is a `duplicate` or a `near_duplicate`. A
    set of alike images is named only for what no set of equal images within it has said. Frames of one group look
    alike by their nature, so they count as near duplicates of other groups' images only.
    """
    began = time.perf_counter()
    assert len(inspection.facts) == len(manifest), "one row of facts for each image"
    survey = _Survey(manifest, inspection, value_range)
    findings = [
        *survey.find_bad_files(),
        *survey.find_split_groups(),
        *_find_copies(survey, load, num_workers),
        *_find_flat(survey),
        *_find_several_frames(survey),
        *_find_odd_modes(survey),
        *_find_odd_sizes(survey),
    ]
    findings.sort(key=lambda one: (KINDS.index(one.kind), one.kind == "leak" and not one.touches_test, one.files))
    summary = _summarise(survey, findings)
    summary["seconds"] = round(inspection.seconds + time.perf_counter() - began, 2)
    return Audit(summary, findings)


class _Survey:
    """A manifest beside the facts about its files."""

    def __init__(self, manifest: Manifest, inspection: Inspection, value_range: ValueRange | None) -> None:
        self.manifest, self.details, self.value_range = manifest, inspection.details, value_range
        self.facts = inspection.facts if value_range is None else with_value_range(inspection.facts, value_range)
        self.good = np.flatnonzero((self.facts["status"] == 0) & self.facts["pixels"].any(axis=1))

    def finding(self, kind: str, rows: Iterable[Any], detail: str) -> Finding:
        rows = sorted(int(row) for row in rows)
        splits = sorted({int(self.manifest.splits[row]) for row in rows})
        return Finding(
            kind, tuple(sorted(str(self.manifest.paths[row]) for row in rows)), detail, tuple(SPLITS[i] for i in splits)
        )

    def labels(self, rows: Iterable[int]) -> set[str]:
        return {self.manifest.class_names[self.manifest.labels[row]] for row in rows}

    def splits(self, rows: Iterable[int]) -> set[int]:
        return {int(self.manifest.splits[row]) for row in rows}

    def find_bad_files(self) -> Iterator[Finding]:
        for row in np.flatnonzero(self.facts["status"]):
            detail = self.details.get(str(self.manifest.paths[row]), "")
            yield self.finding(STATUSES[self.facts["status"][row]], [row], detail)

    def find_split_groups(self) -> Iterator[Finding]:
        """Groups whose images lie in more than one split."""
        groups = self.manifest.groups
        pairs = np.unique(np.stack([groups, self.manifest.splits.astype(np.int32)], axis=1), axis=0)
        names, counts = np.unique(pairs[:, 0], return_counts=True)
        rows = np.flatnonzero(np.isin(groups, names[counts > 1]))
        for members in group_rows(rows, groups[rows].astype(np.uint64)[:, None]):
            yield self.finding("leak", members, f"one group lies in {self.split_names(members)}")

    def split_names(self, rows: Iterable[int]) -> str:
        return _join(SPLITS[split] for split in sorted(self.splits(rows)))


# Copies


def _find_copies(
    survey: _Survey, load: Callable[[str], Image.Image | np.ndarray], num_workers: int | None
) -> Iterator[Finding]:
    """Sets of equal images, then sets of alike ones for what those have not said."""
    contents = group_rows(survey.good, _as_integers(survey.facts["pixels"][survey.good]))
    for rows in contents:
        if len(rows) > 1:
            yield from _name_set(survey, [rows], "duplicate", f"{len(rows)} files hold the same pixels")
    for members in find_alike(survey.manifest, survey.facts, contents, load, num_workers):
        parts = [contents[member] for member in members]
        num_files = sum(len(rows) for rows in parts)
        yield from _name_set(survey, parts, "near_duplicate", f"{num_files} files look nearly the same")


def _name_set(survey: _Survey, parts: list[np.ndarray], kind: str, detail: str) -> Iterator[Finding]:
    """The findings for a set that consists of parts with equal pixels, less what is so within one part already."""
    rows = np.concatenate(parts)
    said = parts if len(parts) > 1 else []
    labels, splits = survey.labels(rows), survey.splits(rows)
    has_labels = len(labels) > 1 and all(survey.labels(part) != labels for part in said)
    crosses = len(splits) > 1 and all(survey.splits(part) != splits for part in said)
    if has_labels:
        yield survey.finding("contradicting_labels", rows, f"{detail} under {len(labels)} labels: {_join(labels)}")
    if crosses:
        yield survey.finding("leak", rows, f"{detail} in {survey.split_names(rows)}")
    if not (has_labels or crosses):
        yield survey.finding(kind, rows, detail)


def _as_integers(digests: np.ndarray) -> np.ndarray:
    """Digests of bytes as integers, uint64 `(N, K)`, which sort and compare fast."""
    return np.ascontiguousarray(digests).view(np.uint64)


# Pixels, modes and sizes


def _find_flat(survey: _Survey) -> Iterator[Finding]:
    """Images of one colour alone, and deep greys whose values become one."""
    facts = survey.facts[survey.good]
    is_flat = facts["contrast"] == 0
    is_deep_grey = facts["high"] > facts["low"]
    if (is_flat & ~is_deep_grey).any():
        rows = survey.good[is_flat & ~is_deep_grey]
        yield survey.finding("flat", rows, f"{_are(len(rows))} of one colour alone")
    if (is_flat & is_deep_grey).any():
        rows = survey.good[is_flat & is_deep_grey]
        low, high = survey.value_range or (0, 0)
        values = f"{survey.facts['low'][rows].min():g} to {survey.facts['high'][rows].max():g}"
        setting = f"data.value_range=[{low:g},{high:g}]"
        yield survey.finding(
            "flat", rows, f"{_are(len(rows))} of one colour alone with {setting}, the values: {values}"
        )


def _find_several_frames(survey: _Survey) -> Iterator[Finding]:
    rows = survey.good[survey.facts["has_frames"][survey.good]]
    if len(rows):
        holds = "1 file holds" if len(rows) == 1 else f"{len(rows):,} files hold"
        text = f"{holds} more than one picture (frames or pages); the first of each is taken"
        yield survey.finding("several_frames", rows, text)


def _find_odd_modes(survey: _Survey) -> Iterator[Finding]:
    modes = survey.facts["mode"][survey.good]
    for value, rows, shared, share in _odd_values(survey.good, modes):
        yield survey.finding(
            "odd_mode", rows, f"{_are(len(rows))} {value.decode()}; {share:.1%} of all are {shared.decode()}"
        )


def _find_odd_sizes(survey: _Survey) -> Iterator[Finding]:
    """Images of another size than nearly all; where sizes vary, very long and very small ones."""
    facts = survey.facts[survey.good]
    width, height = facts["width"].astype(np.uint64), facts["height"].astype(np.uint64)
    sizes = width << np.uint64(32) | height
    odd = list(_odd_values(survey.good, sizes))
    for value, rows, shared, share in odd:
        detail = f"{_are(len(rows))} {_size(value)}; {share:.1%} of all are {_size(shared)}"
        yield survey.finding("odd_size", rows, detail)
    if odd or len(np.unique(sizes)) < 2:
        return
    shorter, longer = np.minimum(width, height), np.maximum(width, height)
    checks = {
        f"longer than {LARGEST_ASPECT} times their width or height": longer > LARGEST_ASPECT * shorter,
        f"under {SMALLEST_SIDE} pixels on a side": shorter < SMALLEST_SIDE,
    }
    for text, is_odd in checks.items():
        if is_odd.any():
            yield survey.finding("odd_size", survey.good[is_odd], f"{_are(int(is_odd.sum()))} {text}")


def _odd_values(rows: np.ndarray, values: np.ndarray) -> Iterator[tuple[Any, np.ndarray, Any, float]]:
    """Each value but the one that nearly all rows share: its rows, and that shared value with its share."""
    names, numbers, counts = np.unique(values, return_inverse=True, return_counts=True)
    if len(names) < 2 or counts.max() < SHARED * len(values):
        return
    most = int(counts.argmax())
    for number, name in enumerate(names):
        if number != most:
            yield name, rows[numbers == number], names[most], counts[most] / len(values)


def _size(packed: int) -> str:
    return f"{int(packed) >> 32}x{int(packed) & 0xFFFFFFFF}"


def _are(count: int) -> str:
    return "1 image is" if count == 1 else f"{count:,} images are"


# In numbers


def _summarise(survey: _Survey, findings: list[Finding]) -> dict[str, Any]:
    manifest, facts = survey.manifest, survey.facts
    counts = np.zeros((len(SPLITS), len(manifest.class_names)), int)
    np.add.at(counts, (manifest.splits, manifest.labels), 1)
    by_class = {
        split: dict(zip(manifest.class_names, row.tolist(), strict=True))
        for split, row in zip(SPLITS, counts, strict=True)
        if row.any()
    }
    kinds = Counter(finding.kind for finding in findings)
    largest, smallest = int(counts[0].max(initial=0)), int(counts[0][counts[0] > 0].min(initial=len(manifest)))
    return {
        "num_images": len(manifest),
        "num_images_by_split": {split: sum(row.values()) for split, row in by_class.items()},
        "num_images_by_class": by_class,
        "num_groups": len(np.unique(manifest.groups)),
        "imbalance": round(largest / smallest, 2) if largest else None,
        "modes": _count(mode.decode() for mode in facts["mode"][survey.good]),
        "value_range": survey.value_range,
        "sizes": _summarise_sizes(facts[survey.good]),
        "num_bytes": int(facts["num_bytes"].sum()),
        "num_findings": {kind: kinds[kind] for kind in KINDS if kinds[kind]},
        "versions": package_versions(("sightline-vision", "pillow", "imagehash", "numpy")),
    }


def _summarise_sizes(facts: np.ndarray) -> dict[str, Any]:
    """Different sizes, the ten most common, and the range of widths and heights."""
    if not len(facts):
        return {"num_different": 0, "most_common": {}}
    sizes, counts = np.unique(np.stack([facts["width"], facts["height"]], axis=1), axis=0, return_counts=True)
    order = np.lexsort((sizes[:, 1], sizes[:, 0], -counts))[:10]
    ranges = {
        side: {
            "smallest": int(facts[side].min()),
            "median": int(np.median(facts[side])),
            "largest": int(facts[side].max()),
        }
        for side in ("width", "height")
    }
    most_common = {f"{sizes[i][0]}x{sizes[i][1]}": int(counts[i]) for i in order}
    return {"num_different": len(sizes), "most_common": most_common, **ranges}


def _count(values: Iterable[str]) -> dict[str, int]:
    return dict(sorted(Counter(values).items(), key=lambda item: (-item[1], item[0])))


def _join(names: Iterable[str], most: int = 5) -> str:
    names = sorted(names)
    shown = names[:most] + ([f"{len(names) - most} more"] if len(names) > most else [])
    return ", ".join(shown[:-1]) + " and " + shown[-1] if len(shown) > 1 else "".join(shown)
