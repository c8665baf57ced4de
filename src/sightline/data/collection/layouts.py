"""The layouts of data sets that are recognised: tables, published data sets, class folders."""

import csv
import os
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path, PurePosixPath

from sightline.config.constraints import did_you_mean
from sightline.data.collection.class_folders import (
    Location,
    find_split_folders,
    holds_images,
    is_around_splits,
    list_class_folders,
    list_classes,
    note_strays,
)
from sightline.data.collection.image_files import (
    FOUND_OUT,
    ClassFiles,
    ImageSearch,
    LayoutRule,
    Listing,
    find_files,
    split_of,
)
from sightline.data.collection.table_folders import list_tables_beside
from sightline.data.collection.table_parquet import find_parquet
from sightline.data.collection.tables import is_table, list_parquet, list_table
from sightline.errors import BadInput
from sightline.runs.file_names import to_text

MAX_FOLDERS_AROUND = 3
"""Depth of single folders, as archives have on top, that are searched through."""


def list_images(root: Path, rule: LayoutRule = FOUND_OUT, *, needs: str = "train") -> Listing:
    """The images of a table (.csv with path,label,split,group; .lst of im2rec) or a folder, by split and class.

    A table's paths are relative to its folder. A folder's name is its class, or what the bracket of
    `rule.class_pattern` picks out of it. Class folders without images are listed too. The split that is needed must be
    there; others may. Labels are in Unicode's composed form (NFC), as file systems differ in how they write an accent.

    Raises: BadInput when no layout fits, or the one that fits is broken.
    """
    if is_table(root.name) and not root.is_dir():
        for key, told in (("layout", rule.layout != "auto"), ("name_pattern", rule.name_pattern is not None)):
            if told:
                raise BadInput(
                    f"data.{key}={getattr(rule, key)}: {root} is a table, which names each class; drop data.{key}"
                )
        listing = list_table(root, rule, needs)
    elif root.is_dir():
        parquet = find_parquet(root, rule)
        listing = _list_folder(root, rule, needs) if parquet is None else list_parquet(parquet, rule, needs)
        listing = replace(listing, files=[replace(part, label=to_text(part.label)) for part in listing.files])
    else:
        hint = f"; get it from {rule.origin}" if rule.origin else ""
        if os.access(root.parent, os.R_OK):
            hint += did_you_mean(root.name, (each.name for each in root.parent.iterdir()), f"{root.parent}/")
        raise BadInput(f"data.root={root}: no such folder; set it to one that holds train/<class>/…{hint}")
    files = [replace(part, label=unicodedata.normalize("NFC", part.label)) for part in listing.files]
    return replace(listing, files=files)


def _list_folder(root: Path, rule: LayoutRule, needs: str) -> Listing:
    """What the first layout that fits finds in the folder, or in the only one with images that it holds."""
    folder, strays = root, []
    for _ in range(MAX_FOLDERS_AROUND + 1):
        for list_layout in LAYOUTS if rule.layout == "auto" else (list_class_folders,):
            listing = list_layout(Location(root, folder, rule, needs))
            if listing is not None and any(part.split == needs for part in listing.files):
                return replace(listing, notes=(*strays, *listing.notes))
        at = Location(root, folder, rule, needs)
        inner = at.subfolders(folder)
        if len(inner) > 1:
            inner = [each for each in inner if holds_images(each)]
        if len(inner) != 1 or (split_of(inner[0].name) and not is_around_splits(at, inner[0])):
            break
        strays += note_strays(at, folder)
        folder = inner[0]
    told = "" if rule.layout == "auto" else f" data.layout={rule.layout}"
    search = ImageSearch()
    has_none = next(search.find(root), None) is None and search.passed_over
    only = f" (there are no images in it, only {search.by_suffix()}: convert what is one)" if has_none else ""
    raise BadInput(
        f"data.root={root}{told}: there is no folder {needs}/ in it; put the images into {root}/{needs}/<class>/{only}"
    )


# the German Traffic Sign Recognition Benchmark: classes are five digits, however the folder writes them


def _list_gtsrb(at: Location) -> Listing:
    """The official archives: PPM files in folders of classes, and a test set with its classes in a table."""
    tops = [at.folder / "GTSRB", at.folder]
    folders = [top / "Final_Training" / "Images" for top in tops]
    folders += [top / "Training" for top in tops if top.name == "GTSRB"]  # the smaller set of the online competition
    train = next((folder for folder in folders if folder.is_dir()), None)
    listed = list_classes(at, "train", train) if train else []
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
            listed += _by_folder(at, "test", tables[0], ((test, *row) for row in rows))
            break
    return at.listing("gtsrb", listed)


def _list_gtsrb_tables(at: Location) -> Listing:
    """The copy on Kaggle: PNG files, named with their classes in Train.csv and Test.csv."""
    listed: list[ClassFiles] = []
    for split, name in (("train", "Train.csv"), ("test", "Test.csv")):
        table = at.folder / name
        rows = _read_columns(table, "Path", "ClassId", delimiter=",") if table.is_file() else None
        if rows is not None:
            listed += _by_folder(at, split, table, ((at.folder, *row) for row in rows))
    return at.listing("gtsrb", listed)


def _read_columns(table: Path, path: str, label: str, *, delimiter: str) -> list[tuple[int, str, str]] | None:
    """Line, file and class of each row; None where the table lacks these columns."""
    with table.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.DictReader(file, delimiter=delimiter, skipinitialspace=True)
        if not {path, label} <= set(reader.fieldnames or []):
            return None
        return [(reader.line_num, row[path] or "", row[label] or "") for row in reader]


def _by_folder(at: Location, split: str, table: Path, rows: Iterable[tuple[Path, int, str, str]]) -> list[ClassFiles]:
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


# the Intel scenes


def _list_seg_folders(at: Location) -> Listing | None:
    """The Intel scenes on Kaggle; what is to be predicted there has no classes and is left out."""
    listed: list[ClassFiles] = []
    for split in ("train", "test"):
        outer = at.folder / f"seg_{split}"
        if outer.is_dir():
            inner = outer / outer.name
            listed += list_classes(at, split, inner if inner.is_dir() else outer)
    return at.listing("intel", listed)


def _list_tables(at: Location) -> Listing | None:
    """Images with their tables beside them; class folders of the split come first, unless the tables are told."""
    if at.rule.tables or at.rule.name_pattern is None:
        split = None if at.rule.tables else find_split_folders(at).get(at.needs)
        if split is None or not at.subfolders(split):
            try:
                return list_tables_beside(at.root, at.folder, at.rule, at.needs)
            except BadInput as error:
                if at.rule.tables or not at.subfolders(at.folder):
                    raise
                raise BadInput(f"{error} (if folders tell the classes, and no table: data.layout=classes)") from error
    return None


LAYOUTS: tuple[Callable[[Location], Listing | None], ...] = (
    _list_gtsrb,
    _list_gtsrb_tables,
    _list_seg_folders,
    _list_tables,
    list_class_folders,
)
"""The layouts of folders in the order in which they are tried; a list without the needed split is not the right one."""
