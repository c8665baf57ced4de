"""The cache: decoded once, the same pixels as the files, whole or not there."""

import json
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.conftest import PROJECT, compose_train, write_image

from sightline.data.cache import ImageCache, ImageStore, Pixels
from sightline.data.opening import open_data, open_files
from sightline.data.splitting import make_manifest
from sightline.data.transforms import UnreadableImage, load_rgb, prepare
from sightline.errors import BadInput
from sightline.task_spec import TaskSpec

SPEC = TaskSpec(("blue", "green", "red"), 24, (0.5,) * 3, (0.25,) * 3)


def cache_in(folder: Path, mode: str = "auto", limit_gb: float = 1.0) -> ImageCache:
    return ImageCache(folder, limit_gb=limit_gb, mode=mode)


def stores_in(folder: Path) -> list[Path]:
    return sorted(path.parent for path in folder.glob("*/store.json") if not path.parent.name.startswith("."))


def test_a_store_holds_what_evaluation_prepares(colors: Path, tmp_path: Path) -> None:
    images = make_manifest(colors).select("val")
    store = cache_in(tmp_path).store(images, Pixels(SPEC))
    assert store is not None
    expected = np.stack([prepare(load_rgb(path), SPEC) for path in images.paths])
    assert np.array_equal(store.read(np.arange(len(images))), expected)


def test_a_margin_keeps_small_images_as_they_are_and_shrinks_large_ones(tmp_path: Path) -> None:
    for name in ("a", "b"):
        for number, size in enumerate([(20, 30), (400, 300), (90, 200), (64, 64)]):
            write_image(tmp_path / "in" / "train" / name / f"{number}.png", (90, 90, 90), seed=number, size=size)
    images = make_manifest(tmp_path / "in").select("train")
    pixels = Pixels.for_crops(SPEC, (0.25, 1.0), (0.75, 4 / 3))
    assert pixels.margin == 56, "24 / sqrt(0.25 * 0.75), rounded up: the smallest crop is 24 pixels wide"
    store = cache_in(tmp_path / "cache").store(images, pixels)
    assert store is not None
    for index, path in enumerate(images.paths):
        original = np.asarray(load_rgb(path))
        if min(original.shape[:2]) <= 56:
            assert np.array_equal(store[index], original)
        else:
            assert min(store[index].shape[:2]) == 56
            assert store[index].shape[0] / store[index].shape[1] == pytest.approx(
                original.shape[0] / original.shape[1], rel=0.02
            )


@pytest.mark.parametrize("augmentation", ["none", "light", "albumentations"])
def test_training_sees_the_same_pixels_with_and_without_a_cache(
    augmentation: str, colors: Path, tmp_path: Path
) -> None:
    def batches(mode: str) -> list[torch.Tensor]:
        words = ["data=folder", f"data.root={colors}", f"augmentation={augmentation}", f"data.cache={mode}"]
        cfg = compose_train(*words, "data.num_workers=0", "data.image_size=24", f"paths.cache={tmp_path}")
        datamodule = open_data(cfg).make_datamodule(cfg, SPEC)
        datamodule.sampler.set_epoch(2)
        loaders = (datamodule.train_dataloader(), datamodule.val_dataloader(), datamodule.test_dataloader())
        return [tensor for loader in loaders for batch in loader for tensor in batch]

    plain, cached = batches("off"), batches("always")
    assert len(stores_in(tmp_path / "images")) == 3
    assert all(torch.equal(one, other) for one, other in zip(plain, cached, strict=True))


def test_folds_share_their_stores(colors: Path, tmp_path: Path) -> None:
    for fold in range(3):
        words = ["data=folder", f"data.root={colors}", "data.num_folds=3", f"data.fold={fold}", "data.cache=always"]
        cfg = compose_train(*words, "data.num_workers=0", "data.image_size=24", f"paths.cache={tmp_path}")
        data = open_files(cfg)
        manifest, datamodule = data.manifest, data.make_datamodule(cfg, SPEC)
        pixels, labels = (torch.cat(column) for column in zip(*datamodule.val_dataloader(), strict=True))
        images = manifest.select("val")
        assert labels.tolist() == images.labels.tolist()
        expected = np.stack([prepare(load_rgb(path), SPEC) for path in images.paths])
        assert np.array_equal(pixels.numpy(), expected)
    assert len(stores_in(tmp_path / "images")) == 3, "train with its margin, validation, test"


def test_a_store_is_used_again_and_follows_content_and_size_not_splits(colors: Path, tmp_path: Path) -> None:
    manifest = make_manifest(colors)
    images, cache = manifest.select("train"), cache_in(tmp_path / "cache")
    first = cache.store(images, Pixels(SPEC))
    assert first is not None
    moved = tmp_path / "moved"
    shutil.copytree(colors, moved)
    again = cache.store(make_manifest(moved).select("train"), Pixels(SPEC))
    assert again is not None
    assert again.folder == first.folder
    write_image(moved / "train" / "red" / images.path(len(images) - 1).name, (0, 0, 0), seed=9)
    changed = cache.store(make_manifest(moved).select("train"), Pixels(SPEC))
    larger = cache.store(images, Pixels(TaskSpec(SPEC.class_names, 32, SPEC.mean, SPEC.std)))
    other = cache.store(images, Pixels(TaskSpec(SPEC.class_names, 24, SPEC.mean, SPEC.std, "bilinear")))
    assert len({store.folder for store in (first, changed, larger, other) if store}) == 4


def test_the_longest_unused_store_makes_room(colors: Path, tmp_path: Path) -> None:
    manifest, pixels = make_manifest(colors), Pixels(SPEC)
    size = len(manifest.select("train")) * 24 * 24 * 3 / 1e9
    cache = cache_in(tmp_path, limit_gb=1.5 * size)
    oldest = cache.store(manifest.select("val"), pixels)
    newer = cache.store(manifest.select("test"), pixels)
    assert oldest is not None
    assert newer is not None
    os.utime(oldest.folder / "store.json", (1, 1))
    train = cache.store(manifest.select("train"), pixels)
    assert train is not None
    assert stores_in(tmp_path) == sorted([newer.folder, train.folder])
    assert oldest.read(np.array([0])).shape == (1, 24, 24, 3), "who has it open reads on"


def test_auto_reads_files_where_the_store_would_not_fit(colors: Path, tmp_path: Path) -> None:
    images = make_manifest(colors).select("train")
    assert cache_in(tmp_path, "auto", limit_gb=1e-6).store(images, Pixels(SPEC)) is None
    assert cache_in(tmp_path, "off").store(images, Pixels(SPEC)) is None
    assert stores_in(tmp_path) == []


def test_always_says_when_the_folder_cannot_be_written(colors: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    images = make_manifest(colors).select("train")
    with pytest.raises(BadInput, match="data.cache=always: .*set paths.cache"):
        cache_in(tmp_path / "file" / "cache", "always").store(images, Pixels(SPEC))
    assert cache_in(tmp_path / "file" / "cache", "auto").store(images, Pixels(SPEC)) is None


def test_a_damaged_store_is_built_anew(colors: Path, tmp_path: Path) -> None:
    images = make_manifest(colors).select("val")
    store = cache_in(tmp_path).store(images, Pixels(SPEC))
    assert store is not None
    with (store.folder / "pixels.bin").open("ab") as file:
        file.write(b"more")
    again = cache_in(tmp_path).store(images, Pixels(SPEC))
    assert again is not None
    assert len(again) == len(images)
    assert not (again.folder / "pixels.bin").read_bytes().endswith(b"more")


def test_who_only_reads_neither_builds_nor_removes(colors: Path, tmp_path: Path) -> None:
    images, cache = make_manifest(colors).select("val"), cache_in(tmp_path / "cache")
    assert cache.find(images, Pixels(SPEC)) is None
    assert not cache.folder.exists()
    store = cache.store(images, Pixels(SPEC))
    found = cache.find(images, Pixels(SPEC))
    assert store is not None
    assert found is not None
    assert found.folder == store.folder
    with (store.folder / "pixels.bin").open("ab") as file:
        file.write(b"more")
    assert cache.find(images, Pixels(SPEC)) is None
    assert (store.folder / "pixels.bin").read_bytes().endswith(b"more"), "whoever builds it anew removes it"


def test_a_bad_file_is_named_and_leaves_no_store(colors: Path, tmp_path: Path) -> None:
    root = tmp_path / "in"
    shutil.copytree(colors, root)
    images = make_manifest(root).select("val")
    images.path(3).write_bytes(b"no image")
    with pytest.raises(UnreadableImage, match=images.path(3).name):
        cache_in(tmp_path / "cache").store(images, Pixels(SPEC))
    assert [path.name for path in (tmp_path / "cache").iterdir() if path.suffix != ".lock"] == []


def _build(root: str, folder: str, results: "multiprocessing.Queue[str]") -> None:
    store = cache_in(Path(folder)).store(make_manifest(root).select("train"), Pixels(SPEC))
    assert store is not None
    results.put(f"{store.folder.name} {store.read(np.arange(len(store))).sum()}")


def test_two_processes_build_one_store(colors: Path, tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    results = context.Queue()
    builders = [context.Process(target=_build, args=(str(colors), str(tmp_path), results)) for _ in range(2)]
    for builder in builders:
        builder.start()
    answers = {results.get(timeout=60) for _ in builders}
    for builder in builders:
        builder.join()
    assert len(answers) == 1
    assert len(stores_in(tmp_path)) == 1


BUILD = """
import sys
sys.path.insert(0, sys.argv[1])
from sightline.data.cache import ImageCache, Pixels
from sightline.data.splitting import make_manifest
from sightline.task_spec import TaskSpec

if __name__ == "__main__":
    spec = TaskSpec(("a", "b"), 256, (0.5,) * 3, (0.25,) * 3)
    images = make_manifest(sys.argv[2]).select("train")
    images.manifest.digests
    print("building", flush=True)
    ImageCache(sys.argv[3], limit_gb=1).store(images, Pixels(spec))
""".replace("ImageCache(sys.argv[3]", "ImageCache(__import__('pathlib').Path(sys.argv[3])")


def test_a_killed_build_leaves_nothing_that_looks_whole(tmp_path: Path) -> None:
    """More than 400 images, so that processes of its own decode them; these must end too."""
    root, cache, script = tmp_path / "in", tmp_path / "cache", tmp_path / "build.py"
    for name in ("a", "b"):
        write_image(root / "train" / name / "0.png", (9, 9, 9), seed=0, size=(600, 600))
        for number in range(1, 400):
            (root / "train" / name / f"{number}.png").hardlink_to(root / "train" / name / "0.png")
    script.write_text(BUILD)
    command = [sys.executable, str(script), str(PROJECT / "src"), str(root), str(cache)]
    builder = subprocess.Popen(command, stdout=subprocess.PIPE, start_new_session=True)
    assert builder.stdout is not None
    with builder.stdout:
        builder.stdout.readline()
    deadline = time.monotonic() + 60
    while not list(cache.glob(".*/pixels.bin")) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert list(cache.glob(".*/pixels.bin"))
    os.kill(builder.pid, signal.SIGKILL)
    builder.wait()
    assert stores_in(cache) == []
    while _in_session(builder.pid) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert _in_session(builder.pid) == [], "its processes end with it"
    subprocess.run(command, check=True, timeout=120)
    assert len(stores_in(cache)) == 1
    assert (
        len(ImageStore(stores_in(cache)[0]))
        == json.loads((stores_in(cache)[0] / "store.json").read_text())["num_images"]
    )
    assert not list(cache.glob(".*/pixels.bin")), "the remains of the killed build are gone"


def _in_session(session: int) -> list[int]:
    import psutil

    found = []
    for process in psutil.process_iter():
        try:
            if os.getsid(process.pid) == session and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process.pid)
        except (ProcessLookupError, psutil.NoSuchProcess):
            continue
    return found


def write_deep(folder: Path, shape: tuple[int, ...]) -> None:
    for name in ("a", "b"):
        (folder / "train" / name).mkdir(parents=True)
        for number in range(4):
            values = np.random.default_rng((number, len(name))).integers(0, 65536, shape).astype(np.uint16)
            np.save(folder / "train" / name / f"{number}.npy", values)


@pytest.mark.parametrize("margin", [None, 32])
@pytest.mark.parametrize("channels", [1, 3, 5])
def test_a_store_keeps_16_bits_and_every_band(channels: int, margin: int | None, tmp_path: Path) -> None:
    write_deep(tmp_path / "in", (24, 24, channels))
    images = make_manifest(tmp_path / "in").select("train")
    halves = (0.5,) * channels
    spec = TaskSpec(("a", "b"), 24, halves, halves, value_range=(0, 65535), channels=channels, bit_depth=16)
    store = cache_in(tmp_path / "cache").store(images, Pixels(spec, margin))
    assert store is not None
    for index, path in enumerate(images.paths):
        np.testing.assert_array_equal(store[index], np.load(path))
    (folder,) = stores_in(tmp_path / "cache")
    facts = json.loads((folder / "store.json").read_text())
    assert (facts["dtype"], facts["channels"]) == ("uint16", channels)


def test_a_store_of_before_there_were_depths_still_opens(colors: Path, tmp_path: Path) -> None:
    images = make_manifest(colors).select("val")
    whole = cache_in(tmp_path).store(images, Pixels(SPEC))
    (folder,) = stores_in(tmp_path)
    facts = json.loads((folder / "store.json").read_text())
    (folder / "store.json").write_text(json.dumps({k: v for k, v in facts.items() if k not in ("dtype", "channels")}))
    old = ImageStore(folder)
    assert whole is not None
    np.testing.assert_array_equal(old.read(np.arange(len(old))), whole.read(np.arange(len(whole))))


def test_the_name_of_a_store_of_colours_never_changes() -> None:
    """Caches of years are found again: the key is that of before there were channels and depths."""
    digests = np.arange(64, dtype=np.uint8).reshape(2, 32)
    assert Pixels(SPEC).key(digests) == "8c95135a7783e70ee02f83baaeffee0a"
    deep = TaskSpec(SPEC.class_names, 24, SPEC.mean, SPEC.std, value_range=(0, 4095))
    assert Pixels(deep).key(digests) == "0f350b12bb82c3a49d54d1de1a2379cc"
    others = [TaskSpec.from_dict({**deep.to_dict(), **more}) for more in ({"bit_depth": 16}, {"channels": 3})]
    assert [Pixels(spec).key(digests) == "0f350b12bb82c3a49d54d1de1a2379cc" for spec in others] == [False, True]
