"""From the bytes of a picture that somebody sent to prepared pixels; what is wrong with them in the service's words."""

import io
import threading
from contextlib import nullcontext

import numpy as np

from sightline.data.arrays import Header, read_header
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
_large_ones = threading.Lock()


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
    header = _header(data, spec)
    try:
        if header is not None:
            _check_size(header, spec, max_pixels, field)
        is_large = header is None or header.width * header.height > LARGE
        with _large_ones if is_large else nullcontext():
            return np.ascontiguousarray(prepare(read_picture(io.BytesIO(data), spec, max_pixels), spec))
    except Problem:
        raise
    except (TooManyPixels, MemoryError) as error:
        raise _too_large(max_pixels, field) from error
    except OtherChannels as error:
        has = f"{header.channels} channel(s)" if header else "other channels"
        detail = f"the picture has {has}, and the model takes {spec.channels}"
        raise Problem(422, "Other channels", detail, field) from error
    except (BadInput, ImportError) as error:  # tifffile or OpenCV, which only models of many bands or bits need
        raise Problem(
            415, "Unsupported media type", f"this server was built without a reader of such {kind}", field
        ) from error
    except Exception as error:  # Pillow's plugins raise OSError, ValueError, SyntaxError, struct.error and more
        what = "truncated" if "truncated" in str(error) or isinstance(error, EOFError) else "damaged"
        raise Problem(400, "Not a picture", f"the file begins as {kind} and is {what}; send it whole", field) from error


def _not_taken(kind: str, spec: TaskSpec) -> str:
    deep = " (models of other than 3 channels of 8 bits take it)" if kind in DEEP_TYPES else ""
    taken = ", ".join(each for each in picture_types(spec) if each in SIGNATURES.values() or each == WEBP)
    return f"the file is {kind}{deep}; taken are {taken}"


def _header(data: bytes, spec: TaskSpec) -> Header | None:
    """None where it cannot be read: then decoding says what is wrong, or does without the part that is damaged."""
    try:
        return read_header(io.BytesIO(data), spec.channels)
    except Exception:  # noqa: BLE001 (as of decoding, which follows)
        return None


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
