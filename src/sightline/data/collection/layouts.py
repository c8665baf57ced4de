"""Where the images of a folder are, in any layout that we know: tables, published data sets, class folders."""

import csv
import os
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath

from sightline.errors import BadInput

SPLIT_FOLDERS = {"train": ("train",), "val": ("val", "valid", "validation"), "test": ("test",)}
IMAGE_SUFFIXES = frozenset(
    (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm", ".pbm", ".pnm", ".jp2")
)
TABLE_SUFFIXES = (".csv", ".lst")
MAX_FOLDERS_AROUND = 3
"""So many folders with nothing else beside them, as archives have on top, are entered."""


@dataclass(frozen=True)
class ClassFiles:
    """Images of one class, one split and one folder."""

    split: str  # train, val or test
    label: str  # the class as people call it
    folder: str  # POSIX path below the root that the names are relative to; "" for the root itself
    names: list[str]  # POSIX paths below the folder, sorted
    groups: list[str] | None = None  # the group of each name, where the layout states them


@dataclass(frozen=True)
class _Place:
    """A folder below the root in which a layout is looked for."""

    root: Path
    folder: Path
    class_pattern: str | None

    def relative(self, path: Path) -> str:
        below = path.relative_to(self.root).as_posix()
        return "" if below == "." else below

    def refuse(self, problem: str) -> BadInput:
        return BadInput(f"data.root={self.root}: {problem}")


def is_table(name: str) -> bool:
    return name.lower().endswith(TABLE_SUFFIXES)


def list_images(
    root: Path, *, origin: str = "", class_pattern: str | None = None, needs: str = "train"
) -> list[ClassFiles]:
    """The images of a table (.csv with path,label,split,group; .lst of im2rec) or a folder, by split and class.

    A table's paths are relative to its folder and its labels are taken as they are. In folders, the bracket of
    `class_pattern` picks the class out of the name of its folder. Class folders without images are listed too. The
    split that is needed must be there; others may.

    Raises: BadInput when no layout fits, or the one that fits is broken.
    """
    if is_table(root.name) and not root.is_dir():
        return _list_table(root, needs)
    if not root.is_dir():
        hint = f"; get it from {origin}" if origin else ""
        raise BadInput(f"data.root={root}: no such folder; set it to one that holds train/<class>/…{hint}")
    folder = root
    for _ in range(MAX_FOLDERS_AROUND):
        place = _Place(root, folder, class_pattern)
        for list_layout in LAYOUTS:
            found = list_layout(place)
            if any(files.split == needs for files in found):
                return found
        inner = [entry for entry in folder.iterdir() if not _is_hidden(entry.name)]
        if len(inner) != 1 or not inner[0].is_dir():
            break
        folder = inner[0]
    raise BadInput(f"data.root={root}: there is no folder {needs}/ in it; put the images into {root}/{needs}/<class>/")


def list_table_paths(table: Path) -> list[str]:
    """The paths that a table names, whether or not the files are there."""
    return [_check_inside(table, line, path) for line, path, *_ in _read_table(table)]


def find_files(folder: Path) -> Iterator[Path]:
    """Image files below a folder, sorted, links followed, hidden ones left out."""
    for directory, subdirectories, names in os.walk(folder, followlinks=True):
        subdirectories[:] = sorted(name for name in subdirectories if not _is_hidden(name))
        for name in sorted(names):
            if not _is_hidden(name) and os.path.splitext(name)[1].lower() in IMAGE_SUFFIXES:  # noqa: PTH122 (hot loop)
                yield Path(directory, name)


def _is_hidden(name: str) -> bool:
    return name.startswith(".") or name == "__MACOSX"


# tables

_Row = tuple[int, str, str, str, str | None]
"""Line, path, label, split and group, which is None where the table has no such column."""


def _list_table(table: Path, needs: str) -> list[ClassFiles]:
    if not table.is_file():
        raise BadInput(f"data.root={table}: no such file; set it to a table of images, or to a folder of them")
    found: dict[tuple[str, str], list[tuple[str, str]]] = defaultdict(list)
    seen: dict[str, int] = {}
    has_groups = False
    for line, path, label, split, group in _read_table(table):
        name = _check_path(table, line, path)
        if name in seen:
            raise _wrong(table, line, f"path={path}: is in line {seen[name]} too; remove one of them")
        if not label:
            raise _wrong(table, line, "label=: is empty; write the image's class")
        seen[name] = line
        has_groups |= group is not None
        found[_check_split(table, line, split), label].append((name, group or name))
    if not seen:
        raise BadInput(f"data.root={table}: has no rows; write one for each image, like train/red/1.png")
    if not any(split == needs for split, _ in found):
        raise BadInput(f"data.root={table}: no row has the split {needs}; write {needs} into that column")
    listed = []
    for split in SPLIT_FOLDERS:
        for label in sorted(label for other, label in found if other == split):
            names, groups = zip(*sorted(found[split, label]), strict=True)
            listed.append(ClassFiles(split, label, "", list(names), list(groups) if has_groups else None))
    return listed


def _read_table(table: Path) -> Iterator[_Row]:
    try:
        yield from _read_lst(table) if table.name.lower().endswith(".lst") else _read_csv(table)
    except (UnicodeDecodeError, csv.Error) as error:
        raise BadInput(f"data.root={table}: cannot be read as text ({error}); save it as UTF-8") from error


def _read_csv(table: Path) -> Iterator[_Row]:
    with table.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.DictReader(file)
        columns = reader.fieldnames or []
        if missing := [name for name in ("path", "label") if name not in columns]:
            raise BadInput(
                f"data.root={table}: no column {' and '.join(missing)} among {', '.join(columns) or 'nothing'}; "
                "its first line must name the columns: path,label and perhaps split,group"
            )
        for row in reader:
            path, label, split = ((row.get(name) or "").strip() for name in ("path", "label", "split"))
            yield reader.line_num, path, label, split, (row["group"] or "").strip() if "group" in columns else None


def _read_lst(table: Path) -> Iterator[_Row]:
    for line, text in enumerate(table.read_text(encoding="utf-8-sig").splitlines(), start=1):
        if not text.strip():
            continue
        cells = text.split("\t")
        if len(cells) != 3:
            raise _wrong(table, line, f"has {len(cells)} cells; write index, label and path with tabs between them")
        yield line, cells[2].strip(), _name_number(cells[1].strip()), "", None


def _name_number(label: str) -> str:
    """`3` for 3.000000; other labels as they are."""
    match = re.fullmatch(r"(\d+)\.0*", label)
    return match[1] if match else label


def _check_path(table: Path, line: int, path: str) -> str:
    name = _check_inside(table, line, path)
    if not (table.parent / name).is_file():
        raise _wrong(table, line, f"path={path}: no such file in {table.parent}; correct the path or remove the line")
    return name


def _check_inside(table: Path, line: int, path: str) -> str:
    pure = PurePosixPath(path)
    if not path:
        raise _wrong(table, line, "path=: is empty; write where the image is")
    if pure.is_absolute() or PureWindowsPath(path).drive or ".." in pure.parts:
        raise _wrong(table, line, f"path={path}: leaves the table's folder; write it relative to {table.parent}")
    return pure.as_posix()


def _check_split(table: Path, line: int, split: str) -> str:
    for name, folders in SPLIT_FOLDERS.items():
        if split.lower() in folders or (not split and name == "train"):
            return name
    raise _wrong(table, line, f"split={split}: must be train, val or test, or empty, which means train")


def _wrong(table: Path, line: int, problem: str) -> BadInput:
    return BadInput(f"data.root={table}: line {line}: {problem}")


# the German Traffic Sign Recognition Benchmark: classes are five digits, however the folder writes them


def _list_gtsrb(place: _Place) -> list[ClassFiles]:
    """The official archives: PPM files in folders of classes, and a test set with its classes in a table."""
    tops = [place.folder / "GTSRB", place.folder]
    places = [top / "Final_Training" / "Images" for top in tops]
    places += [top / "Training" for top in tops if top.name == "GTSRB"]  # the smaller set of the online competition
    train = next((folder for folder in places if folder.is_dir()), None)
    listed = _list_classes(place, "train", train) if train else []
    for test in (top / "Final_Test" / "Images" for top in tops):
        if test.is_dir() and any(find_files(test)):
            folders = (place.folder, *tops, test.parent, test)
            tables = [folder / "GT-final_test.csv" for folder in folders if (folder / "GT-final_test.csv").is_file()]
            if not tables:
                raise place.refuse(
                    f"no GT-final_test.csv for the images in {test}, whose classes it tells; put it beside them "
                    "(it comes in GTSRB_Final_Test_GT.zip), or remove that folder"
                )
            rows = _read_columns(tables[0], "Filename", "ClassId", delimiter=";")
            if rows is None:
                raise place.refuse(f"{tables[0]} has no columns Filename and ClassId; take it from the data set again")
            return listed + _by_folder(place, "test", tables[0], ((test, *row) for row in rows))
    return listed


def _list_gtsrb_tables(place: _Place) -> list[ClassFiles]:
    """The copy on Kaggle: PNG files, named with their classes in Train.csv and Test.csv."""
    listed: list[ClassFiles] = []
    for split, name in (("train", "Train.csv"), ("test", "Test.csv")):
        table = place.folder / name
        rows = _read_columns(table, "Path", "ClassId", delimiter=",") if table.is_file() else None
        if rows is not None:
            listed += _by_folder(place, split, table, ((place.folder, *row) for row in rows))
    return listed


def _read_columns(table: Path, path: str, label: str, *, delimiter: str) -> list[tuple[int, str, str]] | None:
    """Line, file and class of each row; None where the table has no such columns, and so is another one."""
    with table.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.DictReader(file, delimiter=delimiter, skipinitialspace=True)
        if not {path, label} <= set(reader.fieldnames or []):
            return None
        return [(reader.line_num, row[path] or "", row[label] or "") for row in reader]


def _by_folder(place: _Place, split: str, table: Path, rows: Iterable[tuple[Path, int, str, str]]) -> list[ClassFiles]:
    """Files that a table of the benchmark names, by class and folder."""
    found: dict[tuple[str, str], set[str]] = defaultdict(set)
    for start, line, path, number in rows:
        if not number.isdecimal():
            raise place.refuse(f"{table.name} line {line}: ClassId={number}: must be a number; correct it")
        file, label = start / path, f"{int(number):05d}"
        if PurePosixPath(path).is_absolute() or ".." in PurePosixPath(path).parts or not file.is_file():
            raise place.refuse(f"{table.name} line {line}: {path}: no such file in {start}; unpack the data set again")
        names = found[label, place.relative(file.parent)]
        if file.name in names:
            raise place.refuse(f"{table.name} line {line}: {path}: is named twice; remove one of the lines")
        names.add(file.name)
    return [ClassFiles(split, label, folder, sorted(found[label, folder])) for label, folder in sorted(found)]


# folders of classes


def _list_seg_folders(place: _Place) -> list[ClassFiles]:
    """The Intel scenes on Kaggle; what is to be predicted there has no classes and is left out."""
    listed: list[ClassFiles] = []
    for split in ("train", "test"):
        outer = place.folder / f"seg_{split}"
        if outer.is_dir():
            inner = outer / outer.name
            listed += _list_classes(place, split, inner if inner.is_dir() else outer)
    return listed


def _list_class_folders(place: _Place) -> list[ClassFiles]:
    listed: list[ClassFiles] = []
    for split, names in SPLIT_FOLDERS.items():
        present = [place.folder / name for name in names if (place.folder / name).is_dir()]
        if len(present) > 1:
            raise place.refuse(f"{present[0].name}/ and {present[1].name}/ both mean {split}; keep one")
        if present:
            listed += _list_classes(place, split, present[0])
    return listed


def _list_classes(place: _Place, split: str, split_folder: Path) -> list[ClassFiles]:
    """Each class folder, with the images below it."""
    folders = sorted(entry for entry in split_folder.iterdir() if entry.is_dir() and not _is_hidden(entry.name))
    if not folders:
        suffixes = " ".join(sorted(IMAGE_SUFFIXES))
        hint = f" (looked for {suffixes})" if split == "train" else "; add some or remove it"
        raise place.refuse(f"no images found in {split_folder}/<class>/{hint}")
    listed: dict[str, ClassFiles] = {}
    for folder in folders:
        label = _name_class(folder.name, place.class_pattern)
        if label in listed:
            raise BadInput(
                f"data.class_pattern={place.class_pattern}: gives the class {label} to {listed[label].folder} and to "
                f"{place.relative(folder)}; change it so that they differ, or put their images into one folder"
            )
        names = [path.relative_to(folder).as_posix() for path in find_files(folder)]
        listed[label] = ClassFiles(split, label, place.relative(folder), sorted(names))
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


LAYOUTS: tuple[Callable[[_Place], list[ClassFiles]], ...] = (
    _list_gtsrb,
    _list_gtsrb_tables,
    _list_seg_folders,
    _list_class_folders,
)
"""The layouts of folders in the order in which they are tried; a list without the needed split is not the right one."""
