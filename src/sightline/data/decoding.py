"""Opening image files: as many pixels as are allowed, and damage beside the pixels is no damage of the pixels."""

import io
import struct
import threading
import warnings
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image

from sightline.task_spec import MAX_PIXELS

warnings.filterwarnings("ignore", module=r"PIL\.")  # about EXIF data and many pixels: what matters of them we say

LARGE = 89_478_485
"""Beyond so many pixels (where Pillow begins to warn) an image is made smaller before it is converted …"""
REDUCED = 2**24
"""… to no more than so many, in steps that need little memory: three times what the largest networks take on a side."""
PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""What turns an image upright, by the orientation that EXIF data state."""

Source = str | Path | io.BytesIO
_LIMIT_LOCK = threading.Lock()


class TooManyPixels(ValueError):
    """An image with more pixels than are allowed; the message says how many, and the key."""


def decode(
    source: Source,
    max_pixels: int = MAX_PIXELS,
    look: Callable[[Image.Image], None] | None = None,
    instead: Callable[[Source, Image.Image], np.ndarray | None] | None = None,
) -> Image.Image | np.ndarray:
    """The first picture of a file, decoded, in the file's own mode and not yet turned upright.

    `look` sees it once it is open, before its pixels are read, and `instead` may then read them in another way. A JPEG
    file of more than `LARGE` pixels is decoded at a part of its size.

    Raises: TooManyPixels, or what Pillow's plugins raise: OSError, ValueError, SyntaxError, struct.error and more.
    """
    try:
        return _decode(source, max_pixels, look, instead)
    except TooManyPixels:
        raise
    except Exception:
        bare = _without_remarks(source)
        if bare is None:
            raise
    return _decode(bare, max_pixels, look, instead)


def _decode(
    source: Source,
    max_pixels: int,
    look: Callable[[Image.Image], None] | None,
    instead: Callable[[Source, Image.Image], np.ndarray | None] | None,
) -> Image.Image | np.ndarray:
    with open_image(source) as image:
        if look is not None:
            look(image)
        num_pixels = image.width * image.height
        check_num_pixels(num_pixels, max_pixels)
        values = None if instead is None else instead(source, image)
        if values is not None:
            return values
        if num_pixels <= LARGE:
            image.load()
            return image
        factor = reduction(image)
        image.draft(None, (image.width // factor, image.height // factor))
        with _pillow_limit(max_pixels):
            image.load()
        return image


def check_num_pixels(num_pixels: int, max_pixels: int) -> None:
    """Raises: TooManyPixels with what is allowed, and the key."""
    if num_pixels > max_pixels:
        raise TooManyPixels(describe_too_many(num_pixels, max_pixels))


def describe_too_many(num_pixels: int, max_pixels: int) -> str:
    return (
        f"{num_pixels:,} pixels are more than data.max_pixels={max_pixels} allows; make the image smaller, or set "
        f"data.max_pixels={num_pixels}"
    )


def open_image(source: Source) -> Image.Image:
    """`Image.open` without Pillow's limit of pixels: only the header is read."""
    try:
        return Image.open(source)
    except Image.DecompressionBombError:
        with _pillow_limit(None):
            return Image.open(source)


@contextmanager
def _pillow_limit(max_pixels: int | None) -> Iterator[None]:
    """Pillow's limit of pixels while one image is opened or decoded, and then again what it was.

    It belongs to the whole process: threads that open large images take turns.
    """
    with _LIMIT_LOCK:
        before = Image.MAX_IMAGE_PIXELS
        Image.MAX_IMAGE_PIXELS = None if max_pixels is None else -(-max_pixels // 2)  # Pillow refuses twice as many
        try:
            yield
        finally:
            Image.MAX_IMAGE_PIXELS = before


def reduction(image: Image.Image) -> int:
    """The whole number by which a large image is made smaller on each side."""
    factor = 1
    while image.width * image.height > REDUCED * factor**2:
        factor += 1
    return factor


def strips(image: Image.Image, num_rows: int) -> Iterator[Image.Image]:
    """The image from top to bottom, so many rows at a time."""
    for top in range(0, image.height, num_rows):
        yield image.crop((0, top, image.width, min(image.height, top + num_rows)))


def values_of(image: Image.Image) -> np.ndarray:
    """The image's values; of a large one those of some rows and columns, spread over all of it."""
    if image.width * image.height <= LARGE:
        return np.asarray(image)
    factor = reduction(image)
    return np.concatenate([np.asarray(strip)[::factor, ::factor] for strip in strips(image, 16 * factor)])


def turn(image: Image.Image) -> Image.Transpose | None:
    """What turns an image upright by its EXIF data; None where they say nothing of the kind, or are damaged."""
    try:
        return TURNS.get(image.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:  # noqa: BLE001 (the parser of TIFF tags raises what struct, zlib, int and its own code raise)
        return None


def _without_remarks(source: Source) -> io.BytesIO | None:
    """A PNG or JPEG file without what its pixels do not need: texts, colour profiles, dates, whatever is unknown.

    Pillow refuses the whole file where one of them is damaged or larger than its limits. EXIF data stay: they say how
    the image is turned. None for other files, and where there is nothing to leave out.
    """
    data = source.getvalue() if isinstance(source, io.BytesIO) else Path(source).read_bytes()
    if data.startswith(PNG_SIGNATURE):
        bare = b"".join([PNG_SIGNATURE, *_needed_chunks(data)])
    elif data.startswith(b"\xff\xd8\xff"):
        bare = b"".join([b"\xff\xd8", *_needed_segments(data)])
    else:
        return None
    return io.BytesIO(bare) if len(bare) < len(data) else None


def _needed_chunks(data: bytes) -> Iterator[bytes]:
    """Of a PNG file: the critical chunks, which have a capital letter, transparency, and EXIF data that are whole."""
    start, kind = len(PNG_SIGNATURE), b""
    while start + 12 <= len(data) and kind != b"IEND":
        length, kind = struct.unpack(">I4s", data[start : start + 8])
        chunk = data[start : start + length + 12]
        if kind == b"eXIf":
            is_needed = chunk[-4:] == struct.pack(">I", zlib.crc32(chunk[4:-4]))
        else:
            is_needed = kind[:1].isupper() or kind == b"tRNS"
        if is_needed:
            yield chunk
        start += length + 12


def _needed_segments(data: bytes) -> Iterator[bytes]:
    """Of a JPEG file: all but comments and applications' data, of which JFIF's, EXIF's and Adobe's colours stay."""
    start = 2
    while data[start : start + 1] == b"\xff" and data[start + 1 : start + 2] != b"\xda" and start + 4 <= len(data):
        marker, length = struct.unpack(">BH", data[start + 1 : start + 4])
        segment = data[start : start + length + 2]
        is_remark = marker == 0xFE or 0xE0 <= marker <= 0xEF
        if not is_remark or marker in (0xE0, 0xEE) or segment[4:10] == b"Exif\0\0":
            yield segment
        start += length + 2
    yield data[start:]
