"""Tables in parquet: their cells as text, like those of any table, and the column that holds the images themselves."""

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from sightline.config import PARQUET_SUFFIX
from sightline.data.collection.image_files import (
    SIGNATURE_BYTES,
    LayoutRule,
    format_of,
    has_image_suffix,
    is_folder,
    scan,
    split_in,
    split_of,
)
from sightline.data.collection.parquet_cells import (
    is_array,
    is_binary,
    is_string,
    is_struct,
    is_text,
    read_features,
    read_texts,
)
from sightline.data.collection.parquet_names import name_images
from sightline.data.collection.table_columns import SYNONYMS, plain
from sightline.data.collection.table_files import Files, LocalFiles, NamedFiles
from sightline.data.collection.table_text import Rows
from sightline.errors import BadInput
from sightline.runs.guesses import Guess, ambiguous

PATH_NAMES = frozenset(SYNONYMS["path"].split())
MAX_DEPTH = 3
"""Folders that parquet files are looked for in, one in the other, like `default/train/0000.parquet`."""
NUM_LOOKED_AT = 16
"""Cells that tell whether a column of bytes holds images."""
ROWS_AT_ONCE = 64
UNPACKED_NAME, UNPACKED_KEY = ".unpacked.parquet", b"sightline"
"""The table of unpacked images, and the key of its metadata that says where it comes from."""


def is_parquet(name: str) -> bool:
    return name.lower().endswith(PARQUET_SUFFIX)


@dataclass(frozen=True)
class ParquetFiles:
    """One parquet file, or several that are one table."""

    address: str
    """As `data.root` would name it."""
    folder: Path
    """The paths in them are relative to it."""
    paths: tuple[Path, ...]
    splits: tuple[str | None, ...]
    """Of each file, by its name; None where it tells none."""

    def name(self, path: Path) -> str:
        return path.relative_to(self.folder).as_posix()

    def place(self, path: Path) -> str:
        """The address, with the file's name where there are several."""
        return f"{self.address}: {self.name(path)}" if len(self.paths) > 1 else self.address


@dataclass(frozen=True)
class ParquetTable:
    """What parquet files say, as text; where they hold the images, the paths are those that these get."""

    header: list[str]
    rows: Rows
    roles: dict[str, str]
    """Columns that the files themselves say the role of: `path` and `label`."""
    image_column: str | None = None
    """The column that holds the images' bytes."""
    notes: tuple[str, ...] = ()

    def cells(self, column: str) -> list[str]:
        number = self.header.index(column)
        return [cells[number] for cells in self.rows.cells]

    def files(self, parquet: ParquetFiles) -> Files:
        """Where the paths lead: to files below the folder, or to the images that are to be unpacked."""
        if self.image_column is None:
            return LocalFiles(parquet.folder)
        return NamedFiles(self.cells(self.image_column), parquet.folder.as_posix())


def parquet_file(path: Path, address: str) -> ParquetFiles:
    return ParquetFiles(address, path.parent, (path,), (None,))


def find_parquet(root: Path, rule: LayoutRule, address: str = "") -> ParquetFiles | None:
    """The parquet files that a data root means: itself, those that are told, or those of a folder without images.

    The split of a file is told by its name, or else by its folder's; beside such files all others are of train.
    """
    address = address or str(root)
    if is_parquet(root.name) and root.is_file():
        return parquet_file(root, address)
    if (root / UNPACKED_NAME).is_file():
        return ParquetFiles(address, root, (root / UNPACKED_NAME,), (None,))
    if not root.is_dir() or rule.layout != "auto" or rule.name_pattern is not None:
        return None
    paths = [root / name for name in rule.tables] if rule.tables else _search(root)
    if not paths or not all(is_parquet(path.name) and path.is_file() for path in paths):
        return None
    splits = [
        split_in(path.stem) or next(filter(None, map(split_of, reversed(path.relative_to(root).parts[:-1]))), None)
        for path in paths
    ]
    return ParquetFiles(
        address, root, tuple(paths), tuple((split or "train") if any(splits) else None for split in splits)
    )


def _search(folder: Path, depth: int = 0) -> list[Path] | None:
    """The parquet files below a folder, sorted; None where an image lies there, which ends the search."""
    found: list[Path] = []
    inner: list[str] = []
    for entry in scan(folder):
        if is_folder(entry):
            inner.append(entry.name)
        elif is_parquet(entry.name):
            found.append(Path(entry.path))
        elif has_image_suffix(entry.name):
            return None
    for name in sorted(inner) if depth < MAX_DEPTH else []:
        below = _search(folder / name, depth + 1)
        if below is None:
            return None
        found += below
    return sorted(found)


@contextmanager
def explained(files: ParquetFiles, path: Path) -> Iterator[Any]:
    """The file opened by pyarrow; what it cannot read is BadInput.

    Raises: BadInput, also where pyarrow is not installed.
    """
    try:
        import pyarrow as pa
        from pyarrow.parquet import ParquetFile
    except ImportError as error:
        raise BadInput(
            f'data.root={files.address}: parquet needs pyarrow; pip install "sightline-vision[parquet]"'
        ) from error
    try:
        with ParquetFile(path, buffer_size=1 << 20, pre_buffer=False) as file:
            yield file
    except (pa.ArrowException, OSError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
        raise BadInput(
            f"data.root={files.place(path)}: cannot be read as parquet ({reason}); fetch or write it again, "
            "without encryption"
        ) from error


def read_parquet(files: ParquetFiles, told: Mapping[str, Any]) -> ParquetTable:
    """All that parquet files say but for the pixels; `told` are the columns that `data.columns` names.

    Raises: BadInput where one cannot be read, holds no rows, or it cannot be said which column holds the images.
    """
    with explained(files, files.paths[0]) as file:
        if UNPACKED_KEY in (file.schema_arrow.metadata or {}):
            return _read_unpacked(file)
        image_column = _find_images(files, file, told)
        roles = _find_roles(file, image_column, told)
    parts = [_read_part(files, path, image_column) for path in files.paths]
    header = list(dict.fromkeys(name for part in parts for name in part.texts))
    if any(files.splits) and "split" not in map(plain, header):
        header.append("split")
        for part, split in zip(parts, files.splits, strict=True):
            part.texts["split"] = [split or ""] * part.num_rows
    if image_column is not None and any(part.holds_bytes for part in parts):
        named = name_images([(part.name, part.split, part.texts[image_column]) for part in parts])
        for part, names in zip(parts, named, strict=True):
            part.texts[image_column] = names
    else:
        image_column = None
    places = [(part.name, part.num_rows) for part in parts]
    columns = [[text for part in parts for text in part.texts.get(name, [""] * part.num_rows)] for name in header]
    return ParquetTable(header, _rows(files.address, places, columns), roles, image_column, _note_splits(files))


def _read_unpacked(file: Any) -> ParquetTable:
    """A table that `unpack` wrote."""
    said = json.loads(file.schema_arrow.metadata[UNPACKED_KEY])
    texts = file.read(use_threads=False).to_pydict()
    rows = _rows(said["address"], said["places"], list(texts.values()))
    return ParquetTable(list(texts), rows, said["roles"], notes=tuple(said["notes"]))


def find_packed(files: ParquetFiles, told: Mapping[str, Any]) -> str | None:
    """The column that holds the bytes of images; None where there are paths alone.

    Raises: BadInput as `read_parquet` does.
    """
    with explained(files, files.paths[0]) as file:
        column = _find_images(files, file, told)
    if column is None:
        return None
    is_packed = any(content is not None for path in files.paths for content, _ in read_images(files, path, column))
    return column if is_packed else None


def _rows(address: str, places: Sequence[tuple[str, int]], columns: Sequence[Sequence[str]]) -> Rows:
    """The rows of files that are named with their numbers of rows.

    Raises: BadInput where there are none.
    """
    names = [name for name, count in places for _ in range(count)] if len(places) > 1 else None
    lines = [row for _, count in places for row in range(count)]
    rows = Rows(address, lines, [list(cells) for cells in zip(*columns, strict=True)], unit="row", files=names)
    if not lines:
        raise rows.refuse("has no rows; write one for each image")
    return rows


def _note_splits(files: ParquetFiles) -> tuple[str, ...]:
    if not any(files.splits):
        return ()
    counts = Counter(filter(None, files.splits))
    named = ", ".join(f"{count} of {split}" for split, count in counts.items())
    return (f"{len(files.paths)} parquet file(s), by their names {named}",)


@dataclass(frozen=True)
class _Part:
    """One file of several: its name, its columns as text, and whether it holds the bytes of images."""

    name: str
    num_rows: int
    texts: dict[str, list[str]]
    holds_bytes: bool
    split: str | None


def _read_part(files: ParquetFiles, path: Path, image_column: str | None) -> _Part:
    """Raises: BadInput where the file cannot be read, or has not the column of images."""
    with explained(files, path) as file:
        schema, noted = file.schema_arrow, read_features(file)
        if image_column is not None and image_column not in schema.names:
            raise BadInput(
                f"data.root={files.address}: {files.name(path)} has no column {image_column}, which holds the images "
                f"of {files.name(files.paths[0])}; give it one, or move it away"
            )
        num_rows = file.metadata.num_rows
        texts = {
            field.name: read_texts(files.place(path), _read_column(file, field.name), field, noted.get(field.name, {}))
            for field in schema
            if field.name != image_column and is_text(field.type)
        }
        holds_bytes = False
        if image_column is not None:
            holds_bytes = any(each is not None for each in _read_bytes(file, image_column))
            texts[image_column] = _read_paths(file, image_column)
        split = files.splits[files.paths.index(path)]
        return _Part(files.name(path), num_rows, texts, holds_bytes, split)


def read_images(files: ParquetFiles, path: Path, column: str) -> Iterator[tuple[bytes | None, str]]:
    """The images of one file, one by one, each with the path beside it; None and empty where there is none.

    Raises: BadInput where the file cannot be read.
    """
    with explained(files, path) as file:
        yield from zip(_read_bytes(file, column), _read_paths(file, column), strict=True)


def _read_bytes(file: Any, column: str) -> Iterator[bytes | None]:
    is_inside = is_struct(file.schema_arrow.field(column).type)
    wanted = [f"{column}.bytes"] if is_inside else [column]
    for batch in file.iter_batches(batch_size=ROWS_AT_ONCE, columns=wanted, use_threads=False):
        cells = batch.column(0)
        for cell in cells.field("bytes") if is_inside else cells:
            yield cell.as_py()


def _read_paths(file: Any, column: str) -> list[str]:
    """The paths that stand beside the images of a column; empty where there are none."""
    kind = file.schema_arrow.field(column).type
    if not is_struct(kind) or kind.get_field_index("path") < 0:
        return [""] * file.metadata.num_rows
    cells = _read_column(file, f"{column}.path").to_pylist()
    return [cell["path"] or "" if cell else "" for cell in cells]


def _read_column(file: Any, name: str) -> Any:
    return file.read([name], use_threads=False).column(0)


# which column is what


def _find_images(files: ParquetFiles, file: Any, told: Mapping[str, Any]) -> str | None:
    """The column of images, told, or the one whose type says it; None where columns of paths are meant.

    Raises: BadInput where there are several, or images are written as lists of numbers.
    """
    features = read_features(file)
    found = [field.name for field in file.schema_arrow if _may_hold_images(file, field, features)]
    arrays = [
        field.name
        for field in file.schema_arrow
        if is_array(field.type) or str(features.get(field.name, {}).get("_type", "")).startswith("Array")
    ]
    if (path := told.get("path")) is not None:
        found = [name for name in found if plain(name) == plain(path)]
        arrays = [name for name in arrays if plain(name) == plain(path)]
    usual = [name for name in found if plain(name) == "image"] or found
    if len(usual) > 1:
        one, other = (Guess("data.columns", {"path": name}, "it holds images") for name in usual[:2])
        raise ambiguous(one, other)
    paths = [field.name for field in file.schema_arrow if is_string(field.type) and plain(field.name) in PATH_NAMES]
    if not usual and arrays and (path is not None or not paths):
        raise BadInput(
            f"data.root={files.address}: {arrays[0]} holds lists of numbers and no images; write each image as the "
            "bytes of a PNG or TIFF file, or into a file .png, .tif or .npy whose path stands in the table"
        )
    return usual[0] if usual else None


def _may_hold_images(file: Any, field: Any, features: Mapping[str, Any]) -> bool:
    """Whether a column is one of bytes that are images, or that are called so."""
    noted = features.get(field.name, {}).get("_type", "Value")
    if noted not in ("Value", "Image") or not (is_struct(field.type) or is_binary(field.type)):
        return False  # Audio, say, has the form of Image
    if noted == "Image" or is_struct(field.type) or plain(field.name) in PATH_NAMES:
        return True
    some = islice(_read_bytes(file, field.name), NUM_LOOKED_AT)
    return any(each is not None and format_of(each[:SIGNATURE_BYTES]) for each in some)


def _find_roles(file: Any, image_column: str | None, told: Mapping[str, Any]) -> dict[str, str]:
    """The columns that a file itself says the role of.

    Raises: BadInput where several hold classes.
    """
    features = read_features(file)
    roles = {} if image_column is None else {"path": image_column}
    classes = [name for name in file.schema_arrow.names if features.get(name, {}).get("_type") == "ClassLabel"]
    classes = [name for name in classes if plain(name) == "label"] or classes
    if len(classes) > 1 and "label" not in told:
        one, other = (
            Guess("data.columns", {"label": name}, "it holds numbers of named classes") for name in classes[:2]
        )
        raise ambiguous(one, other)
    return {**roles, "label": classes[0]} if len(classes) == 1 else roles
