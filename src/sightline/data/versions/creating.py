"""The next version of a data set from its images, wherever they lie."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from sightline.config import DataConfig, DataVersionsConfig
from sightline.data.audit.inspection import STATUSES, Inspection, inspect_files
from sightline.data.collection.image_files import find_files
from sightline.data.manifest import SPLITS, TRAIN, Manifest
from sightline.data.opening import find_root, index_of, list_and_split
from sightline.data.versions.assignment import Assigned, assign, name_some, without_unused_classes
from sightline.data.versions.checkout import MARK, check_files, open_checkout, read_checkout
from sightline.data.versions.difference import Difference
from sightline.data.versions.leaks import find_leaks
from sightline.data.versions.store import DataVersion, Versions, check_name
from sightline.errors import BadInput
from sightline.runs.file_names import to_text
from sightline.runs.files import read_json
from sightline.runs.folder import find_run, run_folder

log = logging.getLogger(__name__)
MAX_LISTED = 100
"""Paths of one kind that the facts of a version name."""


@dataclass(frozen=True)
class CreateResult:
    """A version, and what was done for it."""

    version: DataVersion
    is_new: bool
    sentence: str


@dataclass(frozen=True)
class Source:
    """Images as somebody keeps them."""

    manifest: Manifest
    stated: np.ndarray
    """The split that is said of each image, an index into SPLITS; TRAIN where nothing is said."""
    facts: np.ndarray
    """`inspection.FACTS` of each image."""
    told: dict[str, Any]
    """Where they came from."""
    left_out: dict[str, list[str]]


def create_version(versions: Versions, name: str, cfg: DataVersionsConfig, *, by: str) -> CreateResult:
    """Make the next version of a name from the images that the configuration names; an unchanged one stays.

    The first version is split as a training would split it. From then on known images keep their split, and new ones
    are trained on.

    Raises: BadInput for images that cannot be trained on, or changes of val and test that nobody allowed.
    """
    check_name(name)
    while True:
        numbers = versions.numbers(name)
        before = versions.load(name) if numbers else None
        source = read_source(cfg, is_first=before is None)
        corrections = {} if before is None else before.facts.get("corrections", {})
        assigned = _assign(before, source, corrections, cfg)
        if before is not None and assigned.manifest.sha256 == before.sha256:
            say_left_out(assigned.left_out)
            return CreateResult(before, False, f"{before.spelled()}: nothing has changed, it stays the newest version")
        leaks = check_leaks(assigned, source, cfg.data)
        facts = {
            "by": by,
            "why": cfg.why,
            "source": source.told,
            "left_out": listed({**source.left_out, **assigned.left_out}),
            "test_changes": listed(assigned.test_changes),
            "leaks": leaks[:MAX_LISTED],
            "corrections": corrections,
            "merged": {} if before is None else before.facts.get("merged") or {},
        }
        if (made := write_version(versions, name, before, assigned.manifest, facts)) is not None:
            say_left_out(assigned.left_out)
            return made
        log.info("%s: another process has made a version in this moment; this one follows it", name)


def write_version(
    versions: Versions, name: str, before: DataVersion | None, manifest: Manifest, facts: Mapping[str, Any]
) -> CreateResult | None:
    """The version after `before`; None where another process was first."""
    difference = None if before is None else Difference.of(before.manifest, manifest)
    told = {**facts, "after": None if before is None else before.number}
    told["changes"] = None if difference is None else difference.counts
    after, known = (0, None) if before is None else (before.number, before.manifest)
    version = versions.create(name, manifest, told, after=after, known=known)
    if version is None:
        return None
    counts = ", ".join(f"{count:,} {split}" for split, count in manifest.num_images.items())
    changed = "" if difference is None else f"; {in_words(difference.counts)} since {before and before.spelled()}"
    return CreateResult(version, True, f"{version.spelled()}: {counts} images{changed}")


def in_words(counts: Mapping[str, int]) -> str:
    """`3 added, 1 relabelled`."""
    return ", ".join(f"{number:,} {kind}" for kind, number in counts.items() if number) or "nothing changed"


def _assign(
    before: DataVersion | None, source: Source, corrections: Mapping[str, Any], cfg: DataVersionsConfig
) -> Assigned:
    if before is None:
        return Assigned(without_unused_classes(source.manifest), np.ones(len(source.manifest), bool))
    rules = {"allow_test_changes": cfg.allow_test_changes, "merged": before.facts.get("merged") or {}}
    return assign(before.manifest, source.manifest, source.stated, corrections, **rules)


def check_leaks(assigned: Assigned, source: Source, data: DataConfig) -> list[dict[str, Any]]:
    """New images that look like ones of another split, named; nothing where the audit is skipped.

    Raises: BadInput with `data.on_leak=error`.
    """
    if data.audit == "skip":
        return []
    manifest = assigned.manifest
    row_of = {path: row for row, path in enumerate(source.manifest.paths)}
    found = np.array([row_of.get(path, -1) for path in manifest.paths], int)
    facts = source.facts[found]
    facts["status"][found < 0] = 1  # what came with annotations was looked at then, and is not here
    leaks = find_leaks(manifest, facts, assigned.is_new, data.max_pixels)
    if leaks:
        first = " and ".join(leaks[0]["files"][:2])
        text = f"{len(leaks)} set(s) of new images look like images of another split, the first is {first}"
        if data.on_leak == "error":
            raise BadInput(f"data.on_leak=error: {text}. Leave them out, or say data.on_leak=warn")
        log.warning("%s: numbers on those splits flatter the model; they stand in the version's facts", text)
    return leaks


def listed(paths: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    """Paths by kind for the facts of a version: how many, and the first of them."""
    return {kind: {"count": len(each), "files": list(each[:MAX_LISTED])} for kind, each in paths.items() if each}


def say_left_out(left_out: Mapping[str, Sequence[str]]) -> None:
    for reason, paths in left_out.items():
        log.warning("%d new image(s) are left out, %s: %s", len(paths), reason, name_some(paths))


# where the images come from


def read_source(cfg: DataVersionsConfig, *, is_first: bool) -> Source:
    """The images of a configuration, read once, with what their folders or tables say about the split.

    Raises: BadInput when there are none, or they are not fit to train on.
    """
    if cfg.run is not None:
        manifest, stated, told = _of_run(cfg, cfg.run)
    else:
        manifest, stated, told = _of_data(cfg, is_first=is_first)
    index, data = index_of(Path(cfg.paths.cache), manifest.root), cfg.data
    inspection = inspect_files(
        manifest.root, manifest.paths, index=index, decode=data.audit != "skip", max_pixels=data.max_pixels
    )
    if cfg.run is not None:
        _check_run(manifest, inspection, cfg.run)
    elif (held := read_checkout(manifest.root)) is not None:
        check_files(manifest, held, inspection.facts["sha256"])
    manifest.with_digests(inspection.facts["sha256"])
    is_good = inspection.facts["status"] == 0
    bad = [str(path) for path in manifest.paths[~is_good]]
    if bad:
        _check_bad(bad, inspection, data, len(manifest))
        manifest = manifest.keep(is_good)
    kinds = {f"bad files: {STATUSES[number]}" for number in np.unique(inspection.facts["status"][~is_good])}
    return Source(
        manifest, stated[is_good], inspection.facts[is_good], told, {", ".join(sorted(kinds)): bad} if bad else {}
    )


def _of_run(cfg: DataVersionsConfig, run: str) -> tuple[Manifest, np.ndarray, dict[str, Any]]:
    """The manifest that a run keeps, at the place where its images lay."""
    folder = run_folder(find_run(run, Path(cfg.paths.runs)))
    root = None if folder is None else read_json(folder / "run.json").get("data", {}).get("root")
    if folder is None or root is None or not (folder / "manifest.csv").is_file():
        raise BadInput(f"run={run}: keeps no manifest of image files; name the images with data.root=FOLDER")
    manifest = Manifest.load(folder / "manifest.csv", Path(root))
    return manifest, manifest.splits, {"run": str(folder), "root": root}


def _check_run(manifest: Manifest, inspection: Inspection, run: str) -> None:
    wrong = np.flatnonzero((inspection.facts["sha256"] != manifest.digests).any(axis=1))
    if len(wrong):
        raise BadInput(
            f"run={run}: {len(wrong)} of its images are gone or differ from what it was trained on, the first is "
            f"{manifest.file(wrong[0])}; restore them, or make a version of what is there with data.root=FOLDER"
        )


def _of_data(cfg: DataVersionsConfig, *, is_first: bool) -> tuple[Manifest, np.ndarray, dict[str, Any]]:
    data, root = cfg.data, find_root(cfg)
    told: dict[str, Any] = {"root": data.root, "data": data.name}
    if (held := read_checkout(root)) is not None:
        manifest = open_checkout(root)
        _refuse_more(manifest)
        return manifest, manifest.splits, told | {"version": f"{held['name']}/{held['version']}"}
    if not is_first:  # the version before tells the split: a pinned one and shares do not count
        data = replace(data, manifest="none", small_classes="train_only")
    listing, split = list_and_split(data, root)
    given = [SPLITS.index(name) for name in {part.split for part in listing.files}]
    manifest = split.manifest
    return manifest, np.where(np.isin(manifest.splits, given), manifest.splits, TRAIN), told


def _refuse_more(manifest: Manifest) -> None:
    """Raises: BadInput for a checkout that somebody has put more images into."""
    found = {to_text(path.relative_to(manifest.root).as_posix()) for path in find_files(manifest.root)}
    more = found - set(manifest.paths.tolist())
    if more:
        raise BadInput(
            f"data.root={manifest.root}: {len(more)} image(s) were put into this checked-out version, the first is "
            f"{min(more)}; remove {MARK} there, so that its folders tell the classes"
        )


def _check_bad(bad: Sequence[str], inspection: Inspection, data: DataConfig, num_images: int) -> None:
    """Raises: BadInput unless bad files may be left out, and are few."""
    named = "; ".join(f"{path} ({inspection.details.get(path, 'bad')})" for path in bad[:3])
    if data.on_bad_file != "skip":
        raise BadInput(
            f"data.root={data.root}: {len(bad)} bad file(s): {named}. Repair or remove them, or leave them out with "
            "data.on_bad_file=skip"
        )
    if len(bad) > data.max_bad_fraction * num_images:
        raise BadInput(
            f"data.max_bad_fraction={data.max_bad_fraction}: {len(bad)} of {num_images} files are bad: {named}. Repair "
            "or remove them, or raise it"
        )
    log.warning("%d bad file(s) are left out: %s", len(bad), named)
