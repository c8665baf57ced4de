"""Files that people send: pictures of every format, and what only looks like one."""

import io
import struct
import zlib

import numpy as np
from PIL import Image, PngImagePlugin


def picture(color: str = "red", kind: str = "PNG", size: tuple[int, int] = (40, 30)) -> bytes:
    """A file of one colour."""
    buffer = io.BytesIO()
    Image.new("RGB", size, color).save(buffer, kind)
    return buffer.getvalue()


def noise(seed: int = 0, kind: str = "JPEG", size: tuple[int, int] = (64, 48)) -> bytes:
    """A file that does not compress well."""
    values = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(values).save(buffer, kind)
    return buffer.getvalue()


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png_bomb(side: int = 30_000) -> bytes:
    """A few hundred bytes whose header announces very many pixels."""
    header = _chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + _chunk(b"IDAT", zlib.compress(bytes(1000))) + _chunk(b"IEND", b"")


def png_with_large_text() -> bytes:
    """A small picture with a compressed text of 64 MB."""
    texts = PngImagePlugin.PngInfo()
    texts.add_text("comment", "a" * 64_000_000, zip=True)
    buffer = io.BytesIO()
    Image.new("RGB", (40, 30), "red").save(buffer, "PNG", pnginfo=texts)
    return buffer.getvalue()


def bmp_bomb() -> bytes:
    return b"BM" + struct.pack("<IHHIIiiHHIIiiII", 54, 0, 0, 54, 40, 40_000, 40_000, 1, 24, 0, 0, 0, 0, 0, 0)


def webp_bomb() -> bytes:
    """The header of a WebP file of 16,383 pixels a side."""
    extended = struct.pack("<I", 0) + (16_382).to_bytes(3, "little") * 2
    return (
        b"RIFF" + struct.pack("<I", 4 + 8 + len(extended)) + b"WEBPVP8X" + struct.pack("<I", len(extended)) + extended
    )


def npy(shape: tuple[int, ...], kind: str = "uint16", *, is_whole: bool = True) -> bytes:
    """An array's file; the header alone where it is not whole."""
    buffer = io.BytesIO()
    np.save(buffer, np.zeros(shape if is_whole else (1,) * len(shape), kind))
    data = buffer.getvalue()
    if is_whole:
        return data
    old, new = (f"'shape': {each}" for each in (str((1,) * len(shape)), str(shape)))
    length = struct.unpack("<H", data[8:10])[0]
    head = data[10 : 10 + length].decode().replace(old, new).rstrip()
    return data[:10] + head.ljust(length - 1).encode() + b"\n"
