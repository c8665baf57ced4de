"""The keys of the data group that say how a table of images is read; what is null is found out."""

from dataclasses import dataclass
from typing import Any

from sightline.config.constraints import key
from sightline.errors import BadInput
from sightline.runs.override_text import override

PARQUET_SUFFIX = ".parquet"
TABLE_SUFFIXES = (".csv", ".tsv", ".txt", ".lst", PARQUET_SUFFIX)
"""What the name of a table of images ends in."""


@dataclass
class ColumnsConfig:
    """Which columns of a table hold what, by their names, or by their numbers from 1 where they have none."""

    path: Any = key(None, "of a table: the column of the image's path; null: found, here and below")
    label: Any = key(None, "of its class; a list of columns of 0 and 1: one for each class")
    split: Any = key(None, "of train, val or test; or a list of columns of 0 and 1, like is_valid; false: none")
    group: Any = key(None, "of the group that stays in one split, like a patient; false: none")

    def check(self) -> None:
        for role, told in vars(self).items():
            if told is None or (told is False and role in ("split", "group")):
                continue
            names = told if isinstance(told, list) else [told]
            if len(names) != 1 and role not in ("label", "split"):
                raise BadInput(f"data.columns.{role}={told}: only label and split may be several columns; name one")
            if not all(isinstance(name, str | int) and not isinstance(name, bool) for name in names):
                raise BadInput(f"data.columns.{role}={told}: must be the name of a column, or its number")


@dataclass
class TablePathsConfig:
    """How the paths of a table become files below its folder."""

    remove: str | None = key(None, "of a table's paths: what they begin with that is not here, like C:/Photos")
    folder: str | None = key(None, "where the rest of them lies; '**': in any folder, by the file's name")
    suffix: str | None = key(None, "what they lack, like .jpg; '*': any suffix of an image")


@dataclass
class TableFormatConfig:
    """How a table is written."""

    encoding: str | None = key(None, "of a table, like cp1252; null: UTF-8 where that fits")
    delimiter: str | None = key(None, "between its columns: comma, semicolon, tab, bar or blank, or another character")
    header: bool | None = key(None, "whether its first line names the columns")

    def check(self) -> None:
        words = ("comma", "semicolon", "tab", "bar", "blank")
        if self.delimiter is not None and self.delimiter not in words and len(self.delimiter) != 1:
            raise BadInput(
                f"data.table_format.delimiter={self.delimiter}: must be {', '.join(words)}, or one character"
            )


def refuse_table_keys(data: Any, without: str) -> None:
    """Raises: BadInput for a key of tables that counts for nothing here."""
    told: dict[str, Any] = {"tables": data.tables}
    for name in ("columns", "table_paths", "table_format"):
        told[name] = {part: value for part, value in vars(getattr(data, name)).items() if value is not None}
    for name, value in told.items():
        if value:
            raise BadInput(f"{override(f'data.{name}', value)}: counts only for a table, and {without}; leave it out")
