"""Archives from anywhere, unpacked without trust: what could harm or mislead is refused, and nothing half is left."""

import bz2
import copy
import errno
import gzip
import io
import lzma
import os
import re
import shutil
import stat
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import IO, BinaryIO

from sightline.data.collection.download import in_units, show_progress
from sightline.errors import BadInput

ARCHIVE_SUFFIXES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz")
MAX_RATIO, RATIO_COUNTS_FROM = 1000, 100_000_000
"""Above so many bytes, an archive that grows more than a thousandfold is no data set."""

MAX_NAME_BYTES = 255  # what file systems take
MAX_HEADER_BYTES = 1 << 24
CHUNK_BYTES = 1 << 20
DAMAGED = (zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError, EOFError, NotImplementedError, ValueError)

_Stream = BinaryIO | gzip.GzipFile | bz2.BZ2File | lzma.LZMAFile


@dataclass(frozen=True)
class _Member:
    """A file of an archive: its name as written there, its size in bytes as declared, and how to read it."""

    name: str
    size: int
    is_folder: bool
    refusal: str  # why it is not taken, or ""
    open: Callable[[], IO[bytes]]


def is_archive(name: str) -> bool:
    return name.lower().endswith(ARCHIVE_SUFFIXES)


def extract(archive: Path, folder: Path, *, max_bytes: int | None = None) -> Path:
    """The folder with what the archive holds, whole or not at all; a folder that is there is taken as it is.

    Raises: BadInput, naming archive and member, for what could write elsewhere, fill the disk, or is damaged.
    """
    if not folder.exists():
        with whole_folder(folder) as partial:
            unpack(archive, partial, max_bytes=max_bytes)
    return folder


@contextmanager
def whole_folder(folder: Path) -> Iterator[Path]:
    """A hidden folder to fill, which takes the name at the end; a process that got there first is left its folder."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        yield partial
        partial.chmod(0o755)
        try:
            os.rename(partial, folder)  # noqa: PTH104 (whole or not at all)
        except OSError:
            if not folder.is_dir():
                raise
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def unpack(archive: Path, folder: Path, *, max_bytes: int | None = None) -> None:
    """Write the archive's files below a folder that is there; `extract` says what is refused."""
    if not archive.is_file():
        raise BadInput(f"data.root={archive}: no such file")
    read = _read_zip if archive.name.lower().endswith(".zip") else _read_tar
    try:
        with archive.open("rb") as raw, show_progress(f"unpacking {archive.name}", archive.stat().st_size) as advance:
            writer = _Writer(archive, folder, _limit(folder, max_bytes))
            position = 0
            for member in read(archive, raw, writer):
                writer.write(member)
                advance(raw.tell() - position)
                position = raw.tell()
    except BadInput:
        raise
    except DAMAGED as error:
        raise _damaged(archive, str(error)) from error
    except OSError as error:
        if error.errno not in (None, errno.EINVAL):
            raise  # the disk's fault; the archive's own are an offset that cannot be, or come without a number
        raise _damaged(archive, str(error)) from error


def _damaged(archive: Path, reason: str) -> BadInput:
    return BadInput(f"data.root={archive}: is damaged or no such archive ({reason}); fetch or make it again")


def _limit(folder: Path, max_bytes: int | None) -> tuple[int, str]:
    """The most bytes that may be written, and what sets that bound."""
    free = shutil.disk_usage(folder).free
    if max_bytes is not None and max_bytes < free:
        return max_bytes, f"more than the {in_units(max_bytes)} that are allowed"
    return free, f"and {folder.parent} has {in_units(free)} free; make room there"


@dataclass
class _Writer:
    """Writes members below a folder and refuses those that would leave it, clash, or make it too large."""

    archive: Path
    folder: Path
    limit: tuple[int, str]
    total: int = 0
    files: set[PurePosixPath] = field(default_factory=set)
    folders: set[PurePosixPath] = field(default_factory=lambda: {PurePosixPath()})

    def refuse(self, name: str, reason: str) -> BadInput:
        return BadInput(
            f"data.root={self.archive}: {name!r} {reason}; nothing was unpacked, make the archive again without that"
        )

    def check(self, member: _Member) -> PurePosixPath | None:
        """Where the member goes, below the folder; None for what an operating system left in the archive."""
        path = PurePosixPath(member.name.replace("\\", "/"))
        if "__MACOSX" in path.parts or path.name == ".DS_Store":
            return None
        if path.is_absolute() or re.match(r"[A-Za-z]:", member.name) or ".." in path.parts or "\0" in member.name:
            raise self.refuse(member.name, "would be written outside the folder")
        if any(len(os.fsencode(part)) > MAX_NAME_BYTES for part in path.parts):
            raise self.refuse(member.name, f"has a name of more than {MAX_NAME_BYTES} bytes")
        if member.refusal:
            raise self.refuse(member.name, member.refusal)
        if member.is_folder:
            self._enter(path, member.name)
            return path
        if path in self.files or path in self.folders:
            raise self.refuse(member.name, "is there twice")
        self._enter(path.parent, member.name)
        self.files.add(path)
        self._count(member)
        return path

    def write(self, member: _Member) -> None:
        path = self.check(member)
        if path is None:
            return
        target = self.folder / path
        if member.is_folder:
            target.mkdir(parents=True, exist_ok=True)
            return
        target.parent.mkdir(parents=True, exist_ok=True)
        with member.open() as source, target.open("xb") as file:
            written = 0
            while chunk := source.read(CHUNK_BYTES):
                written += len(chunk)
                if written > member.size:
                    raise self.refuse(member.name, f"holds more than the {member.size} bytes that it declares")
                file.write(chunk)
        if written < member.size:
            raise self.refuse(member.name, f"ends after {written} of {member.size} bytes")

    def _enter(self, folder: PurePosixPath, name: str) -> None:
        chain = {folder, *folder.parents}
        if chain & self.files:
            raise self.refuse(name, "is there twice, as a file and as a folder")
        self.folders |= chain

    def _count(self, member: _Member) -> None:
        self.total += member.size
        most, reason = self.limit
        if self.total > most:
            raise self.refuse(member.name, f"brings the whole to {in_units(self.total)}, {reason}")
        ratio = self.total / max(1, self.archive.stat().st_size)
        if self.total > RATIO_COUNTS_FROM and ratio > MAX_RATIO:
            raise self.refuse(member.name, f"makes the archive grow {ratio:,.0f} times, as no images do")


def _read_zip(archive: Path, raw: BinaryIO, writer: _Writer) -> Iterable[_Member]:
    """Members of a zip, after all names and sizes have been checked: a bad one is refused before a byte is written."""
    packed = zipfile.ZipFile(raw)
    members = [_zip_member(packed, info) for info in packed.infolist()]
    rehearsal = _Writer(archive, writer.folder, writer.limit)
    for member in members:
        rehearsal.check(member)
    return members


def _zip_member(packed: zipfile.ZipFile, info: zipfile.ZipInfo) -> _Member:
    kind = stat.S_IFMT(info.external_attr >> 16) if info.create_system == 3 else 0  # 3: made on Unix
    refusal = ""
    if info.flag_bits & 0x1:
        refusal = "is encrypted"
    elif stat.S_ISLNK(kind):
        refusal = "is a link"
    elif kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        refusal = "is no ordinary file"
    unlimited = copy.copy(info)
    unlimited.file_size = 1 << 62  # zipfile would stop at the declared size, and hide that there is more
    is_folder = info.orig_filename.endswith(("/", "\\"))
    return _Member(info.orig_filename, info.file_size, is_folder, refusal, lambda: packed.open(unlimited))


def _read_tar(archive: Path, raw: BinaryIO, writer: _Writer) -> Iterator[_Member]:
    """Members of a tar, one by one: a compressed one has no list to look at first."""
    blocks = _Blocks(_decompressed(archive, raw), writer)
    with tarfile.open(fileobj=blocks, mode="r:") as packed:
        while (info := packed.next()) is not None:
            refusal = "" if info.isreg() or info.isdir() else "is no ordinary file"
            if info.issym() or info.islnk():
                refusal = "is a link"
            yield _Member(info.name, info.size, info.isdir(), refusal, lambda info=info: _open_tar(packed, info))
    if blocks.last.strip(b"\0") or len(blocks.last) < tarfile.BLOCKSIZE:
        raise tarfile.ReadError("its end is missing")
    blocks.drain()


def _open_tar(packed: tarfile.TarFile, info: tarfile.TarInfo) -> IO[bytes]:
    file = packed.extractfile(info)
    assert file is not None, "only ordinary files are opened"
    return file


def _decompressed(archive: Path, raw: BinaryIO) -> _Stream:
    name = archive.name.lower()
    if name.endswith((".gz", ".tgz")):
        return gzip.GzipFile(fileobj=raw)
    if name.endswith((".bz2", ".tbz2")):
        return bz2.BZ2File(raw)
    if name.endswith((".xz", ".txz")):
        return lzma.LZMAFile(raw)
    if name.endswith(".tar"):
        return raw
    raise BadInput(
        f"data.root={archive}: not an archive that can be unpacked; make it one of {' '.join(ARCHIVE_SUFFIXES)}"
    )


class _Blocks(io.RawIOBase):
    """A tar's bytes as tarfile asks for them: remembers the last ones, refuses headers that would fill the memory."""

    def __init__(self, source: _Stream, writer: _Writer) -> None:
        self.source, self.writer, self.last = source, writer, b""

    def read(self, size: int = -1) -> bytes:
        if not 0 <= size <= MAX_HEADER_BYTES:
            raise self.writer.refuse("a header", f"is {in_units(size)} long")
        self.last = self.source.read(size)
        return self.last

    def seek(self, offset: int, whence: int = 0) -> int:
        return self.source.seek(offset, whence)

    def tell(self) -> int:
        return self.source.tell()

    def drain(self) -> None:
        """Read what pads the archive to its end, where checksums of the compression lie."""
        left = RATIO_COUNTS_FROM
        while chunk := self.source.read(CHUNK_BYTES):
            left -= len(chunk)
            if left < 0:
                raise self.writer.refuse("the padding at the end", "has no end")
