"""Predictions as files: a journal of rows while they come, and the table (CSV, JSON lines, parquet) that it becomes."""

import csv
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from sightline.data.predicted_classes import ERROR, HEADER, Row, cells_of, row_of
from sightline.errors import BadInput
from sightline.runs.files import whole_file

FORMATS = ("csv", "jsonl", "parquet")
ROWS_AT_ONCE = 10_000
"""Of a parquet file: it is written and read in groups of so many."""
NEEDS_PYARROW = 'format=parquet: parquet needs pyarrow; pip install "sightline-vision[parquet]", or set format=jsonl'


def to_json(row: Row) -> dict[str, Any]:
    """A row in JSON and parquet: the first class by itself, and up to five with their probabilities."""
    first = row.ranked[0] if row.ranked else (None, None)
    return {
        "file": row.file,
        "class": first[0],
        "probability": first[1],
        "unsure": row.unsure,
        "classes": [name for name, _ in row.ranked],
        "probabilities": [probability for _, probability in row.ranked],
        "error": row.error,
    }


def from_json(facts: Mapping[str, Any]) -> Row:
    ranked = list(zip(facts["classes"] or [], facts["probabilities"] or [], strict=True))
    return Row(facts["file"], ranked, facts["unsure"], facts["error"])


class Journal:
    """Rows in JSON lines behind a first line that says what they are computed with: what a killed process has done.

    Entering opens it and cuts what was not written to its end; `done` rows are there already.
    """

    def __init__(self, path: Path, computed_with: Mapping[str, Any]) -> None:
        self.path, self.computed_with = path, dict(computed_with)
        self.done = 0

    def computed_before(self) -> dict[str, Any] | None:
        """What the rows that are there were computed with; None where there are none."""
        try:
            with self.path.open("rb") as file:
                return _whole(file.readline())
        except FileNotFoundError:
            return None

    def count(self) -> int:
        """How many whole rows are there."""
        self._end()
        return self.done

    def __enter__(self) -> "Journal":
        end = self._end()
        self._file = self.path.open("ab")
        self._file.truncate(end)
        if not end:
            self._write([self.computed_with])
        return self

    def __exit__(self, *error: object) -> None:
        self._file.close()

    def _end(self) -> int:
        """Where the last whole row ends; counts the rows."""
        end = self.done = 0
        if self.computed_before() is not None:
            with self.path.open("rb") as file:
                end = len(file.readline())
                for line in file:
                    if _whole(line) is None:
                        break
                    end += len(line)
                    self.done += 1
        return end

    def add(self, rows: Sequence[Row]) -> None:
        self._write(map(to_json, rows))
        self.done += len(rows)

    def _write(self, lines: Iterable[Mapping[str, Any]]) -> None:
        self._file.write("".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines).encode())
        self._file.flush()

    def rows(self) -> Iterator[Row]:
        """Those that are there, in their order."""
        with self.path.open(encoding="utf-8") as file:
            for line in islice(file, 1, None):
                yield from_json(json.loads(line))


def _whole(line: bytes) -> dict[str, Any] | None:
    """What a line says, where it was written to its end."""
    try:
        return json.loads(line) if line.endswith(b"\n") else None
    except ValueError:
        return None


def check_format(chosen: str) -> None:
    """Raises: BadInput where its library is not installed."""
    if chosen == "parquet":
        try:
            import pyarrow  # noqa: F401
        except ImportError as error:
            raise BadInput(NEEDS_PYARROW) from error


def write_table(path: Path, rows: Iterable[Row], *, with_errors: bool) -> None:
    """Write a table by its suffix, whole or not at all.

    A CSV has a column `error` and a row for every file where it is `with_errors`, else a row for every answer alone;
    the others always have both.
    """
    with whole_file(path) as partial:
        if path.suffix == ".parquet":
            _write_parquet(partial, rows)
        elif path.suffix == ".jsonl":
            with partial.open("w", encoding="utf-8") as lines:
                for row in rows:
                    lines.write(json.dumps(to_json(row), ensure_ascii=False) + "\n")
        else:
            with partial.open("w", newline="", encoding="utf-8") as table:
                writer = csv.writer(table)
                writer.writerow((*HEADER, ERROR) if with_errors else HEADER)
                for row in rows:
                    if with_errors:
                        writer.writerow((*cells_of(row), row.error or ""))
                    elif row.error is None:
                        writer.writerow(cells_of(row))
        with partial.open("rb") as file:
            os.fsync(file.fileno())


def _write_parquet(path: Path, rows: Iterable[Row]) -> None:
    import pyarrow as pa
    from pyarrow.parquet import ParquetWriter

    text, number = pa.string(), pa.float64()
    schema = pa.schema(
        [
            *(("file", text), ("class", text), ("probability", number), ("unsure", pa.bool_())),
            *(("classes", pa.list_(text)), ("probabilities", pa.list_(number)), ("error", text)),
        ]
    )
    waiting = map(to_json, rows)
    with ParquetWriter(path, schema) as writer:
        while some := list(islice(waiting, ROWS_AT_ONCE)):
            writer.write_table(pa.Table.from_pylist(some, schema))


def read_table(path: Path) -> Iterator[Row]:
    """The rows of a table that `write_table` wrote, one by one; a CSV does not say which are unsure.

    Raises: BadInput for a file that is none, with its line.
    """
    try:
        if path.suffix == ".parquet":
            check_format("parquet")
            from pyarrow.parquet import ParquetFile

            with ParquetFile(path) as file:
                for batch in file.iter_batches(ROWS_AT_ONCE):
                    yield from map(from_json, batch.to_pylist())
        elif path.suffix == ".jsonl":
            with path.open(encoding="utf-8") as lines:
                for line in lines:
                    yield from_json(json.loads(line))
        else:
            with path.open(newline="", encoding="utf-8") as table:
                reader = csv.reader(table)
                next(reader, None)
                for cells in reader:
                    yield row_of(cells)
    except (ValueError, IndexError, KeyError, OSError) as error:
        if isinstance(error, BadInput):
            raise
        raise BadInput(
            f"{path}: cannot be read as a table of predictions ({error}); remove it and make it again"
        ) from error
