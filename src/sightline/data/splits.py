"""Which image belongs to which split: the manifest. Never imports torch, so that bad data is refused at once."""

import csv
import hashlib
import io
import os
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from sightline.errors import BadInput

SPLIT_FOLDERS = {"train": ("train",), "val": ("val", "valid", "validation"), "test": ("test",)}
IMAGE_SUFFIXES = frozenset(
    (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm", ".pbm", ".pnm", ".jp2")
)


@dataclass(frozen=True)
class Image:
    """One image of a data set: its path below the root in POSIX form, its class, its split and its group."""

    path: str
    label: str
    split: str
    group: str


@dataclass(frozen=True)
class Manifest:
    """Every image of a data set with its split, sorted by path; equal files give an equal manifest on every machine."""

    root: Path
    class_names: tuple[str, ...]
    images: tuple[Image, ...]

    @cached_property
    def num_images(self) -> dict[str, int]:
        return {split: sum(image.split == split for image in self.images) for split in SPLIT_FOLDERS}

    def select(self, split: str) -> tuple[list[Path], list[int]]:
        """Absolute paths of a split's images and the index of each one's class."""
        index = {name: number for number, name in enumerate(self.class_names)}
        chosen = [image for image in self.images if image.split == split]
        return [self.root / image.path for image in chosen], [index[image.label] for image in chosen]

    @cached_property
    def table(self) -> str:
        """The manifest as CSV: path, label, split, group and the sha256 of each file's bytes."""
        with ThreadPoolExecutor(max_workers=min(8, 2 * (os.cpu_count() or 1))) as pool:
            digests = pool.map(lambda image: _sha256(self.root / image.path), self.images)
            text = io.StringIO()
            writer = csv.writer(text, lineterminator="\n")
            writer.writerow(("path", "label", "split", "group", "sha256"))
            for image, digest in zip(self.images, digests, strict=True):
                writer.writerow((image.path, image.label, image.split, image.group, digest))
        return text.getvalue()

    @cached_property
    def sha256(self) -> str:
        """Hash of the table: it changes when a file, a label or a split does."""
        return hashlib.sha256(self.table.encode()).hexdigest()

    def save(self, path: Path) -> None:
        path.write_text(self.table, encoding="utf-8")

    @classmethod
    def load(cls, path: Path, root: Path) -> "Manifest":
        """A manifest as it was saved, with the files' hashes of that time."""
        table = path.read_text(encoding="utf-8")
        rows = list(csv.DictReader(io.StringIO(table)))
        images = tuple(Image(row["path"], row["label"], row["split"], row["group"]) for row in rows)
        manifest = cls(root, tuple(sorted({image.label for image in images})), images)
        manifest.__dict__["table"] = table
        return manifest

    def find_changed(self, split: str) -> list[str]:
        """Paths of a split whose files are gone or differ from the table."""
        rows = [row for row in csv.DictReader(io.StringIO(self.table)) if row["split"] == split]
        return [row["path"] for row in rows if not _is_same(self.root / row["path"], row["sha256"])]


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _is_same(path: Path, sha256: str) -> bool:
    return path.is_file() and _sha256(path) == sha256


def make_manifest(
    root: str | Path,
    *,
    val_fraction: float = 0.15,
    test_fraction: float = 0.15,
    group_pattern: str | None = None,
    origin: str = "",
) -> Manifest:
    """Find `root/<split>/<class>/…` and split what has no folder of its own.

    Where `val/` or `test/` lacks, that share of the groups of each class is taken from `train/`, by the hash of the
    group's name: the same files give the same split everywhere. A group is what `group_pattern` finds in the path
    below the class, or the image itself.

    Raises: BadInput when the folder cannot be trained on.
    """
    root = Path(root).expanduser().absolute()
    folders = _split_folders(root, origin)
    found = {split: _find_images(folder) for split, folder in folders.items()}
    class_names = _check_classes(found, folders)
    images: list[Image] = []
    if "val" not in found and val_fraction == 0:
        raise BadInput(
            f"data.val_fraction=0: {root} has no val/, and the best checkpoint is chosen on validation; "
            "set it above 0, say 0.15, or make val/"
        )
    missing = {"test": test_fraction, "val": val_fraction}
    fractions = {split: fraction for split, fraction in missing.items() if split not in found and fraction > 0}
    for split, classes in found.items():
        prefix = folders[split].name
        for label, paths in classes.items():
            groups = _group(label, paths, group_pattern)
            splits = _assign(label, groups, fractions) if split == "train" else dict.fromkeys(groups, split)
            images += [
                Image(f"{prefix}/{label}/{path}", label, splits[group], f"{label}/{group}")
                for group, members in groups.items()
                for path in members
            ]
    return Manifest(root, class_names, tuple(sorted(images, key=lambda image: image.path)))


def find_test_images(root: str | Path, class_names: Iterable[str]) -> Manifest:
    """The images of `root/test/<class>/…` for a model of these classes.

    Raises: BadInput when there are none or the model does not know their class.
    """
    root, class_names = Path(root).expanduser().absolute(), tuple(class_names)
    folder = root / "test"
    if not folder.is_dir():
        raise BadInput(f"data.root={root}: there is no folder test/ in it; put the images into {folder}/<class>/")
    classes = _find_images(folder)
    if not any(classes.values()):
        raise BadInput(f"data.root={root}: no images found; put them into {folder}/<class>/")
    if unknown := sorted(set(classes) - set(class_names)):
        raise BadInput(
            f"data.root={root}: test/ has classes that the model does not know: {_names(unknown)}; "
            f"it knows {_names(class_names)}"
        )
    images = (
        Image(f"test/{label}/{path}", label, "test", f"{label}/{path}")
        for label, paths in classes.items()
        for path in paths
    )
    return Manifest(root, class_names, tuple(sorted(images, key=lambda image: image.path)))


def _split_folders(root: Path, origin: str) -> dict[str, Path]:
    if not root.is_dir():
        hint = f"; get it from {origin}" if origin else ""
        raise BadInput(f"data.root={root}: no such folder; set it to one that holds train/<class>/…{hint}")
    folders: dict[str, Path] = {}
    for split, names in SPLIT_FOLDERS.items():
        present = [root / name for name in names if (root / name).is_dir()]
        if len(present) > 1:
            raise BadInput(f"data.root={root}: {present[0].name}/ and {present[1].name}/ both mean {split}; keep one")
        if present:
            folders[split] = present[0]
    if "train" not in folders:
        raise BadInput(f"data.root={root}: there is no folder train/ in it; put the images into {root}/train/<class>/")
    return folders


def find_files(folder: Path) -> Iterator[Path]:
    """Image files below a folder, sorted, links followed, hidden ones left out."""
    for directory, subdirectories, names in os.walk(folder, followlinks=True):
        subdirectories[:] = sorted(name for name in subdirectories if not _is_hidden(name))
        for name in sorted(names):
            if not _is_hidden(name) and os.path.splitext(name)[1].lower() in IMAGE_SUFFIXES:  # noqa: PTH122 (hot loop)
                yield Path(directory, name)


def _is_hidden(name: str) -> bool:
    return name.startswith(".") or name == "__MACOSX"


def _find_images(split_folder: Path) -> dict[str, list[str]]:
    """For each class folder the paths of its images below it, in POSIX form."""
    classes = sorted(entry for entry in split_folder.iterdir() if entry.is_dir() and not _is_hidden(entry.name))
    return {folder.name: [path.relative_to(folder).as_posix() for path in find_files(folder)] for folder in classes}


def _check_classes(found: Mapping[str, Mapping[str, list[str]]], folders: Mapping[str, Path]) -> tuple[str, ...]:
    train, folder = found["train"], folders["train"]
    if not any(train.values()):
        suffixes = " ".join(sorted(IMAGE_SUFFIXES))
        raise BadInput(f"data.root={folder.parent}: no images found in {folder}/<class>/ (looked for {suffixes})")
    if empty := [name for name, paths in train.items() if not paths]:
        raise BadInput(
            f"data.root={folder.parent}: no images in train/ for {_names(empty)}; add some or remove the folder"
        )
    if len(train) < 2:
        raise BadInput(
            f"data.root={folder.parent}: one class only ({_names(train)}); "
            f"a classifier needs at least two folders in {folder}"
        )
    for split in ("val", "test"):
        classes = found.get(split)
        if classes is None:
            continue
        if not any(classes.values()):
            raise BadInput(
                f"data.root={folder.parent}: no images found in {folders[split]}/<class>/; add some or remove it"
            )
        if unknown := sorted(set(classes) - set(train)):
            raise BadInput(
                f"data.root={folder.parent}: {folders[split].name}/ has classes that train/ lacks: {_names(unknown)}; "
                "add them to train/ or remove them"
            )
    return tuple(sorted(train))


def _group(label: str, paths: list[str], pattern: str | None) -> dict[str, list[str]]:
    """Paths by group: what the pattern's brackets match, or each image alone."""
    if pattern is None:
        return {path: [path] for path in paths}
    groups: dict[str, list[str]] = defaultdict(list)
    for path in paths:
        match = re.search(pattern, path)
        if match is None:
            raise BadInput(
                f"data.group_pattern={pattern}: does not match {label}/{path}; "
                "change it so that it fits every image, or set data.group_pattern=null if the images are independent"
            )
        groups["/".join(part or "" for part in match.groups())].append(path)
    return groups


def _assign(label: str, groups: Iterable[str], fractions: Mapping[str, float]) -> dict[str, str]:
    """A split for each group of one class: at least one group for every split, in the order of the names' hashes."""
    ordered = sorted(groups, key=lambda group: hashlib.sha256(f"{label}/{group}".encode()).digest())
    if len(ordered) <= len(fractions):
        raise BadInput(
            f"class {label}: {len(ordered)} image(s) or group(s) cannot be split into train and "
            f"{' and '.join(fractions)}; add images, or make {' and '.join(f'{split}/' for split in fractions)} "
            "yourself, or set data.test_fraction=0"
        )
    assigned = dict.fromkeys(ordered, "train")
    taken = 0
    for number, (split, fraction) in enumerate(fractions.items(), start=1):
        room = len(ordered) - taken - (len(fractions) - number) - 1  # one group each for the splits to come and train
        count = max(1, min(room, round(fraction * len(ordered))))
        assigned.update(dict.fromkeys(ordered[taken : taken + count], split))
        taken += count
    return assigned


def _names(names: Iterable[str], most: int = 5) -> str:
    names = list(names)
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
