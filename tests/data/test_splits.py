"""Splits: the same files give the same split, groups stay together, and what is given is kept."""

import shutil
from pathlib import Path

import pytest
from tests.conftest import write_image

from sightline.data.digits import write_digits
from sightline.data.splits import Manifest, find_test_images, make_manifest
from sightline.errors import BadInput


def splits_of(manifest: Manifest) -> dict[str, str]:
    return {image.path: image.split for image in manifest.images}


def test_the_same_files_give_the_same_split_anywhere(colors: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(colors, copy)
    first, second = make_manifest(colors), make_manifest(copy)
    assert splits_of(first) == splits_of(second)
    assert first.sha256 == second.sha256


def test_the_hash_follows_the_bytes_of_a_file(colors: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(colors, copy)
    write_image(copy / "train" / "red" / "00.png", (0, 0, 0), seed=1)
    assert splits_of(make_manifest(colors)) == splits_of(make_manifest(copy))
    assert make_manifest(colors).sha256 != make_manifest(copy).sha256


def test_validation_is_a_share_of_every_class(colors: Path) -> None:
    manifest = make_manifest(colors, val_fraction=0.2)
    assert manifest.num_images == {"train": 48, "val": 12, "test": 18}
    _, labels = manifest.select("val")
    assert [labels.count(number) for number in range(3)] == [4, 4, 4]


def test_folders_that_are_there_are_the_splits(colors: Path, tmp_path: Path) -> None:
    root = tmp_path / "data"
    shutil.copytree(colors, root)
    (root / "test").rename(root / "valid")
    manifest = make_manifest(root, test_fraction=0)
    assert manifest.num_images == {"train": 60, "val": 18, "test": 0}
    assert all(image.path.startswith("valid/") == (image.split == "val") for image in manifest.images)


def test_test_images_are_made_only_where_wanted(colors: Path, tmp_path: Path) -> None:
    root = tmp_path / "data"
    shutil.copytree(colors / "train", root / "train")
    assert make_manifest(root).num_images == {"train": 42, "val": 9, "test": 9}
    assert make_manifest(root, test_fraction=0).num_images == {"train": 51, "val": 9, "test": 0}


def test_a_group_never_crosses_splits(tmp_path: Path) -> None:
    for name in ("a", "b"):
        for track in range(10):
            for frame in range(3):
                write_image(tmp_path / "train" / name / f"{track:05d}_{frame:05d}.png", (9, 9, 9), seed=0, size=(8, 8))
    manifest = make_manifest(tmp_path, val_fraction=0.2, test_fraction=0.2, group_pattern=r"(\d+)_\d+\.\w+$")
    assert manifest.num_images == {"train": 36, "val": 12, "test": 12}
    splits_by_group: dict[str, set[str]] = {}
    for image in manifest.images:
        splits_by_group.setdefault(image.group, set()).add(image.split)
    assert len(splits_by_group) == 20, "a track's number counts within its class"
    assert all(len(splits) == 1 for splits in splits_by_group.values())


def test_a_pattern_that_misses_a_file_names_it(colors: Path) -> None:
    with pytest.raises(BadInput, match=r"does not match blue/00.png"):
        make_manifest(colors, group_pattern=r"track(\d+)")


@pytest.mark.parametrize(("count", "expected"), [(3, (1, 1, 1)), (4, (2, 1, 1)), (10, (6, 2, 2))])
def test_small_classes_get_one_image_in_every_split(count: int, expected: tuple[int, ...], tmp_path: Path) -> None:
    for name in ("a", "b"):
        for number in range(count):
            write_image(tmp_path / "train" / name / f"{number}.png", (9, 9, 9), seed=0, size=(8, 8))
    counts = make_manifest(tmp_path, val_fraction=0.2, test_fraction=0.2).num_images
    assert tuple(counts[split] // 2 for split in ("train", "val", "test")) == expected


def test_large_shares_leave_something_to_train_on(tmp_path: Path) -> None:
    for name in ("a", "b"):
        for number in range(4):
            write_image(tmp_path / "train" / name / f"{number}.png", (9, 9, 9), seed=0, size=(8, 8))
    counts = make_manifest(tmp_path, val_fraction=0.45, test_fraction=0.5).num_images
    assert min(counts.values()) > 0


def test_hidden_files_and_other_files_are_no_images(colors: Path, tmp_path: Path) -> None:
    root = tmp_path / "data"
    shutil.copytree(colors, root)
    for name in (".DS_Store", "._00.png", "notes.txt"):
        (root / "train" / "red" / name).write_bytes(b"x")
    (root / "train" / ".cache").mkdir()
    write_image(root / "train" / "red" / "deeper" / "one.PNG", (210, 50, 40), seed=77)
    manifest = make_manifest(root)
    assert len(manifest.images) == len(make_manifest(colors).images) + 1
    assert "train/red/deeper/one.PNG" in splits_of(manifest)


def test_a_saved_manifest_knows_which_files_changed(colors: Path, tmp_path: Path) -> None:
    root = tmp_path / "data"
    shutil.copytree(colors, root)
    manifest = make_manifest(root)
    manifest.save(tmp_path / "manifest.csv")
    loaded = Manifest.load(tmp_path / "manifest.csv", root)
    assert loaded == manifest
    assert loaded.sha256 == manifest.sha256
    (root / "test" / "red" / "00.png").unlink()
    write_image(root / "test" / "red" / "01.png", (0, 0, 0), seed=1)
    write_image(root / "test" / "red" / "new.png", (0, 0, 0), seed=1)
    assert loaded.find_changed("test") == ["test/red/00.png", "test/red/01.png"]
    assert loaded.find_changed("train") == []


def test_test_images_of_a_model_keep_its_classes(colors: Path, tmp_path: Path) -> None:
    shutil.copytree(colors / "test" / "red", tmp_path / "test" / "red")
    manifest = find_test_images(tmp_path, ("blue", "green", "red"))
    assert set(manifest.select("test")[1]) == {2}


def test_digits_are_written_once_and_whole(tmp_path: Path) -> None:
    write_digits(tmp_path / "digits")
    manifest = make_manifest(tmp_path / "digits")
    assert len(manifest.images) == 1797
    assert manifest.num_images["test"] == 360
    assert manifest.class_names == tuple("0123456789")
    file = tmp_path / "digits" / manifest.images[0].path
    file.write_bytes(b"mine")
    write_digits(tmp_path / "digits")
    assert file.read_bytes() == b"mine"
    assert [path.name for path in tmp_path.iterdir()] == ["digits"]
