"""Public data sets: fetched from a server of this test, checked, and written whole or not at all."""

import hashlib
import os
import pickle
import tarfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tests.data.collection.test_archives import make_zip
from tests.data.collection.test_download import Server, server  # noqa: F401 (a fixture)
from tests.data.collection.test_layouts import TEST_TABLE

from sightline.data.collection import adapters
from sightline.data.collection.adapters import DATA_SETS, fetch, write_cifar100
from sightline.data.collection.download import DownloadFailed
from sightline.data.collection.layouts import list_images
from sightline.errors import BadInput

CLASSES = ["apple", "bicycle", "motorcycle"]


def make_cifar(folder: Path, classes: Sequence[str] = CLASSES, protocol: int = 2) -> Path:
    """Four images of each class in train and two in test, pickled as Python 2 wrote them."""
    folder.mkdir(parents=True)
    (folder / "meta").write_bytes(pickle.dumps({b"fine_label_names": [c.encode() for c in classes]}, protocol))
    for split, count in (("train", 4), ("test", 2)):
        labels = list(range(len(classes))) * count
        names = [f"{classes[label]}_s_{number:06d}.png".encode() for number, label in enumerate(labels)]
        pixels = np.random.default_rng(count).integers(0, 256, (len(labels), 3072), dtype=np.uint8)
        entries: dict[bytes, Any] = {b"data": pixels, b"fine_labels": labels, b"filenames": names}
        (folder / split).write_bytes(pickle.dumps(entries, protocol))
    return folder


def pack(folder: Path) -> Path:
    archive = folder.parent / "cifar-100-python.tar.gz"
    with tarfile.open(archive, "w:gz") as packed:
        packed.add(folder, arcname="cifar-100-python")
    return archive


def serve(name: str, files: Sequence[Path], server: Server, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    """Let the data set of that name come from this test's server, in the order of its archives."""
    data = DATA_SETS[name]
    archives = []
    for archive, file in zip(data.archives, files, strict=True):
        server.files[f"/{archive.file_name}"] = content = file.read_bytes()
        md5 = f"md5:{hashlib.md5(content).hexdigest()}"
        archives.append(replace(archive, url=server.url(f"/{archive.file_name}"), checksum=archive.checksum and md5))
    monkeypatch.setitem(adapters.DATA_SETS, name, replace(data, archives=tuple(archives)))


def test_gtsrb_comes_in_three_archives(
    server: Server,  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    train = {f"GTSRB/Final_Training/Images/{label}/00000_00000.ppm": b"" for label in ("00000", "00020")}
    test = {f"GTSRB/Final_Test/Images/0000{number}.ppm": b"" for number in range(3)}
    table = {"GT-final_test.csv": "\n".join(TEST_TABLE).encode()}
    files = [make_zip(tmp_path / f"{number}.zip", files) for number, files in enumerate((train, test, table))]
    serve("gtsrb", files, server, monkeypatch)
    root = tmp_path / "data" / "gtsrb"
    fetch("gtsrb", root, cache=tmp_path / "cache")
    listed = list_images(root).files
    assert [(files.split, files.label, len(files.names)) for files in listed] == [
        ("train", "00000", 1),
        ("train", "00020", 1),
        ("test", "00000", 1),
        ("test", "00020", 2),
    ]
    fetch("gtsrb", root, cache=tmp_path / "cache")
    assert len(server.ranges) == 3, "nothing is fetched twice"
    assert [path.name for path in root.parent.iterdir()] == ["gtsrb"]


def test_dogs_come_in_one_archive(
    server: Server,  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    names = [f"dogImages/{split}/001.Affenpinscher/1.jpg" for split in ("train", "valid", "test")]
    serve(
        "dogs", [make_zip(tmp_path / "dogs.zip", dict.fromkeys(names, b"") | {"__MACOSX/x": b""})], server, monkeypatch
    )
    fetch("dogs", tmp_path / "dogs", cache=tmp_path / "cache")
    assert [files.split for files in list_images(tmp_path / "dogs").files] == ["train", "val", "test"]


@pytest.mark.parametrize(
    ("name", "class_names", "expected"),
    [("bikes", None, CLASSES[1:]), ("cifar100", None, CLASSES), ("cifar100", ["apple", "bicycle"], CLASSES[:2])],
)
def test_classes_of_cifar(
    name: str,
    class_names: list[str] | None,
    expected: list[str],
    server: Server,  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    serve(name, [pack(make_cifar(tmp_path / "cifar"))], server, monkeypatch)
    root = tmp_path / "data" / name
    fetch(name, root, cache=tmp_path / "cache", class_names=class_names)
    assert [(files.split, files.label, len(files.names)) for files in list_images(root).files] == [
        (split, label, count) for split, count in (("train", 4), ("test", 2)) for label in expected
    ]
    assert [path.name for path in root.parent.iterdir()] == [name], "nothing unpacked is left"


@pytest.mark.parametrize("protocol", [2, 4])
def test_the_pixels_of_cifar_are_kept(protocol: int, tmp_path: Path) -> None:
    folder = make_cifar(tmp_path / "cifar", protocol=protocol)
    write_cifar100(folder, tmp_path / "root", ["motorcycle"])
    with (folder / "train").open("rb") as file:
        pixels = pickle.load(file)[b"data"][2]
    image = np.asarray(Image.open(tmp_path / "root" / "train" / "motorcycle" / "motorcycle_s_000002.png"))
    assert image.shape == (32, 32, 3)
    assert (image[:, :, 0].ravel() == pixels[:1024]).all()
    assert (image[0, :, 2] == pixels[2048 : 2048 + 32]).all()


def test_two_images_of_one_name_are_both_kept(tmp_path: Path) -> None:
    folder = make_cifar(tmp_path / "cifar")
    entries = pickle.loads((folder / "test").read_bytes())
    entries[b"filenames"] = [b"same.png"] * 6
    (folder / "test").write_bytes(pickle.dumps(entries, 2))
    write_cifar100(folder, tmp_path / "root", ["apple"])
    assert sorted(path.name for path in (tmp_path / "root" / "test" / "apple").iterdir()) == ["same-3.png", "same.png"]


class Evil:
    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.system, ("true",)


@pytest.mark.parametrize("protocol", [0, 2, 4])
@pytest.mark.parametrize("name", ["meta", "train"])
def test_a_pickle_that_would_run_something_is_refused_by_name(name: str, protocol: int, tmp_path: Path) -> None:
    folder = make_cifar(tmp_path / "cifar")
    (folder / name).write_bytes(pickle.dumps({b"data": Evil()}, protocol))
    with pytest.raises(BadInput, match=rf"data.root={folder / name}: its pickle asks for posix.system, which no image"):
        write_cifar100(folder, tmp_path / "root", None)
    assert not (tmp_path / "root").exists()


@pytest.mark.parametrize("asked", [b"cbuiltins\neval\n.", b"\x80\x04\x8c\x05numpy\x8c\x0endarray.tofile\x93."])
def test_pickles_written_by_hand(asked: bytes, tmp_path: Path) -> None:
    folder = make_cifar(tmp_path / "cifar")
    (folder / "meta").write_bytes(asked)
    with pytest.raises(BadInput, match=r"its pickle asks for (builtins.eval|numpy.ndarray.tofile)"):
        write_cifar100(folder, tmp_path / "root", None)


def change(folder: Path, key: bytes, value: Any) -> None:
    entries = pickle.loads((folder / "train").read_bytes())
    (folder / "train").write_bytes(pickle.dumps(entries | {key: value}, 2))


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        (b"filenames", [b"../evil.png"] * 12, "cannot name an image"),
        (b"filenames", [b"one.png"], "do not fit together"),
        (b"data", np.zeros((12, 3072), dtype=np.float32), "do not fit together"),
    ],
)
def test_contents_that_cannot_be(key: bytes, value: Any, message: str, tmp_path: Path) -> None:
    folder = make_cifar(tmp_path / "cifar")
    change(folder, key, value)
    with pytest.raises(BadInput, match=message):
        write_cifar100(folder, tmp_path / "root", None)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cifar"]


@pytest.mark.parametrize("content", [b"", b"<html>", pickle.dumps([1]), pickle.dumps({b"other": 1})])
def test_files_that_are_something_else(content: bytes, tmp_path: Path) -> None:
    folder = make_cifar(tmp_path / "cifar")
    (folder / "train").write_bytes(content)
    with pytest.raises(BadInput, match="not a file of CIFAR-100"):
        write_cifar100(folder, tmp_path / "root", None)
    (folder / "train").unlink()
    with pytest.raises(BadInput, match=r"train: no such file; fetch the archive again"):
        write_cifar100(folder, tmp_path / "root", None)
    with pytest.raises(BadInput, match="no file meta in it"):
        write_cifar100(tmp_path / "nowhere", tmp_path / "root", None)


def test_classes_that_could_leave_the_folder(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="its classes cannot name folders"):
        write_cifar100(make_cifar(tmp_path / "cifar", ["a", "../b"]), tmp_path / "root", None)


@pytest.mark.parametrize(
    ("class_names", "message"),
    [
        (
            ["apple", "bycicle"],
            r"data.classes=\['apple', 'bycicle'\]: CIFAR-100 has no class bycicle \(did you mean b",
        ),
        ([], r"data.classes=\[\]: names no class"),
    ],
)
def test_unknown_classes(class_names: list[str], message: str, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=message):
        write_cifar100(make_cifar(tmp_path / "cifar"), tmp_path / "root", class_names)


def test_a_wrong_file_leaves_no_root(
    server: Server,  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    serve("bikes", [pack(make_cifar(tmp_path / "cifar"))], server, monkeypatch)
    server.files["/cifar-100-python.tar.gz"] = b"another"
    with pytest.raises(DownloadFailed, match=r"the file is md5:.* and not md5:.*By hand \(https://www.cs.toronto"):
        fetch("bikes", tmp_path / "data" / "bikes", cache=tmp_path / "cache")
    assert not (tmp_path / "data").exists()


def test_kaggle_needs_a_person(tmp_path: Path) -> None:
    with pytest.raises(
        BadInput, match=r"data.root=.*: no such folder, and intel cannot be fetched. Kaggle gives it only"
    ):
        fetch("intel", tmp_path / "intel", cache=tmp_path / "cache")


def test_digits_need_no_download(tmp_path: Path) -> None:
    fetch("digits", tmp_path / "digits", cache=tmp_path / "cache")
    assert len(list_images(tmp_path / "digits").files) == 20
    assert not (tmp_path / "cache").exists()


def test_what_is_there_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    for name in DATA_SETS:
        fetch(name, tmp_path / "mine", cache=tmp_path / "cache")
    assert not list((tmp_path / "mine").iterdir())


def test_names_and_options_that_do_not_fit(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"data.source=gtsbr: must be one of gtsrb, .* \(did you mean gtsrb\?\)"):
        fetch("gtsbr", tmp_path / "x", cache=tmp_path)
    with pytest.raises(BadInput, match=r"data.classes=\['a'\]: only cifar100 is made of chosen classes"):
        fetch("dogs", tmp_path / "x", cache=tmp_path, class_names=["a"])


@pytest.mark.parametrize("name", DATA_SETS)
def test_every_data_set_says_where_it_comes_from(name: str) -> None:
    data = DATA_SETS[name]
    assert data.name == name
    assert data.homepage.startswith("https://")
    assert data.licence
    assert data.advice
    assert all(archive.url.startswith("https://") for archive in data.archives)
