"""Layouts: each of them gives the same list of splits, classes and names, and a broken one says what to change."""

from pathlib import Path

import pytest

from sightline.data.collection.image_files import ClassFiles, LayoutRule, find_files
from sightline.data.collection.layouts import list_images
from sightline.errors import BadInput


def touch(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"")
    return root


def write(path: Path, *lines: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def short(listed: list[ClassFiles]) -> list[tuple[str, str, str, list[str]]]:
    return [(files.split, files.label, files.folder, files.names) for files in listed]


# class folders


def test_class_folders_by_any_name_of_validation(tmp_path: Path) -> None:
    touch(tmp_path, "train/b/2.png", "train/b/1.JPG", "train/a/deep/1.png", "validation/a/3.png", "test/b/4.png")
    touch(tmp_path, "train/b/.hidden.png", "train/b/notes.txt", "train/.cache/x.png", "__MACOSX/train/c/x.png")
    assert short(list_images(tmp_path).files) == [
        ("train", "a", "train/a", ["deep/1.png"]),
        ("train", "b", "train/b", ["1.JPG", "2.png"]),
        ("val", "a", "validation/a", ["3.png"]),
        ("test", "b", "test/b", ["4.png"]),
    ]
    assert all(files.groups is None for files in list_images(tmp_path).files)


def test_a_class_without_images_is_listed(tmp_path: Path) -> None:
    touch(tmp_path, "train/a/1.png", "train/b/notes.txt")
    assert short(list_images(tmp_path).files)[1] == ("train", "b", "train/b", [])


def test_links_are_followed(tmp_path: Path) -> None:
    touch(tmp_path, "elsewhere/1.png", "root/train/a/2.png")
    (tmp_path / "root" / "train" / "b").symlink_to(tmp_path / "elsewhere")
    assert short(list_images(tmp_path / "root").files)[1] == ("train", "b", "train/b", ["1.png"])


def test_folders_around_the_data_are_entered(tmp_path: Path) -> None:
    touch(tmp_path, "dogs/dogImages/train/001.Affenpinscher/a.jpg", "dogs/.DS_Store", "__MACOSX/x")
    assert short(list_images(tmp_path).files) == [
        ("train", "001.Affenpinscher", "dogs/dogImages/train/001.Affenpinscher", ["a.jpg"])
    ]


def test_a_folder_train_alone_is_not_entered(tmp_path: Path) -> None:
    touch(tmp_path, "train/train/1.png")
    assert short(list_images(tmp_path).files) == [("train", "train", "train/train", ["1.png"])]


def test_the_pattern_picks_the_class_out_of_the_folder(tmp_path: Path) -> None:
    touch(tmp_path, "train/001.Affenpinscher/a.jpg", "train/002.Afghan_hound/b.jpg", "valid/Affenpinscher/c.jpg")
    listed = list_images(tmp_path, LayoutRule(class_pattern=r"^(?:\d+\.)?(.+)$")).files
    assert [(files.split, files.label) for files in listed] == [
        ("train", "Affenpinscher"),
        ("train", "Afghan_hound"),
        ("val", "Affenpinscher"),
    ]
    assert listed[0].folder == "train/001.Affenpinscher"


@pytest.mark.parametrize("pattern", [r"^(\d+)\.", r"^(?:\d+\.)?(x)?", "a"])
def test_a_pattern_that_finds_no_class(pattern: str, tmp_path: Path) -> None:
    touch(tmp_path, "train/Affenpinscher/a.jpg")
    with pytest.raises(BadInput) as error:
        list_images(tmp_path, LayoutRule(class_pattern=pattern))
    assert str(error.value).startswith(
        f"data.class_pattern={pattern}: its bracket finds no class in the folder Affenpinscher; change it"
    )


def test_a_pattern_that_makes_one_class_of_two_folders(tmp_path: Path) -> None:
    touch(tmp_path, "train/1.dog/a.jpg", "train/2.dog/b.jpg")
    with pytest.raises(BadInput, match=r"gives the class dog to train/1.dog and to train/2.dog; change it"):
        list_images(tmp_path, LayoutRule(class_pattern=r"^\d+\.(.+)$"))


BROKEN_FOLDERS = [
    (["seg/notes.txt"], r"data.root={root}: there is no folder train/ in it; put the images into {root}/train/<"),
    (["train/a/1.png", "val/a/1.png", "valid/a/1.png"], r"data.root={root}: val/ and valid/ both mean val; keep one"),
    (["train/1.txt"], r"data.root={root}: no images found in {root}/train/<class>/ (looked for .apng "),
    (["train/a/1.png", "test/1.txt"], r"data.root={root}: no images found in {root}/test/<class>/; add some or rem"),
]


@pytest.mark.parametrize(("names", "message"), BROKEN_FOLDERS)
def test_broken_folders(names: list[str], message: str, tmp_path: Path) -> None:
    with pytest.raises(BadInput) as error:
        list_images(touch(tmp_path, *names))
    assert str(error.value).startswith(message.format(root=tmp_path))


def test_no_folder_says_where_to_get_it(tmp_path: Path) -> None:
    with pytest.raises(BadInput) as error:
        list_images(tmp_path / "no", LayoutRule("the shop"))
    assert str(error.value) == (
        f"data.root={tmp_path / 'no'}: no such folder; set it to one that holds train/<class>/…; get it from the shop"
    )


def test_a_misspelt_folder_names_those_beside_it(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    with pytest.raises(BadInput, match=rf"no such folder; .* \(did you mean {tmp_path / 'photos'}\?\)$"):
        list_images(tmp_path / "fotos")


@pytest.mark.parametrize("names", [["test/a/1.png"], ["top/seg_test/a/1.png"], ["Test.csv", "Test/1.png"]])
def test_the_test_images_alone(names: list[str], tmp_path: Path) -> None:
    touch(tmp_path, *names)
    if "Test.csv" in names:
        write(tmp_path / "Test.csv", "ClassId,Path", "0,Test/1.png")
    assert [(files.split, len(files.names)) for files in list_images(tmp_path, needs="test").files] == [("test", 1)]
    with pytest.raises(BadInput, match="there is no folder train/ in it; put|no class folders in .*/seg_test/a,"):
        list_images(tmp_path)


def test_a_folder_without_the_test_images_that_are_needed(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"there is no folder test/ in it; put the images into .*/test/<class>/"):
        list_images(touch(tmp_path, "train/a/1.png"), needs="test")


def test_a_circle_of_links_ends(tmp_path: Path) -> None:
    (tmp_path / "inner").symlink_to(tmp_path)
    with pytest.raises(BadInput, match="there is no folder train/"):
        list_images(tmp_path)


def test_files_are_found_in_order(tmp_path: Path) -> None:
    touch(tmp_path, "b.png", "a/2.png", "a/1.png", ".x/1.png")
    assert [path.relative_to(tmp_path).as_posix() for path in find_files(tmp_path)] == ["b.png", "a/1.png", "a/2.png"]


# published data sets

GTSRB = [("train", "00000", ["00000_00000.ppm", "00000_00001.ppm"]), ("train", "00020", ["00000_00000.ppm"])]
GTSRB_TEST = [("test", "00000", ["00001.ppm"]), ("test", "00020", ["00000.ppm", "00002.ppm"])]
TEST_TABLE = (
    "Filename;Width;Height;Roi.X1;Roi.Y1;Roi.X2;Roi.Y2;ClassId",
    "00000.ppm;53;54;6;5;48;49;20",
    "00001.ppm;42;45;5;5;36;40;0",
    "00002.ppm;48;52;6;6;43;47;20",
)


def without_folder(listed: list[ClassFiles]) -> list[tuple[str, str, list[str]]]:
    return [(files.split, files.label, files.names) for files in listed]


def make_gtsrb(top: Path, train: str = "Final_Training/Images") -> Path:
    touch(top / train, "00000/00000_00000.ppm", "00000/00000_00001.ppm", "00000/GT-00000.csv", "00020/00000_00000.ppm")
    return top


@pytest.mark.parametrize("top", ["", "GTSRB", "all/GTSRB"])
def test_gtsrb_as_published(top: str, tmp_path: Path) -> None:
    make_gtsrb(tmp_path / top)
    assert without_folder(list_images(tmp_path).files) == GTSRB
    images = tmp_path / top / "Final_Test" / "Images"
    touch(images, "00000.ppm", "00001.ppm", "00002.ppm")
    write(images / "GT-final_test.test.csv", "Filename;Width")
    write(images / "GT-final_test.csv", *TEST_TABLE)
    listed = list_images(tmp_path).files
    assert without_folder(listed) == GTSRB + GTSRB_TEST
    assert all((tmp_path / files.folder / name).is_file() for files in listed for name in files.names)


@pytest.mark.parametrize("where", ["", "GTSRB", "GTSRB/Final_Test"])
def test_gtsrb_finds_the_table_of_the_test_set(where: str, tmp_path: Path) -> None:
    make_gtsrb(tmp_path / "GTSRB")
    touch(tmp_path / "GTSRB" / "Final_Test" / "Images", "00000.ppm", "00001.ppm", "00002.ppm")
    with pytest.raises(BadInput, match=r"no GT-final_test.csv for the images in .*put it beside them \(it comes in"):
        list_images(tmp_path)
    write(tmp_path / where / "GT-final_test.csv", *TEST_TABLE)
    assert without_folder(list_images(tmp_path).files) == GTSRB + GTSRB_TEST


def test_gtsrb_of_the_online_competition(tmp_path: Path) -> None:
    make_gtsrb(tmp_path / "GTSRB", "Training")
    assert without_folder(list_images(tmp_path).files) == GTSRB


def test_another_folder_training_is_not_gtsrb(tmp_path: Path) -> None:
    touch(tmp_path, "Training/a/1.png", "Testing/a/1.png")
    assert without_folder(list_images(tmp_path).files) == [("train", "a", ["1.png"]), ("test", "a", ["1.png"])]


def test_gtsrb_of_kaggle_has_the_same_classes(tmp_path: Path) -> None:
    names = ["Train/0/00000_00000_00000.png", "Train/20/00020_00000_00000.png", "Test/00000.png", "Test/00001.png"]
    touch(tmp_path, *names, "train/0/copy.png", "Meta/0.png")
    head = "Width,Height,Roi.X1,Roi.Y1,Roi.X2,Roi.Y2,ClassId,Path"
    write(tmp_path / "Train.csv", head, f"27,26,5,5,22,20,20,{names[1]}", f"27,26,5,5,22,20,0,{names[0]}")
    assert {files.split for files in list_images(tmp_path).files} == {"train"}
    write(tmp_path / "Test.csv", head, f"53,54,6,5,48,49,16,{names[2]}", f"53,54,6,5,48,49,1,{names[3]}")
    assert short(list_images(tmp_path).files) == [
        ("train", "00000", "Train/0", ["00000_00000_00000.png"]),
        ("train", "00020", "Train/20", ["00020_00000_00000.png"]),
        ("test", "00001", "Test", ["00001.png"]),
        ("test", "00016", "Test", ["00000.png"]),
    ]


BROKEN_TABLES = [
    ("00009.ppm;1;1;1;1;1;1;20", r"GT-final_test.csv line 5: 00009.ppm: no such file in .*; unpack the data set again"),
    ("../x.ppm;1;1;1;1;1;1;20", r"line 5: \.\./x.ppm: no such file"),
    ("00000.ppm;1;1;1;1;1;1;", r"line 5: ClassId=: must be a number"),
    ("00000.ppm;1;1;1;1;1;1;20", r"line 5: 00000.ppm: is named twice"),
]


@pytest.mark.parametrize(("line", "message"), BROKEN_TABLES)
def test_gtsrb_with_a_broken_table(line: str, message: str, tmp_path: Path) -> None:
    make_gtsrb(tmp_path)
    touch(tmp_path / "Final_Test" / "Images", "00000.ppm", "00001.ppm", "00002.ppm", "../x.ppm")
    write(tmp_path / "GT-final_test.csv", *TEST_TABLE, line)
    with pytest.raises(BadInput, match=message):
        list_images(tmp_path)


def test_another_train_csv_is_not_gtsrb(tmp_path: Path) -> None:
    write(tmp_path / "Train.csv", "id,target", "1,2")
    touch(tmp_path, "train/a/1.png")
    assert without_folder(list_images(tmp_path).files) == [("train", "a", ["1.png"])]


@pytest.mark.parametrize("level", ["", "seg_{split}/"])
def test_intel_scenes_as_on_kaggle(level: str, tmp_path: Path) -> None:
    for split in ("train", "test"):
        touch(tmp_path / f"seg_{split}" / level.format(split=split), "sea/1.jpg", "street/2.jpg")
    touch(tmp_path, "seg_pred/seg_pred/3.jpg")
    listed = list_images(tmp_path).files
    assert without_folder(listed) == [
        (split, *rest) for split in ("train", "test") for rest in (("sea", ["1.jpg"]), ("street", ["2.jpg"]))
    ]
    assert listed[0].folder == f"seg_train/{level.format(split='train')}sea"
