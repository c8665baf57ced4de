"""From the bytes of a picture that somebody sent to prepared pixels; what is wrong with them in the service's words."""

import io
import threading
from contextlib import ExitStack

import numpy as np

from sightline.data.arrays import Header
from sightline.data.decoding import TooManyPixels
from sightline.data.levels import OtherChannels
from sightline.data.transforms import prepare, read_picture
from sightline.errors import BadInput
from sightline.serving.contract import DEEP_TYPES, Problem, picture_types
from sightline.task_spec import TaskSpec

SIGNATURES = {
    b"\xff\xd8\xff": "image/jpeg",
    b"\x89PNG\r\n\x1a\n": "image/png",
    b"BM": "image/bmp",
    b"II*\0": "image/tiff",
    b"MM\0*": "image/tiff",
    b"II+\0": "image/tiff",
    b"MM\0+": "image/tiff",
    b"\x93NUMPY": "application/x-npy",
    b"GIF8": "image/gif",
    b"%PDF": "application/pdf",
    b"<svg": "image/svg+xml",
    b"8BPS": "image/vnd.adobe.photoshop",
    b"PK\x03\x04": "application/zip",
}
"""First bytes of files: of those that are taken, and of others that are sent by mistake."""
WEBP = "image/webp"
BRANDS = {
    b"avif": "image/avif",
    b"avis": "image/avif",
    b"heic": "image/heic",
    b"heix": "image/heic",
    b"mif1": "image/heic",
}
USUAL_WIDTH = 4
"""Bytes of a pixel in memory (RGBA) up to which as many are taken as the limit says; of wider ones fewer are."""
LARGE = 12_000_000
"""Pictures of more pixels are decoded one at a time: memory stays bounded however many are sent at once."""
_large_ones = threading.RLock()  # a file that is decoded a second time, without its remarks, looks again


def content_type_of(data: bytes) -> str | None:
    """What a file is, by its first bytes."""
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return WEBP
    if data[4:8] == b"ftyp":
        return BRANDS.get(data[8:12])
    return next((kind for signature, kind in SIGNATURES.items() if data.startswith(signature)), None)


def decode_picture(data: bytes, spec: TaskSpec, max_pixels: int, field: str = "image") -> np.ndarray:
    """Prepared pixels `(H, W, C)` of a picture's bytes: the same as of its file in training and evaluation.

    Only the formats of the contract are opened, and nothing is decoded before the header has said how much it is.

    Raises: Problem with the field where they are no picture, too large, or none for this model.
    """
    kind = content_type_of(data)
    if kind is None:
        what = "the picture is empty" if not data else "its first bytes are of no picture"
        raise Problem(400, "Not a picture", f"{what}; send the bytes of a whole file", field)
    if kind not in picture_types(spec):
        raise Problem(415, "Unsupported media type", _not_taken(kind, spec), field)
    header: Header | None = None
    with ExitStack() as held:

        def look(found: Header) -> None:
            nonlocal header
            header = found
            _check_size(found, spec, max_pixels, field)
            if found.width * found.height > LARGE:
                held.enter_context(_large_ones)

        try:
            return np.ascontiguousarray(prepare(read_picture(io.BytesIO(data), spec, max_pixels, look), spec))
        except Problem:
            raise
        except Exception as error:  # Pillow's plugins raise OSError, ValueError, SyntaxError, struct.error and more
            raise _problem_of(error, kind, header, spec, max_pixels, field) from error


def _problem_of(
    error: Exception, kind: str, header: Header | None, spec: TaskSpec, max_pixels: int, field: str
) -> Problem:
    """What went wrong, in words that say nothing of training, of paths or of objects in memory."""
    if isinstance(error, TooManyPixels | MemoryError):
        return _too_large(max_pixels, field)
    if isinstance(error, OtherChannels):
        has = f"{header.channels} channel(s)" if header else "other channels"
        return Problem(422, "Other channels", f"the picture has {has}, and the model takes {spec.channels}", field)
    if isinstance(error, BadInput | ImportError):  # tifffile or OpenCV, which only models of many bands or bits need
        return Problem(415, "Unsupported media type", f"this server was built without a reader of such {kind}", field)
    what = "truncated" if "truncated" in str(error) or isinstance(error, EOFError) else "damaged"
    return Problem(400, "Not a picture", f"the file begins as {kind} and is {what}; send it whole", field)


def _not_taken(kind: str, spec: TaskSpec) -> str:
    deep = " (models of other than 3 channels of 8 bits take it)" if kind in DEEP_TYPES else ""
    taken = ", ".join(each for each in picture_types(spec) if each in SIGNATURES.values() or each == WEBP)
    return f"the file is {kind}{deep}; taken are {taken}"


def _check_size(header: Header, spec: TaskSpec, max_pixels: int, field: str) -> None:
    num_pixels = header.width * header.height
    if num_pixels > max_pixels:
        raise _too_large(max_pixels, field, f"{header.width} x {header.height} = {num_pixels:,} pixels")
    kind = header.mode.partition(" ")[2]  # of arrays, by numpy's name
    width = header.channels * (np.dtype(kind).itemsize if kind else 2 if header.is_deep else 1)
    if num_pixels * width > max_pixels * USUAL_WIDTH:
        raise _too_large(max_pixels * USUAL_WIDTH // width, field, f"{num_pixels:,} pixels of {width:,} bytes")


def _too_large(max_pixels: int, field: str, size: str = "its pixels") -> Problem:
    return Problem(
        413, "Too many pixels", f"{size} are more than the {max_pixels:,} that are taken; make it smaller", field
    )
