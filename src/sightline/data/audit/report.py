"""The audit as one HTML page: findings, counts and sample images. It needs no network."""

import base64
import io
import random
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from sightline.data.audit.audit import KINDS, Audit, Finding
from sightline.data.display import load_displayed
from sightline.data.manifest import SPLITS, Manifest
from sightline.data.transforms import UnreadableImage
from sightline.runs.file_names import to_name
from sightline.runs.files import write_text
from sightline.runs.pages import render

TEMPLATE = "audit.html.j2"
PICTURE_SIZE = 96
MAX_PICTURE_BYTES = 2_400_000
"""Pictures beyond this are left out, so that the page stays below 3 MB."""
MAX_SAMPLES, SAMPLES_PER_CLASS = 300, 8
MAX_FINDINGS, MAX_FILES = 10, 6
"""Findings of one kind, and files of one finding, that the page shows."""

MEANINGS = {
    "unreadable": ("Cannot be read", "Training would stop at these files. Repair or remove them."),
    "truncated": ("End too early", "The rest of the picture is missing. Fetch these files again."),
    "empty": ("Empty", "These files have no bytes. Fetch them again."),
    "not_an_image": ("Not images", "No image format begins like these files. Remove them."),
    "line_ending_damage": (
        "Damaged by line endings",
        "A tool took these images for text and converted line endings. Many still open and show wrong colours. "
        "Fetch them again in binary mode.",
    ),
    "too_many_pixels": (
        "Too many pixels",
        "A small file may unpack to more than the memory holds. Make these smaller, or raise data.max_pixels.",
    ),
    "other_channels": (
        "Of other channels",
        "Their number of bands is not that of the data set. Remove these, or set data.channels to theirs.",
    ),
    "leak": (
        "In more than one split",
        "What was measured on these images was partly learnt by heart. Keep each set in one split.",
    ),
    "contradicting_labels": (
        "Contradicting labels",
        "The same picture cannot be right under two labels. Decide for one, or remove them.",
    ),
    "flat": (
        "Of one colour alone",
        "Nothing can be seen on these. Deep greys have their range of values in data.value_range.",
    ),
    "several_frames": (
        "With several pictures",
        "The first frame or page of each file is taken. Save the others as files of their own if they matter.",
    ),
    "duplicate": ("Duplicates", "The same pixels more than once in one split: they count double."),
    "near_duplicate": (
        "Near duplicates",
        "Pictures of one split that differ by little more than compression, size or brightness.",
    ),
    "odd_mode": ("Odd modes", "Nearly all others share one mode, and all are prepared alike; is that what you want?"),
    "odd_size": ("Odd sizes", "Their shape or size is unlike that of the others: cropping may lose the subject."),
}


@dataclass
class Pictures:
    """Thumbnails as data addresses, until their room is used up."""

    root: Path
    load: Callable[[str], Image.Image]
    room: int = MAX_PICTURE_BYTES
    made: dict[str, str] = field(default_factory=dict)

    def of(self, path: str) -> str:
        """A small picture of a file; nothing where it cannot be decoded or there is no room left."""
        if path not in self.made:
            address = self._thumbnail(path) if self.room > 0 else ""
            self.room -= len(address)
            self.made[path] = address
        return self.made[path]

    def _thumbnail(self, path: str) -> str:
        """A picture of at most 96 pixels as a data address; nothing for a file that cannot be decoded."""
        try:
            image = self.load(f"{self.root}/{to_name(path)}")
        except (UnreadableImage, MemoryError):
            return ""
        image.thumbnail((PICTURE_SIZE, PICTURE_SIZE), Image.Resampling.LANCZOS)
        file = io.BytesIO()
        if max(image.size) <= 40:
            image.save(file, "PNG")
            return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()
        image.save(file, "JPEG", quality=70)
        return "data:image/jpeg;base64," + base64.b64encode(file.getvalue()).decode()


def write_report(
    audit: Audit,
    manifest: Manifest,
    path: Path,
    load: Callable[[str], Image.Image] = load_displayed,
    display: str = "",
) -> None:
    """Write the page; pictures that `load` cannot read show as placeholders, and `display` says how bands are shown."""
    pictures = Pictures(manifest.root, load)
    page = render(
        "sightline.data.audit",
        TEMPLATE,
        name=manifest.root.name,
        folder=str(manifest.root),
        day=date.today().isoformat(),
        verdict=describe(audit),
        display=display,
        summary=audit.summary,
        splits=[split for split in SPLITS if split in audit.summary["num_images_by_class"]],
        counts=_count_classes(audit, manifest),
        kinds=_show_findings(audit, manifest, pictures),
        samples=_show_samples(audit, manifest, pictures),
    )
    write_text(path, page)


def describe(audit: Audit) -> str:
    """The findings in one sentence."""
    counts = audit.summary["num_findings"]
    num_bad = len(audit.bad_files)
    parts = [f"{_number(num_bad, 'file')} cannot be trained on"] if num_bad else []
    wordings = {
        "leak": "{} in more than one split",
        "contradicting_labels": "{} with contradicting labels",
        "flat": "{} of images of one colour alone",
        "duplicate": "{} of equal images",
        "near_duplicate": "{} of nearly equal images",
        "several_frames": "{} of files with several pictures",
    }
    parts += [text.format(_number(counts[kind], "set")) for kind, text in wordings.items() if kind in counts]
    num_odd = sum(len(finding.files) for finding in audit.findings if finding.kind in ("odd_mode", "odd_size"))
    parts += [f"{_number(num_odd, 'image')} of an odd mode or size"] if num_odd else []
    total = _number(audit.summary["num_images"], "image")
    if not parts:
        return f"Nothing wrong was found in {total}."
    leaks = sum(finding.touches_test for finding in audit.leaks)
    reach = "1 leak reaches" if leaks == 1 else f"{leaks:,} leaks reach"
    ending = f" {reach} the test split: its numbers would be too good." if leaks else ""
    return f"Found in {total}: {'; '.join(parts)}.{ending}"


def _number(count: int, noun: str) -> str:
    return f"{count:,} {noun}" + ("" if count == 1 else "s")


def _count_classes(audit: Audit, manifest: Manifest) -> list[dict[str, Any]]:
    """For each class its images by split, and the widths of their bars in percent of the largest class."""
    by_class = audit.summary["num_images_by_class"]
    splits = [split for split in SPLITS if split in by_class]
    rows = [(name, {split: by_class[split][name] for split in splits}) for name in manifest.class_names]
    largest = max((sum(counts.values()) for _, counts in rows), default=0) or 1
    return [
        {
            "name": name,
            "counts": counts,
            "total": sum(counts.values()),
            "widths": {split: round(100 * count / largest, 2) for split, count in counts.items()},
        }
        for name, counts in rows
    ]


def _show_findings(audit: Audit, manifest: Manifest, pictures: Pictures) -> list[dict[str, Any]]:
    """The first findings of each kind, with their first files."""
    by_kind: dict[str, list[Finding]] = defaultdict(list)
    for finding in audit.findings:
        by_kind[finding.kind].append(finding)
    shown = {file for found in by_kind.values() for finding in found[:MAX_FINDINGS] for file in _choose(finding)}
    rows = {str(path): row for row, path in enumerate(manifest.paths) if path in shown}

    def show_file(path: str) -> dict[str, str]:
        row = rows[path]
        label, split = manifest.class_names[manifest.labels[row]], SPLITS[manifest.splits[row]]
        return {"path": path, "label": label, "split": split, "picture": pictures.of(path)}

    return [
        {
            "kind": kind,
            "title": MEANINGS[kind][0],
            "meaning": MEANINGS[kind][1],
            "num_findings": len(by_kind[kind]),
            "num_files": sum(len(finding.files) for finding in by_kind[kind]),
            "findings": [
                {
                    "detail": finding.detail,
                    "touches_test": kind == "leak" and finding.touches_test,
                    "files": [show_file(file) for file in _choose(finding)],
                    "num_more": max(0, len(finding.files) - MAX_FILES),
                }
                for finding in by_kind[kind][:MAX_FINDINGS]
            ],
        }
        for kind in KINDS
        if kind in by_kind
    ]


def _choose(finding: Finding) -> list[str]:
    """A few of a finding's files, spread over all of them."""
    step = max(1, len(finding.files) / MAX_FILES)
    return [finding.files[int(number * step)] for number in range(min(MAX_FILES, len(finding.files)))]


def _show_samples(audit: Audit, manifest: Manifest, pictures: Pictures) -> list[dict[str, Any]]:
    """Some images of each class, the same ones for the same data."""
    bad = {finding.files[0] for finding in audit.bad_files}
    count = max(1, min(SAMPLES_PER_CLASS, MAX_SAMPLES // max(1, len(manifest.class_names))))
    by_label = np.argsort(manifest.labels, kind="stable")
    starts = np.searchsorted(manifest.labels[by_label], np.arange(len(manifest.class_names) + 1))
    samples = []
    for label, name in enumerate(manifest.class_names):
        rows = by_label[starts[label] : starts[label + 1]].tolist()
        chosen = random.Random(name).sample(rows, min(len(rows), count + 4))
        paths = [path for path in (str(manifest.paths[row]) for row in chosen) if path not in bad][:count]
        files = [{"path": path, "picture": pictures.of(path)} for path in paths]
        samples.append({"name": name, "files": [file for file in files if file["picture"]]})
    return samples
