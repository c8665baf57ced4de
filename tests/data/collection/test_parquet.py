"""Parquet: images in bytes or by their paths, with labels in every form, one file or many; what is wrong is named."""

import io
import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tests.data.collection.test_archives import make_tar, make_zip, tar_member
from tests.data.collection.test_download import Server, server  # noqa: F401 (a fixture)
from tests.data.collection.test_sources import bucket, put, read, s3_url  # noqa: F401 (fixtures)

from sightline.data.collection import parquet_images
from sightline.data.collection.image_files import LayoutRule, Listing, find_named
from sightline.data.collection.layouts import list_images
from sightline.data.collection.sources import localise
from sightline.data.collection.table_parquet import parquet_file, read_images
from sightline.errors import BadInput

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")

CLASSES = ["cat", "dog", "eel"]
IMAGE, CLASS_LABEL = {"_type": "Image"}, {"_type": "ClassLabel", "names": CLASSES}


def encode(seed: int, kind: str = "PNG") -> bytes:
    """An image file like no other."""
    pixels = np.random.default_rng(seed).integers(0, 256, (8, 8, 3)).astype(np.uint8)
    written = io.BytesIO()
    Image.fromarray(pixels).save(written, kind)
    return written.getvalue()


def write(path: Path, columns: Mapping[str, Any], features: Mapping[str, Any] | None = None, **options: Any) -> Path:
    """A parquet file; `features` are noted in it as Hugging Face's `datasets` does."""
    path.parent.mkdir(parents=True, exist_ok=True)
    table = pa.table(dict(columns))
    if features is not None:
        table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    pq.write_table(table, path, **options)
    return path


def photos(count: int, first: int = 0) -> list[dict[str, Any]]:
    return [{"bytes": encode(first + row), "path": f"{first + row}.png"} for row in range(count)]


def write_photos(path: Path, count: int = 6, first: int = 0) -> Path:
    """As `datasets` writes a split of a data set with named classes."""
    columns = {"image": photos(count, first), "label": [row % 3 for row in range(count)]}
    return write(path, columns, {"image": IMAGE, "label": CLASS_LABEL})


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def open_root(root: Path | str, cache: Path, needs: str = "train", **told: Any) -> Listing:
    rule = LayoutRule(**told)
    return list_images(localise(str(root), cache, rule), rule, needs=needs)


def by_label(listing: Listing, split: str = "train") -> dict[str, list[str]]:
    return {part.label: part.names for part in listing.files if part.split == split}


def refused(root: Path | str, cache: Path, message: str, **told: Any) -> None:
    """What cannot work is said in one line, and nothing is written."""
    with pytest.raises(BadInput) as error:
        open_root(root, cache, **told)
    assert str(error.value).startswith("data.") or str(root) in str(error.value)
    assert message in str(error.value)
    assert "\n" not in str(error.value)
    assert not list(cache.rglob("*.png")), "nothing is unpacked"
    assert not [path for path in cache.rglob("*") if path.is_dir() and path.name != "extracted"]


# the images


@pytest.mark.parametrize("kind", [pa.binary(), pa.large_binary()])
def test_bytes_become_the_very_files(kind: Any, tmp_path: Path, cache: Path) -> None:
    contents = [encode(0), encode(1, "JPEG"), encode(2, "BMP"), encode(3, "TIFF"), encode(4, "WEBP"), encode(5, "GIF")]
    path = write(tmp_path / "pets.parquet", {"image": pa.array(contents, kind), "label": ["cat", "dog"] * 3})
    listing = open_root(path, cache)
    assert by_label(listing) == {
        "cat": ["images/pets-row-0.png", "images/pets-row-2.bmp", "images/pets-row-4.webp"],
        "dog": ["images/pets-row-1.jpeg", "images/pets-row-3.tiff", "images/pets-row-5.gif"],
    }
    assert listing.root.parent == cache / "extracted"
    assert listing.root.name.startswith("pets-")
    assert sorted(read(listing.root / "images").values()) == sorted(contents)
    assert listing.guesses == (), "its type says which column holds the images, and its name the label"
    assert list_images(listing.root) == listing, "the folder opens by itself, too"


def test_arrays_of_numpy_keep_their_suffix(tmp_path: Path, cache: Path) -> None:
    written = io.BytesIO()
    np.save(written, np.zeros((4, 4, 5), np.uint16))
    path = write(tmp_path / "bands.parquet", {"image": [written.getvalue(), encode(1)], "label": ["a", "b"]})
    assert by_label(open_root(path, cache))["a"] == ["images/bands-row-0.npy"]


def test_the_struct_of_datasets_names_the_files(tmp_path: Path, cache: Path) -> None:
    told = ["cat/1.png", "cat/1.png", "CAT/1.PNG", None, "", "../up.png", "/abs.png", "C:\\x.png", "~/.ssh/x.png"]
    told += ["a/./b.png", "x.png/y.png", "s3://b/x.png", "a\0b.png", f"{'x' * 300}.png", "plain", "pets-row-3.png"]
    column = [{"bytes": encode(row), "path": path} for row, path in enumerate(told)]
    path = write(tmp_path / "pets.parquet", {"image": column, "label": ["a", "b"] * 8})
    listing = open_root(path, cache)
    named = sorted(name for names in by_label(listing).values() for name in names)
    assert named == sorted(["images/cat/1.png", *(f"images/pets-row-{row}.png" for row in range(1, 16))])
    files = read(listing.root)
    assert files.pop(".unpacked.parquet")
    assert sorted(files) == named
    assert [files["images/cat/1.png"], files["images/pets-row-3.png"]] == [encode(0), encode(3)]
    assert not list(tmp_path.glob("*.png"))


def test_paths_alone_are_files_beside_the_table(tmp_path: Path, cache: Path) -> None:
    for row in range(4):
        (tmp_path / "photos").mkdir(exist_ok=True)
        (tmp_path / "photos" / f"{row}.png").write_bytes(encode(row))
    texts = [f"photos/{row}.png" for row in range(4)]
    label = ["cat", "dog"] * 2
    expected = {"cat": ["photos/0.png", "photos/2.png"], "dog": ["photos/1.png", "photos/3.png"]}
    plain = write(tmp_path / "labels.parquet", {"file_name": texts, "label": label})
    assert by_label(open_root(plain, cache)) == expected
    assert by_label(open_root(tmp_path, cache)) == expected, "the folder with the table in it"
    plain.unlink()
    kind = pa.struct({"bytes": pa.binary(), "path": pa.string()})
    column = pa.array([{"bytes": None, "path": text} for text in texts], kind)
    struct = write(tmp_path / "struct.parquet", {"image": column, "label": label})
    assert by_label(open_root(struct, cache)) == expected
    assert not cache.exists(), "there is nothing to unpack"


def test_a_row_without_bytes_is_the_file_that_it_names(tmp_path: Path, cache: Path) -> None:
    (tmp_path / "beside.png").write_bytes(encode(9))
    column = [*photos(2), {"bytes": None, "path": "beside.png"}, {"bytes": None, "path": "../gone.png"}, None]
    column += [{"bytes": b"", "path": None}, {"bytes": b"no image at all, but long", "path": None}]
    path = write(tmp_path / "pets.parquet", {"image": column, "label": ["cat"] * 7})
    listing = open_root(path, cache)
    files = {name: (listing.root / name).read_bytes() for name in by_label(listing)["cat"]}
    assert files["images/beside.png"] == encode(9)
    for row in (3, 4, 5):
        assert files[f"images/pets-row-{row}"] == b"", "which the audit names"
    assert files["images/pets-row-6"] == b"no image at all, but long"


# the labels


@pytest.mark.parametrize(
    ("label", "classes"),
    [
        (["b", "a", " b ", "a"], {"a", "b"}),
        ([10, 2, 10, 2], {"10", "2"}),
        (pa.array([10, 2, None, 2], pa.float64()), None),
        (pa.array([1.0, 2.0, 1.0, 2.5]), {"1", "2", "2.5"}),
        (pa.array([True, False, True, True]), {"true", "false"}),
        (pa.array(["x", "y", "x", "y"]).dictionary_encode(), {"x", "y"}),
        (pa.array(["x", "y", "x", "y"], pa.large_string()), {"x", "y"}),
        ([["x", "y"], ["x"], ["y"], ["x"]], None),
    ],
)
def test_labels_of_every_type(label: Any, classes: set[str] | None, tmp_path: Path, cache: Path) -> None:
    path = write(tmp_path / "x.parquet", {"image": [encode(row) for row in range(4)], "label": label})
    if classes is not None:
        assert set(by_label(open_root(path, cache))) == classes
    elif isinstance(label, list):
        refused(path, cache, "row 0: label=['x', 'y']: several labels")
    else:
        refused(path, cache, "row 2: label=: is empty; write the image's class (another word for it, if it is called")


def test_class_labels_have_their_names(tmp_path: Path, cache: Path) -> None:
    columns = {"img": photos(4), "kind": [2, 0, 2, 1], "note": ["a", "b", "a", "b"], "target": [0, 0, 1, 1]}
    path = write(tmp_path / "x.parquet", columns, {"img": IMAGE, "kind": CLASS_LABEL})
    assert by_label(open_root(path, cache)) == {
        "cat": ["images/1.png"],
        "dog": ["images/3.png"],
        "eel": ["images/0.png", "images/2.png"],
    }
    assert set(by_label(open_root(path, cache, columns={"label": "note"}))) == {"a", "b"}, "what is told goes first"


def test_the_number_of_no_class(tmp_path: Path, cache: Path) -> None:
    """As `datasets` writes test images whose classes are kept secret."""
    features = {"image": IMAGE, "label": CLASS_LABEL}
    write(tmp_path / "set" / "train-00000-of-00001.parquet", {"image": photos(3), "label": [0, 1, 2]}, features)
    write(tmp_path / "set" / "test-00000-of-00001.parquet", {"image": photos(2), "label": [-1, -1]}, features)
    listing = open_root(tmp_path / "set", cache)
    assert listing.unlabelled == ["images/test/0.png", "images/test/1.png"]
    single = write(tmp_path / "x.parquet", {"image": photos(3), "label": [0, -1, 2]}, features)
    refused(single, cache / "other", "x.parquet: row 1: label=-1 (no class): is no class; write the image's class")
    wrong = write(tmp_path / "y.parquet", {"image": photos(3), "label": [0, 3, 2]}, features)
    refused(wrong, cache / "other", "y.parquet: row 1: label=3: there are names for 3 classes")


def test_two_class_labels_are_asked_for(tmp_path: Path, cache: Path) -> None:
    """As in CIFAR-100."""
    features = {"img": IMAGE, "fine_label": CLASS_LABEL, "coarse_label": {"_type": "ClassLabel", "names": ["a", "b"]}}
    columns = {"img": photos(4), "fine_label": [0, 1, 2, 1], "coarse_label": [0, 1, 1, 1]}
    path = write(tmp_path / "cifar.parquet", columns, features)
    refused(path, cache, "data.columns: two guesses are possible: 'data.columns={label:fine_label}'")
    assert set(by_label(open_root(path, cache, columns={"label": "fine_label"}))) == set(CLASSES)
    assert set(by_label(open_root(path, cache, columns={"label": "coarse_label"}))) == {"a", "b"}
    assert len([path for path in (cache / "extracted").iterdir() if path.is_dir()]) == 1, "unpacked once for both"


def test_two_columns_of_images_are_asked_for(tmp_path: Path, cache: Path) -> None:
    columns = {"left": photos(2), "right": photos(2, first=5), "label": ["a", "b"]}
    path = write(tmp_path / "pairs.parquet", columns)
    refused(path, cache, "{path:left}' (it holds images), or 'data.columns={path:right}'")
    left, right = (open_root(path, cache, columns={"path": name}) for name in ("left", "right"))
    assert (left.root / "images" / "0.png").read_bytes() == encode(0)
    assert (right.root / "images" / "5.png").read_bytes() == encode(5)
    usual = write(tmp_path / "usual.parquet", {"mask": photos(2), "image": photos(2, first=5), "label": ["a", "b"]})
    assert (open_root(usual, cache).root / "images" / "5.png").is_file()


def test_other_columns_are_no_images(tmp_path: Path, cache: Path) -> None:
    audio = [{"bytes": b"RIFF", "path": "x.wav"}] * 2
    columns = {"sound": audio, "md5": [b"\1" * 16, b"\2" * 16], "photo": photos(2), "label": ["a", "b"]}
    columns |= {"embedding": [[0.5, 0.25]] * 2, "patient": [7, 7]}
    path = write(tmp_path / "x.parquet", columns, {"sound": {"_type": "Audio"}, "photo": IMAGE})
    listing = open_root(path, cache)
    assert by_label(listing) == {"a": ["images/0.png"], "b": ["images/1.png"]}
    assert {group for part in listing.files for group in part.groups or []} == {"7"}


# the splits


def test_files_of_a_data_set_are_its_splits(tmp_path: Path, cache: Path) -> None:
    root = tmp_path / "set"
    write_photos(root / "data" / "train-00000-of-00002.parquet", 6)
    write_photos(root / "data" / "train-00001-of-00002.parquet", 3, first=6)
    write_photos(root / "data" / "validation-00000-of-00001-0123456789abcdef.parquet", 3, first=20)
    write_photos(root / "data" / "test-00000-of-00001.parquet", 3)
    (root / "README.md").write_text("# Pets")
    (root / "dataset_infos.json").write_text("{}")
    (root / ".gitattributes").write_text("")
    listing = open_root(root, cache)
    assert listing.layout == "table"
    assert by_label(listing, "train")["cat"] == ["images/train/0.png", "images/train/3.png", "images/train/6.png"]
    assert by_label(listing, "val")["cat"] == ["images/val/20.png"]
    assert by_label(listing, "test")["cat"] == ["images/test/0.png"]
    assert listing.notes[0] == "4 parquet file(s), by their names 1 of test, 2 of train, 1 of val"


def test_folders_may_be_the_splits(tmp_path: Path, cache: Path) -> None:
    for split in ("train", "test"):
        write_photos(tmp_path / "set" / "default" / split / "0000.parquet", 3)
        write_photos(tmp_path / "set" / "default" / split / "0001.parquet", 3)
    listing = open_root(tmp_path / "set", cache)
    names = ["images/test/0.png", "images/test/default-test-0001-row-0.png"]
    assert by_label(listing, "test")["cat"] == names


def test_a_column_of_splits(tmp_path: Path, cache: Path) -> None:
    columns = {"image": photos(4), "label": ["a", "b"] * 2, "split": ["train", "train", "test", "test"]}
    listing = open_root(write(tmp_path / "x.parquet", columns), cache)
    assert by_label(listing, "test") == {"a": ["images/2.png"], "b": ["images/3.png"]}


def test_one_file_without_splits_is_of_the_split_that_is_needed(tmp_path: Path, cache: Path) -> None:
    path = write_photos(tmp_path / "train.parquet")
    assert {part.split for part in open_root(path, cache).files} == {"train"}
    assert {part.split for part in open_root(path, cache, needs="test").files} == {"test"}


def test_files_that_are_told(tmp_path: Path, cache: Path) -> None:
    for name in ("train", "test", "other"):
        write_photos(tmp_path / "set" / f"{name}.parquet", 3)
    listing = open_root(tmp_path / "set", cache, tables=["train.parquet", "test.parquet"])
    assert [len(by_label(listing, split)["cat"]) for split in ("train", "test")] == [1, 1]


def test_a_file_that_lacks_the_images_is_named(tmp_path: Path, cache: Path) -> None:
    write_photos(tmp_path / "set" / "a.parquet", 3)
    write(tmp_path / "set" / "b.parquet", {"label": [1, 2]})
    refused(tmp_path / "set", cache, "b.parquet has no column image, which holds the images of a.parquet")


def test_rows_of_several_files_are_named_with_their_file(tmp_path: Path, cache: Path) -> None:
    write_photos(tmp_path / "set" / "a.parquet", 3)
    columns = {"image": photos(2), "label": pa.array([0, None])}
    write(tmp_path / "set" / "b.parquet", columns, {"image": IMAGE, "label": CLASS_LABEL})
    refused(tmp_path / "set", cache, f"data.root={tmp_path / 'set'}: b.parquet row 1: label=: is empty")


# where it lies


def test_it_is_unpacked_once_and_anew_when_it_changes(tmp_path: Path, cache: Path) -> None:
    path = write_photos(tmp_path / "x.parquet", 3)
    first = localise(str(path), cache)
    (first / "images" / "0.png").unlink()
    assert localise(str(path), cache) == first
    assert not (first / "images" / "0.png").exists(), "it was not unpacked again"
    shutil.rmtree(first)
    (first.parent / f".{first.name}-killed").mkdir()
    assert localise(str(path), cache) == first
    assert len(read(first)) == 4
    assert [each.name for each in first.parent.iterdir() if each.is_dir()] == [first.name]
    write_photos(path, 6)
    assert localise(str(path), cache) != first


def test_damage_amid_the_images_leaves_nothing(tmp_path: Path, cache: Path) -> None:
    """Damage in the pages, which shows after the first images are written."""
    generator = np.random.default_rng(0)
    column = [encode(0) + generator.bytes(20_000) for _ in range(200)]
    path = write(tmp_path / "x.parquet", {"image": column, "label": ["a", "b"] * 100}, row_group_size=20)
    damaged = bytearray(path.read_bytes())
    middle = len(damaged) // 2
    damaged[middle : middle + 60_000] = bytes(60_000)
    path.write_bytes(damaged)
    refused(path, cache, "x.parquet: cannot be read as parquet (")


def to_zip(path: Path, files: dict[str, bytes]) -> Path:
    return make_zip(path.with_suffix(".zip"), files)


def to_tar(path: Path, files: dict[str, bytes]) -> Path:
    return make_tar(path.with_suffix(".tar.gz"), *((tar_member(name, data), data) for name, data in files.items()))


@pytest.mark.parametrize("pack", [to_zip, to_tar])
@pytest.mark.parametrize("above", ["", "set/"])
def test_archives_of_anything(
    pack: Callable[[Path, dict[str, bytes]], Path], above: str, tmp_path: Path, cache: Path
) -> None:
    one = write_photos(tmp_path / "one.parquet", 3).read_bytes()
    other = write_photos(tmp_path / "other.parquet", 3, first=10).read_bytes()
    images = {f"{above}photos/{row}.png": encode(row) for row in range(4)}
    table = b"path,label\n" + b"".join(f"photos/{row}.png,{CLASSES[row % 2]}\n".encode() for row in range(4))
    classes = {f"{above}{CLASSES[row % 2]}/{row}.png": encode(row) for row in range(4)}
    for name, files, count in (
        ("single", {f"{above}one.parquet": one}, 3),
        ("several", {f"{above}train-00000-of-00001.parquet": one, f"{above}test-00000-of-00001.parquet": other}, 6),
        ("table", {**images, f"{above}labels.csv": table}, 4),
        ("classes", classes, 4),
    ):
        listing = open_root(pack(tmp_path / name, files), cache)
        assert sum(len(part.names) for part in listing.files) == count, name
        assert {part.label for part in listing.files} >= {"cat", "dog"}, name
        for part in listing.files:
            assert all((listing.root / part.folder / each).is_file() for each in part.names), name


def test_errors_in_an_archive_name_the_archive(tmp_path: Path, cache: Path) -> None:
    path = write(tmp_path / "x.parquet", {"image": photos(2), "label": ["a", ""]})
    packed = to_zip(tmp_path / "packed", {"inner/x.parquet": path.read_bytes()})
    with pytest.raises(BadInput, match=f"data.root={packed}: row 1: label=: is empty"):
        open_root(packed, cache)


def test_parquet_in_s3(bucket: Any, tmp_path: Path, cache: Path) -> None:  # noqa: F811
    content = write_photos(tmp_path / "x.parquet", 6).read_bytes()
    put(bucket, {"x.parquet": content, "set/data/train-0.parquet": content, "set/data/test-0.parquet": content})
    listing = open_root("s3://pictures/x.parquet", cache)
    assert {label: len(names) for label, names in by_label(listing).items()} == dict.fromkeys(CLASSES, 2)
    assert open_root("s3://pictures/x.parquet", cache) == listing
    several = open_root("s3://pictures/set/", cache)
    assert sum(len(part.names) for part in several.files) == 12
    put(bucket, {"x.parquet": write_photos(tmp_path / "x.parquet", 3).read_bytes()})
    assert sum(len(part.names) for part in open_root("s3://pictures/x.parquet", cache).files) == 3


def test_a_parquet_table_of_paths_in_s3_brings_its_files(bucket: Any, tmp_path: Path, cache: Path) -> None:  # noqa: F811
    columns = {"file_name": ["a/0.png", "a/1.png"], "label": ["cat", "dog"]}
    table = write(tmp_path / "labels.parquet", columns).read_bytes()
    put(bucket, {"set/labels.parquet": table, "set/a/0.png": encode(0), "set/a/1.png": encode(1), "set/b.png": b"x"})
    listing = open_root("s3://pictures/set/labels.parquet", cache)
    assert by_label(listing) == {"cat": ["a/0.png"], "dog": ["a/1.png"]}
    assert sorted(read(listing.root)) == ["a/0.png", "a/1.png", "labels.parquet"]


def test_parquet_over_http(server: Server, tmp_path: Path, cache: Path) -> None:  # noqa: F811
    server.files["/x.parquet"] = write_photos(tmp_path / "x.parquet", 3).read_bytes()
    assert len(by_label(open_root(server.url("/x.parquet"), cache))) == 3


# what is wrong


def test_files_that_are_no_parquet(tmp_path: Path, cache: Path) -> None:
    whole = write_photos(tmp_path / "x.parquet", 6).read_bytes()
    for content in (b"", b"PAR1 and no more", b"path,label\n", whole[:-100], whole[: len(whole) // 2]):
        (tmp_path / "y.parquet").write_bytes(content)
        refused(tmp_path / "y.parquet", cache, f"data.root={tmp_path / 'y.parquet'}: cannot be read as parquet (")
    refused(tmp_path / "no.parquet", cache, "no such file; set it to a table of images")


def test_encrypted_files(tmp_path: Path, cache: Path) -> None:
    encryption = pytest.importorskip("pyarrow.parquet.encryption")
    path = tmp_path / "secret.parquet"
    table = pa.table({"image": [encode(0)], "label": ["a"]})
    properties = encryption.create_encryption_properties(footer_key=b"0123456789abcdef")
    pq.write_table(table, path, encryption_properties=properties)
    refused(path, cache, "secret.parquet: cannot be read as parquet (")


@pytest.mark.parametrize(
    ("columns", "told", "message"),
    [
        ({"image": pa.array([], pa.binary()), "label": pa.array([], pa.string())}, {}, "has no rows; write one for"),
        ({"label": ["a", "b"], "size": [1.5, 2.5]}, {}, "which column holds the path? It has label, size"),
        ({"pixels": [[0.5] * 4] * 2, "label": ["a", "b"]}, {}, "pixels holds lists of numbers and no images; write"),
        ({"image": pa.array([[1] * 4] * 2, pa.list_(pa.uint8(), 4)), "label": ["a", "b"]}, {}, "image holds lists of"),
        (
            {"image": [[[1, 2]]] * 2, "label": ["a", "b"]},
            {"columns": {"path": "image"}},
            "image holds lists of",
        ),
        ({"image": [b"x" * 20] * 2, "value": [1.5, 2.5]}, {}, "which column holds the label? It has"),
        ({"image": [b"x"] * 2, "label": ["a", "b"]}, {"columns": {"path": "img"}}, "has no such column"),
        ({"image": [b"x"] * 2, "label": ["a", "b"]}, {"columns": {"label": "kind"}}, "has no such column"),
        ({"image": [b"x"] * 2, "label": ["cat", "Cat"]}, {}, "differ only by case or blanks"),
        ({"image": [b"x"] * 2, "label": ["a", "b"]}, {"layout": "classes"}, "is a table, which names each class"),
        ({"image": [b"x"] * 2, "label": ["a", "b"]}, {"tables": ["x"]}, "is a table itself"),
        (
            {"image": [b"x"] * 2, "label": ["a", "b"]},
            {"table_format": {"header": True}},
            "is parquet, which is",
        ),
        ({"file": ["a.png", "a.png"], "label": ["a", "b"]}, {}, "row 1: path=a.png: is in row 0 too, as a: one label"),
        ({"file": ["a.png", "b.png"], "label": ["a", "b"]}, {}, "row 1: path=b.png: no such file in "),
    ],
)
def test_tables_that_cannot_be_read(
    columns: Mapping[str, Sequence[Any]], told: dict[str, Any], message: str, tmp_path: Path, cache: Path
) -> None:
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "a.png").write_bytes(encode(0))
    refused(write(tmp_path / "set" / "x.parquet", columns), cache, message, **told)


def test_too_little_space_is_said_first(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_photos(tmp_path / "x.parquet", 6)
    usage = shutil.disk_usage(tmp_path)._replace(free=100)
    monkeypatch.setattr(parquet_images.shutil, "disk_usage", lambda folder: usage)
    refused(path, cache, "x.parquet: unpacks to ")


def test_memory_stays_small(tmp_path: Path) -> None:
    """What is read at once is a group of rows, as large as their writer made it, and never the file."""
    generator = np.random.default_rng(0)
    column = pa.array([generator.bytes(100_000) for _ in range(400)], pa.binary())
    path = write(tmp_path / "x.parquet", {"image": column, "label": ["a", "b"] * 200}, row_group_size=20)
    del column
    before, peak = pa.total_allocated_bytes(), []
    for content, _ in read_images(parquet_file(path, str(path)), path, "image"):
        assert content is not None
        peak.append(pa.total_allocated_bytes() - before)
    assert len(peak) == 400
    assert max(peak) < 15_000_000, "of 40"


def test_a_parquet_file_is_no_image(tmp_path: Path) -> None:
    path = write_photos(tmp_path / "x.parquet", 3)
    with pytest.raises(BadInput, match=f"images={path}: is a parquet file, and images are files or folders; write"):
        find_named(str(path))
