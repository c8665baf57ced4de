"""The audit: copies, contradictions and leaks are found and named once; what is fine is left alone."""

import io
import json
import tomllib
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import PIL
import pytest
from numpy.dtypes import StringDType
from PIL import Image, ImageEnhance
from tests.conftest import PROJECT

from sightline.data.audit import near_duplicates
from sightline.data.audit.audit import KINDS, Audit, audit
from sightline.data.audit.inspection import inspect_files
from sightline.data.audit.near_duplicates import load_bands
from sightline.data.manifest import SPLITS, Manifest


def tabulate(root: Path) -> Manifest:
    """The manifest of files `split/class/group_number.suffix`, with splits and groups as the paths say."""
    paths = sorted(path.relative_to(root).as_posix() for path in root.rglob("*") if not path.is_dir())
    parts = [path.split("/") for path in paths]
    names = tuple(sorted({part[1] for part in parts}))
    return Manifest(
        root,
        names,
        np.array(paths, StringDType()),
        np.array([names.index(part[1]) for part in parts], np.int32),
        np.array([SPLITS.index(part[0]) for part in parts], np.int8),
        np.array([f"{part[1]}/{part[2].rsplit('_', 1)[0]}" for part in parts], StringDType()),
    )


def run(root: Path) -> Audit:
    manifest = tabulate(root)
    return audit(manifest, inspect_files(root, manifest.paths, index=None))


def found(result: Audit) -> list[tuple[str, tuple[str, ...]]]:
    return [(finding.kind, finding.files) for finding in result.findings]


def scene(seed: int, size: tuple[int, int] = (96, 96)) -> Image.Image:
    """A picture with large and small shapes, unlike that of any other seed."""
    generator = np.random.default_rng(seed)
    blocks = Image.fromarray(generator.integers(30, 220, (8, 8, 3), dtype=np.uint8))
    fine = generator.normal(0, 6, (size[1], size[0], 3))
    smooth = np.asarray(blocks.resize(size, Image.Resampling.BICUBIC), dtype=np.float64)
    return Image.fromarray((smooth + fine).clip(0, 255).astype(np.uint8))


@pytest.fixture
def put(tmp_path: Path) -> Callable[..., Path]:
    """Save an image under the data's root; unlike pictures of two classes are there from the start."""

    def save(path: str, image: Image.Image) -> Path:
        file = tmp_path / path
        file.parent.mkdir(parents=True, exist_ok=True)
        image.save(file)
        return file

    for number in range(6):
        save(f"train/cat/c{number}_0.png", scene(number))
        save(f"train/dog/d{number}_0.png", scene(100 + number))
    return save


def test_nothing_is_wrong_with_unlike_images(put: Callable[..., Path], tmp_path: Path) -> None:
    put("test/cat/t_0.png", scene(50))
    assert found(run(tmp_path)) == []


def test_copies_in_one_split_are_duplicates(put: Callable[..., Path], tmp_path: Path) -> None:
    put("train/cat/copy_0.bmp", scene(0))
    result = run(tmp_path)
    assert found(result) == [("duplicate", ("train/cat/c0_0.png", "train/cat/copy_0.bmp"))]
    assert result.leaks == []


def test_copies_across_splits_are_leaks(put: Callable[..., Path], tmp_path: Path) -> None:
    put("test/cat/copy_0.png", scene(0))
    put("val/dog/copy_0.png", scene(101))
    result = run(tmp_path)
    assert found(result) == [
        ("leak", ("test/cat/copy_0.png", "train/cat/c0_0.png")),
        ("leak", ("train/dog/d1_0.png", "val/dog/copy_0.png")),
    ]
    assert [finding.touches_test for finding in result.leaks] == [True, False]


def test_a_copy_under_another_label_contradicts(put: Callable[..., Path], tmp_path: Path) -> None:
    put("train/dog/copy_0.png", scene(0))
    result = run(tmp_path)
    assert found(result) == [("contradicting_labels", ("train/cat/c0_0.png", "train/dog/copy_0.png"))]
    assert "cat and dog" in result.findings[0].detail


def test_two_problems_of_one_set_are_both_said(put: Callable[..., Path], tmp_path: Path) -> None:
    put("val/dog/copy_0.png", scene(0))
    files = ("train/cat/c0_0.png", "val/dog/copy_0.png")
    assert found(run(tmp_path)) == [("leak", files), ("contradicting_labels", files)]


def changed(kind: str, image: Image.Image) -> Image.Image:
    if kind == "smaller":
        return image.resize((48, 48), Image.Resampling.BICUBIC)
    if kind == "brighter":
        return image.point([min(255, level + 15) for level in range(256)] * 3)
    if kind == "contrast":
        return ImageEnhance.Contrast(image).enhance(1.15)
    if kind == "JPEG":
        file = io.BytesIO()
        image.save(file, "JPEG", quality=40)
        return Image.open(file).convert("RGB")
    return image.crop((1, 1, 95, 95))


@pytest.mark.parametrize("kind", ["JPEG", "smaller", "brighter", "contrast", "cropped"])
def test_changed_copies_are_near_duplicates(kind: str, put: Callable[..., Path], tmp_path: Path) -> None:
    for number in range(20, 26):
        put(f"train/cat/o{number}_0.png", scene(number))
        put(f"train/cat/x{number}_0.png", changed(kind, scene(number)))
    result = run(tmp_path)
    expected = [("near_duplicate", (f"train/cat/o{n}_0.png", f"train/cat/x{n}_0.png")) for n in range(20, 26)]
    assert [pair for pair in found(result) if pair[0] != "odd_size"] == expected


def test_changed_copies_across_splits_are_leaks(put: Callable[..., Path], tmp_path: Path) -> None:
    put("test/cat/x_0.png", changed("JPEG", scene(0)))
    assert found(run(tmp_path)) == [("leak", ("test/cat/x_0.png", "train/cat/c0_0.png"))]


def test_a_set_of_alike_images_says_what_its_copies_have_not(put: Callable[..., Path], tmp_path: Path) -> None:
    put("train/dog/copy_0.png", scene(0))
    put("train/cat/x_0.png", changed("JPEG", scene(0)))
    pair = ("train/cat/c0_0.png", "train/dog/copy_0.png")
    trio = ("train/cat/c0_0.png", "train/cat/x_0.png", "train/dog/copy_0.png")
    assert found(run(tmp_path)) == [("contradicting_labels", pair), ("near_duplicate", trio)]


def test_frames_of_one_group_may_look_alike(put: Callable[..., Path], tmp_path: Path) -> None:
    for frame in range(5):
        put(f"train/cat/track_{frame}.png", scene(30).point([min(255, level + frame) for level in range(256)] * 3))
    assert found(run(tmp_path)) == []
    put("val/cat/other_0.png", changed("JPEG", scene(30)))
    result = run(tmp_path)
    assert {finding.kind for finding in result.findings} == {"leak"}
    assert "val/cat/other_0.png" in result.findings[0].files


def test_a_group_in_two_splits_is_one_leak(put: Callable[..., Path], tmp_path: Path) -> None:
    put("train/cat/track_0.png", scene(30))
    put("train/cat/track_1.png", changed("brighter", scene(30)))
    put("test/cat/track_2.png", changed("JPEG", scene(30)))
    result = run(tmp_path)
    files = ("test/cat/track_2.png", "train/cat/track_0.png", "train/cat/track_1.png")
    assert found(result) == [("leak", files)]
    assert result.leaks[0].touches_test


def test_dark_and_blank_images_are_not_alike(put: Callable[..., Path], tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    for number in range(40):
        put(f"train/cat/dark{number}_0.png", Image.fromarray(generator.integers(0, 12, (64, 64, 3), dtype=np.uint8)))
        put(f"train/dog/blank{number}_0.png", Image.new("RGB", (64, 64), (number, number, number)))
        night = np.zeros((64, 64, 3), np.uint8)
        night[generator.integers(0, 60) :, generator.integers(0, 60) :] = 20
        night[generator.integers(0, 60) :, : generator.integers(4, 60)] = 9
        put(f"train/dog/night{number}_0.png", Image.fromarray(night))
    assert not {finding.kind for finding in run(tmp_path).findings} & {"near_duplicate", "contradicting_labels"}


def test_ten_thousand_equal_hashes_take_seconds() -> None:
    generator = np.random.default_rng(0)
    hashes = np.full(10_000, 0x123456789ABCDEF0, np.uint64)
    brightness = generator.random(10_000).astype(np.float16)
    pairs = near_duplicates.find_close_hashes(hashes, brightness, np.arange(10_000))
    assert 9_999 <= len(pairs) <= 10_000 * near_duplicates.NEIGHBOURS
    assert len(np.unique(pairs)) == 10_000


def test_close_hashes_are_found_and_only_those() -> None:
    generator = np.random.default_rng(1)
    hashes = generator.integers(0, 2**63, 300, dtype=np.uint64)
    for number in range(150):
        flips = sum(1 << int(bit) for bit in generator.choice(64, number % 8, replace=False))
        hashes[number + 150] = hashes[number] ^ np.uint64(flips)
    pairs = near_duplicates.find_close_hashes(hashes, np.zeros(300, np.float16), np.arange(300))
    assert sorted(map(tuple, pairs.tolist())) == [(n, n + 150) for n in range(150) if n % 8 <= near_duplicates.MAX_BITS]


def test_bad_files_are_findings_and_no_copies(put: Callable[..., Path], tmp_path: Path) -> None:
    data = put("train/cat/whole_0.png", scene(40)).read_bytes()
    (tmp_path / "train/cat/cut_0.png").write_bytes(data[:4000])
    (tmp_path / "train/cat/cut_1.png").write_bytes(data[:4000])
    (tmp_path / "train/cat/void_0.png").write_bytes(b"")
    (tmp_path / "train/dog/text_0.png").write_bytes(b"no image")
    (tmp_path / "train/dog/text_1.ppm").write_bytes(b"P6\r\n8 8\r\n255\r\n" + bytes(192))
    (tmp_path / "train/dog/link_0.png").symlink_to("nowhere")
    result = run(tmp_path)
    assert result.findings == result.bad_files
    assert found(result) == [
        ("unreadable", ("train/dog/link_0.png",)),
        ("truncated", ("train/cat/cut_0.png",)),
        ("truncated", ("train/cat/cut_1.png",)),
        ("empty", ("train/cat/void_0.png",)),
        ("not_an_image", ("train/dog/text_0.png",)),
        ("line_ending_damage", ("train/dog/text_1.ppm",)),
    ]
    assert all(finding.detail for finding in result.bad_files)


def test_odd_modes_and_sizes(put: Callable[..., Path], tmp_path: Path) -> None:
    for number in range(30):
        put(f"train/cat/more{number}_0.png", scene(200 + number))
    put("train/dog/grey_0.png", scene(60).convert("L"))
    put("train/dog/clear_0.png", scene(61).convert("RGBA"))
    put("train/dog/large_0.png", scene(62, (120, 96)))
    assert found(run(tmp_path)) == [
        ("odd_mode", ("train/dog/clear_0.png",)),
        ("odd_mode", ("train/dog/grey_0.png",)),
        ("odd_size", ("train/dog/large_0.png",)),
    ]


def test_where_sizes_vary_only_extremes_are_odd(put: Callable[..., Path], tmp_path: Path) -> None:
    for number in range(8):
        put(f"train/cat/v{number}_0.png", scene(300 + number, (60 + number, 70)))
    put("train/dog/long_0.png", scene(62, (200, 60)))
    put("train/dog/tiny_0.png", scene(63, (15, 20)))
    result = run(tmp_path)
    assert found(result) == [("odd_size", ("train/dog/long_0.png",)), ("odd_size", ("train/dog/tiny_0.png",))]


def test_the_summary_counts(put: Callable[..., Path], tmp_path: Path) -> None:
    put("train/cat/extra_0.png", scene(70))
    put("test/dog/x_0.png", scene(71))
    put("test/dog/copy_0.png", scene(0))
    first, second = run(tmp_path), run(tmp_path)
    summary = first.summary
    assert summary["num_images"] == 15
    assert summary["num_images_by_split"] == {"train": 13, "test": 2}
    assert summary["num_images_by_class"] == {"train": {"cat": 7, "dog": 6}, "test": {"cat": 0, "dog": 2}}
    assert summary["imbalance"] == pytest.approx(7 / 6, abs=0.01)
    assert summary["modes"] == {"RGB": 15}
    assert summary["sizes"]["most_common"] == {"96x96": 15}
    assert summary["num_findings"] == {"leak": 1, "contradicting_labels": 1}
    assert summary["num_bytes"] == sum(path.stat().st_size for path in tmp_path.rglob("*.png"))
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]
    assert summary["versions"]["pillow"] == PIL.__version__
    assert summary["versions"][project["name"]] in (project["version"], None), "None where it is not installed"
    saved = json.loads(json.dumps(first.to_dict()))
    assert saved == first.to_dict()
    assert set(saved["findings"][0]) == {"kind", "files", "detail"}
    assert first.findings == second.findings
    assert {**summary, "seconds": 0} == {**second.summary, "seconds": 0}


def test_files_with_several_pictures_are_one_finding(put: Callable[..., Path], tmp_path: Path) -> None:
    for name in ("a/still.gif", "a/moving.gif", "a/moving.webp", "a/moving.png", "a/pages.tif"):
        frames = [scene(100), scene(101)] if "still" not in name else [scene(100)]
        put(f"train/{name}", frames[0]).unlink()
        frames[0].save(tmp_path / "train" / name, save_all=True, append_images=frames[1:])
    (finding,) = (each for each in run(tmp_path).findings if each.kind == "several_frames")
    assert finding.files == tuple(
        f"train/a/{name}" for name in ("moving.gif", "moving.png", "moving.webp", "pages.tif")
    )
    assert finding.detail.startswith("4 files hold more than one picture (frames or pages); the first of each is taken")


def test_an_empty_or_wholly_bad_data_set_is_audited(tmp_path: Path) -> None:
    for path in ("train/a/x_0.png", "train/b/y_0.png"):
        (tmp_path / path).parent.mkdir(parents=True)
        (tmp_path / path).write_bytes(b"")
    assert [finding.kind for finding in run(tmp_path).findings] == ["empty", "empty"]
    assert len(KINDS) == 15


def test_arrays_that_differ_in_a_later_band_are_no_near_duplicates(tmp_path: Path) -> None:
    """People see the first three bands; what counts are all of them."""
    shared = np.asarray(scene(1))
    for split, number in (("train", 2), ("test", 3)):
        (tmp_path / split / "cat").mkdir(parents=True)
        last = np.asarray(scene(number))[..., :1] // 4 + 100
        np.save(tmp_path / split / "cat" / f"{split}_0.npy", np.concatenate([shared, shared, shared, last], axis=2))
    manifest = tabulate(tmp_path)
    load = partial(load_bands, channels=10, value_range=None, max_pixels=10**6)
    inspection = inspect_files(tmp_path, manifest.paths, index=None)
    assert np.bitwise_count(np.bitwise_xor(*inspection.facts["perceptual"])) <= near_duplicates.MAX_BITS
    assert found(audit(manifest, inspection)) == [("leak", ("test/cat/test_0.npy", "train/cat/train_0.npy"))]
    assert found(audit(manifest, inspection, load=load)) == []
