"""A folder of images with the table of their labels beside them, or with one for each split."""

from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path

from sightline.data.collection.image_files import (
    SPLIT_FOLDERS,
    LayoutRule,
    Listing,
    has_image_suffix,
    is_hidden,
    split_in,
    split_of,
)
from sightline.data.collection.table_columns import choose_columns, find_header, names_files
from sightline.data.collection.table_files import Files, LocalFiles
from sightline.data.collection.table_parquet import is_parquet, parquet_file, read_parquet
from sightline.data.collection.table_text import read_rows
from sightline.data.collection.tables import is_table, list_rows, read_table, table_address
from sightline.errors import BadInput
from sightline.runs.guesses import Guess, ambiguous

OWN_TABLES = frozenset(("manifest.csv", "predictions.csv", "test_predictions.csv"))
"""What our own programs write beside images: never taken for a table of labels."""


def list_tables_beside(root: Path, folder: Path, rule: LayoutRule, needs: str) -> Listing | None:
    """The images of the tables in a folder, which is the root or lies below it; None where there is no such table.

    Of tables that are told by their paths below the root, the paths are relative to the root, too.

    Raises: BadInput when several could be meant, or what is meant is broken.
    """
    files = LocalFiles(folder)
    tables, guesses = _find_tables(root, folder, rule, files)
    splits = _splits_in_names(tables)
    read = [read_table(table, rule, files, needs, split) for table, split in zip(tables, splits, strict=True)]
    if not rule.tables and not any(needs in images.splits for images in read):
        return None
    listing = list_rows(root, read, files, needs)
    named = {path for images in read for path in images.paths}
    without = [] if any("test" in images.splits for images in read) else _find_test(folder, named, files)
    notes = list(listing.notes)
    if without:
        test = without[0].rpartition("/")[0]
        notes.append(f"{test}/: no row names its {len(without)} image(s): they are not measured but predicted")
    below = folder.relative_to(root).as_posix().removeprefix(".")
    return replace(
        listing,
        files=[replace(part, folder=below) for part in listing.files],
        guesses=(*guesses, *listing.guesses),
        unlabelled=[f"{below}/{path}".lstrip("/") for path in [*listing.unlabelled, *without]],
        notes=tuple(notes),
    )


def _find_tables(root: Path, folder: Path, rule: LayoutRule, files: Files) -> tuple[list[Path], list[Guess]]:
    """The tables that are told, or else the one that names images, or one for each split.

    Raises: BadInput when there is another, or a told one is missing.
    """
    if rule.tables:
        told = [folder / name for name in rule.tables]
        if missing := [name for name in rule.tables if not (folder / name).is_file()]:
            raise BadInput(f"data.tables={list(rule.tables)}: there is no {missing[0]} in {folder}; correct it")
        return told, []
    found = [path for path in sorted(folder.iterdir()) if _may_hold_labels(path) and _names_images(path, rule, files)]
    splits = dict(zip(found, _splits_in_names(found), strict=True))
    found.sort(key=lambda path: [None, *SPLIT_FOLDERS].index(splits[path]))
    names = [path.relative_to(root).as_posix() for path in found]
    if len(set(splits.values())) < len(found) and not all(is_parquet(name) for name in names):  # these have parts
        one, other = (Guess("data.tables", [name], "it names images") for name in names[:2])
        raise ambiguous(one, other)
    why = "it names images" if len(found) == 1 else "they name images, one for each split"
    return found, [Guess("data.tables", names, f"in {root}, {why}")] if found else []


def _may_hold_labels(path: Path) -> bool:
    name = path.name.lower()
    is_other = name.startswith(".") or name in OWN_TABLES or "submission" in name
    return is_table(name) and not is_other and path.is_file()


def _names_images(table: Path, rule: LayoutRule, files: Files) -> bool:
    address = table_address(table, files)
    try:
        if is_parquet(table.name):
            read = read_parquet(parquet_file(table, address), rule.columns)
            return read.image_column is None and names_files(read.header, read.rows, files)
        rows = read_rows(table, address, rule.table_format)
        header, rows = find_header(rows, files, rule.table_format.get("header"))
        is_list = table.suffix.lower() == ".txt"  # of files, say: classes may lie in folders
        return names_files(header, rows, files) and (
            not is_list or bool(choose_columns(rows, header, rule.columns, files)[0].label)
        )
    except BadInput:
        return False  # some other text


def _splits_in_names(tables: Sequence[Path]) -> list[str | None]:
    """`test` for test.csv and testLabels.csv; of several tables, one without such a word is that of train."""
    splits = [split_in(table.stem) for table in tables]
    return splits if len(tables) < 2 else [split or "train" for split in splits]


def _find_test(folder: Path, named: Collection[str], files: Files) -> list[str]:
    """The images of a folder test/ of which no row names one: competitions give them without labels."""
    for below in sorted(path.name for path in folder.iterdir() if path.is_dir() and split_of(path.name) == "test"):
        names = sorted(name for name in files.list_folder(below)[0] if has_image_suffix(name) and not is_hidden(name))
        if not any(path.startswith(f"{below}/") for path in named):
            return [f"{below}/{name}" for name in names]
    return []
