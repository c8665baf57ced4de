"""The pictures that a key names, as a list that holds ten million of them: a folder, files, a table, or s3://…"""

import hashlib
import logging
import os
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, overload

from sightline.config import TABLE_SUFFIXES
from sightline.data.collection.image_files import ImageSearch, find_named, has_image_suffix, is_hidden
from sightline.data.collection.parquet_images import unpack
from sightline.data.collection.sources import localise
from sightline.data.collection.table_columns import choose_columns, find_header
from sightline.data.collection.table_files import Files, LocalFiles, NamedFiles
from sightline.data.collection.table_parquet import find_packed, is_parquet, parquet_file, read_parquet
from sightline.data.collection.table_paths import find_paths
from sightline.data.collection.table_text import read_rows
from sightline.errors import BadInput
from sightline.runs.archives import is_archive
from sightline.runs.file_names import to_text

if TYPE_CHECKING:
    from sightline.aws.s3 import Storage

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
    try:
        if one.startswith(S3) and not is_archive(one):
            return _name_stored(one, cache)
        if "://" in one or is_archive(one):
            one = str(localise(one, cache))
        if _is_table(one):
            table = Path(one).expanduser().absolute()
            if not table.is_file():
                raise BadInput(f"images={table}: no such file; name a table of images, or a folder of them")
            return NamedPictures(_list_table(table, LocalFiles(table.parent), cache))
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


def _list_table(table: Path, beside: Files, cache: Path) -> FileList:
    """The pictures that a table's rows name, each once, in their order, among the files of its folder.

    Raises: BadInput that names the line, or the column that is lacking.
    """
    if is_parquet(table.name):
        parquet = parquet_file(table, str(table))
        found = read_parquet(parquet, {})
        if (column := find_packed(parquet, {})) is not None:
            state = table.stat()
            key = hashlib.sha256(f"{table}\n{state.st_size}\n{state.st_mtime_ns}\n{column}".encode()).hexdigest()[:12]
            return _list_folder(str(unpack(parquet, found, cache / "extracted" / f"{table.stem}-{key}-pictures")))
        header, rows, told = found.header, found.rows, {**found.roles, **ONLY_PATHS}
    else:
        header, rows = find_header(read_rows(table, str(table), {}), beside, None)
        told = dict(ONLY_PATHS)
    columns, guesses = choose_columns(rows, header, told, beside)
    paths, more = find_paths(rows, columns.path.values, beside, {})
    for guess in (*guesses, *more):
        log.info("images=%s: %s", table, guess.because)
    return FileList.of(table.parent, dict.fromkeys(paths))


# what lies in S3


@dataclass(frozen=True)
class _Folder:
    """A folder in S3 and its copy here."""

    storage: "Storage"
    bucket: str
    prefix: str
    """Ends in a slash, or is empty."""
    copy: Path

    def names(self, only: str = "") -> Iterator[str]:
        """The pictures below it whose names begin so, in the order of their names.

        Raises: BadInput for a name that no file here can have.
        """
        for each in self.storage.find(self.bucket, self.prefix + only):
            name = each.key[len(self.prefix) :]
            if has_image_suffix(name) and not any(map(is_hidden, name.split("/"))):
                if not all(name.split("/")):
                    raise BadInput(
                        f"images=s3://{self.bucket}/{each.key}: cannot be a file's name here; rename it there"
                    )
                yield name

    def bring(self, name: str) -> Path:
        """The copy of a file, made anew where it has changed.

        Raises: BadInput where it is gone.
        """
        address = f"{S3}{self.bucket}/{self.prefix}{name}"
        if not self.storage.refresh_file(address, self.copy / name):
            raise BadInput(
                f"images={address}: there is no such file; correct it, or list it anew with the same command"
            )
        return self.copy / name

    def fetch(self, part: FileList) -> None:
        """Copies of files of the list, several at once."""
        from rich.progress import track

        names = (part.name(number) for number in range(len(part)))
        with ThreadPoolExecutor(NUM_TRANSFERS) as pool:
            shown = f"copying s3://{self.bucket}/{self.prefix}"
            for _ in track(pool.map(self.bring, names), shown, len(part), transient=True):
                pass


def _name_stored(address: str, cache: Path) -> NamedPictures:
    """The pictures below a prefix, one of them, or those of a table; bytes come when they are asked for.

    Raises: BadInput where there are none, or no such bucket.
    """
    from sightline.aws.clients import make_client
    from sightline.aws.s3 import Storage, split_address

    client = make_client("s3", needs=f'images={address}: S3 needs boto3; pip install "sightline-vision[s3]"')
    bucket, key = split_address(address)
    is_file = _is_table(address) or has_image_suffix(key)
    top, _, name = key.rpartition("/") if is_file else (key.rstrip("/"), "", "")
    prefix = f"{top}/" if top else ""
    copy = cache / "remote" / f"pictures-{hashlib.sha256(f'{bucket}/{prefix}'.encode()).hexdigest()[:12]}"
    folder = _Folder(Storage(client), bucket, prefix, copy)
    if _is_table(address):
        files = _list_table(folder.bring(name), NamedFiles([*folder.names()], f"{S3}{bucket}/{top}"), cache)
        return NamedPictures(files, folder.fetch) if files.base == copy else NamedPictures(files)
    files = FileList.of(copy, (each for each in folder.names(name) if not is_file or each == name))
    if not files:
        raise BadInput(f"images={address}: no images found below it; correct the bucket or the prefix")
    return NamedPictures(files, folder.fetch)
