"""Safe unpacking of untrusted archives: harmful or misleading members are refused."""

import bz2
import copy
import errno
import gzip
import lzma
import os
import re
import shutil
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import IO, Any, BinaryIO

from sightline.errors import BadInput

ARCHIVE_SUFFIXES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz")
DECOMPRESS: dict[str, Callable[[Any], Any]] = {
    "gz": gzip.open,
    "tgz": gzip.open,
    "bz2": bz2.open,
    "tbz2": bz2.open,
    "xz": lzma.open,
    "txz": lzma.open,
    "tar": lambda raw: raw,
}
MAX_RATIO, RATIO_COUNTS_FROM = 1000, 100_000_000
"""Above so many bytes, an archive that grows more than a thousandfold is a bomb."""
MAX_NAME_BYTES = 255  # what file systems take
MAX_HEADER_BYTES = 1 << 24
CHUNK_BYTES = 1 << 20
DAMAGED = (zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError, EOFError, NotImplementedError, ValueError)
LINK, SPECIAL = "is a link", "is no ordinary file"


@dataclass(frozen=True)
class _Member:
    """A file of an archive: its name as written there, its size in bytes as declared, and how to read it."""

    name: str
    size: int
    is_folder: bool
    refusal: str  # why it is not taken, or ""
    open: Callable[[], IO[bytes] | None]


def is_archive(name: str) -> bool:
    return name.lower().endswith(ARCHIVE_SUFFIXES)


def unpack(
    archive: Path,
    folder: Path,
    *,
    title: str = "",
    max_bytes: int | None = None,
    advance: Callable[[int], object] = lambda count: None,
) -> None:
    """Write an archive's files into an empty folder; after an error what is in it is not to be used.

    Links, devices, encrypted files, names that lead elsewhere or are there twice, and what the disk cannot hold are
    refused. Modes and owners are not restored. `advance` gets the bytes of the archive that have been read.

    Raises: BadInput, which begins with the `title` (by default the archive's path) and names the member.
    """
    title = title or str(archive)
    if not archive.is_file():
        raise BadInput(f"{title}: no such file")
    if not is_archive(archive.name):
        suffixes = " ".join(ARCHIVE_SUFFIXES)
        raise BadInput(f"{title}: not an archive that can be unpacked; make it one of {suffixes}")
    try:
        with archive.open("rb") as raw:
            writer = _Writer(archive, title, folder, _limit(folder, max_bytes))
            members, position = _read_zip(raw) if archive.name.lower().endswith(".zip") else _read_tar(raw, writer), 0
            for member in members:
                writer.write(member)
                advance(raw.tell() - position)
                position = raw.tell()
    except DAMAGED as error:
        raise _damaged(title, error) from error
    except OSError as error:
        if error.errno not in (None, errno.EINVAL):
            raise  # the disk's fault; the archive's own are an offset that cannot be, or come without a number
        raise _damaged(title, error) from error


def in_units(count: int) -> str:
    """A number of bytes as people read it: 12.3 MB."""
    for unit, size in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return f"{count} bytes"


def _damaged(title: str, error: Exception) -> BadInput:
    return BadInput(f"{title}: is damaged or no such archive ({error}); fetch or make it again")


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
    title: str
    folder: Path
    limit: tuple[int, str]
    total: int = 0
    files: set[PurePosixPath] = field(default_factory=set)
    folders: set[PurePosixPath] = field(default_factory=lambda: {PurePosixPath()})

    def refuse(self, name: str, reason: str) -> BadInput:
        return BadInput(f"{self.title}: {name!r} {reason}; nothing was unpacked, make the archive again without that")

    def write(self, member: _Member) -> None:
        path = PurePosixPath(member.name.replace("\\", "/"))
        if "__MACOSX" in path.parts or path.name == ".DS_Store":  # what an operating system adds
            return
        if problem := self._problem(member, path):
            raise self.refuse(member.name, problem)
        target = self.folder / path
        if member.is_folder:
            target.mkdir(parents=True, exist_ok=True)
            return
        target.parent.mkdir(parents=True, exist_ok=True)
        source, written = member.open(), 0
        assert source is not None, "only ordinary files are opened"
        with source, target.open("xb") as file:
            while chunk := source.read(CHUNK_BYTES):
                written += len(chunk)
                if written > member.size:
                    raise self.refuse(member.name, f"holds more than the {member.size} bytes that it declares")
                file.write(chunk)
        if written < member.size:
            raise self.refuse(member.name, f"ends after {written} of {member.size} bytes")

    def _problem(self, member: _Member, path: PurePosixPath) -> str:
        """Why a member is not taken, or nothing once it counts as written."""
        if path.is_absolute() or re.match(r"[A-Za-z]:", member.name) or ".." in path.parts or "\0" in member.name:
            return "would be written outside the folder"
        if any(len(os.fsencode(part)) > MAX_NAME_BYTES for part in path.parts):
            return f"has a name of more than {MAX_NAME_BYTES} bytes"
        if member.refusal:
            return member.refusal
        folders = {path, *path.parents} if member.is_folder else set(path.parents)
        if folders & self.files:
            return "is there twice, as a file and as a folder"
        if not member.is_folder and (path in self.files or path in self.folders):
            return "is there twice"
        self.folders |= folders
        if not member.is_folder:
            self.files.add(path)
            self.total += member.size
        most, reason = self.limit
        if self.total > most:
            return f"brings the whole to {in_units(self.total)}, {reason}"
        ratio = self.total / max(1, self.archive.stat().st_size)
        if self.total > RATIO_COUNTS_FROM and ratio > MAX_RATIO:
            return f"makes the archive grow {ratio:,.0f} times, as no honest one does"
        return ""


def _read_zip(raw: BinaryIO) -> Iterator[_Member]:
    packed = zipfile.ZipFile(raw)
    for info in packed.infolist():
        kind = stat.S_IFMT(info.external_attr >> 16) if info.create_system == 3 else 0  # 3: made on Unix
        refusal = LINK if stat.S_ISLNK(kind) else "" if kind in (0, stat.S_IFREG, stat.S_IFDIR) else SPECIAL
        if info.flag_bits & 0x1:
            refusal = "is encrypted"
        unlimited = copy.copy(info)
        unlimited.file_size = 1 << 62  # zipfile would stop at the declared size, and hide that there is more
        name = info.orig_filename
        is_folder = name.endswith(("/", "\\"))
        yield _Member(name, info.file_size, is_folder, refusal, lambda whole=unlimited: packed.open(whole))


def _read_tar(raw: BinaryIO, writer: _Writer) -> Iterator[_Member]:
    """Members one by one, and at the end a look at what tarfile leaves unread: an archive may be cut there."""
    blocks = _Blocks(DECOMPRESS[writer.archive.name.lower().rsplit(".")[-1]](raw), writer)
    with tarfile.open(fileobj=blocks, mode="r:") as packed:  # pyright: ignore[reportArgumentType, reportCallIssue]
        while (info := packed.next()) is not None:
            refusal = "" if info.isreg() or info.isdir() else LINK if info.issym() or info.islnk() else SPECIAL
            yield _Member(info.name, info.size, info.isdir(), refusal, lambda info=info: packed.extractfile(info))
    if blocks.last.strip(b"\0") or len(blocks.last) < tarfile.BLOCKSIZE:
        raise tarfile.ReadError("its end is missing")
    padding = 0
    while chunk := blocks.source.read(CHUNK_BYTES):  # the checksums of the compression lie behind it
        padding += len(chunk)
        if padding > RATIO_COUNTS_FROM:
            raise writer.refuse("the padding at the end", "has no end")


class _Blocks:
    """A tar's bytes as tarfile asks for them: remembers the last ones, refuses headers that would fill the memory."""

    def __init__(self, source: Any, writer: _Writer) -> None:
        self.source, self.writer, self.last = source, writer, b""
        self.seek, self.tell = source.seek, source.tell

    def read(self, size: int) -> bytes:
        if not 0 <= size <= MAX_HEADER_BYTES:
            raise self.writer.refuse("a header", f"is {in_units(size)} long")
        self.last = self.source.read(size)
        return self.last
