"""Images that lie in parquet files, unpacked: the very bytes, each into a file, with the table of them beside."""

import functools
import json
import shutil
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from sightline.data.collection.download import show_progress
from sightline.data.collection.image_files import SIGNATURE_BYTES, format_of, has_image_suffix
from sightline.data.collection.parquet_names import is_safe
from sightline.data.collection.table_parquet import (
    UNPACKED_KEY,
    UNPACKED_NAME,
    ParquetFiles,
    ParquetTable,
    explained,
    read_images,
)
from sightline.errors import BadInput
from sightline.runs.archives import in_units
from sightline.runs.files import whole_folder

NUMPY_SIGNATURE = b"\x93NUMPY"


def unpack(files: ParquetFiles, table: ParquetTable, folder: Path) -> Path:
    """The folder of the unpacked images and their table, whole or not at all; one that is there is taken as it is.

    Where a row holds no bytes but the path of a file below the parquet's folder, that file is copied. Where it holds
    neither, the image is an empty file: the audit names it.

    Raises: BadInput where a file cannot be read, or the disk is too small.
    """
    if folder.exists():
        return folder
    total = _num_bytes(files, table)
    folder.parent.mkdir(parents=True, exist_ok=True)
    if total > (free := shutil.disk_usage(folder.parent).free):
        raise BadInput(
            f"data.root={files.address}: unpacks to {in_units(total)}, and {folder.parent} has {in_units(free)} free; "
            "make room there, or set paths.cache"
        )
    with whole_folder(folder) as partial, show_progress(f"unpacking {files.address}", total) as advance:
        names = iter(table.cells(_column(table)))
        written: list[str] = []
        made: set[Path] = set()
        for path in files.paths:
            for content, beside in read_images(files, path, _column(table)):
                content = _read_beside(files.folder, beside) if content is None else content
                name = next(names)
                name += "" if has_image_suffix(name) else _suffix(content)
                target = partial / name
                if target.parent not in made:
                    target.parent.mkdir(parents=True, exist_ok=True)
                    made.add(target.parent)
                target.write_bytes(content)
                written.append(name)
                advance(len(content))
        _write_table(table, written, partial / UNPACKED_NAME)
    return folder


def _column(table: ParquetTable) -> str:
    assert table.image_column is not None, "there are images to unpack"
    return table.image_column


def _num_bytes(files: ParquetFiles, table: ParquetTable) -> int:
    """What the column of images holds, by what the files say of themselves."""
    total = 0
    for path in files.paths:
        with explained(files, path) as file:
            groups = [file.metadata.row_group(number) for number in range(file.metadata.num_row_groups)]
            chunks = [group.column(number) for group in groups for number in range(group.num_columns)]
            total += sum(
                chunk.total_uncompressed_size
                for chunk in chunks
                if chunk.path_in_schema in (_column(table), f"{_column(table)}.bytes")
            )
    return total


def _read_beside(folder: Path, path: str) -> bytes:
    """The file that a row names instead of holding an image; nothing where there is none."""
    return (folder / path).read_bytes() if is_safe(path) and (folder / path).is_file() else b""


def _suffix(content: bytes) -> str:
    """The suffix of the format that an image begins like; empty where it is none."""
    if content.startswith(NUMPY_SIGNATURE):
        return ".npy"
    name = format_of(content[:SIGNATURE_BYTES])
    return "" if name is None else _suffix_of(name)


@functools.cache
def _suffix_of(name: str) -> str:
    """The suffix of one of Pillow's formats: the one that is called like it, if there is one."""
    from PIL import Image

    suffixes = [suffix for suffix, other in Image.registered_extensions().items() if other == name]
    return f".{name.lower()}" if f".{name.lower()}" in suffixes else suffixes[0]


def _write_table(table: ParquetTable, paths: Sequence[str], target: Path) -> None:
    """All that the parquet files said, with paths for images."""
    import pyarrow as pa
    from pyarrow.parquet import write_table

    columns = dict(zip(table.header, map(list, zip(*table.rows.cells, strict=True)), strict=True))
    columns[_column(table)] = list(paths)
    counts = Counter(table.rows.files or [""] * len(paths))
    said = {
        "address": table.rows.address,
        "places": list(counts.items()),
        "roles": table.roles,
        "notes": list(table.notes),
    }
    written = pa.table({name: pa.array(texts, pa.string()) for name, texts in columns.items()})
    write_table(written.replace_schema_metadata({UNPACKED_KEY: json.dumps(said)}), target)
