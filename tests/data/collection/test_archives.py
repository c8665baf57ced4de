"""Archives: every kind is unpacked to the same files, and what could harm or mislead is refused by name."""

import bz2
import gzip
import io
import lzma
import os
import shutil
import struct
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from sightline.data.collection.archives import extract, unpack
from sightline.errors import BadInput
from sightline.runs import archives
from sightline.runs.archives import ARCHIVE_SUFFIXES, is_archive
from sightline.runs.files import whole_folder

FILES = {"train/red/1.png": b"one", "train/blue/2.png": b"two" * 1000, "empty.txt": b""}
NOISE = os.urandom(200_000)


def make_zip(path: Path, files: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed:
        for name, content in files.items():
            packed.writestr(name, content)
    return path


def make_tar(path: Path, *members: tuple[tarfile.TarInfo, bytes]) -> Path:
    name = path.name
    opened = gzip.open if name.endswith("gz") else bz2.open if name.endswith("2") else lzma.open
    file = path.open("wb") if name.endswith("tar") else opened(path, "wb")
    with file, tarfile.open(fileobj=cast(Any, file), mode="w") as packed:
        for info, content in members:
            packed.addfile(info, io.BytesIO(content))
    return path


def tar_member(name: str, content: bytes = b"", kind: bytes = tarfile.REGTYPE, link: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.size, info.type, info.linkname = len(content), kind, link
    return info


def read(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def refused(archive: Path, message: str, **options: int) -> None:
    folder = archive.parent / "unpacked" / "here"
    with pytest.raises(BadInput, match=message) as error:
        extract(archive, folder, **options)
    assert str(error.value).startswith(f"data.root={archive}: ")
    assert not list(folder.parent.iterdir()), "nothing half is left"
    assert sorted(archive.parent.iterdir()) == [archive, folder.parent], "nothing is written elsewhere"


@pytest.mark.parametrize("suffix", ARCHIVE_SUFFIXES)
def test_every_kind_gives_the_same_files(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"Data{suffix.upper() if suffix == '.zip' else suffix}"
    assert is_archive(path.name)
    if suffix == ".zip":
        make_zip(path, FILES)
    else:
        make_tar(path, *((tar_member(name, content), content) for name, content in FILES.items()))
    folder = extract(path, tmp_path / "out" / "data")
    assert read(folder) == FILES
    assert [entry.name for entry in (tmp_path / "out").iterdir()] == ["data"]
    assert folder.stat().st_mode & 0o777 == 0o755


def test_real_tars_with_folders_and_a_dot(tmp_path: Path) -> None:
    for name, content in FILES.items():
        (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "in" / name).write_bytes(content)
    with tarfile.open(tmp_path / "data.tar.gz", "w:gz") as packed:
        packed.add(tmp_path / "in", arcname=".")
    assert read(extract(tmp_path / "data.tar.gz", tmp_path / "out")) == FILES


def test_a_folder_that_is_there_is_taken_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").write_bytes(b"x")
    assert read(extract(make_zip(tmp_path / "data.zip", FILES), tmp_path / "out")) == {"mine": b"x"}


def test_two_archives_may_share_folders(tmp_path: Path) -> None:
    first, second = {"a/train/1.png": b"1"}, {"a/test/2.png": b"2"}
    with whole_folder(tmp_path / "out") as partial:
        unpack(make_zip(tmp_path / "1.zip", first), partial)
        unpack(make_zip(tmp_path / "2.zip", second), partial)
        assert not (tmp_path / "out").exists()
    assert read(tmp_path / "out") == first | second


def test_an_interruption_leaves_nothing(tmp_path: Path) -> None:
    def interrupt(count: int) -> None:
        assert list(tmp_path.glob(".out-*/train")), "it was under way"
        raise KeyboardInterrupt

    archive = make_zip(tmp_path / "data.zip", FILES)
    with pytest.raises(KeyboardInterrupt), whole_folder(tmp_path / "out") as partial:
        archives.unpack(archive, partial, advance=interrupt)
    assert [path.name for path in tmp_path.iterdir()] == ["data.zip"]


def test_the_process_that_got_there_first_keeps_its_folder(tmp_path: Path) -> None:
    with whole_folder(tmp_path / "out") as partial:
        (partial / "late").write_bytes(b"")
        (tmp_path / "out").mkdir()
        (tmp_path / "out" / "early").write_bytes(b"")
    assert list(read(tmp_path / "out")) == ["early"]
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_what_a_mac_adds_is_left_out(tmp_path: Path) -> None:
    extra = {"__MACOSX/train/red/._1.png": b"x", "train/.DS_Store": b"x"}
    assert read(extract(make_zip(tmp_path / "data.zip", FILES | extra), tmp_path / "out")) == FILES


def test_backslashes_of_windows_are_folders(tmp_path: Path) -> None:
    path = make_zip(tmp_path / "data.zip", {"train\\": b"", "train\\red\\1.png": b"one"})
    assert read(extract(path, tmp_path / "out")) == {"train/red/1.png": b"one"}


def test_modes_and_owners_are_not_restored(tmp_path: Path) -> None:
    info = tar_member("program", b"x")
    info.mode, info.uid = 0o4777, 12345
    zipped = zipfile.ZipInfo("program")
    zipped.external_attr = (0o104777) << 16
    with zipfile.ZipFile(tmp_path / "data.zip", "w") as packed:
        packed.writestr(zipped, b"x")
    for archive in (make_tar(tmp_path / "data.tar", (info, b"x")), tmp_path / "data.zip"):
        stat = (extract(archive, tmp_path / archive.suffix[1:]) / "program").stat()
        assert stat.st_mode & 0o7111 == 0
        assert stat.st_uid == os.getuid()


ESCAPES = ["/etc/passwd", "../evil", "a/../../evil", "C:/evil", "c:evil", "..\\evil", "\\\\server\\share\\evil"]


@pytest.mark.parametrize("name", ESCAPES)
def test_names_that_leave_the_folder(name: str, tmp_path: Path) -> None:
    refused(make_zip(tmp_path / "data.zip", FILES | {name: b"x"}), "would be written outside the folder")
    shutil.rmtree(tmp_path / "unpacked")
    (tmp_path / "data.zip").unlink()
    refused(make_tar(tmp_path / "data.tar", (tar_member(name, b"x"), b"x")), "would be written outside the folder")


KINDS = [
    (tarfile.SYMTYPE, "is a link"),
    (tarfile.LNKTYPE, "is a link"),
    (tarfile.CHRTYPE, "is no ordinary file"),
    (tarfile.BLKTYPE, "is no ordinary file"),
    (tarfile.FIFOTYPE, "is no ordinary file"),
]


@pytest.mark.parametrize(("kind", "message"), KINDS)
def test_links_and_devices_in_a_tar(kind: bytes, message: str, tmp_path: Path) -> None:
    refused(make_tar(tmp_path / "data.tar.gz", (tar_member("x", kind=kind, link="/etc"), b"")), f"'x' {message}")


@pytest.mark.parametrize(("mode", "message"), [(0o120777, "is a link"), (0o020666, "is no ordinary file")])
def test_links_and_devices_in_a_zip(mode: int, message: str, tmp_path: Path) -> None:
    info = zipfile.ZipInfo("x")
    info.external_attr = mode << 16
    with zipfile.ZipFile(tmp_path / "data.zip", "w") as packed:
        packed.writestr(info, "/etc/passwd")
    refused(tmp_path / "data.zip", f"'x' {message}")


def test_encrypted_members(tmp_path: Path) -> None:
    path = make_zip(tmp_path / "data.zip", {"1.png": b"one"})
    content = bytearray(path.read_bytes())
    content[content.index(b"PK\1\2") + 8] |= 1
    path.write_bytes(content)
    refused(path, "'1.png' is encrypted")


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_two_members_of_one_path(tmp_path: Path) -> None:
    path = tmp_path / "data.zip"
    with zipfile.ZipFile(path, "w") as packed:
        packed.writestr("a/1.png", "one")
        packed.writestr("a/./1.png", "two")
    refused(path, "'a/./1.png' is there twice")
    shutil.rmtree(tmp_path / "unpacked")
    path.unlink()
    refused(make_tar(tmp_path / "data.tar", (tar_member("a"), b""), (tar_member("a"), b"")), "'a' is there twice")


@pytest.mark.parametrize("names", [("a", "a/b"), ("a/b", "a"), ("a/b/c", "a/b"), ("a", "a/")])
def test_a_path_that_is_file_and_folder(names: tuple[str, str], tmp_path: Path) -> None:
    refused(make_zip(tmp_path / "data.zip", dict.fromkeys(names, b"")), f"'{names[1]}' is there twice")


def test_a_name_too_long_for_a_disk(tmp_path: Path) -> None:
    refused(make_zip(tmp_path / "data.zip", {"é" * 200: b""}), "has a name of more than 255 bytes")


def both(folder: Path, content: bytes) -> Iterator[Path]:
    for name in ("data.zip", "data.tar.xz"):
        (folder / name).mkdir()
        path = folder / name / name
        yield (
            make_zip(path, {"x": content})
            if name.endswith("zip")
            else make_tar(path, (tar_member("x", content), content))
        )


def test_more_than_is_allowed(tmp_path: Path) -> None:
    for path in both(tmp_path, bytes(2000)):
        refused(path, "'x' brings the whole to 2.0 kB, more than the 1.9 kB that are allowed", max_bytes=1900)
        assert read(extract(path, path.parent / "out", max_bytes=2000)) == {"x": bytes(2000)}


def test_more_than_the_disk_holds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=1000))
    for path in both(tmp_path, bytes(2000)):
        refused(path, "'x' brings the whole to 2.0 kB, and .* has 1.0 kB free; make room there", max_bytes=10**9)


def test_bombs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "RATIO_COUNTS_FROM", 1_000_000)
    path = tmp_path / "data.tar.xz"
    refused(
        make_tar(path, (tar_member("x", bytes(20_000_000)), bytes(20_000_000))), "'x' makes the archive grow [0-9,]+ t"
    )


def lie_about_size(path: Path, declared: int) -> None:
    """Change the uncompressed size in both headers of a zip's one member."""
    content = bytearray(path.read_bytes())
    for mark, offset in ((b"PK\3\4", 22), (b"PK\1\2", 24)):
        struct.pack_into("<I", content, content.index(mark) + offset, declared)
    path.write_bytes(content)


@pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_STORED])
def test_a_member_larger_than_it_says(method: int, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "data.zip", "w", method) as packed:
        packed.writestr("x", NOISE)
    lie_about_size(tmp_path / "data.zip", 10)
    refused(tmp_path / "data.zip", "'x' holds more than the 10 bytes that it declares")


def test_a_member_smaller_than_it_says(tmp_path: Path) -> None:
    path = make_zip(tmp_path / "data.zip", {"x": NOISE})
    lie_about_size(path, 300_000)
    refused(path, "'x' ends after 200000 of 300000 bytes")


def truncate(content: bytes) -> bytes:
    return content[: len(content) * 2 // 3]


def flip(content: bytes) -> bytes:
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 0xFF]) + content[middle + 1 :]


@pytest.mark.parametrize("spoil", [truncate, lambda content: b"", lambda content: b"<html>not found</html>" * 99])
@pytest.mark.parametrize("suffix", ARCHIVE_SUFFIXES)
def test_damaged_archives(suffix: str, spoil: Callable[[bytes], bytes], tmp_path: Path) -> None:
    path = tmp_path / f"data{suffix}"
    if suffix == ".zip":
        make_zip(path, {"x": NOISE, "y": b"y"})
    else:
        make_tar(path, (tar_member("x", NOISE), NOISE), (tar_member("y", b"y"), b"y"))
    path.write_bytes(spoil(path.read_bytes()))
    refused(path, "is damaged or no such archive .*; fetch or make it again")


@pytest.mark.parametrize("suffix", [".zip", ".tar.gz", ".tar.bz2", ".tar.xz"])
def test_a_changed_bit_is_noticed(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"data{suffix}"
    make_zip(path, {"x": NOISE}) if suffix == ".zip" else make_tar(path, (tar_member("x", NOISE), NOISE))
    path.write_bytes(flip(path.read_bytes()))
    refused(path, "is damaged")


def test_a_tar_cut_between_two_members(tmp_path: Path) -> None:
    path = make_tar(tmp_path / "data.tar", (tar_member("x", b"x"), b"x"), (tar_member("y", b"y"), b"y"))
    path.write_bytes(path.read_bytes()[:1024])
    refused(path, "its end is missing")


def test_a_header_that_would_fill_the_memory(tmp_path: Path) -> None:
    info = tar_member("x", kind=tarfile.XHDTYPE)
    info.size = 1 << 33
    (tmp_path / "data.tar").write_bytes(info.tobuf(tarfile.GNU_FORMAT) + bytes(2048))
    refused(tmp_path / "data.tar", "'a header' is 8.6 GB long")


def test_a_folder_is_no_archive(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="no such file"):
        extract(tmp_path / "nowhere.zip", tmp_path / "out")
    (tmp_path / "data.rar").write_bytes(b"Rar!")
    with pytest.raises(BadInput, match=r"not an archive that can be unpacked; make it one of .zip .tar"):
        extract(tmp_path / "data.rar", tmp_path / "out")
    assert not (tmp_path / "out").exists()
