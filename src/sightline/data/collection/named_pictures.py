"""The pictures that a key names, as a list that holds ten million of them: a folder, files, a table, or s3://…"""

import hashlib
import logging
import os
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import overload

from sightline.config import TABLE_SUFFIXES
from sightline.data.collection.image_files import ImageSearch, find_named, has_image_suffix, is_hidden
from sightline.data.collection.parquet_images import unpack
from sightline.data.collection.sources import localise
from sightline.data.collection.table_columns import choose_columns, find_header
from sightline.data.collection.table_files import LocalFiles
from sightline.data.collection.table_parquet import find_packed, is_parquet, parquet_file, read_parquet
from sightline.data.collection.table_paths import find_paths
from sightline.data.collection.table_text import read_rows
from sightline.errors import BadInput
from sightline.runs.archives import is_archive
from sightline.runs.file_names import to_text

log = logging.getLogger(__name__)
ONLY_PATHS = {"label": False, "split": False, "group": False}
"""What a table of pictures to classify need not tell."""
S3 = "s3://"
NUM_TRANSFERS = 16


class FileList(Sequence[Path]):
    """Files below a folder, in an order that stays: some 40 bytes a file, and a part of a list shares them."""

    def __init__(self, base: Path, names: bytes, starts: Sequence[int], first: int = 0) -> None:
        self.base, self._names, self._starts = base, names, starts
        self.first = first
        """The number of its first file in the list that it is a part of."""

    @classmethod
    def of(cls, base: Path, names: Iterable[str]) -> "FileList":
        """A list of POSIX paths below the folder."""
        joined, starts = bytearray(), array("Q", [0])
        for name in names:
            joined += os.fsencode(name)
            starts.append(len(joined))
        return cls(base, bytes(joined), starts)

    def __len__(self) -> int:
        return len(self._starts) - 1

    @overload
    def __getitem__(self, index: int) -> Path: ...
    @overload
    def __getitem__(self, index: slice) -> "FileList": ...
    def __getitem__(self, index: int | slice) -> "Path | FileList":
        if isinstance(index, int):
            return self.base / self.name(index)
        first, last, step = index.indices(len(self))
        if step != 1:
            raise ValueError("a part of a list is a run of neighbours")
        return FileList(self.base, self._names, self._starts[first : max(first, last) + 1], self.first + first)

    def name(self, index: int) -> str:
        """The POSIX path below the folder."""
        if not 0 <= index < len(self):
            raise IndexError(index)
        return os.fsdecode(self._names[self._starts[index] : self._starts[index + 1]])

    def texts(self) -> Iterator[str]:
        """The names, as tables write them."""
        return (to_text(self.name(index)) for index in range(len(self)))

    def sha256(self) -> str:
        return hash_names(self.texts())


def hash_names(texts: Iterable[str]) -> str:
    """Of names in their order, as tables write them."""
    digest = hashlib.sha256()
    for text in texts:
        digest.update(text.encode() + b"\n")
    return digest.hexdigest()


@dataclass(frozen=True)
class NamedPictures:
    """Pictures to classify, and what brings some of them here where they lie elsewhere."""

    files: FileList
    fetch: Callable[[FileList], None] = lambda _: None


def name_pictures(images: str | Sequence[str], cache: Path) -> NamedPictures:
    """The pictures that the key `images` names: a folder, a file, a pattern or several of them; a table; or s3://…

    A table (.csv, .tsv, .txt, .lst or .parquet) has a column of paths relative to its folder; images that lie in a
    parquet file are unpacked below the cache, and those of an archive or at another address than S3 are copied there.

    Raises: BadInput for what is not there, names no picture, or cannot be read.
    """
    one = images if isinstance(images, str) else images[0] if len(images) == 1 else ""
    several = [] if one else [each for each in images if "://" in each or _is_table(each)]
    if several:
        raise BadInput(f"images={several[0]}: a table or an address is given alone; name one, or folders and files")
    if one.startswith(S3) and not (_is_table(one) or is_archive(one)):
        return _list_s3(one, cache)
    try:
        if "://" in one or is_archive(one):
            one = str(localise(one, cache))
        if _is_table(one):
            return NamedPictures(_list_table(Path(one).expanduser().absolute(), cache))
    except BadInput as error:  # the readers of data sets speak of their key
        raise BadInput(str(error).replace("data.root=", "images=").replace(" data.columns.path=", " path=")) from error
    if one and Path(one).expanduser().is_dir():
        return NamedPictures(_list_folder(one))
    files, base = find_named(one or images)
    return NamedPictures(FileList.of(base, (file.relative_to(base).as_posix() for file in files)))


def _is_table(name: str) -> bool:
    return name.lower().endswith(TABLE_SUFFIXES)


def _list_folder(name: str) -> FileList:
    """All images below a folder, none of them held as an object."""
    folder, search = Path(name).expanduser().absolute(), ImageSearch()
    files = FileList.of(folder, search.find(folder))
    for line in search.notes(folder):
        log.info("%s: %s", folder, line)
    if not files:
        raise BadInput(f"images={name}: no images found in this folder")
    return files


def _list_table(table: Path, cache: Path) -> FileList:
    """The pictures that a table's rows name, each once, in their order.

    Raises: BadInput that names the line, or the column that is lacking.
    """
    if not table.is_file():
        raise BadInput(f"images={table}: no such file; name a table of images, or a folder of them")
    beside = LocalFiles(table.parent)
    if is_parquet(table.name):
        parquet = parquet_file(table, str(table))
        found = read_parquet(parquet, {})
        if (column := find_packed(parquet, {})) is not None:
            state = table.stat()
            key = hashlib.sha256(f"{table}\n{state.st_size}\n{state.st_mtime_ns}\n{column}".encode()).hexdigest()[:12]
            return _list_folder(str(unpack(parquet, found, cache / "extracted" / f"{table.stem}-{key}-pictures")))
        header, rows, told = found.header, found.rows, {**found.roles, **ONLY_PATHS}
    else:
        header, rows = find_header(rows := read_rows(table, str(table), {}), beside, None)
        told = dict(ONLY_PATHS)
    columns, guesses = choose_columns(rows, header, told, beside)
    paths, more = find_paths(rows, columns.path.values, beside, {})
    for guess in (*guesses, *more):
        log.info("images=%s: %s", table, guess.because)
    return FileList.of(table.parent, dict.fromkeys(paths))


# what lies in S3


def _list_s3(address: str, cache: Path) -> NamedPictures:
    """The pictures below a prefix by their names; their bytes come when they are asked for, and stay in the cache.

    Raises: BadInput where there are none, or no such bucket.
    """
    from sightline.aws.clients import make_client
    from sightline.aws.s3 import Storage, split_address

    client = make_client("s3", needs=f'images={address}: S3 needs boto3; pip install "sightline-vision[s3]"')
    storage, (bucket, key) = Storage(client), split_address(address)
    is_one = has_image_suffix(key)
    top = key.rpartition("/")[0] if is_one else key.rstrip("/")
    prefix = f"{top}/" if top else ""
    sizes, times = array("Q"), array("d")

    def names() -> Iterator[str]:
        for each in storage.find(bucket, key if is_one else prefix):
            name = each.key[len(prefix) :]
            if not has_image_suffix(name) or any(map(is_hidden, name.split("/"))) or (is_one and each.key != key):
                continue
            if not all(name.split("/")):
                raise BadInput(f"images={address}: {each.key} cannot be the name of a file here; rename it there")
            sizes.append(each.size)
            times.append(each.changed)
            yield name

    folder = cache / "remote" / f"pictures-{hashlib.sha256(f'{bucket}/{prefix}'.encode()).hexdigest()[:12]}"
    files = FileList.of(folder, names())
    if not files:
        raise BadInput(f"images={address}: no images found below it; correct the bucket or the prefix")

    def fetch(part: FileList) -> None:
        def get(number: int) -> None:
            path, index = part[number], part.first + number
            if path.is_file() and (path.stat().st_size, int(path.stat().st_mtime)) == (sizes[index], int(times[index])):
                return
            if not storage.download_file(f"{S3}{bucket}/{prefix}{part.name(number)}", path):
                raise BadInput(f"images={address}: {part.name(number)} is gone; the same command lists them anew")

        from rich.progress import track

        with ThreadPoolExecutor(NUM_TRANSFERS) as pool:
            for _ in track(pool.map(get, range(len(part))), f"copying {address}", len(part), transient=True):
                pass

    return NamedPictures(files, fetch)
