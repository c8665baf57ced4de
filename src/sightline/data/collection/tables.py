"""Tables of images: .csv, .tsv, .txt and .parquet with a column of paths and one of labels, and .lst of im2rec."""

import re
from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from sightline.config import TABLE_SUFFIXES
from sightline.data.collection.image_files import (
    SPLIT_FOLDERS,
    ClassFiles,
    LayoutRule,
    Listing,
    has_image_suffix,
    is_hidden,
)
from sightline.data.collection.table_columns import choose_columns, find_header, lacking, plain
from sightline.data.collection.table_files import Files, LocalFiles
from sightline.data.collection.table_labels import MISSING, read_flags, read_labels, read_splits
from sightline.data.collection.table_parquet import (
    ParquetFiles,
    ParquetTable,
    find_packed,
    find_parquet,
    is_parquet,
    parquet_file,
    read_parquet,
)
from sightline.data.collection.table_paths import find_paths
from sightline.data.collection.table_text import Rows, read_rows
from sightline.errors import BadInput
from sightline.runs.guesses import Guess
from sightline.runs.override_text import override


@dataclass(frozen=True)
class ImageTable:
    """What the rows of a table say, each of one image."""

    rows: Rows
    paths: list[str]
    """POSIX paths below the table's folder."""
    labels: list[str]
    """Empty where the table tells none."""
    splits: list[str]
    groups: list[str] | None
    guesses: list[Guess]
    notes: list[str] = field(default_factory=list)


def is_table(name: str) -> bool:
    return name.lower().endswith(TABLE_SUFFIXES)


def list_table(table: Path, rule: LayoutRule, needs: str) -> Listing:
    """The images of a table by split and class; without a column for it, all rows are of the split that is needed.

    Raises: BadInput that names the line or the column, and the change to make.
    """
    if not table.is_file():
        raise BadInput(f"data.root={table}: no such file; set it to a table of images, or to a folder of them")
    if rule.tables:
        raise BadInput(f"data.tables={list(rule.tables)}: data.root={table} is a table itself; set it to the folder")
    if (parquet := find_parquet(table, rule)) is not None:
        return list_parquet(parquet, rule, needs)
    files = LocalFiles(table.parent)
    return list_rows(table.parent, [read_table(table, rule, files, needs)], files, needs)


def list_parquet(files: ParquetFiles, rule: LayoutRule, needs: str) -> Listing:
    """The images of parquet files; those that lie in them are named as they are to be unpacked.

    Raises: BadInput that names the row or the column, and the change to make.
    """
    table = read_parquet(files, rule.columns)
    beside = table.files(files)
    return list_rows(files.folder, [understand_parquet(table, rule, beside, needs)], beside, needs)


def list_table_paths(table: Path, rule: LayoutRule, files: Files) -> list[str]:
    """The files that a table names, among those of its folder, which may lie elsewhere; none where it holds them."""
    if is_parquet(table.name) and find_packed(parquet_file(table, table_address(table, files)), rule.columns):
        return []
    return read_table(table, rule, files, "train").paths


# the rows


def table_address(table: Path, files: Files) -> str:
    folder = files.addresses[0]  # of a remote table a copy is read
    return f"{folder}/{table.relative_to(folder).as_posix() if table.is_relative_to(folder) else table.name}"


def read_table(table: Path, rule: LayoutRule, files: Files, needs: str, split: str | None = None) -> ImageTable:
    """What a table says; rows without a split are of the one that is given, or else of the one that is needed."""
    if table.name.lower().endswith(".lst") and not (rule.columns or rule.table_format):
        return _read_lst(table, files, split or needs)
    if is_parquet(table.name):
        address = table_address(table, files)
        return understand_parquet(read_parquet(parquet_file(table, address), rule.columns), rule, files, needs, split)
    told = rule.table_format
    rows = read_rows(table, table_address(table, files), told)
    header, rows = find_header(rows, files, told.get("header"))
    return _understand(rows, header, rule, files, needs, split)


def understand_parquet(
    table: ParquetTable, rule: LayoutRule, files: Files, needs: str, split: str | None = None
) -> ImageTable:
    """What parquet files say, whose columns may say themselves what they hold."""
    if rule.table_format:
        raise BadInput(
            f"{override('data.table_format', dict(rule.table_format))}: data.root={table.rows.address} is parquet, "
            "which is written in one way alone; leave it out"
        )
    rule = replace(rule, columns={**table.roles, **rule.columns})
    images = _understand(table.rows, table.header, rule, files, needs, split)
    return replace(images, notes=[*table.notes, *images.notes])


def _understand(
    rows: Rows, header: list[str] | None, rule: LayoutRule, files: Files, needs: str, split: str | None
) -> ImageTable:
    """The image, label, split and group of each row."""
    guesses = [Guess("data.table_format", rows.format, "; ".join(rows.because))] if rows.format else []
    told_columns = dict(rule.columns)
    if split == "test" and header is not None:  # of several tables this one may have the paths alone
        names = set(map(plain, header))
        told_columns = {role: name for role, name in told_columns.items() if role == "path" or plain(name) in names}
    columns, more = choose_columns(rows, header, told_columns, files)
    paths, readings = find_paths(rows, columns.path.values, files, rule.table_paths)
    notes = _note_case(columns.path.values, paths)
    splits = read_splits(rows, [(plain(column.name), column.values) for column in columns.split], split or needs)
    if len(columns.label) > 1:
        labels = read_flags(rows, {str(column.name): column.values for column in columns.label})
    elif columns.label:
        written = columns.label[0].values
        labels = read_labels(rows, written, splits, needs)
        notes += _note_blanks(labels)
        if len(set(labels)) < len(set(written)) and (twice := _in_two_forms(written, labels)):
            notes += [f"in two Unicode forms, and one class all the same: {', '.join(twice)}"]
    elif needs == "train" and set(splits) == {"test"}:
        labels = [""] * len(paths)
    else:
        raise lacking(rows, columns.names, "label", "none is called label, class, category, target, species or breed")
    groups = None if columns.group is None else columns.group.values
    return ImageTable(rows, paths, labels, splits, groups, [*guesses, *more, *readings], notes)


def _read_lst(table: Path, files: Files, split: str) -> ImageTable:
    """im2rec's own form: index, label and path."""
    rows = read_rows(table, table_address(table, files), {"delimiter": "tab"})
    for row, cells in enumerate(rows.cells):
        if len(cells) != 3:
            raise rows.wrong(row, f"has {len(cells)} cells; write index, label and path with tabs between them")
    paths, guesses = find_paths(rows, [cells[2] for cells in rows.cells], files, {})
    labels = [re.sub(r"^(\d+)\.0*$", r"\1", cells[1]) for cells in rows.cells]  # `3` for 3.000000
    return ImageTable(rows, paths, labels, [split] * len(paths), None, guesses)


def list_rows(root: Path, tables: Sequence[ImageTable], files: Files, needs: str) -> Listing:
    """All rows by split and class, each file once.

    Raises: BadInput for a file that is named twice, or when the split that is needed has no row.
    """
    found: dict[tuple[str, str], list[tuple[str, str]]] = defaultdict(list)
    seen: dict[str, tuple[str, str, str]] = {}
    unlabelled: list[str] = []
    for images in tables:
        table = images.rows.address
        num_twice = len(images.paths) - len(set(images.paths))
        others = f" (so are {num_twice - 1} other rows)" if num_twice > 1 else ""
        for row, (path, label, split) in enumerate(zip(images.paths, images.labels, images.splits, strict=True)):
            if path in seen:
                raise images.rows.wrong(
                    row, f"path={path}: is in {_place(seen[path], table, label)}{others}; remove one of them"
                )
            seen[path] = (table, images.rows.place(row), label)
            if not label:
                unlabelled.append(path)
                continue
            group = images.groups[row] if images.groups is not None else ""
            found[split, label].append((path, path if group in MISSING else group))
    if not any(split == needs for split, _ in found):
        raise tables[0].rows.refuse(f"no row has the split {needs}; write {needs} into that column")
    has_groups = any(images.groups is not None for images in tables)
    notes = [note for images in tables for note in images.notes] + _note_others(seen, files)
    if unlabelled:
        notes.append(f"{len(unlabelled)} image(s) of test have no label: they are not measured but predicted")
    listed = []
    for split in SPLIT_FOLDERS:
        for label in sorted(label for other, label in found if other == split):
            names, groups = zip(*sorted(found[split, label]), strict=True)
            listed.append(ClassFiles(split, label, "", list(names), list(groups) if has_groups else None))
    return Listing(
        root,
        listed,
        guesses=_join_guesses(tables),
        unlabelled=sorted(unlabelled),
        notes=tuple(notes),
    )


def _place(seen: tuple[str, str, str], table: str, label: str) -> str:
    """Where a path was named before."""
    other, place, known = seen
    place = f"{place} too" if other == table else f"{place} of {other} too"
    return place if known == label else f"{place}, as {known or 'unlabelled'}: one label for each image is supported"


def _join_guesses(tables: Sequence[ImageTable]) -> tuple[Guess, ...]:
    """The guesses of all tables; what one says of less columns than another is not said again."""
    joined: list[Guess] = []
    for guess in (guess for images in tables for guess in images.guesses):
        if not any(guess.key == known.key and guess.value.items() <= known.value.items() for known in joined):
            joined.append(guess)
    return tuple(joined)


def _note_case(texts: Sequence[str], paths: Sequence[str]) -> list[str]:
    """A line about paths that are written in another case than their files."""
    pairs = [(text.replace("\\", "/"), path) for text, path in zip(texts, paths, strict=True)]
    other = [text for text, path in pairs if not text.endswith(path) and text.lower().endswith(path.lower())]
    return [f"{len(other)} path(s) differ from their files by case alone, {other[0]} for one"] if other else []


def _note_blanks(labels: Sequence[str]) -> list[str]:
    """A line about labels that may be several: those made of others with blanks between them."""
    known = set(labels)
    found = sorted(label for label in known if len(parts := label.split()) > 1 and known.issuperset(parts))
    if not found:
        return []
    return [f"{found[0]} counts as a class of its own, though {' and '.join(found[0].split())} are classes, too"]


def _in_two_forms(written: Sequence[str], labels: Sequence[str]) -> list[str]:
    """Labels that are written in more than one Unicode form."""
    forms: dict[str, set[str]] = defaultdict(set)
    for text, label in zip(written, labels, strict=True):
        forms[label].add(text)
    return sorted(label for label, texts in forms.items() if label and len(texts) > 1)


def _note_others(named: Collection[str], files: Files) -> list[str]:
    """A line about the images that lie beside those of the table."""
    folders = {path.rpartition("/")[0] for path in named}
    others = [
        f"{folder}/{name}" if folder else name
        for folder in sorted(folders)
        for name in sorted(files.names_in(folder))
        if has_image_suffix(name) and not is_hidden(name)
    ]
    others = [path for path in others if path not in named]
    return [f"no row names {len(others)} image(s) beside the others, {others[0]} for one"] if others else []
