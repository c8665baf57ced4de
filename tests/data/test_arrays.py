"""Arrays, bands and colours of 16 bits as files: read without loss, or refused by name."""

import io
import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from sightline.data.arrays import Header, read, read_header
from sightline.data.audit.inspection import STATUSES, inspect_files
from sightline.data.transforms import UnreadableImage, load, prepare
from sightline.task_spec import TaskSpec

tifffile = pytest.importorskip("tifffile")
GENERATOR = np.random.default_rng(0)


def spec_for(channels: int, bit_depth: int = 16, **named: object) -> TaskSpec:
    value_range = (0, 2**bit_depth - 1) if bit_depth == 16 else None
    defaults = {"value_range": value_range, "channels": channels, "bit_depth": bit_depth}
    return TaskSpec(("a", "b"), 20, (0.5,) * channels, (0.25,) * channels, **{**defaults, **named})  # pyright: ignore[reportArgumentType]


def values_of(shape: tuple[int, ...], kind: type) -> np.ndarray:
    return GENERATOR.integers(0, 250, shape).astype(kind)


def saved(path: Path, values: np.ndarray) -> Path:
    np.save(path, values)
    return path


@pytest.mark.parametrize("kind", [np.uint8, np.uint16, np.uint32, np.int8, np.int16, np.int64, np.float16, np.float64])
@pytest.mark.parametrize("order", ["C", "F", ">"])
def test_arrays_of_any_number_are_read_as_they_are(kind: type, order: str, tmp_path: Path) -> None:
    values = values_of((20, 24, 5), kind)
    wanted = values.astype(values.dtype.newbyteorder(">")) if order == ">" else np.asarray(values, order=order)  # pyright: ignore[reportArgumentType,reportCallIssue]
    file = saved(tmp_path / "x.npy", wanted)
    found = read(file)
    assert isinstance(found, np.ndarray)
    np.testing.assert_array_equal(np.asarray(found), values)
    assert read_header(file) == Header(f"5 {np.dtype(kind).name}", 24, 20, 5, kind is not np.uint8)


@pytest.mark.parametrize(
    ("shape", "channels", "expected"),
    [
        ((20, 24), None, (20, 24, 1)),
        ((20, 24, 5), None, (20, 24, 5)),
        ((5, 20, 24), None, (20, 24, 5)),
        ((5, 5, 5), None, (5, 5, 5)),
        ((4, 24, 5), None, (24, 5, 4)),
        ((4, 24, 5), 5, (4, 24, 5)),
        ((24, 3, 20), None, (24, 3, 20)),
        ((7, 24, 7), 7, (7, 24, 7)),
        ((1, 20, 24), None, (20, 24, 1)),
    ],
)
def test_the_axis_of_the_channels(
    shape: tuple[int, ...], channels: int | None, expected: tuple[int, ...], tmp_path: Path
) -> None:
    values = values_of(shape, np.float32)
    found = read(saved(tmp_path / "x.npy", values), channels=channels)
    assert np.asarray(found).shape == expected
    header = read_header(tmp_path / "x.npy", channels)
    assert (header.height, header.width, header.channels) == expected
    assert np.sort(np.asarray(found).ravel()).tolist() == np.sort(values.ravel()).tolist()
    if expected == shape:
        np.testing.assert_array_equal(np.asarray(found), values)
    elif values.ndim == 3:
        np.testing.assert_array_equal(np.asarray(found), np.moveaxis(values, 0, 2))


def test_8_bit_arrays_of_greys_and_colours_are_pictures_like_others(tmp_path: Path) -> None:
    grey, colours, mask = values_of((20, 24), np.uint8), values_of((3, 20, 24), np.uint8), values_of((20, 24), bool)
    for number, (values, mode) in enumerate(((grey, "L"), (colours, "RGB"), (mask, "L"))):
        image = read(saved(tmp_path / f"{number}.npy", values))
        assert isinstance(image, Image.Image)
        assert (image.mode, image.size) == (mode, (24, 20))
    np.testing.assert_array_equal(np.asarray(read(tmp_path / "1.npy")), np.moveaxis(colours, 0, 2))
    assert set(np.unique(np.asarray(read(tmp_path / "2.npy")))) <= {0, 255}


def test_an_array_is_known_by_its_first_bytes(tmp_path: Path) -> None:
    values = values_of((20, 24, 5), np.uint16)
    saved(tmp_path / "x.npy", values).rename(tmp_path / "array")
    np.testing.assert_array_equal(np.asarray(read(tmp_path / "array")), values)
    np.testing.assert_array_equal(np.asarray(read(io.BytesIO((tmp_path / "array").read_bytes()))), values)
    Image.new("RGB", (5, 6)).save(tmp_path / "photo.png")
    (tmp_path / "photo.png").rename(tmp_path / "photo.npy")
    assert read_header(tmp_path / "photo.npy").mode == "RGB"


def npy(text: str, data: bytes = b"") -> bytes:
    header = text.encode().ljust(117) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + data


def make_bad(folder: Path) -> dict[str, str]:
    """Files that are no images, and what they are called."""
    np.save(folder / "complex.npy", np.zeros((8, 8), np.complex64))
    np.save(folder / "objects.npy", np.array([[{}, 1], [2, 3]], object), allow_pickle=True)
    np.save(folder / "vector.npy", np.zeros(8))
    np.save(folder / "volume.npy", np.zeros((2, 8, 8, 3)))
    np.save(folder / "none.npy", np.zeros((0, 8)))
    np.save(folder / "text.npy", np.array([["a", "b"]]))
    np.save(folder / "fields.npy", np.zeros((8, 8), [("r", "u1"), ("g", "u1")]))
    whole = io.BytesIO()
    np.save(whole, np.zeros((8, 8, 5)))
    (folder / "cut.npy").write_bytes(whole.getvalue()[:-1])
    (folder / "cut header.npy").write_bytes(whole.getvalue()[:40])
    shape = "{'descr': '<f8', 'fortran_order': False, 'shape': %s, }"
    (folder / "bomb.npy").write_bytes(npy(shape % "(100000, 100000, 7)", bytes(100)))
    (folder / "negative.npy").write_bytes(npy(shape % "(-1, 4)", bytes(64)))
    (folder / "code.npy").write_bytes(npy("{'descr': __import__('os'), 'fortran_order': False, 'shape': (4, 4), }"))
    (folder / "huge header.npy").write_bytes(b"\x93NUMPY\x02\x00" + struct.pack("<I", 2**31 - 1) + b"{" * 100)
    (folder / "empty.npy").write_bytes(b"")
    truncated = ("cut.npy", "bomb.npy")
    return {
        file.name: {"empty.npy": "empty"}.get(file.name, "truncated" if file.name in truncated else "unreadable")
        for file in folder.iterdir()
    }


def test_what_is_no_image_is_a_bad_file_by_name(tmp_path: Path) -> None:
    expected = make_bad(tmp_path)
    names = sorted(expected)
    found = inspect_files(tmp_path, names, index=None)
    statuses = {name: STATUSES[status] for name, status in zip(names, found.facts["status"], strict=True)}
    assert {**statuses, "cut header.npy": "unreadable"} == expected
    assert "complex64" in found.details["complex.npy"]
    assert "(2, 8, 8, 3)" in found.details["volume.npy"]
    for name in names:
        with pytest.raises(UnreadableImage, match=name):
            load(tmp_path / name, spec_for(5))


def test_an_array_of_too_many_pixels_is_not_read(tmp_path: Path) -> None:
    saved(tmp_path / "x.npy", np.zeros((40, 40, 5)))
    found = inspect_files(tmp_path, ["x.npy"], index=None, max_pixels=1599)
    assert STATUSES[found.facts["status"][0]] == "too_many_pixels"
    with pytest.raises(UnreadableImage, match="data.max_pixels=1600"):
        load(tmp_path / "x.npy", spec_for(5), max_pixels=1599)
    assert np.asarray(read(tmp_path / "x.npy", 1600)).shape == (40, 40, 5)


@pytest.mark.parametrize("planar", ["contig", "separate"])
@pytest.mark.parametrize("photometric", ["minisblack", "rgb"])
@pytest.mark.parametrize("kind", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize("bands", [2, 3, 4, 5, 13])
def test_tiff_of_any_bands(bands: int, kind: type, photometric: str, planar: str, tmp_path: Path) -> None:
    if photometric == "rgb" and bands < 3:
        return
    values = values_of((20, 24, bands), kind)
    stored = values if planar == "contig" else np.moveaxis(values, 2, 0)
    kinds = {"extrasamples": ["unspecified"] * (bands - 3)} if photometric == "rgb" and bands > 3 else {}
    tifffile.imwrite(tmp_path / "x.tif", stored, photometric=photometric, planarconfig=planar, **kinds)
    np.testing.assert_array_equal(np.asarray(read(tmp_path / "x.tif")), values)
    header = read_header(tmp_path / "x.tif")
    assert (header.width, header.height, header.channels, header.is_deep) == (24, 20, bands, kind is not np.uint8)


def test_bands_beside_colours_stay_away_from_a_data_set_of_colours(tmp_path: Path) -> None:
    values = values_of((20, 20, 4), np.uint8)
    tifffile.imwrite(tmp_path / "x.tif", values, photometric="rgb", extrasamples=["unspecified"])
    assert read_header(tmp_path / "x.tif").channels == 4
    np.testing.assert_array_equal(prepare(load(tmp_path / "x.tif", spec_for(3, 8)), spec_for(3, 8)), values[..., :3])
    np.testing.assert_array_equal(prepare(load(tmp_path / "x.tif", spec_for(4, 8)), spec_for(4, 8)), values)


def png_16(color_type: int, values: np.ndarray, extra: bytes = b"") -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    height, width, _ = values.shape
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 16, color_type, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + extra + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_colours_of_16_bits_come_through_whole(suffix: str, tmp_path: Path) -> None:
    values = GENERATOR.integers(0, 65536, (20, 20, 3)).astype(np.uint16)
    cv2.imwrite(str(tmp_path / f"x.{suffix}"), values[..., ::-1])
    assert read_header(tmp_path / f"x.{suffix}") == Header("RGB;16", 20, 20, 3, True)
    deep, usual = spec_for(3), spec_for(3, 8)
    np.testing.assert_array_equal(prepare(load(tmp_path / f"x.{suffix}", deep), deep), values)
    np.testing.assert_array_equal(prepare(load(tmp_path / f"x.{suffix}", usual), usual), values >> 8)


def test_transparent_pixels_of_16_bits_lie_on_white(tmp_path: Path) -> None:
    colours = np.full((20, 20, 4), 1000)
    colours[:10, :, 3], colours[10:, :, 3] = 0, 65535
    (tmp_path / "rgba.png").write_bytes(png_16(6, colours))
    (tmp_path / "la.png").write_bytes(png_16(4, colours[..., 2:]))
    key = struct.pack(">I4s3H", 6, b"tRNS", 7, 8, 9)
    values = np.full((20, 20, 3), 1000)
    values[:10] = 7, 8, 9
    (tmp_path / "keyed.png").write_bytes(png_16(2, values, key + struct.pack(">I", zlib.crc32(key[4:]))))
    for name, channels in (("rgba", 3), ("keyed", 3), ("la", 1)):
        spec = spec_for(channels)
        pixels = prepare(load(tmp_path / f"{name}.png", spec), spec)
        assert read_header(tmp_path / f"{name}.png").channels == channels
        assert pixels.shape == (20, 20, channels)
        assert (pixels[:10] == 65535).all()
        assert (pixels[10:] == 1000).all()


def test_colours_of_16_bits_that_end_too_early_are_unreadable(tmp_path: Path) -> None:
    data = png_16(2, GENERATOR.integers(0, 65536, (20, 20, 3)))
    (tmp_path / "cut.png").write_bytes(data[: len(data) // 2])
    with pytest.raises(UnreadableImage, match="cut.png"):
        load(tmp_path / "cut.png", spec_for(3))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_arrays_are_turned_upright_like_pictures(orientation: int, tmp_path: Path) -> None:
    values = values_of((20, 20, 3), np.uint16)
    tifffile.imwrite(tmp_path / "deep.tif", values, photometric="rgb", extratags=[(274, 3, 1, orientation, True)])
    tifffile.imwrite(
        tmp_path / "bands.tif",
        np.concatenate([values, values[..., :2]], 2),
        photometric="minisblack",
        planarconfig="contig",
        extratags=[(274, 3, 1, orientation, True)],
    )
    tifffile.imwrite(
        tmp_path / "8.tif", values.astype(np.uint8), photometric="rgb", extratags=[(274, 3, 1, orientation, True)]
    )
    expected = prepare(load(tmp_path / "8.tif", spec_for(3, 8)), spec_for(3, 8))
    np.testing.assert_array_equal(prepare(load(tmp_path / "deep.tif", spec_for(3)), spec_for(3)), expected)
    np.testing.assert_array_equal(prepare(load(tmp_path / "bands.tif", spec_for(5)), spec_for(5))[..., :3], expected)


def test_without_tifffile_the_error_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tifffile.imwrite(
        tmp_path / "x.tif", values_of((20, 20, 5), np.uint8), photometric="minisblack", planarconfig="contig"
    )
    monkeypatch.setitem(__import__("sys").modules, "tifffile", None)
    with pytest.raises(UnreadableImage, match=r'x.tif.*pip install "sightline-vision\[tiff\]"'):
        load(tmp_path / "x.tif", spec_for(5))
    found = inspect_files(tmp_path, ["x.tif"], index=None)
    assert "sightline-vision[tiff]" in found.details["x.tif"]


@pytest.mark.parametrize(("channels", "bit_depth"), [(1, 8), (3, 8), (5, 8), (1, 16), (3, 16), (5, 16)])
@pytest.mark.parametrize("crop", ["crop", "pad", "squash"])
@pytest.mark.parametrize("interpolation", ["nearest", "bilinear", "bicubic", "lanczos"])
def test_every_band_is_resized_as_pillow_resizes_a_grey(
    channels: int, bit_depth: int, crop: str, interpolation: str, tmp_path: Path
) -> None:
    quarter = 2 ** (bit_depth - 2)  # farther out Pillow cuts levels of 8 bits between its two passes
    values = GENERATOR.integers(quarter, 3 * quarter, (30, 50, channels)).astype(f"uint{bit_depth}")
    spec = spec_for(channels, bit_depth, crop=crop, interpolation=interpolation)
    pixels = prepare(load(saved(tmp_path / "x.npy", values), spec), spec)
    assert (pixels.shape, pixels.dtype) == ((20, 20, channels), values.dtype)
    grey = spec_for(1, 8, crop=crop, interpolation=interpolation)
    coarse = (values >> (bit_depth - 8)).astype(np.uint8)
    for band in range(channels):
        expected = prepare(Image.fromarray(coarse[..., band]), grey)[..., 0].astype(int)
        difference = (pixels[..., band] >> (bit_depth - 8)).astype(int) - expected
        assert np.abs(difference).max() <= (2 if bit_depth > 8 else 0)


def test_greys_and_colours_stand_for_each_other_and_bands_for_nothing_else(tmp_path: Path) -> None:
    Image.fromarray(values_of((20, 20, 3), np.uint8)).save(tmp_path / "rgb.png")
    Image.fromarray(values_of((20, 20), np.uint8)).save(tmp_path / "grey.png")
    saved(tmp_path / "bands.npy", values_of((20, 20, 5), np.float32))
    assert np.shape(prepare(load(tmp_path / "rgb.png", spec_for(1, 8)), spec_for(1, 8))) == (20, 20, 1)
    assert np.shape(prepare(load(tmp_path / "grey.png", spec_for(3)), spec_for(3))) == (20, 20, 3)
    grey = prepare(load(tmp_path / "rgb.png", spec_for(1)), spec_for(1))[..., 0]
    np.testing.assert_array_equal(grey, np.asarray(Image.open(tmp_path / "rgb.png").convert("L")).astype(int) * 257)
    for name, channels, words in (("rgb.png", 5, "has 3 channels, and the data 5"), ("bands.npy", 3, "has 5 channels")):
        with pytest.raises(UnreadableImage, match=words):
            load(tmp_path / name, spec_for(channels))
