"""The search for image files: what Pillow opens, each file once, and nothing passed over in silence."""

import logging
from pathlib import Path

import pytest
from PIL import Image
from tests.data.collection.test_layouts import touch

from sightline.data.collection.image_files import ImageSearch, find_files, image_suffixes, is_hidden


def found(folder: Path) -> list[str]:
    return [path.relative_to(folder).as_posix() for path in find_files(folder)]


def draw(path: Path, name: str = "PNG") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 8), (200, 30, 60)).save(path, name)
    return path


def test_what_pillow_writes_as_a_still_picture_is_found(tmp_path: Path) -> None:
    Image.init()
    kinds = {"JPEG", "PNG", "GIF", "BMP", "DIB", "TIFF", "WEBP", "PPM", "JPEG2000", "AVIF", "TGA", "QOI", "PCX", "SGI"}
    kinds |= {"ICO", "ICNS", "IM", "DDS", "MPO"}
    suffixes = {suffix for suffix, name in Image.registered_extensions().items() if name in kinds}
    assert {".jfif", ".jpe", ".mpo", ".apng", ".avif", ".j2k"} <= suffixes <= image_suffixes()
    names = [f"1{suffix}" for suffix in sorted(suffixes)] + ["2.JFIF", "3.Jpe", "4.TIF"]
    assert found(touch(tmp_path, *names)) == sorted(names)


@pytest.mark.parametrize(
    "suffix", [".pdf", ".eps", ".ps", ".mpg", ".mpeg", ".h5", ".hdf", ".wmf", ".emf", ".grib", ".fli"]
)
def test_documents_films_and_containers_are_no_pictures(suffix: str, tmp_path: Path) -> None:
    search = ImageSearch()
    assert list(search.find(touch(tmp_path, f"1{suffix.upper()}"))) == []
    assert search.passed_over == {suffix: 1}


@pytest.mark.parametrize("name", ["JPEG", "PNG", "GIF", "BMP", "TIFF", "WEBP", "PPM"])
def test_a_picture_without_a_suffix_is_known_by_its_first_bytes(name: str, tmp_path: Path) -> None:
    draw(tmp_path / "photo", name)
    draw(tmp_path / "IMG_2024.05.03", name)
    assert found(tmp_path) == ["IMG_2024.05.03", "photo"]


TEXTS = [
    b"",
    b"P1 is the first plan of all",
    b"BM: a text that begins like a bitmap",
    b"#define WIDTH 16 and more of it",
]


@pytest.mark.parametrize("content", [*TEXTS, b"\x7fELF\x02\x01\x01" + bytes(40), b"\xff\xd8"])
def test_other_files_without_a_suffix_are_none(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "README").write_bytes(content)
    search = ImageSearch()
    assert list(search.find(tmp_path)) == []
    assert search.notes(tmp_path) == ("passed over 1 file that is no image: 1 without a suffix",)


def test_a_search_says_what_it_passed_over(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    touch(tmp_path, "1.png", "a/2.heif", "a/3.txt", "a/4.txt", "._1.png", "Thumbs.db")
    assert found(tmp_path) == ["1.png"]
    assert caplog.messages == [f"{tmp_path}: passed over 3 files that are no images: 2 .txt, 1 .heif"]


# links


def test_a_linked_folder_is_searched_once_and_after_the_others(tmp_path: Path) -> None:
    touch(tmp_path, "top/z/1.png", "pool/deep/2.png", "pool/3.png")
    for name, target in (("a", "top/z"), ("b", "pool"), ("c", "pool/deep"), ("d", "pool")):
        (tmp_path / "top" / name).symlink_to(tmp_path / target)
    search = ImageSearch()
    assert list(search.find(tmp_path / "top")) == ["z/1.png", "b/3.png", "b/deep/2.png"]
    assert {Path(link).name for link in search.links} == {"a", "c", "d"}


def test_links_in_a_circle_end(tmp_path: Path) -> None:
    touch(tmp_path, "a/1.png", "b/2.png")
    (tmp_path / "a" / "to_b").symlink_to(tmp_path / "b")
    (tmp_path / "b" / "to_a").symlink_to(tmp_path / "a")
    (tmp_path / "a" / "self").symlink_to(tmp_path / "a" / "self")
    search = ImageSearch()
    assert list(search.find(tmp_path / "a")) == ["1.png", "to_b/2.png"]
    assert search.notes(tmp_path) == (
        f"not followed, as they lead up or to what is found already: a/to_b/to_a → {tmp_path / 'a'}",
        f"links that lead to nothing: a/self → {tmp_path / 'a' / 'self'}",
    )


def test_a_linked_folder_that_points_above_itself_is_not_followed(tmp_path: Path) -> None:
    touch(tmp_path, "top/1.png", "pool/x/2.png", "pool/3.png")
    (tmp_path / "top" / "x").symlink_to(tmp_path / "pool" / "x")
    (tmp_path / "pool" / "x" / "up").symlink_to(tmp_path / "pool")
    assert found(tmp_path / "top") == ["1.png", "x/2.png"]


def test_a_linked_file_is_one_file(tmp_path: Path) -> None:
    touch(tmp_path, "top/1.png", "pool/2.png", "pool/blob")
    for name, target in (
        ("0.png", "top/1.png"),
        ("2.png", "pool/2.png"),
        ("3.png", "pool/2.png"),
        ("4.png", "pool/blob"),
    ):
        (tmp_path / "top" / name).symlink_to(tmp_path / target)
    search = ImageSearch()
    assert list(search.find(tmp_path / "top")) == ["1.png", "2.png", "4.png"]
    assert {Path(link).name for link in search.links} == {"0.png", "3.png"}


def test_names_of_systems_are_hidden() -> None:
    assert all(
        map(is_hidden, (".DS_Store", "._1.jpg", ".@__thumb", "@eaDir", "THUMBS.DB", "Desktop.ini", "lost+found"))
    )
    assert not any(map(is_hidden, ("red", "1.jpg", "@home", "thumbs.jpg")))
