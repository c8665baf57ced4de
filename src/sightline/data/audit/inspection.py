"""Inspection of every file, read once and indexed: hashes, size, mode, and whether it can be decoded."""

import hashlib
import io
import logging
import math
import os
import re
import sqlite3
import stat
import struct
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageStat, UnidentifiedImageError

from sightline.data.arrays import NPY_SIGNATURE, TIFF_SIGNATURES, Header, read
from sightline.data.decoding import LARGE, TooManyPixels, describe_too_many, strips, values_of
from sightline.data.deep_greys import MAX_VALUES, extent, is_deep
from sightline.data.levels import in_8_bits
from sightline.data.parallel import map_chunks
from sightline.data.transforms import to_rgb
from sightline.runs.file_names import to_name, to_text
from sightline.task_spec import MAX_PIXELS

log = logging.getLogger(__name__)

STATUSES = (
    *("ok", "unreadable", "truncated", "empty", "not_an_image", "line_ending_damage", "too_many_pixels"),
    "other_channels",  # which follows from the other files: none has it when it is inspected
)
TOO_MANY_PIXELS = STATUSES.index("too_many_pixels")
FACTS = np.dtype(
    [
        ("sha256", "u1", (32,)),  # of the file's bytes
        ("pixels", "u1", (16,)),  # blake2b of the RGB pixels (deep ones: of the values) and the size; zero without any
        ("perceptual", "u8"),  # imagehash.phash: 64 signs of low frequencies
        ("num_bytes", "u8"),
        ("width", "u4"),  # upright, as training sees it
        ("height", "u4"),
        ("mode", "S11"),  # as Header says
        ("channels", "u2"),  # 1 of greys, 3 of colours, else the bands
        ("is_deep", "?"),  # more than 8 bits
        ("low", "f4"),  # of deep ones: the values between which nearly all pixels lie; else 0 and 0
        ("high", "f4"),
        ("brightness", "f2"),  # mean and standard deviation of the greys, 0 to 255 (deep ones: from low to high)
        ("contrast", "f2"),  # zero for an image of one colour alone
        ("has_frames", "?"),  # more than one picture, of which the first is taken
        ("status", "u1"),  # an index into STATUSES
    ]
)  # 100 bytes
FILES_PER_QUERY = 500

_Row = tuple[bytes, str]
"""A row of FACTS as bytes, and what to say about it."""
_GONE = (-1, -1)


@dataclass(frozen=True)
class Inspection:
    """What the files hold: one row of FACTS a path, in the order of the paths; a text for each row that is not ok."""

    facts: np.ndarray
    details: dict[str, str]
    num_read: int
    """How many files were read; the others were remembered."""
    seconds: float


def inspect_files(
    root: Path,
    paths: Sequence[str] | np.ndarray,
    *,
    index: Path | None,
    decode: bool = True,
    max_pixels: int = MAX_PIXELS,
    num_workers: int | None = None,
) -> Inspection:
    """Facts about every file; with `decode=False` the hash of its bytes alone.

    Images of more than `max_pixels` are not decoded.

    `index` is an SQLite file that remembers files by path, size and modification time, so that the next call reads
    new and changed ones only. Several processes may use one at once. Without it, or where it cannot be used,
    everything is read.
    """
    began = time.perf_counter()
    files = _Files(root, paths, np.arange(len(paths)))
    facts, details = np.zeros(len(paths), FACTS), {}

    def keep(row: int, blob: bytes, detail: str) -> None:
        facts[row] = np.frombuffer(blob, FACTS)[0]
        if detail:
            details[str(paths[row])] = detail

    with _Index(index, decode) as remembered:
        states = np.array([_state(file) for file in files]).reshape(-1, 2)
        is_known = np.zeros(len(files), bool)
        for row, (blob, detail) in _recall_all(remembered, files, states):
            is_known[row] = True
            keep(row, blob, detail)
        was_too_large = facts["status"] == TOO_MANY_PIXELS
        for row in np.flatnonzero(was_too_large & (_num_pixels(facts) <= max_pixels)).tolist():
            is_known[row] = False  # it was not decoded, with a smaller limit
            del details[str(paths[row])]
        unknown = _Files(root, paths, np.flatnonzero(~is_known))
        read_rows = partial(_read_facts, max_pixels=max_pixels) if decode else _read_hashes
        read = map_chunks(read_rows, unknown, title="reading files", num_workers=num_workers)
        for row, file, (blob, detail) in zip(unknown.rows, unknown, chain.from_iterable(read), strict=True):
            keep(row, blob, detail)
            if any(blob[:32]):  # the bytes could be read
                remembered.remember(file, states[row], blob, detail)
    can_decode = (facts["status"] == 0) | (facts["status"] == TOO_MANY_PIXELS)
    for row in np.flatnonzero(
        can_decode & (_num_pixels(facts) > max_pixels)
    ).tolist():  # whatever the limit was in the index
        facts["status"][row] = TOO_MANY_PIXELS
        details[str(paths[row])] = describe_too_many(int(_num_pixels(facts[row])), max_pixels)
    seconds = time.perf_counter() - began
    if len(unknown):
        log.info("inspected %s files in %.1f s", f"{len(unknown):,}", seconds)
    return Inspection(facts, dict(sorted(details.items())), len(unknown), seconds)


def _num_pixels(facts: np.ndarray) -> np.ndarray:
    return facts["width"].astype(np.uint64) * facts["height"]


class _Files(Sequence[str]):
    """Absolute paths of some rows, made when they are asked for."""

    def __init__(self, root: Path, paths: Sequence[str] | np.ndarray, rows: np.ndarray) -> None:
        self.root, self.paths, self.rows = root, paths, rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self._file(row) for row in self.rows[index].tolist()]
        return self._file(int(self.rows[index]))

    def _file(self, row: int) -> str:
        return f"{self.root}/{to_name(str(self.paths[row]))}"


def _state(file: str) -> tuple[int, int]:
    """Size and modification time in nanoseconds of a regular file, which tell the index whether it has changed."""
    try:
        found = os.stat(file)  # noqa: PTH116 (a path for each of millions of files takes time)
    except (OSError, ValueError):
        return _GONE
    return (found.st_size, found.st_mtime_ns) if stat.S_ISREG(found.st_mode) else _GONE


def _recall_all(remembered: "_Index", files: _Files, states: np.ndarray) -> Iterator[tuple[int, _Row]]:
    for start in range(0, len(files), FILES_PER_QUERY):
        part = files[start : start + FILES_PER_QUERY]
        known = remembered.recall(part)
        for row, file in enumerate(part, start):
            size, mtime, blob, detail = known.get(to_text(file), (*_GONE, b"", ""))
            if (size, mtime) == tuple(states[row]) and len(blob) == FACTS.itemsize:
                yield row, (blob, detail)


# One file


def _read_hashes(paths: Sequence[str]) -> list[_Row]:
    """The rows of files whose bytes alone matter."""
    rows = []
    for path in paths:
        row, data, detail = _read_bytes(path)
        if data == b"":
            row["status"], detail = STATUSES.index("empty"), "the file has no bytes"
        rows.append((row.tobytes(), detail))
    return rows


def _read_facts(paths: Sequence[str], max_pixels: int) -> list[_Row]:
    """The rows of files, decoded as training would decode them."""
    rows = []
    for path in paths:
        row, data, detail = _read_bytes(path)
        if data is not None:
            status, detail = _judge(data, row, max_pixels)
            row["status"] = STATUSES.index(status)
        rows.append((row.tobytes(), detail))
    return rows


def _read_bytes(path: str) -> tuple[np.ndarray, bytes | None, str]:
    row = np.zeros((), FACTS)
    row["status"] = STATUSES.index("unreadable")
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):  # noqa: PTH116 (reading a pipe would wait for ever)
            return row, None, "not a regular file"
        data = Path(path).read_bytes()
    except (OSError, ValueError) as error:
        broken_link = os.path.islink(path) and not os.path.exists(path)  # noqa: PTH110, PTH114 (any string may come)
        return row, None, "a link to nothing" if broken_link else getattr(error, "strerror", None) or str(error)
    row["sha256"] = np.frombuffer(hashlib.sha256(data).digest(), np.uint8)
    row["num_bytes"] = len(data)
    row["status"] = STATUSES.index("ok")
    return row, data, ""


def _judge(data: bytes, row: np.ndarray, max_pixels: int) -> tuple[str, str]:
    """Status and text for a file's bytes; fills in what the decoded image says."""
    if not data:
        return "empty", "the file has no bytes"
    if damage := find_line_ending_damage(data):
        return "line_ending_damage", damage

    def look(header: Header) -> None:
        row["mode"], row["width"], row["height"] = header.mode.encode(), header.width, header.height
        row["channels"], row["is_deep"], row["has_frames"] = header.channels, header.is_deep, header.has_frames

    try:
        picture = read(io.BytesIO(data), max_pixels, look=look)
        if isinstance(picture, np.ndarray):
            _describe_array(picture, row)
        else:
            _describe(picture, row)
    except TooManyPixels as error:
        return "too_many_pixels", str(error)
    except UnidentifiedImageError:
        return _judge_unidentified(data)
    except Exception as error:  # noqa: BLE001 (Pillow's plugins raise OSError, ValueError, SyntaxError and more)
        text = str(error) or type(error).__name__
        return ("truncated" if _is_cut(data, error) else "unreadable"), text
    return "ok", ""


SIGNATURES = {b"\x89PNG\r\n\x1a\n": "PNG", b"\xff\xd8\xff": "JPEG", b"GIF8": "GIF"}
SIGNATURES |= dict.fromkeys(TIFF_SIGNATURES, "TIFF") | {NPY_SIGNATURE: "NumPy"}


def _judge_unidentified(data: bytes) -> tuple[str, str]:
    """A file that Pillow does not open: cut or damaged where it begins like an image, or none at all."""
    for signature, name in SIGNATURES.items():
        if data.startswith(signature):
            if name == "PNG" and b"IEND" not in data:
                return "truncated", "begins like a PNG file and has no end"
            return "unreadable", f"begins like a {name} file and cannot be opened as one"
    return "not_an_image", f"no image format begins like this: {data[:16]!r}"


def _is_cut(data: bytes, error: Exception) -> bool:
    """Whether an image that does not decode ends before its pixels do."""
    if data[:4] == b"RIFF" and len(data) >= 8:
        return len(data) < 8 + struct.unpack("<I", data[4:8])[0]
    text = str(error).lower()
    return isinstance(error, EOFError) or any(
        phrase in text for phrase in ("truncated", "not enough image data", "end of file", "but only got")
    )


def _describe(image: Image.Image, row: np.ndarray) -> None:
    if is_deep(image.mode):
        row["low"], row["high"] = low, high = extent(values_of(image))
        rgb = to_rgb(image, (low, high) if low < high else (low, low + max(1.0, abs(low))))
    else:
        rgb = to_rgb(image)
    if _num_pixels(row) <= LARGE:
        row["width"], row["height"] = rgb.size
    elif (row["width"] > row["height"]) != (rgb.width > rgb.height):  # turned, and made smaller
        row["width"], row["height"] = int(row["height"]), int(row["width"])
    pixels = hashlib.blake2b(struct.pack("<II", int(row["width"]), int(row["height"])), digest_size=16)
    if is_deep(image.mode):
        pixels.update(b"deep")
        for strip in strips(image, 256):
            values = np.asarray(strip)
            pixels.update(values.astype("<f4" if values.dtype.kind == "f" else "<i4").tobytes())
    else:
        pixels.update(rgb.tobytes())
    row["pixels"] = np.frombuffer(pixels.digest(), np.uint8)
    _describe_greys(rgb.convert("L"), row)
    row["contrast"] = row["contrast"] or max(ImageStat.Stat(rgb).stddev)  # one of much detail may be even when small


def _describe_array(values: np.ndarray, row: np.ndarray) -> None:
    """The greys are the mean of the bands, each within its own values."""
    height, width, _ = values.shape
    row["width"], row["height"] = width, height
    if row["is_deep"]:
        row["low"], row["high"] = low, high = extent(values)
        value_range = (low, high) if low < high else (low, low + max(1.0, abs(low)))
    else:
        value_range = None
    little_endian = values.astype(values.dtype.newbyteorder("<"), copy=False)
    pixels = hashlib.blake2b(f"{width} {height} {row['mode']}".encode(), digest_size=16)
    for top in range(0, height, 256):
        pixels.update(little_endian[top : top + 256].tobytes())
    row["pixels"] = np.frombuffer(pixels.digest(), np.uint8)
    step = max(1, math.isqrt(height * width // MAX_VALUES))
    levels = in_8_bits(values[::step, ::step], value_range)
    greys = Image.fromarray(np.rint(levels.mean(axis=2)).astype(np.uint8))
    _describe_greys(greys, row)
    row["contrast"] = row["contrast"] or levels.std(axis=(0, 1)).max()


def _describe_greys(image: Image.Image, row: np.ndarray) -> None:
    from imagehash import phash

    grey = image.resize((32, 32), Image.Resampling.LANCZOS)  # what phash would make of the image itself
    row["perceptual"] = int.from_bytes(np.packbits(phash(grey).hash).tobytes(), "big")
    levels = np.asarray(grey)
    row["brightness"] = levels.mean()
    row["contrast"] = levels.std()


# Line endings


def find_line_ending_damage(data: bytes) -> str:
    """What a conversion of line endings did to an image's bytes, or nothing.

    PNM and BMP files say how long they are, so a longer one in which every LF follows a CR is a converted one when
    the conversion back has the length it says. PNG has line endings in its first bytes for this very purpose.
    """
    if re.match(rb"\x89PNG[\r\n]+\x1a[\r\n]+", data) and not data.startswith(b"\x89PNG\r\n\x1a\n"):
        return "the line endings in the PNG signature were converted"
    if data[:2] not in (b"P4", b"P5", b"P6", b"BM"):
        return ""
    length, num_pairs, num_lines = _declared_length(data), data.count(b"\r\n"), data.count(b"\n")
    if num_pairs and num_pairs == num_lines and length != len(data):
        original = _declared_length(data.replace(b"\r\n", b"\n"))
        num_added = len(data) - original if original else 0
        num_kept = num_pairs - num_added  # pairs that were there before, which are rarer than single LFs
        if num_added > 0 and 0 <= 2 * num_kept <= num_added:
            return f"{num_added} LF became CRLF: the pixels are shifted and their colours wrong"
    num_missing = length - len(data) if length else 0
    if num_pairs == 0 and 0 < num_missing <= max(1, num_lines // 8) and num_lines:
        return f"{num_missing} bytes are missing and no CRLF is left: CRLF became LF"
    return ""


def _declared_length(data: bytes) -> int | None:
    return _pnm_length(data) if data[:1] == b"P" else _bmp_length(data)


_PNM_HEADER = re.compile(rb"P([456])" + rb"(?:\s|#[^\n]*\n)+(\d+)" * 2)
_PNM_MAXVAL = re.compile(rb"(?:\s|#[^\n]*\n)+(\d+)")


def _pnm_length(data: bytes) -> int | None:
    """Bytes that a binary PNM file must have by its header: one white space ends the header."""
    header = _PNM_HEADER.match(data)
    if header is None:
        return None
    kind, width, height = (int(number) for number in header.groups())
    end = header.end()
    bytes_per_row = (width + 7) // 8
    if kind != 4:
        maxval = _PNM_MAXVAL.match(data, end)
        if maxval is None:
            return None
        end = maxval.end()
        bytes_per_row = width * (3 if kind == 6 else 1) * (2 if int(maxval[1]) > 255 else 1)
    return end + 1 + bytes_per_row * height


def _bmp_length(data: bytes) -> int | None:
    """Bytes that a BMP file must have by its header: from its dimensions, or where compressed as it says itself."""
    if len(data) < 34:
        return None
    said, offset, header_size = struct.unpack("<2x I 4x I I", data[:18])
    if header_size == 12:  # OS/2
        width, height, _, depth = struct.unpack("<HHHH", data[18:26])
        compression = 0
    else:
        width, height, _, depth, compression = struct.unpack("<iiHHI", data[18:34])
    if said == len(data) or compression not in (0, 3, 6) or depth not in (1, 2, 4, 8, 16, 24, 32):
        return said or None
    return offset + (width * depth + 31) // 32 * 4 * abs(height)


# The index


class _Index:
    """Rows by file in an SQLite file; any trouble with it is said once, and then nothing is remembered.

    Rows are written every two seconds in one short transaction: a killed process loses two seconds of work, and
    others seldom wait.
    """

    def __init__(self, path: Path | None, decode: bool) -> None:
        self._path, self._decode = path, decode
        self._connection: sqlite3.Connection | None = None
        self._can_write = True
        self._new: list[tuple[str, int, int, str, bool, bytes, str]] = []
        self._written = time.monotonic()
        self._made_by = f"3 pillow {version('pillow')} imagehash {version('imagehash')}"  # decoders differ

    def __enter__(self) -> "_Index":
        if self._path is None:
            return self
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._connection = sqlite3.connect(self._path, timeout=30)
            if not self._connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'files'").fetchone():
                self._connection.execute(
                    "CREATE TABLE IF NOT EXISTS files (path TEXT PRIMARY KEY, size INTEGER, mtime_ns INTEGER, "
                    "made_by TEXT, decoded INTEGER, facts BLOB, detail TEXT) WITHOUT ROWID"
                )
        except (OSError, sqlite3.Error) as error:
            self._give_up(error)
        return self

    def __exit__(self, *_: object) -> None:
        self._write()
        if self._connection is not None:
            self._connection.close()

    def recall(self, files: Sequence[str]) -> dict[str, tuple[int, int, bytes, str]]:
        """Size, time, row and text as they were when each of these files was read."""
        if self._connection is None:
            return {}
        query = (
            "SELECT path, size, mtime_ns, facts, detail FROM files "
            f"WHERE made_by = ? AND decoded >= ? AND path IN ({','.join('?' * len(files))})"
        )
        try:
            rows = self._connection.execute(query, (self._made_by, self._decode, *map(to_text, files))).fetchall()
        except sqlite3.Error as error:
            self._give_up(error)
            return {}
        return {path: (size, mtime, blob, detail) for path, size, mtime, blob, detail in rows}

    def remember(self, file: str, state: np.ndarray, blob: bytes, detail: str) -> None:
        if self._connection is None or not self._can_write:
            return
        size, mtime = (int(number) for number in state)
        self._new.append((to_text(file), size, mtime, self._made_by, self._decode, blob, detail))
        if time.monotonic() - self._written > 2:
            self._write()

    def _write(self) -> None:
        self._written = time.monotonic()
        rows, self._new = self._new, []
        if self._connection is None or not rows:
            return
        try:
            with self._connection:
                self._connection.executemany("INSERT OR REPLACE INTO files VALUES (?, ?, ?, ?, ?, ?, ?)", rows)
        except sqlite3.Error as error:
            self._give_up(error)

    def _give_up(self, error: Exception) -> None:
        """Read on without writing, or without the index where it cannot even be read."""
        log.warning(
            "%s: the index of files cannot be used (%s), so what is read now will be read again next time; "
            "remove the file or make its folder writable",
            self._path,
            error,
        )
        self._can_write = False
        if self._connection is not None and "readonly" not in str(error):
            self._connection.close()
            self._connection = None
