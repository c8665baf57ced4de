"""The difference of two versions as one HTML page with pictures. It needs no network."""

import tempfile
from functools import partial
from pathlib import Path
from typing import Any

from sightline.data.audit.report import Pictures
from sightline.data.display import load_displayed
from sightline.data.versions.difference import KINDS, Difference
from sightline.data.versions.store import DataVersion, Versions
from sightline.errors import BadInput
from sightline.runs.files import write_text
from sightline.runs.pages import render

MAX_PICTURES = 60
"""Of one kind."""
TITLES = {
    "added": ("Added", "Images that {after} has and {before} lacks."),
    "removed": ("Removed", "Images of {before} that are not in {after}."),
    "relabelled": ("Relabelled", "The same images under another class."),
    "moved": ("Moved between splits", "The same images in another split."),
    "renamed": ("Renamed", "The same images at another path."),
}


def write_report(
    path: Path, versions: Versions, before: DataVersion, after: DataVersion, difference: Difference
) -> None:
    """Write the page; the pictures of the first images of each kind are in it.

    Raises: BadInput where it cannot be written.
    """
    shown = {kind: list(difference.entries(kind, MAX_PICTURES)) for kind in KINDS}
    digests = sorted({entry["sha256"] for entries in shown.values() for entry in entries})
    with tempfile.TemporaryDirectory(prefix="sightline-diff-") as folder:
        versions.place.get([(digest, Path(folder, digest)) for digest in digests])
        pictures = Pictures(Path(folder), partial(load_displayed, channels=3))
        for entries in shown.values():
            for entry in entries:
                entry["picture"] = pictures.of(entry["sha256"])
    page = render(
        "sightline.data.versions",
        "difference.html.j2",
        before=before.spelled(),
        after=after.spelled(),
        facts=[_about(version) for version in (before, after)],
        sections=[_section(kind, shown[kind], difference, before, after) for kind in KINDS if shown[kind]],
        by_class=difference.by_class(),
    )
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, page)
    except OSError as error:
        raise BadInput(f"report={path}: cannot be written ({error.strerror}); name another file") from error


def _about(version: DataVersion) -> dict[str, Any]:
    facts = version.facts
    counts = ", ".join(f"{count:,} {split}" for split, count in facts["num_images"].items())
    made = f"{facts['created'][:16].replace('T', ' ')} by {facts.get('by') or 'unknown'}"
    return {"version": version.spelled(), "images": counts, "made": made, "why": facts.get("why") or ""}


def _section(
    kind: str, entries: list[dict[str, Any]], difference: Difference, before: DataVersion, after: DataVersion
) -> dict[str, Any]:
    title, meaning = TITLES[kind]
    count = difference.counts[kind]
    return {
        "kind": kind,
        "title": title,
        "meaning": meaning.format(before=before.spelled(), after=after.spelled()),
        "count": count,
        "entries": entries,
        "num_more": count - len(entries),
    }
