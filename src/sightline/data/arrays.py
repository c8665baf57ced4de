"""Image files as arrays: NumPy's `.npy`, TIFF of many bands, and colours of 16 bits, of which Pillow reads 8."""

import io
import logging
import math
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from PIL import Image, UnidentifiedImageError

from sightline.data.decoding import TURNS, Source, check_num_pixels, decode, open_image, turn
from sightline.data.deep_greys import is_deep
from sightline.errors import BadInput
from sightline.task_spec import MAX_PIXELS

for name in ("PIL.TiffImagePlugin", "tifffile"):
    logging.getLogger(name).setLevel(logging.CRITICAL)  # what matters of what they say is raised, too

Picture = Image.Image | np.ndarray
"""A decoded image: Pillow's, or an array `(H, W, C)` of whatever numbers the file has, upright."""
NPY_SIGNATURE = b"\x93NUMPY"
TIFF_SIGNATURES = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
NEEDS_TIFF = 'TIFF of several bands needs tifffile; install it with pip install "sightline-vision[tiff]"'
GREY_MODES = ("1", "L", "LA", "La", "I;16", "I;16L", "I;16B", "I;16N", "I", "F")
BITS_PER_SAMPLE, PHOTOMETRIC, ORIENTATION, SAMPLES_PER_PIXEL, PLANAR = 258, 262, 274, 277, 284
"""TIFF's tags of these names …"""
GREYS_OR_RGB = (0, 1, 2)
"""… and values of the second."""


class Header(NamedTuple):
    """What a file says about its image before any pixel is read."""

    mode: str
    """Pillow's; `RGB;16` for colours of 16 bits, and of other arrays the channels and the type: `5 float32`."""
    width: int
    height: int
    channels: int
    is_deep: bool
    """Whether its values have more than 8 bits, or are no whole numbers."""
    has_frames: bool = False


Opened = AbstractContextManager[tuple[Header, Callable[[], Picture]]]
"""An open file: its header, and what reads its pixels."""


def read(
    source: Source,
    max_pixels: int = MAX_PIXELS,
    *,
    channels: int | None = None,
    bit_depth: int = 16,
    look: Callable[[Header], None] | None = None,
) -> Picture:
    """The first picture of any image file: an array where Pillow would lose bits or bands of it.

    `channels` and `bit_depth` are those of the data set, where they are known: one of 8 bits has colours of 8, one of 1
    or 3 channels has no bands beside them, and an array's axis of so many is that of its channels. `look` sees the
    header before pixels are read.

    Raises: TooManyPixels, UnidentifiedImageError, or what else is wrong with a file: OSError, ValueError and more.
    """

    def see(image: Image.Image) -> None:
        if look is not None:
            look(_header_of(image))

    def instead(source: Source, image: Image.Image) -> np.ndarray | None:
        are_dropped = channels in (1, 3) and "X" in _raw_mode(image)
        if _has_bands_beside(image) and not are_dropped:
            with _open_tiff(source) as (_, load):
                return np.asarray(load())
        return _read_deep_colours(source, image) if _has_deep_colours(image) and bit_depth == 16 else None

    try:
        opened = _open_npy(source, channels) if _is_npy(source) else None
        if opened is None:
            return decode(source, max_pixels, see, instead)
    except UnidentifiedImageError:
        opened = _open_array(source, channels)
        if opened is None:
            raise
    with opened as (header, load):
        if look is not None:
            look(header)
        check_num_pixels(header.width * header.height, max_pixels)
        return load()


def read_header(source: Source, channels: int | None = None) -> Header:
    """The header of any file that `read` takes; what is no image raises as there."""
    try:
        opened = _open_npy(source, channels) if _is_npy(source) else None
        if opened is None:
            with open_image(source) as image:
                return _header_of(image)
    except UnidentifiedImageError:
        opened = _open_array(source, channels)
        if opened is None:
            raise
    with opened as (header, _):
        return header


def _header_of(image: Image.Image) -> Header:
    has_frames = getattr(image, "is_animated", False) and image.format != "MPO"  # a photo and its preview
    if _has_bands_beside(image):
        bits, channels = _tiff_tag(image, BITS_PER_SAMPLE, (8,))[0], _tiff_tag(image, SAMPLES_PER_PIXEL, 1)
        kind = np.dtype(f"{'f' if image.mode == 'F' else 'u'}{max(8, bits) // 8}")
        return array_header(kind, *image.size, channels, has_frames=has_frames)
    mode = f"{image.mode};16" if _has_deep_colours(image) else image.mode
    is_grey = image.mode in GREY_MODES or _raw_mode(image).startswith("LA")
    return Header(mode, *image.size, 1 if is_grey else 3, mode != image.mode or is_deep(mode), has_frames)


def _raw_mode(image: Image.Image) -> str:
    """How the file holds the pixels, in Pillow's words: `RGB;16B`."""
    tiles = getattr(image, "tile", ())
    arguments = tiles[0].args if tiles else ""
    raw = arguments[0] if isinstance(arguments, tuple) and arguments else arguments
    return raw if isinstance(raw, str) else ""


def _tiff_tag(image: Image.Image, tag: int, default: Any) -> Any:
    return image.tag_v2.get(tag, default)  # pyright: ignore[reportAttributeAccessIssue]  (a TIFF file's)


def _has_deep_colours(image: Image.Image) -> bool:
    if image.mode not in ("RGB", "RGBA"):
        return False
    if image.format == "TIFF":
        return max(_tiff_tag(image, BITS_PER_SAMPLE, (8,))) == 16
    return image.format == "PNG" and ";16" in _raw_mode(image)


def _has_bands_beside(image: Image.Image) -> bool:
    """Whether a TIFF file has bands beside the greys or colours, which Pillow would leave out."""
    if image.format != "TIFF" or _tiff_tag(image, PHOTOMETRIC, 0) not in GREYS_OR_RGB:
        return False
    return _tiff_tag(image, SAMPLES_PER_PIXEL, 1) > len(image.getbands())


def _read_deep_colours(source: Source, image: Image.Image) -> np.ndarray:
    """uint16 `(H, W, 3)`, or `(H, W, 1)` of greys; transparent pixels lie on white."""
    if image.format == "TIFF" and _tiff_tag(image, PLANAR, 1) == 2:  # which OpenCV does not read
        with _open_tiff(source) as (_, load):
            values = np.asarray(load())
    else:
        values = _decode_by_opencv(source)
    colours = values[..., :3]
    if values.shape[2] == 4:
        opacity = values[..., 3:].astype(np.float32) / 65535
        colours = np.rint(colours * opacity + 65535 * (1 - opacity)).astype(np.uint16)
    elif isinstance(transparent := image.info.get("transparency"), tuple):
        colours = np.where((colours == transparent).all(axis=2, keepdims=True), np.uint16(65535), colours)
    if _raw_mode(image).startswith("LA"):
        colours = colours[..., :1]
    return colours if image.format == "TIFF" else turned(colours, turn(image))  # OpenCV has turned a TIFF file's


def _decode_by_opencv(source: Source) -> np.ndarray:
    """uint16 `(H, W, 3)` or, with opacity, `(H, W, 4)`."""
    import cv2

    data = source.getvalue() if isinstance(source, io.BytesIO) else Path(source).read_bytes()
    values = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if values is None or values.dtype != np.uint16 or values.ndim != 3:
        raise ValueError("its colours of 16 bits cannot be decoded: the file is damaged or truncated")
    return values[..., (2, 1, 0, 3)[: values.shape[2]]]  # it has blue first


def turned(values: np.ndarray, transposition: Image.Transpose | None) -> np.ndarray:
    """An array `(H, W, C)` mirrored or rotated as `Image.transpose` does it; None leaves it as it is."""
    if transposition is None:
        return values
    changes: dict[Image.Transpose, Callable[[np.ndarray], np.ndarray]] = {
        Image.Transpose.FLIP_LEFT_RIGHT: lambda array: array[:, ::-1],
        Image.Transpose.FLIP_TOP_BOTTOM: lambda array: array[::-1],
        Image.Transpose.ROTATE_90: np.rot90,
        Image.Transpose.ROTATE_180: lambda array: array[::-1, ::-1],
        Image.Transpose.ROTATE_270: lambda array: np.rot90(array, 3),
        Image.Transpose.TRANSPOSE: lambda array: array.swapaxes(0, 1),
        Image.Transpose.TRANSVERSE: lambda array: np.rot90(array.swapaxes(0, 1), 2),
    }
    return changes[transposition](values)


def _open_array(source: Source, channels: int | None) -> Opened | None:
    """A file that Pillow does not know, by its first bytes; None where they are of no array."""
    head = _head(source)
    if head.startswith(NPY_SIGNATURE):
        return _open_npy(source, channels)
    return _open_tiff(source) if head.startswith(TIFF_SIGNATURES) else None


def _is_npy(source: Source) -> bool:
    is_likely = isinstance(source, io.BytesIO) or str(source).lower().endswith(".npy")
    return is_likely and _head(source).startswith(NPY_SIGNATURE)


def _head(source: Source) -> bytes:
    if isinstance(source, io.BytesIO):
        return bytes(source.getbuffer()[: len(NPY_SIGNATURE)])
    with Path(source).open("rb") as file:
        return file.read(len(NPY_SIGNATURE))


@contextmanager
def _opened(source: Source) -> Iterator[BinaryIO]:
    if isinstance(source, io.BytesIO):
        source.seek(0)
        yield source
    else:
        with Path(source).open("rb") as file:
            yield file


# NumPy's files


@contextmanager
def _open_npy(source: Source, channels: int | None) -> Iterator[tuple[Header, Callable[[], Picture]]]:
    """Nothing in the file is run: an array of Python objects is refused."""
    with _opened(source) as file:
        shape, is_fortran, kind = _npy_header(file)
        check_type(kind)
        axis = channel_axis(shape, channels)
        start = file.tell()
        num_bytes = math.prod(shape) * kind.itemsize
        if (there := file.seek(0, io.SEEK_END) - start) < num_bytes:
            raise EOFError(f"truncated: its header announces {num_bytes:,} bytes of numbers, and {there:,} are there")

        def load() -> Picture:
            file.seek(start)
            values = np.frombuffer(file.read(num_bytes), kind).reshape(shape, order="F" if is_fortran else "C")
            return as_picture(channels_last(values, axis))

        height, width, num_channels = channels_last(np.broadcast_to(np.uint8(0), shape), axis).shape
        yield array_header(kind, width, height, num_channels), load


def _npy_header(file: BinaryIO) -> tuple[tuple[int, ...], bool, np.dtype]:
    """Shape, whether the first axis runs fastest, and type of number.

    Raises: ValueError when there is none.
    """
    version = np.lib.format.read_magic(file)
    if version == (1, 0):
        return np.lib.format.read_array_header_1_0(file)
    if version == (2, 0):
        return np.lib.format.read_array_header_2_0(file)
    raise ValueError(f"version {version[0]}.{version[1]} of NumPy's format holds no plain numbers")


def check_type(kind: np.dtype) -> None:
    """Raises: ValueError for what are no levels of brightness."""
    if kind.kind not in "buif":
        raise ValueError(f"numbers of the type {kind} are no pixels; whole numbers, bool and floating point are")


def channel_axis(shape: tuple[int, ...], channels: int | None = None) -> int | None:
    """Which axis of an array holds the channels: the last (2) or the first (0); None: it has two, and one channel.

    It is the one of as many as the data set has, else the shorter, and the last of two that are equal.

    Raises: ValueError for other shapes.
    """
    if len(shape) not in (2, 3) or min(shape) < 1:
        raise ValueError(f"an array of the shape {shape} is no image; (H, W), (H, W, C) and (C, H, W) are")
    if len(shape) == 2:
        return None
    first, _, last = shape
    if channels in (first, last):
        return 2 if last == channels else 0
    return 0 if first < last else 2


def channels_last(values: np.ndarray, axis: int | None) -> np.ndarray:
    """`(H, W, C)` of an array whose channels are on that axis."""
    return values[..., None] if axis is None else np.moveaxis(values, axis, 2)


def array_header(kind: np.dtype, width: int, height: int, channels: int, *, has_frames: bool = False) -> Header:
    is_8_bit = kind in (np.bool_, np.uint8)
    mode = {1: "L", 3: "RGB"}.get(channels) if is_8_bit else None
    return Header(mode or f"{channels} {kind.name}", width, height, channels, not is_8_bit, has_frames)


def as_picture(values: np.ndarray) -> Picture:
    """An array `(H, W, C)`, as Pillow's image where it holds nothing else."""
    if values.dtype == np.bool_:
        values = values.astype(np.uint8) * np.uint8(255)
    if values.dtype != np.uint8 or values.shape[2] not in (1, 3):
        return values
    return Image.fromarray(np.ascontiguousarray(values[..., 0] if values.shape[2] == 1 else values))


# TIFF


@contextmanager
def _open_tiff(source: Source) -> Iterator[tuple[Header, Callable[[], Picture]]]:
    try:
        import tifffile
    except ImportError as error:
        raise BadInput(NEEDS_TIFF) from error

    with _opened(source) as raw, tifffile.TiffFile(raw) as file:
        page = file.pages.first
        kind, size = page.dtype, (page.imagelength, page.imagewidth, page.samplesperpixel)
        if kind is None or page.imagedepth != 1 or 0 in size:
            raise ValueError(f"a TIFF page of the shape {page.shape} is no image")
        check_type(kind)

        def load() -> Picture:
            values = page.asarray()
            values = np.moveaxis(values.reshape(size[2], *size[:2]), 0, 2) if page.axes[:1] == "S" else values
            tag = page.tags.get(ORIENTATION)
            return as_picture(turned(values.reshape(size), None if tag is None else TURNS.get(tag.value)))

        has_frames = any(not getattr(other, "is_reduced", False) for other in file.pages[1:3])
        yield array_header(np.dtype(kind), size[1], size[0], size[2], has_frames=has_frames), load
