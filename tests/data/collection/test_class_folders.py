"""Folders as people have them: understood, with a word where not plain, or refused with the key that decides."""

import os
import unicodedata
from pathlib import Path

import pytest
from PIL import Image
from tests.data.collection.test_layouts import touch

from sightline.data.collection.image_files import LayoutRule, Listing, find_named
from sightline.data.collection.layouts import list_images
from sightline.data.splitting import make_manifest
from sightline.errors import BadInput

RED, BLUE = ("red/1.png", "red/2.png"), ("blue/1.png",)
CLASSES = (*RED, *BLUE)


def below(*folders: str, names: tuple[str, ...] = CLASSES) -> list[str]:
    return [f"{folder}/{name}" for folder in folders for name in names]


def counts(listing: Listing) -> dict[str, dict[str, int]]:
    """Number of images by split and class."""
    found: dict[str, dict[str, int]] = {}
    for part in listing.files:
        of_split = found.setdefault(part.split, {})
        of_split[part.label] = of_split.get(part.label, 0) + len(part.names)
        assert all((listing.root / part.folder / name).is_file() for name in part.names)
    return found


BOTH = {"blue": 1, "red": 2}
SPLITS = [
    (["train", "valid", "test"], None),
    (["Training", "Testing"], "Training/ is train; Testing/ is test"),
    (["Train", "Validation", "Test"], "Train/ is train; Validation/ is val; Test/ is test"),
    (["TRAIN", "dev"], "TRAIN/ is train; dev/ is val"),
    (["train_set", "test_set"], "train_set/ is train; test_set/ is test"),
    (["training_set", "validation-set"], "training_set/ is train; validation-set/ is val"),
    (["trainset", "testset"], "trainset/ is train; testset/ is test"),
    (["train2017", "val2017"], "train2017/ is train; val2017/ is val"),
    (["Train Images", "test1"], "Train Images/ is train; test1/ is test"),
    (["cards_train", "cards_val", "cards_test"], "cards_train/ is train; cards_val/ is val; cards_test/ is test"),
    (["ASL-Train-Data", "ASL-Test-Data"], "ASL-Train-Data/ is train; ASL-Test-Data/ is test"),
    (["images/train", "images/test"], None),
    (["data/data/train", "data/data/test"], None),
    (["archive (1)/data/data/train", "archive (1)/data/data/test"], None),
    (
        ["train/images", "test/images"],
        "the classes of train lie in train/images/; the classes of test lie in test/images/",
    ),
    (["seg/train/train"], "the classes of train lie in seg/train/train/"),
]


@pytest.mark.parametrize(("folders", "because"), SPLITS)
def test_the_usual_words_for_splits(folders: list[str], because: str | None, tmp_path: Path) -> None:
    listing = list_images(touch(tmp_path, *below(*folders), "README.md"))
    assert list(counts(listing).values()) == [BOTH] * len(folders)
    assert [guess.value for guess in listing.guesses] == ["splits"] * (because is not None)
    assert [guess.because for guess in listing.guesses] == [because] * (because is not None)


def test_the_plainest_name_is_the_split_and_others_are_named(tmp_path: Path) -> None:
    listing = list_images(touch(tmp_path, *below("train", "train2", "extra", "val_old", "val")))
    assert [part.folder for part in listing.files] == ["train/blue", "train/red", "val/blue", "val/red"]
    assert listing.notes == ("not read: extra/, train2/ and val_old/ beside train/ and val/",)
    assert not listing.guesses


def test_classes_without_a_folder_train(tmp_path: Path) -> None:
    odd = ("pets/labels.txt", "pets/notes/1.txt", "__MACOSX/pets/._1.png")
    listing = list_images(touch(tmp_path, *below("pets"), *odd))
    assert "not read: notes/, as there are no images in it" in listing.notes
    assert counts(listing) == {"train": BOTH}
    assert [str(guess) for guess in listing.guesses] == [
        "guessed data.layout=classes (there is no folder train/, and blue/ and red/ hold the images)"
    ]
    assert counts(list_images(tmp_path, needs="test")) == {"test": BOTH}


def test_a_class_before_its_split(tmp_path: Path) -> None:
    names = [f"{label}/{split}/{n}.png" for label in ("red", "blue") for split in ("train", "Test") for n in range(2)]
    listing = list_images(touch(tmp_path, *names, "red/raw/1.png"))
    assert counts(listing) == {"train": {"blue": 2, "red": 2}, "test": {"blue": 2, "red": 2}}
    assert [str(guess) for guess in listing.guesses] == [
        "guessed data.layout=classes_splits (train/ and Test/ lie in blue/ and red/)"
    ]
    assert listing.notes == ("not read: raw/ beside train/ and Test/",)


def test_what_can_be_read_in_two_ways_names_both_and_the_key(tmp_path: Path) -> None:
    touch(tmp_path, "red/train/1.png", "red/test/1.png", "blue/1.png", "blue/2.png")
    with pytest.raises(BadInput) as error:
        list_images(tmp_path)
    assert (
        "data.layout=classes_splits (train/ and test/ lie in red/), or data.layout=classes (there are none in blue/)"
        in str(error.value)
    )
    assert counts(list_images(tmp_path, LayoutRule(layout="classes"))) == {"train": {"red": 2, "blue": 2}}
    touch(tmp_path, "blue/train/1.png")
    assert counts(list_images(tmp_path, LayoutRule(layout="classes_splits")))["train"] == {"red": 1, "blue": 1}


def test_a_class_whose_name_is_that_of_a_split(tmp_path: Path) -> None:
    listing = list_images(touch(tmp_path, "train/1.png", "bus/1.png", "car/1.png"))
    assert counts(listing) == {"train": {"bus": 1, "car": 1, "train": 1}}
    assert listing.guesses[0].because == "train/ holds images itself, like bus/ and car/"


UNCLEAR = [
    (["train/red/1.png", "Train/red/1.png"], "Train/ and train/ both mean train; keep one"),
    (["valid/1.png", "invalid/1.png"], "valid/ lies beside invalid/: if all of them are classes, add data.layout=clas"),
    (
        below("a/train", "b/train", "a/test"),
        "a/ and b/: the folders of splits lie in there; set data.root={root}/a to take",
    ),
    (below("a_train", "a_test", "b_train", "b_test"), "a_train/ and b_train/ belong to several data sets; put each"),
]


@pytest.mark.parametrize(("names", "message"), UNCLEAR)
def test_unclear_folders_are_refused_with_the_change(names: list[str], message: str, tmp_path: Path) -> None:
    with pytest.raises(BadInput) as error:
        list_images(touch(tmp_path, *names))
    assert message.format(root=tmp_path) in str(error.value)


def test_a_layout_that_was_told_is_no_guess(tmp_path: Path) -> None:
    touch(tmp_path, "valid/1.png", "invalid/1.png")
    listing = list_images(tmp_path, LayoutRule(layout="classes"))
    assert (counts(listing), listing.guesses) == ({"train": {"invalid": 1, "valid": 1}}, ())
    with pytest.raises(BadInput, match=r"data.layout=splits: there is no folder train/ in it"):
        list_images(tmp_path, LayoutRule(layout="splits"))


def test_folders_of_systems_and_disks_are_no_classes(tmp_path: Path) -> None:
    names = ("@eaDir", ".@__thumb", "#recycle", "$RECYCLE.BIN", "System Volume Information", "lost+found")
    odd = [f"{top}{name}/1.png" for top in ("", "train/", "train/red/") for name in (*names, ".ipynb_checkpoints")]
    touch(tmp_path, *below("train"), *odd, "train/red/._1.png", "train/red/Thumbs.db", "train/.DS_Store")
    listing = list_images(touch(tmp_path, "train/blue/desktop.ini"))
    assert counts(listing) == {"train": BOTH}
    assert (listing.notes, listing.passed_over) == ((), {})


def test_what_is_passed_over_is_named(tmp_path: Path) -> None:
    touch(tmp_path, *below("train"), "train/red/a.txt", "train/red/b.TXT", "train/blue/c.pdf", "train/blue/LICENSE")
    listing = list_images(touch(tmp_path, "train/stray.png"))
    assert listing.passed_over == {".txt": 2, ".pdf": 1, "": 1}
    assert set(listing.notes) == {
        "not used: 1 image(s) in train/ itself, in no class folder, the first is stray.png",
        "passed over 4 files that are no images: 2 .txt, 1 .pdf, 1 without a suffix",
    }


def test_what_is_no_suffix_hides_no_image(tmp_path: Path) -> None:
    touch(tmp_path, *below("train"))
    for name in ("Dr. Smith", "1.jpg?w=200", "2.jpg_large", "scan. 3"):
        Image.new("L", (8, 8)).save(tmp_path / "train/red" / name, "JPEG")
    (tmp_path / "train/red/notes. old").write_text("no image, but longer than a signature")
    listing = list_images(tmp_path)
    assert counts(listing) == {"train": {"blue": 1, "red": 6}}
    assert listing.notes == ("passed over 1 file that is no image: 1 without a suffix",)


def test_a_folder_without_images_says_what_it_holds(tmp_path: Path) -> None:
    touch(tmp_path, "a/1.dcm", "a/2.dcm", "b/1.dcm", "b/notes.txt")
    with pytest.raises(BadInput, match=r"there are no images in it, only 3 \.dcm, 1 \.txt: convert"):
        list_images(tmp_path)


def test_classes_that_lie_in_a_class_once_more_are_named(tmp_path: Path) -> None:
    touch(tmp_path, *CLASSES, *below("flowers"))
    listing = list_images(tmp_path)
    assert counts(listing) == {"train": {**BOTH, "flowers": 3}}
    assert listing.notes == (
        "flowers/ counts as a class, and holds folders that are called like classes too: blue/ and red/; "
        "if they are copies, move it away",
    )


def test_one_class_in_two_unicode_forms(tmp_path: Path) -> None:
    composed, apart = (unicodedata.normalize(form, "Café") for form in ("NFC", "NFD"))
    assert composed != apart
    touch(tmp_path, f"train/{apart}/1.png", f"train/{composed}/2.png", f"test/{composed}/1.png")
    listing = list_images(tmp_path)
    assert counts(listing) == {"train": {composed: 2}, "test": {composed: 1}}
    assert {part.folder for part in listing.files} == {f"train/{apart}", f"train/{composed}", f"test/{composed}"}


# links


def test_a_split_may_be_a_link(tmp_path: Path) -> None:
    touch(tmp_path, *below("train", "shared_val"))
    (tmp_path / "val").symlink_to(tmp_path / "shared_val")
    listing = list_images(tmp_path)
    assert counts(listing) == {"train": BOTH, "val": BOTH}
    assert listing.notes == ()


@pytest.mark.parametrize("link", ["train/red/up", "train/up", "train/red/deep/up"])
@pytest.mark.parametrize("target", ["", "train"])
def test_links_that_lead_up_are_named_and_not_followed(link: str, target: str, tmp_path: Path) -> None:
    touch(tmp_path, *below("train"), "train/red/deep/3.png")
    (tmp_path / link).symlink_to(tmp_path / target)
    listing = list_images(tmp_path)
    assert counts(listing) == {"train": {"blue": 1, "red": 3}}
    assert listing.notes == (
        f"not followed, as they lead up or to what is found already: {link} → {str(tmp_path / target).rstrip('/')}",
    )


def test_links_that_lead_to_nothing_are_named(tmp_path: Path) -> None:
    touch(tmp_path, *below("train"))
    (tmp_path / "train/green").symlink_to("gone")
    (tmp_path / "train/red/3.png").symlink_to("gone.png")
    (tmp_path / "train/red/loop").symlink_to("loop")
    listing = list_images(tmp_path)
    assert counts(listing) == {"train": BOTH}
    assert listing.notes == (
        "links that lead to nothing: train/green → gone, train/red/3.png → gone.png, train/red/loop → loop",
    )


def test_pipes_are_passed_over_and_not_waited_for(tmp_path: Path) -> None:
    touch(tmp_path, *below("train"))
    for name in ("pipe", "pipe.png"):
        os.mkfifo(tmp_path / "train/red" / name)
        os.mkfifo(tmp_path / "train" / name)
    listing = list_images(tmp_path)
    assert counts(listing) == {"train": BOTH}
    assert "passed over 2 files that are no images: 2 (pipe or device)" in listing.notes
    with pytest.raises(BadInput, match=r"pipe is a pipe or a device; name an image or a folder"):
        find_named(str(tmp_path / "train/red/pipe*"))


# test images without classes

UNLABELLED = [
    ["test/1.png", "test/2.png"],
    ["test/test/1.png", "test/test/2.png"],
    ["test/images/1.png", "test/images/deep/2.png"],
    ["test/unknown/1.png", "test/unknown/2.png"],
    ["test/test_images/1.png", "test/test_images/2.png"],
    ["test/Unlabeled Test/1.png", "test/Unlabeled Test/2.png"],
]


@pytest.mark.parametrize("names", UNLABELLED)
def test_test_images_without_classes(names: list[str], tmp_path: Path) -> None:
    listing = list_images(touch(tmp_path, *below("train"), *names))
    assert counts(listing) == {"train": BOTH}
    assert listing.unlabelled == names
    assert listing.notes == (
        "test/ has no folders of classes: its 2 image(s) are not measured but predicted, "
        "and the test split is made from train",
    )
    with pytest.raises(
        BadInput, match=r"test/ has no folders of classes, so nothing can be measured; put .*predict.py"
    ):
        list_images(tmp_path, needs="test")


def test_one_class_in_test_is_a_class(tmp_path: Path) -> None:
    assert counts(list_images(touch(tmp_path, *below("train"), "test/red/1.png")))["test"] == {"red": 1}
    touch(tmp_path, *below("train", names=("test/1.png", "all/1.png")))
    touch(tmp_path / "more", *below("train", names=("all/1.png", "red/1.png")), "test/all/1.png")
    assert counts(list_images(tmp_path / "more"))["test"] == {"all": 1}


def test_a_folder_of_test_that_train_lacks_may_be_no_class(tmp_path: Path) -> None:
    touch(tmp_path, *below("train"), "test/0/1.png")
    with pytest.raises(BadInput, match=r"lacks: 0; add .*, or, if they are no classes, put their images into test/ "):
        make_manifest(tmp_path)


def test_images_of_val_without_classes_are_told_where_to_go(tmp_path: Path) -> None:
    touch(tmp_path, *below("train"), "val/1.png")
    with pytest.raises(BadInput, match=f"no class folders in {tmp_path}/val, .*put them into {tmp_path}/val/<class>/;"):
        list_images(tmp_path)


# files whose names tell the class

FLAT = ["cat.0.jpg", "cat.1.jpg", "dog.0.jpg", "dog_17.jpg"]


@pytest.mark.parametrize("folder", ["", "train/", "data/train/", "data/"])
def test_the_name_of_a_file_tells_its_class(folder: str, tmp_path: Path) -> None:
    touch(tmp_path, *(f"{folder}{name}" for name in FLAT))
    listing = list_images(tmp_path, LayoutRule(name_pattern="^([a-z]+)"))
    assert counts(listing) == {"train": {"cat": 2, "dog": 2}}
    assert listing.guesses == ()


def test_names_tell_classes_in_every_split_and_below(tmp_path: Path) -> None:
    touch(tmp_path, *below("train", "val/2020", names=tuple(FLAT)), "test/1.jpg", "test/2.jpg")
    listing = list_images(tmp_path, LayoutRule(name_pattern="^([a-z]+)"))
    assert counts(listing) == {"train": {"cat": 2, "dog": 2}, "val": {"cat": 2, "dog": 2}}
    assert listing.unlabelled == ["test/1.jpg", "test/2.jpg"]


def test_a_name_that_tells_no_class_is_refused(tmp_path: Path) -> None:
    touch(tmp_path, *below("train", names=(*FLAT, "7.jpg", "8.jpg")))
    with pytest.raises(BadInput) as error:
        list_images(tmp_path, LayoutRule(name_pattern="^([a-z]+)"))
    assert str(error.value) == (
        "data.name_pattern=^([a-z]+): its bracket finds no class in train/7.jpg and 1 more of 6 file(s); "
        "change it so that it fits every file's name"
    )


SUGGESTED = [
    (FLAT, r"^(.+?)[ ._-]*\(?\d+\)?\.\w+$", "cat and dog"),
    (["Egyptian_Mau_1.jpg", "pug (1).jpg", "pug (2).jpg"], r"^(.+?)[ ._-]*\(?\d+\)?\.\w+$", "Egyptian_Mau and pug"),
    (["cat.0.big.jpg", "cat.1.big.jpg", "dog.0.big.jpg"], r"^([^\W\d_]+)", "cat and dog"),
    (["001_cat.png", "002_cat.png", "003_dog.png"], r"([^\W\d_]+)\.\w+$", "cat and dog"),
    (["1.png", "2.png"], None, None),
]


@pytest.mark.parametrize(("names", "pattern", "classes"), SUGGESTED)
@pytest.mark.parametrize("folder", ["", "train"])
def test_a_flat_folder_is_told_the_three_ways(
    names: list[str], pattern: str | None, classes: str | None, folder: str, tmp_path: Path
) -> None:
    touch(tmp_path / folder, *names)
    with pytest.raises(BadInput) as error:
        list_images(tmp_path)
    message = str(error.value)
    assert (
        f"put them into {tmp_path}/train/<class>/; or take the class from their names, with 'data.name_pat" in message
    )
    assert "; or name a table of path,label with data.root=TABLE.csv" in message
    assert (f"\"', which gives {classes}" in message) == bool(classes)
    if pattern:
        assert f"'data.name_pattern=\"{pattern}\"'" in message
        found = list_images(tmp_path, LayoutRule(name_pattern=pattern))
        assert " and ".join(counts(found)["train"]) == classes
