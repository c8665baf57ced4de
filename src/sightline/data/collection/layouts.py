"""The layouts of data sets that are recognised: tables, published data sets, class folders."""

import csv
import re
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from sightline.data.collection.image_files import (
    FOUND_OUT,
    IMAGE_SUFFIXES,
    SPLIT_FOLDERS,
    ClassFiles,
    LayoutRule,
    Listing,
    find_files,
    is_hidden,
)
from sightline.data.collection.tables import is_table, list_table
from sightline.errors import BadInput

MAX_FOLDERS_AROUND = 3
"""Depth of single folders, as archives have on top, that are searched through."""


@dataclass(frozen=True)
class _Location:
    """A folder below the root in which a layout is looked for."""

    root: Path
    folder: Path
    class_pattern: str | None

    def relative(self, path: Path) -> str:
        below = path.relative_to(self.root).as_posix()
        return "" if below == "." else below

    def refuse(self, problem: str) -> BadInput:
        return BadInput(f"data.root={self.root}: {problem}")


def list_images(root: Path, rule: LayoutRule = FOUND_OUT, *, needs: str = "train") -> Listing:
    """The images of a table (.csv with path,label,split,group; .lst of im2rec) or a folder, by split and class.

    A table's paths are relative to its folder and its labels are taken as they are. In folders, the bracket of
    `rule.class_pattern` picks the class out of the name of its folder. Class folders without images are listed too. The
    split that is needed must be there; others may.

    Raises: BadInput when no layout fits, or the one that fits is broken.
    """
    if is_table(root.name) and not root.is_dir():
        return list_table(root, needs)
    if not root.is_dir():
        hint = f"; get it from {rule.origin}" if rule.origin else ""
        raise BadInput(f"data.root={root}: no such folder; set it to one that holds train/<class>/…{hint}")
    folder = root
    for _ in range(MAX_FOLDERS_AROUND):
        at = _Location(root, folder, rule.class_pattern)
        for list_layout in LAYOUTS:
            found = list_layout(at)
            if any(files.split == needs for files in found):
                return Listing(root, found)
        inner = [entry for entry in folder.iterdir() if not is_hidden(entry.name)]
        if len(inner) != 1 or not inner[0].is_dir():
            break
        folder = inner[0]
    raise BadInput(f"data.root={root}: there is no folder {needs}/ in it; put the images into {root}/{needs}/<class>/")


# the German Traffic Sign Recognition Benchmark: classes are five digits, however the folder writes them


def _list_gtsrb(at: _Location) -> list[ClassFiles]:
    """The official archives: PPM files in folders of classes, and a test set with its classes in a table."""
    tops = [at.folder / "GTSRB", at.folder]
    folders = [top / "Final_Training" / "Images" for top in tops]
    folders += [top / "Training" for top in tops if top.name == "GTSRB"]  # the smaller set of the online competition
    train = next((folder for folder in folders if folder.is_dir()), None)
    listed = _list_classes(at, "train", train) if train else []
    for test in (top / "Final_Test" / "Images" for top in tops):
        if test.is_dir() and any(find_files(test)):
            folders = (at.folder, *tops, test.parent, test)
            tables = [folder / "GT-final_test.csv" for folder in folders if (folder / "GT-final_test.csv").is_file()]
            if not tables:
                raise at.refuse(
                    f"no GT-final_test.csv for the images in {test}, whose classes it tells; put it beside them "
                    "(it comes in GTSRB_Final_Test_GT.zip), or remove that folder"
                )
            rows = _read_columns(tables[0], "Filename", "ClassId", delimiter=";")
            if rows is None:
                raise at.refuse(f"{tables[0]} has no columns Filename and ClassId; take it from the data set again")
            return listed + _by_folder(at, "test", tables[0], ((test, *row) for row in rows))
    return listed


def _list_gtsrb_tables(at: _Location) -> list[ClassFiles]:
    """The copy on Kaggle: PNG files, named with their classes in Train.csv and Test.csv."""
    listed: list[ClassFiles] = []
    for split, name in (("train", "Train.csv"), ("test", "Test.csv")):
        table = at.folder / name
        rows = _read_columns(table, "Path", "ClassId", delimiter=",") if table.is_file() else None
        if rows is not None:
            listed += _by_folder(at, split, table, ((at.folder, *row) for row in rows))
    return listed


def _read_columns(table: Path, path: str, label: str, *, delimiter: str) -> list[tuple[int, str, str]] | None:
    """Line, file and class of each row; None where the table lacks these columns."""
    with table.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.DictReader(file, delimiter=delimiter, skipinitialspace=True)
        if not {path, label} <= set(reader.fieldnames or []):
            return None
        return [(reader.line_num, row[path] or "", row[label] or "") for row in reader]


def _by_folder(at: _Location, split: str, table: Path, rows: Iterable[tuple[Path, int, str, str]]) -> list[ClassFiles]:
    """The files that a table of the benchmark names, by class and folder."""
    found: dict[tuple[str, str], set[str]] = defaultdict(set)
    for start, line, path, number in rows:
        if not number.isdecimal():
            raise at.refuse(f"{table.name} line {line}: ClassId={number}: must be a number; correct it")
        file, label = start / path, f"{int(number):05d}"
        if PurePosixPath(path).is_absolute() or ".." in PurePosixPath(path).parts or not file.is_file():
            raise at.refuse(f"{table.name} line {line}: {path}: no such file in {start}; unpack the data set again")
        names = found[label, at.relative(file.parent)]
        if file.name in names:
            raise at.refuse(f"{table.name} line {line}: {path}: is named twice; remove one of the lines")
        names.add(file.name)
    return [ClassFiles(split, label, folder, sorted(found[label, folder])) for label, folder in sorted(found)]


# folders of classes


def _list_seg_folders(at: _Location) -> list[ClassFiles]:
    """The Intel scenes on Kaggle; what is to be predicted there has no classes and is left out."""
    listed: list[ClassFiles] = []
    for split in ("train", "test"):
        outer = at.folder / f"seg_{split}"
        if outer.is_dir():
            inner = outer / outer.name
            listed += _list_classes(at, split, inner if inner.is_dir() else outer)
    return listed


def _list_class_folders(at: _Location) -> list[ClassFiles]:
    listed: list[ClassFiles] = []
    for split, names in SPLIT_FOLDERS.items():
        present = [at.folder / name for name in names if (at.folder / name).is_dir()]
        if len(present) > 1:
            raise at.refuse(f"{present[0].name}/ and {present[1].name}/ both mean {split}; keep one")
        if present:
            listed += _list_classes(at, split, present[0])
    return listed


def _list_classes(at: _Location, split: str, split_folder: Path) -> list[ClassFiles]:
    """Each class folder, with the images below it."""
    folders = sorted(entry for entry in split_folder.iterdir() if entry.is_dir() and not is_hidden(entry.name))
    if not folders:
        suffixes = " ".join(sorted(IMAGE_SUFFIXES))
        hint = f" (looked for {suffixes})" if split == "train" else "; add some or remove it"
        raise at.refuse(f"no images found in {split_folder}/<class>/{hint}")
    listed: dict[str, ClassFiles] = {}
    for folder in folders:
        label = _name_class(folder.name, at.class_pattern)
        if label in listed:
            raise BadInput(
                f"data.class_pattern={at.class_pattern}: gives the class {label} to {listed[label].folder} and to "
                f"{at.relative(folder)}; change it so that they differ, or put their images into one folder"
            )
        names = [path.relative_to(folder).as_posix() for path in find_files(folder)]
        listed[label] = ClassFiles(split, label, at.relative(folder), sorted(names))
    return [listed[label] for label in sorted(listed)]


def _name_class(folder: str, pattern: str | None) -> str:
    if pattern is None:
        return folder
    match = re.search(pattern, folder)
    if match is None or not match.groups() or not match[1]:
        raise BadInput(
            f"data.class_pattern={pattern}: its bracket finds no class in the folder {folder}; "
            "change it so that it fits every class folder, or set data.class_pattern=null"
        )
    return match[1]


LAYOUTS: tuple[Callable[[_Location], list[ClassFiles]], ...] = (
    _list_gtsrb,
    _list_gtsrb_tables,
    _list_seg_folders,
    _list_class_folders,
)
"""The layouts of folders in the order in which they are tried; a list without the needed split is not the right one."""
