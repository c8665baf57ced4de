"""Opening images: damage beside the pixels is read past, and too many pixels are named or made smaller."""

import io
import struct
import threading
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms, PngImagePlugin

from sightline.data import decoding
from sightline.data.transforms import UnreadableImage, load_rgb, to_rgb

ROWS, COLUMNS = np.mgrid[:40, :32]
PIXELS = np.stack([ROWS * 6, COLUMNS * 8, 255 - ROWS * 3 - COLUMNS * 4], axis=2).astype(np.uint8)
"""32x40, smooth, and unlike what any turn would make of it."""
XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'


def encoded(kind: str, image: Image.Image | None = None, **settings: object) -> bytes:
    file = io.BytesIO()
    (image or Image.fromarray(PIXELS)).save(file, kind, **settings)
    return file.getvalue()


def chunk(kind: bytes, data: bytes, checksum: int | None = None) -> bytes:
    number = zlib.crc32(kind + data) if checksum is None else checksum
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", number)


def png_with(before: bytes = b"", after: bytes = b"") -> bytes:
    """A PNG file with chunks behind its header, and others before its end."""
    raw = encoded("PNG")
    return raw[:33] + before + raw[33:-12] + after + raw[-12:]


def jpeg_with(marker: int, data: bytes) -> bytes:
    raw = encoded("JPEG", quality=95)
    return raw[:2] + struct.pack(">BBH", 0xFF, marker, len(data) + 2) + data + raw[2:]


def oriented(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


HUGE_TEXT = zlib.compress(b"x" * (PngImagePlugin.MAX_TEXT_CHUNK + 1))
DAMAGED = {
    "exif that is no tiff": png_with(chunk(b"eXIf", b"\0\x08\0\x02\x01\x12\0\x03")),
    "empty exif": png_with(chunk(b"eXIf", b"")),
    "exif behind the pixels": png_with(after=chunk(b"eXIf", b"MM\0*\xff\xff\xff\xff")),
    "exif with a wrong checksum": png_with(chunk(b"eXIf", b"MM\0*\0\0\0\x08\0\0", 1)),
    "text with a wrong checksum": png_with(chunk(b"tEXt", b"a\0b", 1)),
    "text beyond the limit": png_with(chunk(b"zTXt", b"a\0\0" + HUGE_TEXT)),
    "international text beyond the limit": png_with(chunk(b"iTXt", b"a\0\x01\0\0\0" + HUGE_TEXT)),
    "text beyond the limit behind the pixels": png_with(after=chunk(b"zTXt", b"a\0\0" + HUGE_TEXT)),
    "profile beyond the limit": png_with(chunk(b"iCCP", b"a\0\0" + HUGE_TEXT)),
    "profile that does not unpack": png_with(chunk(b"iCCP", b"a\0\0nonsense")),
    "profile without a name": png_with(chunk(b"iCCP", b"")),
    "resolution of one byte": png_with(chunk(b"pHYs", b"\0")),
    "gamma of one byte": png_with(chunk(b"gAMA", b"\0")),
    "animation of one byte": png_with(chunk(b"acTL", b"\0")),
    "jpeg exif that is no tiff": jpeg_with(0xE1, b"Exif\0\0nonsense"),
    "jpeg exif that leads beyond its end": jpeg_with(0xE1, b"Exif\0\0MM\0*\0\0\xff\xff"),
    "jpeg exif of one byte": jpeg_with(0xE1, b"Exif\0\0M"),
    "jpeg profile": jpeg_with(0xE2, b"ICC_PROFILE\0\x01\x02nonsense"),
    "jpeg xmp": jpeg_with(0xE1, b"http://ns.adobe.com/xap/1.0/\0\xff<tiff:Orientation>x"),
    "jpeg photoshop": jpeg_with(0xED, b"Photoshop 3.0\x008BIM\x03\xed"),
    "jpeg multi-picture": jpeg_with(0xE2, b"MPF\0nonsense"),
    "webp exif": encoded("WEBP", lossless=True, exif=b"Exif\0\0nonsense"),
    "webp exif of one byte": encoded("WEBP", lossless=True, exif=b"M"),
    "orientation 0": encoded("PNG", exif=oriented(0)),
    "orientation 9": encoded("JPEG", quality=95, exif=oriented(9)),
    "tiff orientation 9": encoded("TIFF", tiffinfo={0x0112: 9}),
    "tiff profile": encoded("TIFF", icc_profile=b"nonsense"),
    "tiff with a broken exif part": encoded("TIFF", tiffinfo={0x8769: 0x7FFFFFFF}),
}


@pytest.mark.parametrize("damage", DAMAGED)
def test_damage_beside_the_pixels_is_no_damage_of_the_pixels(damage: str, tmp_path: Path) -> None:
    file = tmp_path / "odd"
    file.write_bytes(DAMAGED[damage])
    pixels = np.asarray(load_rgb(file))
    assert pixels.shape == PIXELS.shape
    is_lossy = b"JFIF" in DAMAGED[damage]
    assert np.abs(pixels.astype(int) - PIXELS).max() <= (12 if is_lossy else 0)


@pytest.mark.parametrize(
    "content",
    [
        encoded("PNG", exif=oriented(6)),
        png_with(chunk(b"tEXt", b"a\0b", 1) + chunk(b"eXIf", oriented(6).tobytes()[6:])),
        encoded("JPEG", quality=95, exif=oriented(6)),
        encoded("JPEG", quality=95, xmp=XMP),
        encoded("WEBP", lossless=True, exif=oriented(6)),
        encoded("TIFF", tiffinfo={0x0112: 6}),
    ],
    ids=["png", "png beside damage", "jpeg", "xmp", "webp", "tiff"],
)
def test_every_format_is_turned_upright(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "turned").write_bytes(content)
    pixels = np.asarray(load_rgb(tmp_path / "turned"))
    assert np.abs(pixels.astype(int) - np.rot90(PIXELS, -1)).max() <= 12


@pytest.mark.parametrize(
    "raw", [encoded("PNG"), png_with(chunk(b"tEXt", b"a\0b", 1)), encoded("JPEG"), encoded("TIFF")]
)
def test_truncated_pixels_stay_damage(raw: bytes, tmp_path: Path) -> None:
    (tmp_path / "cut").write_bytes(raw[:-200])
    with pytest.raises(UnreadableImage, match="cut: cannot be read as an image"):
        load_rgb(tmp_path / "cut")


def test_an_image_in_memory_is_left_as_it_was(tmp_path: Path) -> None:
    (tmp_path / "turned.png").write_bytes(encoded("PNG", exif=oriented(6)))
    with Image.open(tmp_path / "turned.png") as image:
        assert to_rgb(image).size == (40, 32)
        assert to_rgb(image).size == (40, 32)
        assert image.size == (32, 40)
        assert image.getexif()[0x0112] == 6


def test_too_many_pixels_are_named_with_the_key(tmp_path: Path) -> None:
    Image.fromarray(PIXELS).save(tmp_path / "slide.png")
    assert load_rgb(tmp_path / "slide.png", max_pixels=1280).size == (32, 40)
    with pytest.raises(UnreadableImage, match=r"slide.png: 1,280 pixels .*data.max_pixels=1279 .*data.max_pixels=1280"):
        load_rgb(tmp_path / "slide.png", max_pixels=1279)


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "RGBA", "CMYK", "I;16"])
def test_a_large_image_is_made_smaller_piece_by_piece(
    mode: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same as converting all of it first and making it smaller then."""
    image = Image.fromarray(np.linspace(0, 255, 300 * 200).reshape(200, 300).astype(np.uint8))
    if mode == "I;16":
        image = Image.fromarray(np.asarray(image).astype(np.uint16) * 16)
    elif mode != "L":
        image = image.convert(mode)
    image.save(tmp_path / "large.tif")
    whole = load_rgb(tmp_path / "large.tif", (0, 4080))
    call_large(50_000, monkeypatch)
    smaller = load_rgb(tmp_path / "large.tif", (0, 4080))
    assert smaller.size == (100, 67)
    np.testing.assert_array_equal(np.asarray(smaller), np.asarray(whole.reduce(3)))


def test_a_large_jpeg_is_decoded_at_a_part_of_its_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Turned upright, too: it was 300 pixels wide."""
    Image.fromarray(PIXELS).resize((300, 200)).save(tmp_path / "large.jpg", quality=95, exif=oriented(6))
    whole = load_rgb(tmp_path / "large.jpg")
    call_large(50_000, monkeypatch)
    smaller = load_rgb(tmp_path / "large.jpg")
    assert smaller.size == (100, 150)
    assert np.abs(np.asarray(smaller).astype(int) - np.asarray(whole.reduce(2))).max() <= 6


def call_large(num_pixels: int, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("decoding", "transforms"):
        monkeypatch.setattr(f"sightline.data.{module}.LARGE", num_pixels)
    monkeypatch.setattr(decoding, "REDUCED", 10_000)


@pytest.mark.parametrize("kind", ["PPM", "TIFF"])
def test_images_beyond_pillows_limit_are_named_or_taken(kind: str, tmp_path: Path) -> None:
    file = tmp_path / "slide"
    if kind == "PPM":
        with file.open("wb") as raw:
            raw.write(b"P5 19000 10000 255\n")
            raw.truncate(raw.tell() + 190_000_000)  # black, and a hole on the disk
    else:
        Image.new("1", (19000, 10000)).save(file, kind, compression="group4")
    limit, filters = Image.MAX_IMAGE_PIXELS, warnings.filters[:]
    with pytest.raises(UnreadableImage, match="slide: 190,000,000 pixels are more than data.max_pixels=178956970"):
        load_rgb(file)
    assert load_rgb(file, max_pixels=190_000_000).size == (4750, 2500)
    assert (limit, filters) == (Image.MAX_IMAGE_PIXELS, warnings.filters)


def test_pillows_limit_is_whole_again_when_threads_open_large_images_at_once(tmp_path: Path) -> None:
    with (tmp_path / "slide.ppm").open("wb") as raw:
        raw.write(b"P5 19000 10000 255\n")
    limit = Image.MAX_IMAGE_PIXELS

    def read() -> None:
        with pytest.raises(UnreadableImage, match="190,000,000 pixels"):
            load_rgb(tmp_path / "slide.ppm")

    threads = [threading.Thread(target=read) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert limit == Image.MAX_IMAGE_PIXELS
    with pytest.raises(Image.DecompressionBombError):
        Image.open(tmp_path / "slide.ppm")


def test_colour_profiles_do_not_change_pixels(tmp_path: Path) -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    Image.fromarray(PIXELS).save(tmp_path / "tagged.png", icc_profile=profile)
    np.testing.assert_array_equal(np.asarray(load_rgb(tmp_path / "tagged.png")), PIXELS)
