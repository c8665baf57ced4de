"""Tables of images: odd columns, delimiters, encodings and paths are understood and said, or named with the line."""

import csv
import unicodedata
from collections.abc import Sequence
from pathlib import Path

import pytest

from sightline.data.collection.image_files import ClassFiles, LayoutRule, Listing
from sightline.data.collection.layouts import list_images
from sightline.data.collection.tables import is_table
from sightline.errors import BadInput

FILES = ("a/1.png", "a/2.png", "b/3.png", "b/4.png")
LABELS = {"a/1.png": "cat", "a/2.png": "cat", "b/3.png": "dog", "b/4.png": "dog"}
CATS_AND_DOGS = [("train", "cat", ["a/1.png", "a/2.png"]), ("train", "dog", ["b/3.png", "b/4.png"])]


def touch(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"")
    return folder


def make_table(folder: Path, *lines: str, name: str = "table.csv", files: Sequence[str] = FILES) -> Path:
    """A table beside (empty) files."""
    touch(folder, *files)
    (folder / name).write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder / name


def short(listed: Listing) -> list[tuple[str, str, list[str]]]:
    return [(files.split, files.label, files.names) for files in listed.files]


def guessed(listed: Listing) -> dict[str, object]:
    return {guess.key: guess.value for guess in listed.guesses}


def refusal(root: Path, needs: str = "train", **told: object) -> str:
    with pytest.raises(BadInput) as error:
        list_images(root, LayoutRule.of(told), needs=needs)
    return str(error.value)


# a plain table: nothing is guessed


def test_a_table_of_paths_and_labels(tmp_path: Path) -> None:
    table = make_table(tmp_path, "\ufefflabel,width,path", "cat,1,a/2.png", "dog,1,./b/3.png", '"cat",1,a/1.png')
    assert is_table(table.name)
    listed = list_images(table)
    assert listed.files == [
        ClassFiles("train", "cat", "", ["a/1.png", "a/2.png"]),
        ClassFiles("train", "dog", "", ["b/3.png"]),
    ]
    assert listed.root == tmp_path
    assert not listed.guesses


def test_a_table_with_splits_and_groups(tmp_path: Path) -> None:
    lines = ("path,label,split,group", "a/2.png,cat,,anna", "a/1.png,cat,Train,", "b/3.png,cat,valid,bert")
    listed = list_images(make_table(tmp_path, *lines, "b/4.png,cat,test,carl"))
    assert [(files.split, files.names, files.groups) for files in listed.files] == [
        ("train", ["a/1.png", "a/2.png"], ["a/1.png", "anna"]),
        ("val", ["b/3.png"], ["bert"]),
        ("test", ["b/4.png"], ["carl"]),
    ]


def test_a_list_of_im2rec(tmp_path: Path) -> None:
    table = make_table(tmp_path, "0\t3.000000\ta/1.png", "17\t12.000000\ta/2.png", "", "5\t3\tb/3.png", name="x.lst")
    listed = list_images(table)
    assert short(listed) == [("train", "12", ["a/2.png"]), ("train", "3", ["a/1.png", "b/3.png"])]
    assert not listed.guesses


PLAIN_HEADERS = ["path,label", "Path,Label", " PATH , label ", '"path","label"', "path, label"]


@pytest.mark.parametrize("header", PLAIN_HEADERS)
def test_case_blanks_and_quotes_of_a_header_do_not_matter(header: str, tmp_path: Path) -> None:
    listed = list_images(make_table(tmp_path, header, "", *(f"{path}, {label}" for path, label in LABELS.items()), ","))
    assert short(listed) == CATS_AND_DOGS
    assert not listed.guesses


def test_lines_may_end_as_on_windows(tmp_path: Path) -> None:
    table = make_table(tmp_path, "path,label\r", *(f"{path},{label}\r" for path, label in LABELS.items()), "\r")
    assert short(list_images(table)) == CATS_AND_DOGS


def test_a_table_of_one_column_more_than_names_has_an_index(tmp_path: Path) -> None:
    """As R writes it, and as pandas does, whose index has an empty name."""
    rows = [f"{number},{path},{label}" for number, (path, label) in enumerate(LABELS.items())]
    for header in ("path,label", ",path,label", "Unnamed: 0,path,label"):
        listed = list_images(make_table(tmp_path, header, *rows))
        assert short(listed) == CATS_AND_DOGS
        assert not listed.guesses


# columns


SYNONYMS = [
    ("filename,label", {"path": "filename", "label": "label"}),
    ("Image_Path,Class", {"path": "Image_Path", "label": "Class"}),
    ("image-id,BREED", {"path": "image-id", "label": "BREED"}),
    ("file name,species", {"path": "file name", "label": "species"}),
    ("img,target", {"path": "img", "label": "target"}),
    ("id,category", {"path": "id", "label": "category"}),
    ("path,className", {"path": "path", "label": "className"}),
    ("foto,label", {"path": "foto", "label": "label"}),
    ("path,Rasse", {"path": "path", "label": "Rasse"}),
    ("foto,rasse", {"path": "foto", "label": "rasse"}),
]


@pytest.mark.parametrize(("header", "columns"), SYNONYMS)
def test_usual_names_of_columns_are_understood(header: str, columns: dict[str, str], tmp_path: Path) -> None:
    listed = list_images(make_table(tmp_path, header, *(f"{path},{label}" for path, label in LABELS.items())))
    assert short(listed) == CATS_AND_DOGS
    assert guessed(listed) == {"data.columns": columns}
    again = list_images(tmp_path / "table.csv", LayoutRule(columns=columns))
    assert (again.files, again.guesses) == (listed.files, ()), "what is announced can be typed"


def test_columns_may_be_named_in_part(tmp_path: Path) -> None:
    table = make_table(
        tmp_path, "photo,kind,size", *(f"{path},{label},{len(path)}{label}" for path, label in LABELS.items())
    )
    assert "which column holds the label? It has photo, kind, size" in refusal(table)
    assert refusal(table).endswith("name it, like data.columns.label=NAME"), "as a shell takes it, without quotes"
    listed = list_images(table, LayoutRule(columns={"label": "Kind"}))
    assert short(listed) == CATS_AND_DOGS
    assert guessed(listed) == {"data.columns": {"path": "photo", "label": "kind"}}
    assert "data.columns={label: kimd}" in refusal(table, columns={"label": "kimd"})
    assert refusal(table, columns={"label": "kimd"}).endswith("photo, kind, size (did you mean kind?)")


def test_the_values_tell_which_of_two_columns_is_the_path(tmp_path: Path) -> None:
    rows = [f"{number},{path},{label}" for number, (path, label) in enumerate(LABELS.items())]
    listed = list_images(make_table(tmp_path, "id,name,label", *rows))
    assert short(listed) == CATS_AND_DOGS
    assert guessed(listed) == {"data.columns": {"path": "name", "label": "label"}}


def test_two_columns_that_name_the_same_files_are_no_question(tmp_path: Path) -> None:
    rows = [f"{path[:-4]},{path},{label}" for path, label in LABELS.items()]
    assert short(list_images(make_table(tmp_path, "image_id,filename,label", *rows))) == CATS_AND_DOGS


def test_two_columns_of_files_are_ambiguous(tmp_path: Path) -> None:
    masks = [path.replace("/", "/mask_") for path in FILES]
    rows = [f"{path},{mask},{LABELS[path]}" for path, mask in zip(FILES, masks, strict=True)]
    for names in ("image,picture", "left,right"):
        message = refusal(make_table(tmp_path, f"{names},label", *rows, files=(*FILES, *masks)))
        one, other = (f"'data.columns={{path:{name}}}' (its cells name files)" for name in names.split(","))
        assert message.startswith(f"data.columns: two guesses are possible: {one}, or {other}; add")
    listed = list_images(tmp_path / "table.csv", LayoutRule(columns={"path": "right"}))
    assert listed.files[0].names == ["a/mask_1.png", "a/mask_2.png"]


def test_two_columns_of_labels_are_ambiguous(tmp_path: Path) -> None:
    rows = [f"{path},{label},{number % 2}" for number, (path, label) in enumerate(LABELS.items())]
    message = refusal(make_table(tmp_path, "path,species,breed", *rows))
    assert "data.columns: two guesses are possible: 'data.columns={label:species}'" in message
    assert "data.columns={label:breed}" in message
    assert message.endswith("add the one that is right to the command")


def test_a_number_and_a_name_for_each_class_say_the_same(tmp_path: Path) -> None:
    rows = [f"{path},{len(label) + (label == 'dog')},{label}" for path, label in LABELS.items()]
    listed = list_images(make_table(tmp_path, "path,class_id,class_name", *rows))
    assert short(listed) == CATS_AND_DOGS
    assert "class_id says the same" in str(listed.guesses[0])


def test_groups_are_understood_and_can_be_left_out(tmp_path: Path) -> None:
    rows = [f"{path},{label},p{number // 2}" for number, (path, label) in enumerate(LABELS.items())]
    table = make_table(tmp_path, "path,label,Patient ID", *rows)
    listed = list_images(table)
    assert [files.groups for files in listed.files] == [["p0", "p0"], ["p1", "p1"]]
    assert guessed(listed) == {"data.columns": {"path": "path", "label": "label", "group": "Patient ID"}}
    assert [files.groups for files in list_images(table, LayoutRule(columns={"group": False})).files] == [None, None]


@pytest.mark.parametrize("column", ["set", "Subset", "fold", "usage", "partition"])
def test_words_for_splits_in_any_case(column: str, tmp_path: Path) -> None:
    words = ("TRAIN", "Validation", "test", "")
    rows = [f"{path},{LABELS[path]},{word}" for path, word in zip(FILES, words, strict=True)]
    listed = list_images(make_table(tmp_path, f"path,label,{column}", *rows))
    assert [files.split for files in listed.files] == ["train", "train", "val", "test"]
    assert guessed(listed)["data.columns"] == {"path": "path", "label": "label", "split": column}


def test_a_set_that_is_no_split_is_left_alone(tmp_path: Path) -> None:
    rows = [f"{path},{label},{number}" for number, (path, label) in enumerate(LABELS.items())]
    listed = list_images(make_table(tmp_path, "path,label,set", *rows))
    assert short(listed) == CATS_AND_DOGS
    assert not listed.guesses


def test_columns_of_yes_and_no_tell_splits(tmp_path: Path) -> None:
    flags = ("True,False", "False,True", "False,False", "False,False")
    rows = [f"{path},{LABELS[path]},{flag}" for path, flag in zip(FILES, flags, strict=True)]
    listed = list_images(make_table(tmp_path, "path,label,is_valid,is_test", *rows))
    assert [(files.split, files.names) for files in listed.files] == [
        ("train", ["b/3.png", "b/4.png"]),
        ("val", ["a/1.png"]),
        ("test", ["a/2.png"]),
    ]
    assert guessed(listed)["data.columns"] == {"path": "path", "label": "label", "split": ["is_valid", "is_test"]}
    wrong = make_table(tmp_path, "path,label,is_valid,is_test", *rows[:3], "b/4.png,dog,1,1")
    assert "line 5: is of val and of test" in refusal(wrong)


def test_one_column_for_each_class(tmp_path: Path) -> None:
    rows = [f"{path},{int(label == 'cat')},{int(label == 'dog')}" for path, label in LABELS.items()]
    table = make_table(tmp_path, "image,cat,dog", *rows)
    listed = list_images(table)
    assert short(listed) == CATS_AND_DOGS
    assert guessed(listed) == {"data.columns": {"path": "image", "label": ["cat", "dog"]}}
    told = list_images(table, LayoutRule(columns={"path": "image", "label": ["cat", "dog"]}))
    assert (told.files, told.guesses) == (listed.files, ())
    both = make_table(tmp_path, "image,cat,dog", *rows[:2], "b/3.png,1.0,1.0", "b/4.png,1.0,1.0")
    assert "line 4: cat and dog are 1: several labels (so are 1 other rows, lines 5); several classes" in refusal(both)
    neither = make_table(tmp_path, "image,cat,dog", *rows[:3], "b/4.png,0,0")
    assert "line 5: none of cat, dog is 1: no label; write 1" in refusal(neither)
    other = make_table(tmp_path, "image,cat,dog", *rows[:3], "b/4.png,0,2")
    assert "line 5: dog=2: must be 0 or 1" in refusal(other, columns={"label": ["cat", "dog"]})


def test_a_table_without_a_header(tmp_path: Path) -> None:
    table = make_table(tmp_path, *(f"{label},{path}" for path, label in LABELS.items()))
    listed = list_images(table)
    assert short(listed) == CATS_AND_DOGS
    assert guessed(listed) == {"data.columns": {"path": 2, "label": 1}, "data.table_format": {"header": False}}
    told = LayoutRule(columns={"path": 2, "label": 1}, table_format={"header": False})
    assert (list_images(table, told).files, list_images(table, told).guesses) == (listed.files, ())


# text


DELIMITERS = [(";", "semicolon"), ("\t", "tab"), ("|", "bar")]


@pytest.mark.parametrize(("delimiter", "name"), DELIMITERS)
def test_delimiters_are_found(delimiter: str, name: str, tmp_path: Path) -> None:
    table = tmp_path / "table.csv"
    labels = {path: f"{label}, large" for path, label in LABELS.items()}
    make_table(tmp_path, *(delimiter.join(row) for row in (("path", "label"), *labels.items())))
    listed = list_images(table)
    assert [files.label for files in listed.files] == ["cat, large", "dog, large"]
    assert guessed(listed) == {"data.table_format": {"delimiter": name}}
    for told in (name, delimiter):
        assert not list_images(table, LayoutRule(table_format={"delimiter": told})).guesses


def test_tabs_are_no_guess_in_tsv(tmp_path: Path) -> None:
    lines = ["path\tlabel", *("\t".join(row) for row in LABELS.items())]
    listed = list_images(make_table(tmp_path, *lines, name="labels.tsv"))
    assert (short(listed), listed.guesses) == (CATS_AND_DOGS, ())


def test_a_table_without_a_header_names_files_without_their_folder(tmp_path: Path) -> None:
    listed = list_images(make_table(tmp_path, "1,cat", "2,cat", "3,dog", "4,dog"))
    assert short(listed) == [("train", "cat", ["a/1.png", "a/2.png"]), ("train", "dog", ["b/3.png", "b/4.png"])]
    assert guessed(listed)["data.table_format"] == {"header": False}


def test_a_list_of_paths_and_numbers(tmp_path: Path) -> None:
    """As ImageNet's and many others' train.txt: no header, blanks between the columns."""
    numbers = {"cat": "0", "dog": "1"}
    listed = list_images(make_table(tmp_path, *(f"{p} {numbers[x]}" for p, x in LABELS.items()), name="train.txt"))
    assert [(files.label, files.names) for files in listed.files] == [
        ("0", ["a/1.png", "a/2.png"]),
        ("1", ["b/3.png", "b/4.png"]),
    ]
    assert guessed(listed)["data.table_format"] == {"delimiter": "blank", "header": False}


def test_a_delimiter_that_excel_states(tmp_path: Path) -> None:
    table = make_table(
        tmp_path, "sep=;", "path;label", *(f"{path};{label}" for path, label in LABELS.items()), "x.png;"
    )
    assert refusal(table).startswith(f"data.root={table}: line 7: path=x.png: no such file")


def test_quoted_cells_hold_delimiters_and_line_breaks(tmp_path: Path) -> None:
    table = tmp_path / "table.csv"
    touch(tmp_path, "a, b.png", "c.png")
    with table.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("path", "label"), ("a, b.png", 'the "big",\none'), ("c.png", "x")])
    assert [(files.label, files.names) for files in list_images(table).files] == [
        ('the "big",\none', ["a, b.png"]),
        ("x", ["c.png"]),
    ]


@pytest.mark.parametrize(
    ("encoding", "guess"),
    [
        ("utf-8", None),
        ("utf-8-sig", None),
        ("utf-16", None),
        ("utf-32", None),
        ("cp1252", "cp1252"),
        ("mac-roman", "x"),
    ],
)
def test_encodings(encoding: str, guess: str | None, tmp_path: Path) -> None:
    table = make_table(tmp_path)
    text = "path,label\n" + "".join(
        f"{path},{'Grün' if label == 'cat' else 'Weiß'}\n" for path, label in LABELS.items()
    )
    table.write_bytes(text.encode(encoding))
    if encoding == "mac-roman":  # nobody can tell it from cp1252: it is told
        listed = list_images(table, LayoutRule(table_format={"encoding": encoding}))
        guess = None
    else:
        listed = list_images(table)
    assert [files.label for files in listed.files] == ["Grün", "Weiß"]
    assert guessed(listed) == ({"data.table_format": {"encoding": guess}} if guess else {})


def test_what_is_no_text_or_no_encoding(tmp_path: Path) -> None:
    (tmp_path / "table.csv").write_bytes(b"path,label\n\xff\xfe\x00,cat\n")
    assert "cannot be read as text (it holds zero bytes); save it as UTF-8" in refusal(tmp_path / "table.csv")
    (tmp_path / "table.csv").write_bytes(b"path,label\n\xff,cat\n")
    assert "cannot be read as utf-8" in refusal(tmp_path / "table.csv", table_format={"encoding": "utf-8"})
    assert "no such encoding" in refusal(tmp_path / "table.csv", table_format={"encoding": "utf-9"})
    assert "no.csv: no such file; set it to a table" in refusal(tmp_path / "no.csv")


# paths


def table_of(folder: Path, paths: dict[str, str], files: Sequence[str], name: str = "table.csv") -> Path:
    return make_table(
        folder, "path,label", *(f"{path},{label}" for path, label in paths.items()), files=files, name=name
    )


READINGS = [
    (("a/1", "b/3"), ("a/1.png", "b/3.png"), {"suffix": ".png"}),
    (("1", "3"), ("1.JPG", "3.JPG"), {"suffix": ".JPG"}),
    (("1", "3"), ("1.jpg", "3.png"), {"suffix": "*"}),
    (("1", "3.png"), ("1.jpg", "3.png"), {"suffix": "*"}),
    (("1.png", "3.png"), ("images/1.png", "images/3.png"), {"folder": "images"}),
    (("1", "3"), ("images/1.png", "images/3.png"), {"folder": "images", "suffix": ".png"}),
    (("1.png", "3.png"), ("train/red/1.png", "train/blue/3.png"), {"folder": "**"}),
    (("1", "3"), ("train/red/1.png", "train/blue/3.jpg"), {"folder": "**", "suffix": "*"}),
    (("a/1.png", "b/3.png"), ("data/train/a/1.png", "data/train/b/3.png"), {"folder": "data/train"}),
    (("/home/me/set/a/1.png", "/home/me/set/b/3.png"), ("a/1.png", "b/3.png"), {"remove": "/home/me/set"}),
    (("/a/1.png", "/b/3.png"), ("a/1.png", "b/3.png"), {"remove": "/"}),
    (("set/a/1.png", "set/b/3.png"), ("a/1.png", "b/3.png"), {"remove": "set"}),
    (("C:\\Us er\\set\\a\\1.png", "C:\\Us er\\set\\b\\3.png"), ("a/1.png", "b/3.png"), {"remove": "C:/Us er/set"}),
    (("s3://bucket/set/a/1.png", "s3://bucket/set/b/3.png"), ("a/1.png", "b/3.png"), {"remove": "s3://bucket/set"}),
    (
        ("/x/imgs/1", "/x/imgs/3"),
        ("train/1.png", "train/3.png"),
        {"remove": "/x/imgs", "folder": "train", "suffix": ".png"},
    ),
]


@pytest.mark.parametrize(("paths", "files", "reading"), READINGS)
def test_paths_are_read_so_that_they_are_files(
    paths: tuple[str, str], files: tuple[str, str], reading: dict[str, str], tmp_path: Path
) -> None:
    table = table_of(tmp_path, dict(zip(paths, ("cat", "dog"), strict=True)), files)
    listed = list_images(table)
    assert short(listed) == [("train", "cat", [files[0]]), ("train", "dog", [files[1]])]
    assert guessed(listed) == {"data.table_paths": reading}
    told = list_images(table, LayoutRule(table_paths=reading))
    assert (told.files, told.guesses) == (listed.files, ())


def test_paths_that_only_write_folders_differently_are_no_guess(tmp_path: Path) -> None:
    paths = {"a\\1.png": "cat", f"{tmp_path}/a/2.png": "cat", "./b//3.png": "dog", f"file://{tmp_path}/b/4.png": "dog"}
    listed = list_images(table_of(tmp_path, paths, FILES))
    assert (short(listed), listed.guesses) == (CATS_AND_DOGS, ())


def test_case_does_not_matter_where_one_file_is_meant(tmp_path: Path) -> None:
    paths = {"A/1.PNG": "cat", "a\\2.Png": "cat", "B/3.png": "dog", "b/4.png": "dog"}
    listed = list_images(table_of(tmp_path, paths, FILES))
    assert (short(listed), listed.guesses) == (CATS_AND_DOGS, ())
    assert listed.notes == ("3 path(s) differ from their files by case alone, A/1.PNG for one",)
    message = refusal(table_of(tmp_path, {"x.PNG": "cat", "b/4.png": "dog"}, (*FILES, "x.png", "X.png")))
    assert "line 2: path=x.PNG: no such file in" in message


def test_names_are_the_same_in_both_unicode_forms(tmp_path: Path) -> None:
    file = unicodedata.normalize("NFD", "Grün/Maß é.png")
    listed = list_images(
        table_of(tmp_path, {unicodedata.normalize("NFC", file): "cat", "b.png": "dog"}, (file, "b.png"))
    )
    assert short(listed) == [("train", "cat", [file]), ("train", "dog", ["b.png"])]


AMBIGUOUS = [
    (
        ("1.png", "3.png"),
        ("images/1.png", "images/3.png", "masks/1.png", "masks/3.png"),
        "folder:images",
        "folder:masks",
    ),
    (("1", "3"), ("1.png", "3.png", "1.jpg", "3.jpg"), "suffix:.jpg", "suffix:.png"),
]


@pytest.mark.parametrize(("paths", "files", "one", "other"), AMBIGUOUS)
def test_two_readings_are_ambiguous(
    paths: tuple[str, str], files: tuple[str, ...], one: str, other: str, tmp_path: Path
) -> None:
    message = refusal(table_of(tmp_path, dict(zip(paths, ("cat", "dog"), strict=True)), files))
    assert message.startswith("data.table_paths: two guesses are possible: 'data.table_paths={")
    assert one in message
    assert other in message


MISSING_FILES = [
    (
        ("1.jpg", "3.jpg"),
        "line 2: path=1.jpg: no such file in {folder}, but there is a/1.png (2 of 2 rows name no file)",
    ),
    (("../../1.png", "a/2.png"), "line 2: path=../../1.png: leaves the table's folder; write it relative to"),
    (("a/1.png", "a/9.png"), "line 3: path=a/9.png: no such file in {folder}; correct the path or remove the line"),
    (("a/1.png", "a/2.jpg"), "line 3: path=a/2.jpg: no such file in {folder}, but there is 2.png; correct"),
    (("a/1.png", "a/2_.png"), "line 3: path=a/2_.png: no such file in {folder}, but there is 2.png; correct"),
    (("c/1.png", "a/2.png"), "line 2: path=c/1.png: no such file in {folder}, but there is a/1.png; correct"),
    (
        ("x/8.png", "x/9.png"),
        "line 2: path=x/8.png: no such file in {folder} (2 of 2 rows name no file); correct the paths",
    ),
    (
        ("1", "9"),
        "line 3: path=9: no such file in {folder} (the others do, with data.table_paths={{folder:a,suffix:.png}}",
    ),
    (
        ("/x/8.png", "/x/9.png"),
        "line 2: path=/x/8.png: leaves the table's folder; write it relative to {folder} (2 of 2",
    ),
    (("a/../../x.png", "a/1.png"), "line 2: path=a/../../x.png: leaves the table's folder; write it relative to"),
    (("a\\..\\..\\x.png", "a/1.png"), "line 2: path=a\\..\\..\\x.png: leaves the table's folder; write it relative to"),
    (("", "a/1.png"), "line 2: path=: is empty; write where"),
    (
        ("a/1.png", "a//1.png"),
        "line 3: path=a/1.png: is in line 2 too, as cat: one label for each image is supported; re",
    ),
]


@pytest.mark.parametrize(("paths", "message"), MISSING_FILES)
def test_rows_that_name_no_file(paths: tuple[str, str], message: str, tmp_path: Path) -> None:
    table = make_table(
        tmp_path, "path,label", *(f"{path},{label}" for path, label in zip(paths, ("cat", "dog"), strict=True))
    )
    assert refusal(table).startswith(f"data.root={table}: {message.format(folder=tmp_path)}")


@pytest.mark.parametrize("above", ["../input/my set", "./../../data", r"..\input"])
def test_paths_from_another_working_folder(above: str, tmp_path: Path) -> None:
    listed = list_images(make_table(tmp_path, "path,label", f"{above}/a/1.png,cat", f"{above}/b/3.png,dog"))
    assert short(listed) == [("train", "cat", ["a/1.png"]), ("train", "dog", ["b/3.png"])]
    remove = above.replace("\\", "/").removeprefix("./")
    assert guessed(listed) == {"data.table_paths": {"remove": remove}}


def test_one_column_cannot_hold_paths_and_labels(tmp_path: Path) -> None:
    message = refusal(make_table(tmp_path, "img,kind", "a/1.png,cat"), columns={"path": "img", "label": "img"})
    assert message == "data.columns: path and label are both img; name the column that holds the label"


def test_labels_with_blanks_that_may_be_several_are_said(tmp_path: Path) -> None:
    labels = ("haze", "haze clear", "clear", "black bear")
    listed = list_images(make_table(tmp_path, "path,label", *(f"{f},{n}" for f, n in zip(FILES, labels, strict=True))))
    assert listed.notes == ("haze clear counts as a class of its own, though haze and clear are classes, too",)


def test_images_that_no_row_names_are_counted(tmp_path: Path) -> None:
    listed = list_images(make_table(tmp_path, "path,label", "a/1.png,cat", "b/4.png,dog"))
    assert listed.notes == ("no row names 2 image(s) beside the others, a/2.png for one",)
    assert list_images(make_table(tmp_path, "path,label", *map(",".join, LABELS.items()))).notes == ()


# labels


@pytest.mark.parametrize("label", ["", "nan", "NaN", "None", "NULL", "NA", "<NA>"])
def test_labels_that_are_missing(label: str, tmp_path: Path) -> None:
    rows = [f"{path},{label if path.startswith('b') else name}" for path, name in LABELS.items()]
    message = refusal(make_table(tmp_path, "path,label", *rows))
    assert f"line 4: label={label}: is " in message
    assert "(so are 1 other rows, lines 5); write the image's class" in message


@pytest.mark.parametrize("labels", [("a|b", "a", "b"), ("a, b", "a", "b"), ("a;b", "b", "a"), ('["a", "b"]', "a", "b")])
def test_several_labels_of_an_image(labels: tuple[str, str, str], tmp_path: Path) -> None:
    table = make_table(tmp_path)
    with table.open("w", newline="", encoding="utf-8") as file:
        rows = zip(FILES, (*labels, labels[0]), strict=True)
        csv.writer(file).writerows([("path", "label"), *rows])
    message = refusal(table)
    assert f"line 2: label={labels[0]}: several labels (so are 1 other rows, lines 5); several classes" in message
    assert "several classes an image (kind=multilabel): not yet" in message


def test_names_of_classes_may_hold_commas_and_bars(tmp_path: Path) -> None:
    table = make_table(tmp_path, "path,label", 'a/1.png,"boat, small"', "b/3.png,a|b", "a/2.png,[x")
    assert [files.label for files in list_images(table).files] == ["[x", "a|b", "boat, small"]


@pytest.mark.parametrize(("one", "other"), [("red", "Red"), ("light  red", "light red"), ("CAFÉ", "Cafe\u0301")])
def test_labels_that_differ_only_by_case_or_blanks(one: str, other: str, tmp_path: Path) -> None:
    table = make_table(tmp_path, "path,label", *(f"{path},{one}" for path in FILES[:3]), f"{FILES[3]},{other}")
    message = refusal(table)
    assert (
        f"the labels {one} (3 rows) and {unicodedata.normalize('NFC', other)} (1 rows) differ only by case" in message
    )


def test_labels_of_two_unicode_forms_are_one_class(tmp_path: Path) -> None:
    table = make_table(tmp_path, "path,label", "a/1.png,Café", "a/2.png,Cafe\u0301", "b/3.png,Masse", "b/4.png,Maße")
    listed = list_images(table)
    assert [(files.label, len(files.names)) for files in listed.files] == [("Café", 2), ("Masse", 1), ("Maße", 1)]
    assert listed.notes == ("in two Unicode forms, and one class all the same: Café",)


def test_numbers_keep_their_text(tmp_path: Path) -> None:
    table = make_table(tmp_path, "path,label", "a/1.png,007", "a/2.png,1.50", "b/3.png,3", "b/4.png,03")
    assert [files.label for files in list_images(table).files] == ["007", "03", "1.50", "3"]


BAD_TABLES = [
    (["path,label,split", "a/1.png,cat,other"], "line 2: split=other: must be train, val or test, or empty"),
    (["path,label"], "has no rows; write one for each image"),
    ([""], "has no rows; write one for each image"),
    (["path,label,split", "a/1.png,cat,test"], "no row has the split train; write train into that column"),
    (["path,label", "a/1.png,cat", "a/2.png,cat,dog"], "line 3: has 3 cells where there are 2 columns; put quotes"),
    (["path", "a/1.png"], "which column holds the label? It has path, and none is called"),
    (["size,label", "77,cat"], "which column holds the path? It has size, label, and no column's cells name files"),
    (["path,path,label", "a/1.png,a/2.png,cat"], "two columns are called path; rename one of them, or remove it"),
    (["path,label,label", "a/1.png,cat,dog"], "two columns are called label; rename one of them, or remove it"),
    (
        ["path,label", *["a/1.png,cat", "a/2.png,dog"] * 3],
        "line 4: path=a/1.png: is in line 2 too (so are 3 other rows); remove one of them",
    ),
]


@pytest.mark.parametrize(("lines", "message"), BAD_TABLES)
def test_broken_tables(lines: list[str], message: str, tmp_path: Path) -> None:
    table = make_table(tmp_path, *lines)
    assert refusal(table).startswith(f"data.root={table}: {message}")


@pytest.mark.parametrize("told", [{"layout": "splits"}, {"name_pattern": "(a)"}])
def test_what_is_told_about_folders_does_not_fit_a_table(told: dict[str, str], tmp_path: Path) -> None:
    key, value = next(iter(told.items()))
    message = refusal(make_table(tmp_path, "path,label", "a/1.png,cat"), **told)
    assert message.startswith(f"data.{key}={value}: {tmp_path}/table.csv is a table, which names each class; drop")


def test_broken_lists(tmp_path: Path) -> None:
    table = make_table(tmp_path, "0\t1.0\t2.0\ta/1.png", name="x.lst")
    assert "line 1: has 4 cells; write index, label and path with tabs" in refusal(table)


# what is measured


def test_all_of_a_table_without_splits_is_measured(tmp_path: Path) -> None:
    table = make_table(tmp_path, "path,label", *map(",".join, LABELS.items()))
    assert {files.split for files in list_images(table, needs="test").files} == {"test"}


def test_rows_of_test_without_labels_are_listed_apart(tmp_path: Path) -> None:
    lines = ("path,label,split", "a/1.png,cat,train", "b/3.png,dog,train", "b/4.png,,test", "a/2.png,,test")
    listed = list_images(make_table(tmp_path, *lines))
    assert [files.split for files in listed.files] == ["train", "train"]
    assert listed.unlabelled == ["a/2.png", "b/4.png"]
    assert listed.notes == ("2 image(s) of test have no label: they are not measured but predicted",)
    assert "line 4: label=: is empty (so are 1 other rows" in refusal(tmp_path / "table.csv", needs="test")


# a folder with tables in it


def test_a_table_beside_its_images(tmp_path: Path) -> None:
    make_table(tmp_path, "image,breed", *map(",".join, LABELS.items()), name="labels.csv")
    touch(tmp_path, "README.txt", "predictions.csv", "sample_submission.csv")
    (tmp_path / "manifest.csv").write_text("path,label\na/1.png,other\n", encoding="utf-8")
    (tmp_path / "sample_submission.csv").write_text("path,label\na/1.png,0\n", encoding="utf-8")
    (tmp_path / "notes.txt").write_text("1, 2\nor so, 3\n", encoding="utf-8")
    listed = list_images(tmp_path)
    assert short(listed) == CATS_AND_DOGS
    assert guessed(listed) == {
        "data.tables": ["labels.csv"],
        "data.columns": {"path": "image", "label": "breed"},
    }
    told = list_images(tmp_path, LayoutRule(tables=["labels.csv"], columns={"path": "image", "label": "breed"}))
    assert (told.files, told.guesses) == (listed.files, ())


def test_a_table_of_numbers_beside_a_folder_of_images(tmp_path: Path) -> None:
    """As many competitions hand them out, and with a test/ of which no label is known."""
    files = ("train/1.jpg", "train/2.jpg", "test/3.jpg", "test/4.jpg")
    make_table(tmp_path, "id,breed", "1,cat", "2,dog", name="labels.csv", files=files)
    listed = list_images(tmp_path)
    assert short(listed) == [("train", "cat", ["train/1.jpg"]), ("train", "dog", ["train/2.jpg"])]
    assert guessed(listed)["data.table_paths"] == {"folder": "train", "suffix": ".jpg"}
    assert listed.unlabelled == ["test/3.jpg", "test/4.jpg"]
    assert listed.notes == ("test/: no row names its 2 image(s): they are not measured but predicted",)


@pytest.mark.parametrize("labels", [True, False])
def test_a_table_for_each_split(labels: bool, tmp_path: Path) -> None:
    make_table(tmp_path, "image,label", "a/1.png,cat", "b/3.png,dog", name="train.csv")
    test = ("image,label", "a/2.png,cat", "b/4.png,dog") if labels else ("image", "a/2.png", "b/4.png")
    make_table(tmp_path, *test, name="test.csv")
    listed = list_images(tmp_path)
    assert [(files.split, files.label) for files in listed.files][:2] == [("train", "cat"), ("train", "dog")]
    assert [files.split for files in listed.files][2:] == ["test", "test"] * labels
    assert listed.unlabelled == ([] if labels else ["a/2.png", "b/4.png"])
    assert guessed(listed) == {
        "data.tables": ["train.csv", "test.csv"],
        "data.columns": {"path": "image", "label": "label"},
    }
    told = {"tables": ["train.csv", "test.csv"], "columns": {"path": "image", "label": "label"}}
    assert list_images(tmp_path, LayoutRule.of(told)) == Listing(
        tmp_path, listed.files, unlabelled=listed.unlabelled, notes=listed.notes
    )


def test_an_image_in_two_tables(tmp_path: Path) -> None:
    make_table(tmp_path, "path,label", "a/1.png,cat", "b/3.png,dog", name="train.csv")
    make_table(tmp_path, "path,label", "a/1.png,cat", name="test.csv")
    assert f"line 2: path=a/1.png: is in line 2 of {tmp_path}/train.csv too; remove one" in refusal(tmp_path)


def test_two_tables_are_ambiguous(tmp_path: Path) -> None:
    for name in ("labels.csv", "more.tsv"):
        make_table(tmp_path, "path,label", *map(",".join, LABELS.items()), name=name)
    message = refusal(tmp_path)
    assert "data.tables: two guesses are possible: data.tables=[labels.csv]" in message
    assert "data.tables=[more.tsv]" in message
    assert short(list_images(tmp_path, LayoutRule(tables=["more.tsv"]))) == CATS_AND_DOGS
    assert f"there is no mor.tsv in {tmp_path}" in refusal(tmp_path, tables=["mor.tsv"])
    assert "is a table itself; set it to the folder" in refusal(tmp_path / "labels.csv", tables=["more.tsv"])


def test_a_broken_table_beside_its_images_says_what_is_wrong(tmp_path: Path) -> None:
    make_table(tmp_path, "path,label", "a/1.png,cat", "a/2.png,cat", "b/3.png,", name="labels.csv")
    assert refusal(tmp_path).startswith(f"data.root={tmp_path}/labels.csv: line 4: label=: is empty")


def test_class_folders_of_a_split_come_before_a_table(tmp_path: Path) -> None:
    make_table(tmp_path, "path,label", "train/a/1.png,x", name="labels.csv", files=("train/a/1.png", "train/b/2.png"))
    listed = list_images(tmp_path)
    assert [files.label for files in listed.files] == ["a", "b"]
    assert [files.label for files in list_images(tmp_path, LayoutRule(tables=["labels.csv"])).files] == ["x"]


def test_a_table_in_the_only_folder(tmp_path: Path) -> None:
    touch(tmp_path, ".DS_Store")
    make_table(touch(tmp_path / "set"), "path,label", *map(",".join, LABELS.items()), name="labels.csv")
    make_table(tmp_path / "set", "path", "a/9.png", name="test.csv", files=("a/9.png",))
    listed = list_images(tmp_path)
    assert {files.folder for files in listed.files} == {"set"}
    assert listed.unlabelled == ["set/a/9.png"]
    assert guessed(listed)["data.tables"] == ["set/labels.csv", "set/test.csv"]


def test_a_table_in_a_folder_of_its_own_is_told(tmp_path: Path) -> None:
    (tmp_path / "meta").mkdir()
    make_table(tmp_path, "path,label", *map(",".join, LABELS.items()), name="meta/labels.csv")
    assert short(list_images(tmp_path, LayoutRule(tables=["meta/labels.csv"]))) == CATS_AND_DOGS
    make_table(tmp_path, "path,label", "a/1.png,", name="meta/labels.csv")
    assert refusal(tmp_path, tables=["meta/labels.csv"]).startswith(f"data.root={tmp_path}/meta/labels.csv: line 2")
