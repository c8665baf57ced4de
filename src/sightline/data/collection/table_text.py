"""A table's file as rows of text: its encoding and its delimiter are found, and what is unusual is said."""

import codecs
import csv
import io
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sightline.errors import BadInput

DELIMITERS = {"comma": ",", "semicolon": ";", "tab": "\t", "bar": "|", "blank": " "}
BYTE_ORDER_MARKS = {
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
"""UTF-32's little-endian mark begins with UTF-16's: it is looked for first."""
NUM_TRIED = 50
"""Rows that tell the delimiter."""


@dataclass(frozen=True)
class Rows:
    """The rows of a table that hold anything, the one with the names of its columns too, if there is one."""

    address: str
    """Of the table, as `data.root` would name it."""
    lines: list[int]
    """Where each row ends in the file, from 1; in parquet, which has no lines, its number from 0."""
    cells: list[list[str]]
    """Of each row, without blanks around them."""
    format: dict[str, Any] = field(default_factory=dict)
    """What of `data.table_format` was guessed …"""
    because: tuple[str, ...] = ()
    """… and why."""
    unit: str = "line"
    files: Sequence[str] | None = None
    """The name of the file that each row stands in, where there are several."""

    def place(self, row: int) -> str:
        """Where a row stands, as people look for it."""
        place = f"{self.unit} {self.lines[row]}"
        return f"{self.files[row]} {place}" if self.files else place

    def refuse(self, problem: str) -> BadInput:
        return BadInput(f"data.root={self.address}: {problem}")

    def wrong(self, row: int, problem: str) -> BadInput:
        return self.refuse(f"{self.place(row)}: {problem}")


def read_rows(file: Path, address: str, told: Mapping[str, Any]) -> Rows:
    """The rows of a table in the `encoding` and with the `delimiter` that were told, or that fit.

    The address is what errors call the table; the file may be a copy.

    Raises: BadInput when it is no text, or no table.
    """
    guessed: dict[str, Any] = {}
    because: list[str] = []
    text, encoding = _decode(file, address, told.get("encoding"))
    if encoding is not None:
        guessed["encoding"] = encoding
        because.append("it is no UTF-8")
    stated = re.match(r"sep=(.)\r?\n", text)  # Excel's own line
    start = stated.end() if stated else 0
    delimiter = told.get("delimiter")
    if delimiter is None and stated:
        delimiter = stated[1]
    if delimiter is None:
        delimiter = _find_delimiter(text)
        if delimiter != ("tab" if file.suffix.lower() == ".tsv" else "comma"):
            guessed["delimiter"] = delimiter
            because.append(f"a {delimiter} divides its lines evenly")
    lines, cells = [], []
    reader = csv.reader(io.StringIO(text[start:], newline=""), **_dialect(delimiter))
    try:
        for row in reader:
            stripped = [cell.strip() for cell in row]
            if any(stripped):
                lines.append(reader.line_num + bool(stated))
                cells.append(stripped)
    except csv.Error as error:
        raise BadInput(
            f"data.root={address}: line {reader.line_num}: is no row of a table ({error}); correct it"
        ) from error
    return Rows(address, lines, cells, guessed, tuple(because))


def _decode(file: Path, address: str, told: str | None) -> tuple[str, str | None]:
    """The text, and its encoding where that was guessed."""
    data = file.read_bytes()
    marked = next((name for mark, name in BYTE_ORDER_MARKS.items() if data.startswith(mark)), None)
    try:
        if told is not None or marked is not None:
            return data.decode(told or marked or ""), None
        if b"\0" in data:
            raise BadInput(f"data.root={address}: cannot be read as text (it holds zero bytes); save it as UTF-8")
        return data.decode("utf-8"), None
    except LookupError as error:
        raise BadInput(f"data.table_format={{encoding: {told}}}: no such encoding; utf-8 or cp1252, say") from error
    except UnicodeDecodeError as error:
        if told is not None or marked is not None:
            raise BadInput(
                f"data.root={address}: cannot be read as {told or marked} ({error}); save it as UTF-8, or name its "
                "encoding, like data.table_format.encoding=cp1252"
            ) from error
    try:
        return data.decode("cp1252"), "cp1252"
    except UnicodeDecodeError:
        return data.decode("latin-1"), "latin-1"


def _dialect(delimiter: str) -> dict[str, Any]:
    return {"delimiter": DELIMITERS.get(delimiter, delimiter), "skipinitialspace": True}


def _find_delimiter(text: str) -> str:
    """The one that divides the first rows evenly, and into the most columns; `csv.Sniffer` takes letters for one."""
    best, best_score = "comma", (0.0, 0)
    sample = "\n".join(text[:1_000_000].splitlines()[: NUM_TRIED + 1])
    for name in DELIMITERS:
        try:
            rows = [row for row in csv.reader(io.StringIO(sample), **_dialect(name)) if any(map(str.strip, row))]
        except csv.Error:
            continue
        width, count = Counter(len(row) for row in rows[:NUM_TRIED]).most_common(1)[0] if rows else (1, 0)
        if width < 2 or (name == "blank" and (best_score[1] or count < len(rows))):
            continue
        score = (count / len(rows), width)
        if score > best_score:
            best, best_score = name, score
    return best
