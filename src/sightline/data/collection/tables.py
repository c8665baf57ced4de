"""Tables of images: .csv with path,label,split,group, and .lst of im2rec."""

import csv
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path, PurePosixPath, PureWindowsPath

from sightline.data.collection.image_files import SPLIT_FOLDERS, ClassFiles, Listing
from sightline.errors import BadInput

TABLE_SUFFIXES = (".csv", ".lst")
_Row = tuple[int, str, str, str, str | None]
"""Line, path, label, split and group, which is None where the table has no such column."""


def is_table(name: str) -> bool:
    return name.lower().endswith(TABLE_SUFFIXES)


def list_table(table: Path, needs: str) -> Listing:
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
    return Listing(table.parent, listed)


def list_table_paths(table: Path) -> list[str]:
    """The paths that a table names, whether or not the files are there."""
    return [_check_inside(table, line, path) for line, path, *_ in _read_table(table)]


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
