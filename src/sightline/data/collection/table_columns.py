"""Which column of a table holds what: as told, by its name, or by its values; what is not plain is a guess."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sightline.config.constraints import did_you_mean
from sightline.data.collection.image_files import has_image_suffix, split_of
from sightline.data.collection.table_files import Files
from sightline.data.collection.table_labels import SPLIT_FLAGS, is_flag
from sightline.data.collection.table_paths import likely_file, spread
from sightline.data.collection.table_text import Rows
from sightline.errors import BadInput
from sightline.runs.guesses import Guess, ambiguous

ROLES = ("path", "label", "split", "group")
SYNONYMS = {
    "path": "path paths file filename filepath fileid image images imageid imagename imagefile imagefilename "
    "imagepath img imgid imgname imgfile imgpath id idcode name picture photo photoid relpath",
    "label": "label labels labelname labeltext labelid class classes classname classid classlabel category "
    "categoryname categoryid target targetname species breed variety diagnosis tag y gt groundtruth",
    "split": "split splits set subset fold partition usage phase datasplit dataset",
    "group": "group groupid patient patientid subject subjectid",
}
"""Usual names of columns, as `plain` writes them."""
PATH_LIKE = re.compile("image|img|file|path|photo|picture|foto|bild|id$|^id|name$")
"""Names of columns that may well hold paths."""
_WORDS = {role: frozenset(names.split()) for role, names in SYNONYMS.items()}
_USUAL = frozenset[str]().union(*_WORDS.values(), SPLIT_FLAGS)


@dataclass(frozen=True)
class Column:
    """A column by its name, or its number from 1 where the table does not name it."""

    name: str | int
    values: list[str]


@dataclass(frozen=True)
class Columns:
    """What each of a table's columns holds."""

    path: Column
    label: tuple[Column, ...]
    """One, or several of 0 and 1, one for each class; none where the images have no labels."""
    split: tuple[Column, ...]
    """None, one of words, or one or several of 0 and 1."""
    group: Column | None
    names: tuple[str | int, ...]
    """Of all columns."""

    def as_typed(self) -> dict[str, Any]:
        """The value of `data.columns` that says the same."""
        found: dict[str, Any] = {"path": self.path.name}
        for role, columns in (("label", self.label), ("split", self.split)):
            if columns:
                found[role] = columns[0].name if len(columns) == 1 else [column.name for column in columns]
        return found | ({"group": self.group.name} if self.group else {})


def plain(name: str | int) -> str:
    """`Image-ID`, `image_id` and ` imageId` are the same name: `imageid`."""
    return re.sub(r"[\W_]+", "", str(name).lower())


def find_header(rows: Rows, files: Files, told: bool | None) -> tuple[list[str] | None, Rows]:
    """The names of the columns, if the first row holds them, and the rows of images.

    Raises: BadInput when there are none.
    """
    if not rows.cells:
        raise rows.refuse("has no rows; write one for each image, like train/red/1.png,red")
    first = rows.cells[0]
    if told is False:
        return None, rows
    is_deep = not any(plain(cell) in _USUAL for cell in first)  # then it may name a file of any folder, like the rows
    if told is None and any(has_image_suffix(cell) or likely_file(cell, files, is_deep=is_deep) for cell in first):
        because = (*rows.because, "its first line names a file")
        return None, replace(rows, format={**rows.format, "header": False}, because=because)
    header, rest = first, replace(rows, lines=rows.lines[1:], cells=rows.cells[1:])
    if not rest.cells:
        raise rows.refuse("has no rows; write one for each image, like train/red/1.png,red")
    if all(len(row) == len(header) + 1 for row in rest.cells):
        header = ["", *header]  # as R writes them: the numbers of the rows have no name
    return header, rest


def choose_columns(
    rows: Rows, header: list[str] | None, told: Mapping[str, Any], files: Files
) -> tuple[Columns, list[Guess]]:
    """What each column holds.

    Raises: BadInput when it cannot be found out, or there are two answers.
    """
    chooser = _Chooser(rows, _make_columns(rows, header), told, files)
    path = chooser.choose_path()
    split = chooser.choose_split([path])
    group = chooser.choose_group([path, *split])
    label = chooser.choose_label([path, *split, *([group] if group else [])])
    if path in label:
        raise BadInput(f"data.columns: path and label are both {path.name}; name the column that holds the label")
    columns = Columns(path, label, split, group, tuple(column.name for column in chooser.columns))
    return columns, [Guess("data.columns", columns.as_typed(), "; ".join(chooser.because))] if chooser.because else []


def names_files(header: list[str] | None, rows: Rows, files: Files) -> bool:
    """Whether a column of a table names files; in any folder only where its name or its cells look like it."""
    chooser = _Chooser(rows, _make_columns(rows, header), {}, files)
    likely = [
        column
        for column in chooser.columns
        if PATH_LIKE.search(plain(column.name)) or has_image_suffix(column.values[0])
    ]
    return any(chooser.names_files(column, is_deep=False) for column in chooser.columns) or any(
        chooser.names_files(column, is_deep=True) for column in likely
    )


def _make_columns(rows: Rows, header: list[str] | None) -> list[Column]:
    """The columns that have a name, all of them where none has one.

    Raises: BadInput for a row with more cells than there are columns.
    """
    width = len(header) if header else max(len(row) for row in rows.cells)
    for row, cells in enumerate(rows.cells):
        if any(cells[width:]) or (header is None and len(cells) != width):
            raise rows.wrong(
                row, f"has {len(cells)} cells where there are {width} columns; put quotes round a cell with a delimiter"
            )
    names: list[str | int] = list(header) if header else list(range(1, width + 1))
    is_index = [header is not None and (not name or plain(name).startswith("unnamed")) for name in names]
    return [
        Column(name, [cells[number] if number < len(cells) else "" for cells in rows.cells])
        for number, name in enumerate(names)
        if not is_index[number]
    ]


@dataclass
class _Chooser:
    """Chooses the columns of one table, one role after another."""

    rows: Rows
    columns: list[Column]
    told: Mapping[str, Any]
    files: Files

    def __post_init__(self) -> None:
        self.because: list[str] = []

    def choose_path(self) -> Column:
        if (told := self._told("path")) is not None:
            return told[0]
        if exact := self._named(lambda name: name == "path"):
            return self._only("path", exact)
        usual = self._named(lambda name: name in _WORDS["path"])
        for is_deep in (False, True):
            named = [column for column in self.columns if self.names_files(column, is_deep=is_deep)]
            likely = [column for column in usual if column in named] or named
            if likely:
                self.because.append(f"the cells of {likely[0].name} name files")
                files = [self._files_of(column, is_deep) for column in likely]
                return self._only("path", likely if files.count(files[0]) < len(files) else likely[:1])
        if usual:
            self.because.append(f"{usual[0].name} is a usual name for the path")
            return self._only("path", usual)
        raise self._lacking("path", "no column's cells name files that are there")

    def choose_label(self, taken: list[Column]) -> tuple[Column, ...]:
        if (told := self._told("label")) is not None:
            return tuple(told)
        free = [column for column in self.columns if column not in taken]
        if exact := [column for column in free if plain(column.name) == "label"]:
            return (self._only("label", exact),)
        if usual := [column for column in free if plain(column.name) in _WORDS["label"]]:
            return (self._choose_usual_label(usual),)
        flags = [column for column in free if is_flag(column.values)]
        if len(flags) > 1:
            self.because.append(f"each of {len(flags)} columns of 0 and 1 is a class")
            return tuple(flags)
        if len(free) == 1 and 2 * len(set(free[0].values)) <= len(free[0].values):
            self.because.append(f"{free[0].name} is the only column left for the label")
            return (free[0],)
        return ()

    def _choose_usual_label(self, usual: list[Column]) -> Column:
        """One of several columns with usual names; a number and a name of each class say the same."""
        varied = [column for column in usual if len(set(column.values)) > 1] or usual
        pairs = set(zip(*(column.values for column in varied), strict=True))
        if len(varied) > 1 and all(len(set(column.values)) == len(pairs) for column in varied):
            varied.sort(key=lambda column: all(value.replace(".", "").isdecimal() for value in column.values))
            self.because.append(f"{varied[0].name} is a usual name for the label, and {varied[1].name} says the same")
            return varied[0]
        self.because.append(f"{varied[0].name} is a usual name for the label")
        return self._only("label", varied)

    def choose_split(self, taken: list[Column]) -> tuple[Column, ...]:
        if (told := self._told("split")) is not None:
            return tuple(told)
        free = [column for column in self.columns if column not in taken]
        if exact := [column for column in free if plain(column.name) == "split"]:
            return (self._only("split", exact),)
        usual = [column for column in free if plain(column.name) in _WORDS["split"] or isinstance(column.name, int)]
        if words := [column for column in usual if all(not value or split_of(value) for value in set(column.values))]:
            self.because.append(f"the cells of {words[0].name} are words for a split")
            return (self._only("split", words),)
        flags = [column for column in free if plain(column.name) in SPLIT_FLAGS and is_flag(column.values)]
        if flags:
            self.because.append(f"{' and '.join(str(column.name) for column in flags)}: 1 or 0 tells the split")
        return tuple(flags)

    def choose_group(self, taken: list[Column]) -> Column | None:
        if (told := self._told("group")) is not None:
            return told[0] if told else None
        free = [column for column in self.columns if column not in taken]
        if exact := [column for column in free if plain(column.name) == "group"]:
            return self._only("group", exact)
        usual = [column for column in free if plain(column.name) in _WORDS["group"]]
        if not usual:
            return None
        self.because.append(f"images of one {usual[0].name} stay in one split; group: false does not ask for that")
        return self._only("group", usual)

    def _told(self, role: str) -> list[Column] | None:
        """The columns that `data.columns` names for a role: none of them for false; None where it says nothing."""
        if role not in self.told:
            return None
        named = self.told[role]
        found = [
            self._find(role, name) for name in (named if isinstance(named, list) else [named]) if name is not False
        ]
        if not found and role == "path":
            raise self._lacking(role, "data.columns says that there is none")
        return found

    def _find(self, role: str, name: str | int) -> Column:
        names = [column.name for column in self.columns]
        for same in (str, plain):
            if found := [column for column in self.columns if same(column.name) == same(name)]:
                self._refuse_twice(found)
                return found[0]
        raise BadInput(
            f"data.columns={{{role}: {name}}}: {self.rows.address} has no such column; it has "
            f"{', '.join(map(str, names))}{did_you_mean(str(name), map(str, names))}"
        )

    def _named(self, is_wanted: Callable[[str], bool]) -> list[Column]:
        return [column for column in self.columns if is_wanted(plain(column.name))]

    def names_files(self, column: Column, *, is_deep: bool) -> bool:
        if len(set(column.values)) * 2 < len(column.values):
            return False  # classes, say, beside files that are called alike
        found = self._files_of(column, is_deep)
        return found.count(None) * 2 < len(found)

    def _files_of(self, column: Column, is_deep: bool) -> list[str | None]:
        """Files that some of a column's cells may name."""
        return [likely_file(cell, self.files, is_deep=is_deep) for cell in spread(column.values)]

    def _only(self, role: str, columns: Sequence[Column]) -> Column:
        self._refuse_twice(columns)
        if len(columns) > 1:
            one, other = (Guess("data.columns", {role: column.name}, self._why(role)) for column in columns[:2])
            raise ambiguous(one, other)
        return columns[0]

    def _refuse_twice(self, columns: Sequence[Column]) -> None:
        """Raises: BadInput for columns with one name, which no key can tell apart."""
        if any(column.name == columns[0].name for column in columns[1:]):
            raise self.rows.refuse(f"two columns are called {columns[0].name}; rename one of them, or remove it")

    def _why(self, role: str) -> str:
        return "its cells name files" if role == "path" else f"a usual name for the {role}"

    def _lacking(self, role: str, why: str) -> BadInput:
        return lacking(self.rows, [column.name for column in self.columns], role, why)


def lacking(rows: Rows, names: Sequence[str | int], role: str, why: str) -> BadInput:
    """The error for a table in which a column is not found."""
    return rows.refuse(
        f"which column holds the {role}? It has {', '.join(map(str, names)) or 'none'}, and "
        f"{why}; name it, like data.columns.{role}=NAME"
    )
