"""Splits: the same files give the same split, groups stay together, and what is given is kept."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from tests.conftest import write_image
from tests.odd_names import LABELS, write_odd_names

from sightline.data.collection.digits import write_digits
from sightline.data.collection.layouts import list_images
from sightline.data.manifest import Manifest
from sightline.data.splitting import SplitRule, find_test_images, make_manifest
from sightline.errors import BadInput


def splits_of(manifest: Manifest) -> dict[str, str]:
    return {path: split for path, _, split, _, _ in manifest.rows()}


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
    manifest = make_manifest(colors, SplitRule(val_fraction=0.2))
    assert manifest.num_images == {"train": 48, "val": 12, "test": 18}
    assert np.bincount(manifest.select("val").labels).tolist() == [4, 4, 4]


def test_folders_that_are_there_are_the_splits(colors: Path, tmp_path: Path) -> None:
    root = tmp_path / "data"
    shutil.copytree(colors, root)
    (root / "test").rename(root / "valid")
    manifest = make_manifest(root, SplitRule(test_fraction=0))
    assert manifest.num_images == {"train": 60, "val": 18, "test": 0}
    assert all(path.startswith("valid/") == (split == "val") for path, split in splits_of(manifest).items())


def test_what_the_data_state_goes_before_a_rule_with_a_word(
    colors: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    shutil.copytree(colors / "train", tmp_path / "images")
    table, paths = tmp_path / "table.csv", sorted((tmp_path / "images").rglob("*.png"))
    rows = [f"{path.relative_to(tmp_path)},{path.parent.name},,{number // 2}" for number, path in enumerate(paths)]
    table.write_text("\n".join(["path,label,split,group", *rows]))
    with caplog.at_level("INFO", "sightline.data.splitting"):
        make_manifest(colors, SplitRule(test_fraction=0.3))
        make_manifest(table, SplitRule(group_pattern=r"(\d)\d"))
        make_manifest(colors, SplitRule(val_fraction=0.3, test_fraction=0))
    said = [each.getMessage() for each in caplog.records if "is not used" in each.getMessage()]
    assert said == [
        f"data.test_fraction=0.3 is not used: {colors} has a test split of its own",
        rf"data.group_pattern=(\d)\d is not used: {tmp_path} states the groups itself",
    ]


def test_test_images_are_made_only_where_wanted(colors: Path, tmp_path: Path) -> None:
    root = tmp_path / "data"
    shutil.copytree(colors / "train", root / "train")
    assert make_manifest(root).num_images == {"train": 42, "val": 9, "test": 9}
    assert make_manifest(root, SplitRule(test_fraction=0)).num_images == {"train": 51, "val": 9, "test": 0}


def test_a_group_never_crosses_splits(tmp_path: Path) -> None:
    for name in ("a", "b"):
        for track in range(10):
            for frame in range(3):
                write_image(tmp_path / "train" / name / f"{track:05d}_{frame:05d}.png", (9, 9, 9), seed=0, size=(8, 8))
    manifest = make_manifest(tmp_path, SplitRule(0.2, 0.2, group_pattern=r"(\d+)_\d+\.\w+$"))
    assert manifest.num_images == {"train": 36, "val": 12, "test": 12}
    splits_by_group: dict[str, set[str]] = {}
    for _, _, split, group, _ in manifest.rows():
        splits_by_group.setdefault(group, set()).add(split)
    assert len(splits_by_group) == 20, "a track's number counts within its class"
    assert all(len(splits) == 1 for splits in splits_by_group.values())


def test_a_pattern_that_misses_a_file_names_it(colors: Path) -> None:
    with pytest.raises(BadInput, match=r"does not match blue/00.png"):
        make_manifest(colors, SplitRule(group_pattern=r"track(\d+)"))


@pytest.mark.parametrize(("count", "expected"), [(3, (1, 1, 1)), (4, (2, 1, 1)), (10, (6, 2, 2))])
def test_small_classes_get_one_image_in_every_split(count: int, expected: tuple[int, ...], tmp_path: Path) -> None:
    for name in ("a", "b"):
        for number in range(count):
            write_image(tmp_path / "train" / name / f"{number}.png", (9, 9, 9), seed=0, size=(8, 8))
    counts = make_manifest(tmp_path, SplitRule(0.2, 0.2)).num_images
    assert tuple(counts[split] // 2 for split in ("train", "val", "test")) == expected


def test_large_shares_leave_something_to_train_on(tmp_path: Path) -> None:
    for name in ("a", "b"):
        for number in range(4):
            write_image(tmp_path / "train" / name / f"{number}.png", (9, 9, 9), seed=0, size=(8, 8))
    counts = make_manifest(tmp_path, SplitRule(0.45, 0.5)).num_images
    assert min(counts.values()) > 0


def test_hidden_files_and_other_files_are_no_images(colors: Path, tmp_path: Path) -> None:
    root = tmp_path / "data"
    shutil.copytree(colors, root)
    for name in (".DS_Store", "._00.png", "notes.txt"):
        (root / "train" / "red" / name).write_bytes(b"x")
    (root / "train" / ".cache").mkdir()
    write_image(root / "train" / "red" / "deeper" / "one.PNG", (210, 50, 40), seed=77)
    manifest = make_manifest(root)
    assert len(manifest) == len(make_manifest(colors)) + 1
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


def test_a_loaded_manifest_has_the_classes_it_was_saved_with(tmp_path: Path) -> None:
    write_many(tmp_path, 8, names=LONG)
    manifest = make_manifest(tmp_path)
    manifest.save(tmp_path / "manifest.csv")
    loaded = Manifest.load(tmp_path / "manifest.csv", tmp_path)
    assert loaded.class_names == LONG
    assert loaded.labels.tolist() == manifest.labels.tolist()
    assert list(loaded.rows()) == list(manifest.rows())


def test_names_of_any_kind_come_back(tmp_path: Path) -> None:
    write_odd_names(tmp_path)
    manifest = make_manifest(tmp_path)
    manifest.save(tmp_path / "manifest.csv")
    (tmp_path / "manifest.csv").read_text(encoding="utf-8", errors="strict")
    loaded = Manifest.load(tmp_path / "manifest.csv", tmp_path)
    assert loaded.class_names == manifest.class_names == tuple(LABELS)
    assert list(loaded.rows()) == list(manifest.rows())
    assert loaded.sha256 == manifest.sha256
    files = {manifest.file(row) for row in range(len(manifest))}
    assert files == {path for path in tmp_path.rglob("*.png") if path.is_file()}
    assert not loaded.find_changed("train")
    again = make_manifest(tmp_path, SplitRule(val_fraction=0.5), pinned=loaded)
    assert splits_of(again) == splits_of(manifest)


def test_test_images_of_a_model_keep_its_classes(colors: Path, tmp_path: Path) -> None:
    shutil.copytree(colors / "test" / "red", tmp_path / "test" / "red")
    manifest = find_test_images(list_images(tmp_path, needs="test"), ("blue", "green", "red"))
    assert set(manifest.select("test").labels) == {2}


def test_digits_are_written_once_and_whole(tmp_path: Path) -> None:
    write_digits(tmp_path / "digits")
    manifest = make_manifest(tmp_path / "digits")
    assert len(manifest) == 1797
    assert manifest.num_images["test"] == 360
    assert manifest.class_names == tuple("0123456789")
    file = tmp_path / "digits" / manifest.paths[0]
    file.write_bytes(b"mine")
    write_digits(tmp_path / "digits")
    assert file.read_bytes() == b"mine"
    assert [path.name for path in tmp_path.iterdir()] == ["digits"]


def write_many(root: Path, count: int, start: int = 0, names: tuple[str, ...] = ("a", "b")) -> None:
    for name in names:
        for number in range(start, start + count):
            write_image(root / "train" / name / f"{number:03d}.png", (9, 9, 9), seed=number, size=(8, 8))


LONG = ("a name of more than sixteen bytes", "b, of more than sixteen bytes")
"""Texts from 16 bytes on are kept apart by numpy's StringDType, whose searchsorted takes them for others."""


@pytest.mark.parametrize("names", [("a", "b"), LONG], ids=["short", "long"])
def test_new_files_never_move_those_of_a_pinned_manifest(names: tuple[str, ...], tmp_path: Path) -> None:
    write_many(tmp_path, 20, names=names)
    before = make_manifest(tmp_path)
    write_many(tmp_path, 30, start=100, names=names)
    after = make_manifest(tmp_path, pinned=before)
    splits = splits_of(after)
    assert {path: splits[path] for path in splits_of(before)} == splits_of(before)
    assert after.num_images == {"train": 68, "val": 16, "test": 16}, "and the shares hold for all of them"
    assert splits_of(make_manifest(tmp_path)) != splits, "without it some would have moved"


def test_groups_that_come_twice_in_order_are_numbered(tmp_path: Path) -> None:
    for split in ("test", "train"):
        for number in range(60):
            write_image(tmp_path / split / "a" / f"{number:03d}.png", (9, 9, 9), seed=number, size=(8, 8))
        write_image(tmp_path / split / "b" / "000.png", (9, 9, 9), seed=1, size=(8, 8))
    write_image(tmp_path / "train" / "b" / "001.png", (9, 9, 9), seed=1, size=(8, 8))
    groups = make_manifest(tmp_path, SplitRule(val_fraction=0.2, group_pattern=r"(\d+)")).groups
    assert groups[:60].tolist() == groups[61:121].tolist() == list(range(60)), "numpy's own sort ends the process here"


def test_new_images_follow_their_pinned_group(tmp_path: Path) -> None:
    rule = SplitRule(0.2, 0.2, group_pattern=r"(\d+)_\d+\.\w+$")
    for track in range(10):
        write_image(tmp_path / "train" / "a" / f"{track:02d}_0.png", (9, 9, 9), seed=track, size=(8, 8))
        write_image(tmp_path / "train" / "b" / f"{track:02d}_0.png", (9, 9, 9), seed=track, size=(8, 8))
    before = make_manifest(tmp_path, rule)
    for track in range(10):
        write_image(tmp_path / "train" / "a" / f"{track:02d}_1.png", (9, 9, 9), seed=track, size=(8, 8))
    splits = splits_of(make_manifest(tmp_path, rule, pinned=before))
    for track in range(10):
        assert splits[f"train/a/{track:02d}_1.png"] == splits[f"train/a/{track:02d}_0.png"]


def test_a_pinned_manifest_with_other_groups_is_refused(tmp_path: Path) -> None:
    write_many(tmp_path, 10)
    before = make_manifest(tmp_path)
    with pytest.raises(BadInput, match=r"data.group_pattern: the manifest that pins the split groups train/a/000.png"):
        make_manifest(tmp_path, SplitRule(group_pattern=r"(\d\d)"), pinned=before)


def test_a_group_may_span_classes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        for patient in range(10):
            for image in range(2):
                path = tmp_path / "train" / name / f"p{patient}_{image}.png"
                write_image(path, (9, 9, 9), seed=patient, size=(8, 8))
    rule = SplitRule(0.2, 0.2, group_pattern=r"(p\d+)_", groups_span_classes=True)
    manifest = make_manifest(tmp_path, rule)
    splits: dict[str, set[str]] = {}
    for _, _, split, group, _ in manifest.rows():
        splits.setdefault(group, set()).add(split)
    assert sorted(splits) == [f"p{patient}" for patient in range(10)]
    assert all(len(found) == 1 for found in splits.values())
    assert manifest.num_images == {"train": 24, "val": 8, "test": 8}


def test_folds_cover_all_but_test_once(colors: Path) -> None:
    manifests = [make_manifest(colors, SplitRule(num_folds=5, fold=fold)) for fold in range(5)]
    validated = [path for manifest in manifests for path, split in splits_of(manifest).items() if split == "val"]
    assert len(validated) == len(set(validated)) == 60
    for manifest in manifests:
        assert manifest.num_images == {"train": 48, "val": 12, "test": 18}
        assert np.bincount(manifest.select("val").labels).tolist() == [4, 4, 4]
        assert all(path.startswith("test/") for path, split in splits_of(manifest).items() if split == "test")


def test_folds_keep_groups_together(tmp_path: Path) -> None:
    for name in ("a", "b"):
        for track in range(6):
            for frame in range(3):
                write_image(tmp_path / "train" / name / f"{track}_{frame}.png", (9, 9, 9), seed=track, size=(8, 8))
    pattern = r"(\d+)_\d+\.\w+$"
    for fold in range(3):
        manifest = make_manifest(tmp_path, SplitRule(0.2, 0, pattern, num_folds=3, fold=fold))
        val = set(manifest.groups[manifest.select("val").rows])
        train = set(manifest.groups[manifest.select("train").rows])
        assert not val & train
        assert len(val) == 4


def test_more_folds_than_groups_are_refused(tmp_path: Path) -> None:
    write_many(tmp_path, 3)
    with pytest.raises(BadInput, match=r"class a \(3\), b \(3\): too few .* set it to 3 or less"):
        make_manifest(tmp_path, SplitRule(test_fraction=0, num_folds=4))


@pytest.mark.parametrize("text", ["a,b\n", "path,label,split,group,sha256\nx.png,a,trian,g,00\n", ""])
def test_a_file_that_is_no_manifest_is_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / "manifest.csv").write_text(text)
    with pytest.raises(BadInput, match=r"manifest.csv: not a manifest"):
        Manifest.load(tmp_path / "manifest.csv", tmp_path)
