"""Classes that are too small to be split: refused, trained on alone, or left out, as `data.small_classes` says."""

from pathlib import Path

import pytest

from sightline.data.collection.image_files import ClassFiles, Listing
from sightline.data.manifest import SPLITS, Manifest
from sightline.data.splitting import Split, SplitRule, find_test_images, split_images
from sightline.errors import BadInput


def listing(sizes: dict[str, int], **given: dict[str, int]) -> Listing:
    """So many images of each class in train, and in the splits that are given; no files are needed for a split."""
    files = [
        ClassFiles(split, label, f"{split}/{label}", [f"{number:03d}.png" for number in range(count)])
        for split, counts in {"train": sizes, **given}.items()
        for label, count in counts.items()
    ]
    return Listing(Path("/nowhere"), files)


def splits_of(manifest: Manifest) -> dict[str, str]:
    return {path: SPLITS[split] for path, split in zip(manifest.paths, manifest.splits, strict=True)}


def of_class(split: Split, label: str) -> dict[str, int]:
    labels = split.manifest.labels == split.manifest.class_names.index(label)
    return split.manifest.keep(labels).num_images


SIZES = {"blue": 40, "rare": 1, "red": 40, "two": 2}
TRAIN_ONLY, LEAVE_OUT = (SplitRule(small_classes=name) for name in ("train_only", "leave_out"))


def test_small_classes_are_named_with_the_key() -> None:
    with pytest.raises(BadInput) as error:
        split_images(listing(SIZES))
    assert str(error.value) == (
        "class rare (1), two (2): too few images or groups to be split into train and test and val; add images, or "
        "make test/ and val/ yourself, or set data.test_fraction=0, or set data.small_classes to train_only "
        "(trained on, not measured) or leave_out"
    )


def test_small_classes_are_trained_on_alone(caplog: pytest.LogCaptureFixture) -> None:
    split = split_images(listing(SIZES), TRAIN_ONLY)
    assert split.small_classes == {"rare": "train_only", "two": "train_only"}
    assert of_class(split, "rare") == {"train": 1, "val": 0, "test": 0}
    assert of_class(split, "red") == {"train": 28, "val": 6, "test": 6}
    assert "data.small_classes=train_only: too few images or groups to split: rare (1), two (2)" in caplog.text


def test_small_classes_are_left_out_of_every_split(caplog: pytest.LogCaptureFixture) -> None:
    split = split_images(listing(SIZES, val={"rare": 3, "red": 4}), LEAVE_OUT)
    assert split.small_classes == {"rare": "left_out"}
    assert split.manifest.class_names == ("blue", "red", "two")
    assert split.manifest.num_images == {"train": 69, "val": 4, "test": 13}
    assert "data.small_classes=leave_out: too few images or groups to split: rare (1): left out" in caplog.text


@pytest.mark.parametrize("rule", [TRAIN_ONLY, LEAVE_OUT, SplitRule()])
def test_where_all_splits_are_given_no_class_is_small(rule: SplitRule) -> None:
    split = split_images(listing(SIZES, val=SIZES, test=SIZES), rule)
    assert split.small_classes == {}
    assert split.manifest.num_images == {"train": 83, "val": 83, "test": 83}


def test_groups_are_counted_and_not_images() -> None:
    files = [
        ClassFiles("train", label, label, [f"{n}.png" for n in range(30)], groups) for label, groups in GROUPS.items()
    ]
    split = split_images(Listing(Path("/nowhere"), files), TRAIN_ONLY)
    assert split.small_classes == {"few": "train_only"}
    assert of_class(split, "few") == {"train": 30, "val": 0, "test": 0}


GROUPS = {
    "many": [f"m{n // 3}" for n in range(30)],
    "few": [f"f{n // 15}" for n in range(30)],
    "own": [*map(str, range(30))],
}


@pytest.mark.parametrize("fold", [0, 4])
def test_small_classes_in_folds(fold: int) -> None:
    sizes = {"blue": 40, "four": 4, "red": 40}
    with pytest.raises(BadInput, match=r"data.num_folds=5: class four \(3\): too few .* set it to 3 or less.*small_cl"):
        split_images(listing(sizes), SplitRule(num_folds=5, fold=fold))
    alone = split_images(listing(sizes), SplitRule(num_folds=5, fold=fold, small_classes="train_only"))
    assert of_class(alone, "four") == {"train": 3, "val": 0, "test": 1}
    without = split_images(listing(sizes), SplitRule(num_folds=5, fold=fold, small_classes="leave_out"))
    assert without.manifest.class_names == ("blue", "red")
    assert (alone.small_classes, without.small_classes) == ({"four": "train_only"}, {"four": "left_out"})


@pytest.mark.parametrize("rule", [TRAIN_ONLY, LEAVE_OUT])
def test_small_classes_with_a_pinned_split(rule: SplitRule, caplog: pytest.LogCaptureFixture) -> None:
    first = split_images(listing(SIZES), rule)
    caplog.clear()
    again = split_images(listing(SIZES), rule, first.manifest)
    assert again.small_classes == first.small_classes
    assert splits_of(again.manifest) == splits_of(first.manifest)
    more = split_images(listing({**SIZES, "red": 80}), rule, first.manifest)
    assert more.small_classes == first.small_classes
    assert splits_of(more.manifest).items() >= splits_of(first.manifest).items()
    assert "are gone from" not in caplog.text


def test_a_class_that_was_pinned_and_is_left_out_later_is_not_called_gone(caplog: pytest.LogCaptureFixture) -> None:
    first = split_images(listing(SIZES), TRAIN_ONLY)
    later = split_images(listing(SIZES), LEAVE_OUT, first.manifest)
    assert later.manifest.class_names == ("blue", "red")
    assert "are gone from" not in caplog.text


def test_with_all_classes_too_small_nothing_is_left() -> None:
    with pytest.raises(BadInput, match="no images found in|one class only"):
        split_images(listing({"a": 1, "b": 1, "c": 9}), LEAVE_OUT)


def test_classes_that_differ_only_by_case_or_blanks_are_named(caplog: pytest.LogCaptureFixture) -> None:
    split_images(listing({"Cat": 9, "Dog": 9, "cat": 9, "Dog ": 9}))
    assert "classes 'Dog' and 'Dog ' differ only by" in caplog.text
    assert "classes 'Cat' and 'cat' differ only by case or blanks: if they are one, give them one name" in caplog.text
    with pytest.raises(
        BadInput, match=r"test/ has classes that train/ lacks: cat \(cat and Cat differ only by case or blanks: gi"
    ):
        split_images(listing({"Cat": 9, "Dog": 9}, test={"cat": 3, "Dog": 3}))
    with pytest.raises(
        BadInput, match=r"does not know: cat \(cat and Cat differ only by case or blanks: give them one name\); it"
    ):
        find_test_images(listing({}, test={"cat": 3}), ("Cat", "Dog"))


def test_a_model_knows_its_classes_in_either_unicode_form() -> None:
    manifest = find_test_images(listing({}, test={"Caf\u00e9": 3}), ("Bar", "Cafe\u0301"))
    assert manifest.class_names == ("Bar", "Cafe\u0301")
    assert set(manifest.labels) == {1}
