"""Annotations into the next version: classes checked, people held against each other, val and test left as they are."""

import hashlib
import logging
import tempfile
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.dtypes import StringDType

from sightline.config.constraints import did_you_mean
from sightline.data.audit.inspection import STATUSES, inspect_files
from sightline.data.manifest import TRAIN, Manifest
from sightline.data.opening import index_of
from sightline.data.versions.annotations import (
    Annotation,
    BucketSource,
    Source,
    names_of,
    open_source,
    read_annotations,
)
from sightline.data.versions.assignment import join, name_some, with_classes, without_unused_classes
from sightline.data.versions.checkout import cached_checkout
from sightline.data.versions.creating import MAX_LISTED, CreateResult, listed, write_version
from sightline.data.versions.leaks import find_leaks
from sightline.data.versions.store import DataVersion, Versions
from sightline.errors import BadInput
from sightline.runs.file_names import to_text
from sightline.task_spec import MAX_PIXELS

log = logging.getLogger(__name__)
NUM_READERS = 16


@dataclass(frozen=True)
class MergeResult:
    """What became of annotations."""

    version: DataVersion
    """The new version, or the newest one where nothing was new."""
    is_new: bool
    added: int
    relabelled: int
    confirmed: int
    """Images whose class is what the annotations say already."""
    skipped: int
    """Annotations without a class, as where somebody skipped the task."""
    contradictions: list[dict[str, Any]]
    """Images about which people differ, or that were given several classes; they are left as they were."""
    duplicates: list[str]
    """Images that several entries name, which agree."""
    test_changes: list[dict[str, str]]
    """Images of val and test that would have another class."""
    left_out: dict[str, list[str]]
    """Others that were not taken, by reason."""
    sentence: str

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {**vars(self), "version": self.version.spelled()}


@dataclass
class _Decision:
    """What annotations say about one image."""

    digest: str
    label: str
    by: str
    at: str
    annotation: Annotation
    data: bytes | None
    """Of an image that the version lacks."""


@dataclass
class _Read:
    """Annotations of all images, decided."""

    decisions: list[_Decision] = field(default_factory=list)
    skipped: int = 0
    contradictions: list[dict[str, Any]] = field(default_factory=list)
    duplicates: list[str] = field(default_factory=list)
    left_out: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))


def merge_annotations(
    versions: Versions,
    name: str,
    source: str,
    *,
    by: str,
    allow_test_changes: bool = False,
    new_classes: bool = False,
    **told: Any,
) -> MergeResult:
    """Merge a file, a folder or s3:// address of annotations into the next version of a data set.

    Taken are images that the newest version has, known by their sha256, their bytes or their path, and new ones that
    can be read, which go to train. `told` may have `control`, `why` and `max_pixels`.

    Raises: BadInput for what holds no annotations, or classes that the data set lacks.
    """
    opened = open_source(source)
    versions.load(name)  # a wrong name shows before anything is read
    annotations = read_annotations(opened, told.get("control"))
    while True:
        before = versions.load(name)
        read = _decide(annotations, opened, before.manifest)
        _check_classes(read.decisions, before, is_open=new_classes)
        with tempfile.TemporaryDirectory(prefix="sightline-merge-") as folder:
            merge = _Merge(versions, before, read, Path(folder), told.get("max_pixels", MAX_PIXELS))
            merge.apply(allow_test_changes=allow_test_changes)
            if merge.manifest is before.manifest:
                return merge.result(before, "nothing new")
            facts = merge.facts() | {"by": by, "why": told.get("why")}
            facts["source"] = {"annotations": source, **_people(annotations)}
            made = write_version(versions, name, before, merge.manifest, facts)
            if made is not None:
                return merge.result(made.version, made)
        log.info("%s: another process has made a version in this moment; this one follows it", name)


def _people(annotations: Iterable[Annotation]) -> dict[str, Any]:
    """Who annotated how many images, and when the first and the last were."""
    annotations = list(annotations)
    times = sorted(each.at for each in annotations if each.at)
    counts = Counter(each.by or "unknown" for each in annotations if each.labels)
    return {"annotators": dict(counts.most_common()), "first": times[0] if times else None} | {
        "last": times[-1] if times else None
    }


# which image, and which class


def _decide(annotations: Sequence[Annotation], source: Source, manifest: Manifest) -> _Read:
    read, finder = _Read(), _Finder(source, manifest)
    said = [each for each in annotations if each.labels]
    read.skipped = len(annotations) - len(said)
    with ThreadPoolExecutor(NUM_READERS) as pool:
        images = list(pool.map(finder.find, said))
    by_image: dict[str, list[tuple[Annotation, bytes | None]]] = defaultdict(list)
    for annotation, (digest, data, problem) in zip(said, images, strict=True):
        if problem:
            read.left_out[problem].append(annotation.image or annotation.where)
        else:
            by_image[digest].append((annotation, data))
    for digest, found in by_image.items():
        name = finder.name_of(digest) or found[0][0].image or digest
        decided = _agree([annotation for annotation, _ in found])
        if isinstance(decided, dict):
            read.contradictions.append({"image": name, "said": decided})
            continue
        if len(found) > 1:
            read.duplicates.append(name)
        data = next((data for _, data in found if data is not None), None)
        label = unicodedata.normalize("NFC", decided.labels[0].strip())
        read.decisions.append(_Decision(digest, label, decided.by, decided.at, decided, data))
    return read


def _agree(annotations: Sequence[Annotation]) -> Annotation | dict[str, str]:
    """The newest of annotations that agree; else what each person says.

    What is marked as ground truth decides; of one person the newest annotation counts.
    """
    annotations = [each for each in annotations if each.decides] or list(annotations)
    newest: dict[str, Annotation] = {}
    for number, each in enumerate(sorted(annotations, key=lambda each: each.at)):
        newest[each.by or f"unknown {number + 1}"] = each
    if len({each.labels for each in newest.values()}) > 1 or any(len(each.labels) > 1 for each in newest.values()):
        return {person: ", ".join(each.labels) for person, each in newest.items()}
    return [*newest.values()][-1]


class _Finder:
    """Finds the image that an annotation means."""

    def __init__(self, source: Source, manifest: Manifest) -> None:
        self.source = source
        self.digests = [each.tobytes().hex() for each in manifest.digests]
        self.paths = {digest: str(path) for path, digest in zip(manifest.paths, self.digests, strict=True)}
        """The path of each image by its hash, of several with the same bytes the last."""
        self.rows: dict[str, list[tuple[str, str]]] = defaultdict(list)
        """Path and hash by the name of the file."""
        for path, digest in zip(map(str, manifest.paths), self.digests, strict=True):
            self.rows[path.rpartition("/")[2]].append((path, digest))

    def name_of(self, digest: str) -> str | None:
        return self.paths.get(digest)

    def find(self, annotation: Annotation) -> tuple[str, bytes | None, str]:
        """The hash of the image, its bytes where the version lacks it, and what is wrong, if anything is."""
        stated, image = annotation.sha256, annotation.image
        if stated is not None and stated in self.paths:
            return stated, None, ""
        if image is None:
            return "", None, "no image of that sha256"
        is_remote = image.startswith("s3://") or isinstance(self.source, BucketSource)
        data = None if is_remote else self._read(image)
        if data is None and stated is None and (digest := self._by_path(image)):
            return ("", None, "several images of that name") if digest == "several" else (digest, None, "")
        data = self._read(image) if data is None and is_remote else data
        if data is None:
            return "", None, "not found"
        digest = hashlib.sha256(data).hexdigest()
        if stated is not None and digest != stated:
            return "", None, "its bytes are not those of its sha256"
        return digest, (None if digest in self.paths else data), ""

    def _read(self, image: str) -> bytes | None:
        if (data := self.source.read_image(image)) is not None or image.startswith("s3://"):
            return data
        found = (self.source.read_image(name) for name in names_of(image) if name != image)
        return next((each for each in found if each is not None), None)

    def _by_path(self, image: str) -> str:
        """The hash of the image whose path ends as this one does, or that ends this one; `several` of more of them."""
        for name in map(to_text, names_of(image)):
            alike = {
                digest
                for path, digest in self.rows.get(name.rpartition("/")[2], ())
                if path == name or path.endswith(f"/{name}") or ("/" in path and name.endswith(f"/{path}"))
            }
            if alike:
                return alike.pop() if len(alike) == 1 else "several"
        return ""


def _check_classes(decisions: Iterable[_Decision], version: DataVersion, *, is_open: bool) -> None:
    """Raises: BadInput for classes that the data set lacks, unless new ones may come."""
    known = version.manifest.class_names
    unknown = Counter(each.label for each in decisions if each.label not in known)
    if unknown and not is_open:
        named = ", ".join(
            f"{label} ({count} image{'s' * (count != 1)}){did_you_mean(label, known)}"
            for label, count in unknown.most_common(5)
        )
        more = f" and {len(unknown) - 5} more" if len(unknown) > 5 else ""
        raise BadInput(
            f"{version.name}: annotations have classes that {version.spelled()} lacks: {named}{more}; it has "
            f"{', '.join(known[:20])}{' …' if len(known) > 20 else ''}. Correct them, or say new_classes=true"
        )


# the next version


class _Merge:
    """The rows of the next version, step by step."""

    def __init__(
        self, versions: Versions, before: DataVersion, read: _Read, folder: Path, max_pixels: int = MAX_PIXELS
    ) -> None:
        self.versions, self.before, self.read = versions, before, read
        self.folder, self.max_pixels = folder, max_pixels
        self.manifest = before.manifest
        self.corrections: dict[str, dict[str, str]] = dict(before.facts.get("corrections") or {})
        self.merged: dict[str, str] = dict(before.facts.get("merged") or {})
        self.relabelled = self.confirmed = self.added = 0
        self.test_changes: list[dict[str, str]] = []
        self.leaks: list[dict[str, Any]] = []
        self.are_taken = False

    def apply(self, *, allow_test_changes: bool) -> None:
        self.are_taken = allow_test_changes
        known = [each for each in self.read.decisions if each.data is None]
        self._relabel(known)
        self._add([each for each in self.read.decisions if each.data is not None])

    def _relabel(self, decisions: Sequence[_Decision]) -> None:
        manifest = self.manifest
        rows_of: dict[str, list[int]] = defaultdict(list)
        wanted = {each.digest for each in decisions}
        for row, digest in enumerate(manifest.digests):
            if (text := digest.tobytes().hex()) in wanted:
                rows_of[text].append(row)
        names = list(manifest.class_names)
        labels = manifest.labels.copy()
        for each in decisions:
            rows = [row for row in rows_of[each.digest] if names[labels[row]] != each.label]
            held_out = [row for row in rows if manifest.splits[row] != TRAIN]
            was = names[labels[rows[0]]] if rows else each.label
            for row in held_out:
                self.test_changes.append({"path": str(manifest.paths[row]), "from": was, "to": each.label})
            rows = rows if self.are_taken else [row for row in rows if row not in held_out]
            if not rows:
                self.confirmed += not held_out
                continue
            if each.label not in names:
                names.append(each.label)
            labels[rows] = names.index(each.label)
            self.relabelled += len(rows)
            self._note(each, was)
        if self.relabelled:
            self.manifest = without_unused_classes(with_classes(manifest, names, labels))

    def _note(self, decision: _Decision, was: str) -> None:
        """Keep what the image's source says and what is right, for versions that are made from the source again."""
        source = self.corrections.get(decision.digest, {}).get("from", was)
        if source == decision.label:
            self.corrections.pop(decision.digest, None)
        else:
            told = {"from": source, "to": decision.label, "by": decision.by, "at": decision.at}
            self.corrections[decision.digest] = told

    def _add(self, decisions: Sequence[_Decision]) -> None:
        """Bring in new images that can be decoded and belong to no group of val or test."""
        held_out = self._held_out_groups()
        taken, is_grouped = [], self.manifest.group_names is not None
        paths = set(self.manifest.paths.tolist())
        for each in decisions:
            group = each.annotation.group
            if is_grouped and group is not None and group in held_out:
                self.read.left_out["of a group that is in val or test"].append(each.annotation.image or each.digest)
                continue
            path = _free_path(each, paths)
            paths.add(path)
            file = self.folder / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(each.data or b"")
            taken.append((each, path))
        if not taken:
            return
        inspection = inspect_files(self.folder, [path for _, path in taken], index=None, max_pixels=self.max_pixels)
        is_good = inspection.facts["status"] == 0
        for (each, _), status in zip(taken, inspection.facts["status"], strict=True):
            if status:
                self.read.left_out[f"bad files: {STATUSES[status]}"].append(each.annotation.image or each.digest)
        good = [pair for pair, is_one in zip(taken, is_good, strict=True) if is_one]
        if good:
            self._append(good, inspection.facts[is_good])

    def _held_out_groups(self) -> set[str]:
        manifest = self.manifest
        return set() if manifest.group_names is None else set(manifest.group_names[manifest.splits != TRAIN].tolist())

    def _append(self, taken: Sequence[tuple[_Decision, str]], facts: np.ndarray) -> None:
        names = sorted({each.label for each, _ in taken})
        groups = [each.annotation.group or path for each, path in taken]
        paths = [path for _, path in taken]
        new = Manifest(
            self.folder,
            tuple(names),
            np.array(paths, StringDType()),
            np.array([names.index(each.label) for each, _ in taken], np.int32),
            np.full(len(taken), TRAIN, np.int8),
            None if groups == paths else np.array(groups, StringDType()),
        )
        digests = bytes.fromhex("".join(each.digest for each, _ in taken))
        new = new.with_digests(np.frombuffer(digests, np.uint8).reshape(-1, 32))
        self.leaks = self._find_leaks(new, facts)
        joined, _ = join(self.manifest, new)
        self.manifest = replace(joined, root=self.folder).with_digests(joined.digests)
        self.added = len(taken)
        self.merged |= {each.digest: each.annotation.image or path for each, path in taken}

    def _find_leaks(self, new: Manifest, facts: np.ndarray) -> list[dict[str, Any]]:
        """Hold the new images against all others, which are checked out for that."""
        root, old = cached_checkout(self.versions, self.before), self.before.manifest
        known = inspect_files(root, old.paths, index=index_of(self.versions.cache, root), max_pixels=self.max_pixels)
        one, other = (
            replace(each, root=Path("/"), paths=np.array([f"{place}/{path}"[1:] for path in each.paths], StringDType()))
            for place, each in ((root, old), (self.folder, new))
        )
        on_disk, order = join(one.with_digests(old.digests), other.with_digests(new.digests))
        found = find_leaks(on_disk, np.concatenate([known.facts, facts])[order], order >= len(old), self.max_pixels)
        places = [f"{place}/"[1:] for place in (root, self.folder)]
        for leak in found:
            leak["files"] = [file.removeprefix(places[0]).removeprefix(places[1]) for file in leak["files"]]
        if found:
            log.warning(
                "%d set(s) of new images look like images of val or test, the first is %s: numbers on those flatter "
                "the model; they stand in the version's facts",
                len(found),
                " and ".join(found[0]["files"][:2]),
            )
        return found

    def facts(self) -> dict[str, Any]:
        """For the version's JSON file."""
        changes = {"relabelled": [each["path"] for each in self.test_changes]} if self.are_taken else {}
        return {
            "left_out": listed(self.read.left_out),
            "contradictions": self.read.contradictions[:MAX_LISTED],
            "test_changes": listed(changes),
            "leaks": self.leaks[:MAX_LISTED],
            "corrections": self.corrections,
            "merged": self.merged,
        }

    def result(self, version: DataVersion, made: CreateResult | str) -> MergeResult:
        read = self.read
        for reason, files in read.left_out.items():
            log.warning("%d annotated image(s) are left out, %s: %s", len(files), reason, name_some(files))
        if read.contradictions:
            names = [f"{each['image']} ({' / '.join(each['said'].values())})" for each in read.contradictions]
            log.warning("%d image(s) are left as they were, people differ: %s", len(names), name_some(names))
        if self.test_changes and not self.are_taken:
            names = [f"{each['path']} ({each['from']} → {each['to']})" for each in self.test_changes]
            log.warning(
                "%d image(s) of val and test would get another class, and stay: %s; allow_test_changes=true takes them",
                len(names),
                name_some(names),
            )
        if isinstance(made, str):
            sentence = f"{version.spelled()}: {made} in the annotations, it stays the newest version"
        else:
            sentence = made.sentence
        return MergeResult(
            version,
            not isinstance(made, str),
            self.added,
            self.relabelled,
            self.confirmed,
            read.skipped,
            read.contradictions,
            read.duplicates,
            self.test_changes,
            dict(read.left_out),
            sentence,
        )


def _free_path(decision: _Decision, taken: set[str]) -> str:
    """Where a new image is to lie: below its class, with a part of its hash where another image has the name."""
    image = names_of(decision.annotation.image or decision.digest)[0]
    path = PurePosixPath(to_text(image))
    label = decision.label.replace("/", "_").strip(".") or "_"
    wanted = f"train/{label}/{path.name}"
    if wanted not in taken:
        return wanted
    return f"train/{label}/{path.stem}-{decision.digest[:12]}{path.suffix}"
