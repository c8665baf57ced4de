"""Sources: whatever `data.root` names becomes a folder or a table on this disk, once, and follows its origin."""

import importlib
import os
import shutil
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.data.collection.test_archives import make_zip
from tests.data.collection.test_download import Server, server  # noqa: F401 (a fixture)

from sightline.data.collection import sources
from sightline.data.collection.download import DownloadFailed
from sightline.data.collection.image_files import LayoutRule
from sightline.data.collection.layouts import list_images
from sightline.data.collection.sources import localise
from sightline.errors import BadInput

FILES = {"train/red/1.png": b"one", "train/blue/2.png": b"two" * 1000, "test/red/3.png": b"three"}


def read(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


# on this disk


def test_folders_and_tables_are_where_they_are(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    for root in ("data", str(tmp_path / "data"), f"file://{tmp_path}/data"):
        assert localise(root, cache) == tmp_path / "data"
    assert localise("table.csv", cache) == tmp_path / "table.csv"
    assert localise("nowhere", cache) == tmp_path / "nowhere"
    assert not cache.exists()


def test_an_archive_is_unpacked_once(tmp_path: Path, cache: Path) -> None:
    archive = make_zip(tmp_path / "my data.v2.zip", FILES)
    folder = localise(str(archive), cache)
    assert read(folder) == FILES
    assert folder.parent == cache / "extracted"
    assert folder.name.startswith("my data-")
    (folder / "train" / "red" / "1.png").unlink()
    assert localise(str(archive), cache) == folder
    assert "train/red/1.png" not in read(folder), "it was not unpacked again"


def test_an_archive_that_changed_is_unpacked_anew(tmp_path: Path, cache: Path) -> None:
    archive = make_zip(tmp_path / "data.zip", FILES)
    first = localise(str(archive), cache)
    make_zip(archive, FILES | {"train/red/9.png": b"nine"})
    assert read(localise(str(archive), cache)) == FILES | {"train/red/9.png": b"nine"}
    assert read(first) == FILES


def test_left_overs_of_a_killed_process_go(tmp_path: Path, cache: Path) -> None:
    archive = make_zip(tmp_path / "data.zip", FILES)
    folder = localise(str(archive), cache)
    shutil.rmtree(folder)
    (folder.parent / f".{folder.name}-killed" / "train").mkdir(parents=True)
    assert read(localise(str(archive), cache)) == FILES
    assert [path.name for path in folder.parent.iterdir() if path.is_dir()] == [folder.name]


def test_two_at_once_unpack_once(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = make_zip(tmp_path / "data.zip", FILES)
    at_work: list[int] = []
    extract = sources.extract

    def slowly(archive: Path, folder: Path) -> Path:
        at_work.append(1)
        assert len(at_work) == 1
        time.sleep(0.05)
        extract(archive, folder)
        at_work.pop()
        return folder

    monkeypatch.setattr(sources, "extract", slowly)
    found: list[Path] = []
    threads = [threading.Thread(target=lambda: found.append(localise(str(archive), cache))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 3
    assert len(set(found)) == 1


@pytest.mark.parametrize(
    ("name", "message"),
    [("no.zip", "no such file; correct it, or set it to a folder"), ("a.doc", "neither a folder nor a file that can")],
)
def test_other_files(name: str, message: str, tmp_path: Path, cache: Path) -> None:
    (tmp_path / "a.doc").write_text("x")
    with pytest.raises(BadInput, match=f"data.root={tmp_path / name}: {message}"):
        localise(str(tmp_path / name), cache)


# over http


def test_an_archive_over_http(server: Server, tmp_path: Path, cache: Path) -> None:  # noqa: F811
    server.files["/data.zip"] = make_zip(tmp_path / "data.zip", FILES).read_bytes()
    for _ in range(2):
        assert read(localise(server.url(), cache)) == FILES
    assert len(server.ranges) == 1
    with pytest.raises(BadInput, match="over http only an archive or a parquet file can be"):
        localise(server.url("/data/"), cache)


# in S3


@pytest.fixture(scope="session")
def s3_url() -> Iterator[str]:
    moto = pytest.importorskip("moto.server")
    pytest.importorskip("s3fs")
    served = moto.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    served.start()
    host, port = served.get_host_and_port()
    yield f"http://{host}:{port}"
    served.stop()


@pytest.fixture
def bucket(s3_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """An S3 client of a server in this process, with one bucket, `pictures`."""
    import boto3
    import s3fs

    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3_url)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "no-config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "no-credentials"))
    s3fs.S3FileSystem.clear_instance_cache()
    client = boto3.client("s3")
    client.create_bucket(Bucket="pictures")
    yield client
    for item in client.list_objects_v2(Bucket="pictures").get("Contents", []):
        client.delete_object(Bucket="pictures", Key=item["Key"])
    client.delete_bucket(Bucket="pictures")
    s3fs.S3FileSystem.clear_instance_cache()


def put(bucket: Any, files: dict[str, bytes], prefix: str = "") -> None:
    for name, content in files.items():
        bucket.put_object(Bucket="pictures", Key=prefix + name, Body=content)


@pytest.fixture
def fetched(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of files as they are fetched."""
    names: list[str] = []
    get = sources._get

    def note(remote: Any, file: Any, target: Path, advance: Any) -> None:
        names.append(target.name)
        get(remote, file, target, advance)

    monkeypatch.setattr(sources, "_get", note)
    return names


@pytest.mark.parametrize("end", ["", "/"])
def test_a_prefix_is_copied_and_followed(end: str, bucket: Any, cache: Path, fetched: list[str]) -> None:
    put(bucket, FILES | {"": b""}, prefix="set/")
    put(bucket, {"settings/train/red/no.png": b"another prefix"})
    url = f"s3://pictures/set{end}"
    folder = localise(url, cache)
    assert folder.parent == cache / "remote"
    assert read(folder) == FILES
    assert len(fetched) == 3
    assert localise(url, cache) == folder
    assert len(fetched) == 3, "nothing is fetched twice"

    (folder / "train" / "red" / "1.png").write_bytes(b"")
    bucket.delete_object(Bucket="pictures", Key="set/test/red/3.png")
    put(bucket, {"train/red/4.png": b"four"}, prefix="set/")
    assert read(localise(url, cache)) == {name: FILES[name] for name in ("train/red/1.png", "train/blue/2.png")} | {
        "train/red/4.png": b"four"
    }
    assert sorted(fetched[3:]) == ["1.png", "4.png"]


def test_a_whole_bucket(bucket: Any, cache: Path) -> None:
    put(bucket, FILES)
    assert read(localise("s3://pictures", cache)) == FILES


def test_a_change_of_equal_size_is_seen(bucket: Any, cache: Path) -> None:
    put(bucket, FILES)
    localise("s3://pictures/", cache)
    time.sleep(1.1)  # S3 tells times in seconds
    put(bucket, {"train/red/1.png": b"eno"})
    assert read(localise("s3://pictures/", cache))["train/red/1.png"] == b"eno"


def test_a_copy_that_broke_goes_on_file_by_file(
    bucket: Any, cache: Path, fetched: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    put(bucket, FILES)
    monkeypatch.setattr(sources, "NUM_THREADS", 1)
    count = sources._get

    def break_at_the_last(remote: Any, file: Any, target: Path, advance: Any) -> None:
        if target.name == "1.png":
            target.parent.mkdir(parents=True)
            target.with_name(f".{target.name}.part").write_bytes(b"o")
            raise ConnectionResetError("the line went dead")
        count(remote, file, target, advance)

    with monkeypatch.context() as patch:
        patch.setattr(sources, "_get", break_at_the_last)
        with pytest.raises(
            DownloadFailed, match=r"s3://pictures: the line went dead; run the same command again to go"
        ):
            localise("s3://pictures", cache)
    assert len(fetched) == 2
    assert read(localise("s3://pictures", cache)) == FILES
    assert fetched[2:] == ["1.png"]


def test_an_archive_in_s3(bucket: Any, tmp_path: Path, cache: Path, fetched: list[str]) -> None:
    put(bucket, {"sets/data.zip": make_zip(tmp_path / "data.zip", FILES).read_bytes()})
    folder = localise("s3://pictures/sets/data.zip", cache)
    assert read(folder) == FILES
    assert localise("s3://pictures/sets/data.zip", cache) == folder
    assert fetched == ["data.zip"]


def test_a_table_in_s3_brings_its_files(bucket: Any, cache: Path, fetched: list[str]) -> None:
    table = b"path,label\ntrain/red/1.png,red\ntrain/blue/2.png,blue\n"
    put(bucket, FILES | {"table.csv": table, "train/red/not-named.png": b"x"}, prefix="set/")
    path = localise("s3://pictures/set/table.csv", cache)
    assert [files.label for files in list_images(path).files] == ["blue", "red"]
    assert sorted(read(path.parent)) == ["table.csv", "train/blue/2.png", "train/red/1.png"]
    localise("s3://pictures/set/table.csv", cache)
    assert len(fetched) == 3


def test_an_odd_table_in_s3_is_understood(bucket: Any, cache: Path) -> None:
    """Its columns, its paths and what it was told: before anything is copied, and when the copy is read."""
    table = "Bild;Farbe\nC:\\x\\1;grün\nC:\\x\\2;blau\n".encode("cp1252")
    put(bucket, FILES | {"train/red/secret.txt": b"x", "labels.csv": table}, prefix="odd/")
    rule = LayoutRule(columns={"label": "Farbe"})
    path = localise("s3://pictures/odd/labels.csv", cache, rule)
    listed = list_images(path, rule)
    assert [(files.label, files.names) for files in listed.files] == [
        ("blau", ["train/blue/2.png"]),
        ("grün", ["train/red/1.png"]),
    ]
    assert [guess.value for guess in listed.guesses] == [
        {"encoding": "cp1252", "delimiter": "semicolon"},
        {"path": "Bild", "label": "Farbe"},
        {"remove": "C:/x", "folder": "**", "suffix": ".png"},
    ]


def test_a_table_of_addresses_in_s3(bucket: Any, cache: Path) -> None:
    table = b"path,label\ns3://pictures/uri/train/red/1.png,red\ns3://pictures/uri/train/blue/2.png,blue\n"
    put(bucket, FILES | {"table.csv": table}, prefix="uri/")
    path = localise("s3://pictures/uri/table.csv", cache)
    assert [files.names for files in list_images(path).files] == [["train/blue/2.png"], ["train/red/1.png"]]


def test_a_table_that_names_what_is_not_there(bucket: Any, cache: Path) -> None:
    put(bucket, {"table.csv": b"path,label\na/1.png,x\na/2.png,x\n"})
    with pytest.raises(BadInput) as error:
        localise("s3://pictures/table.csv", cache)
    assert str(error.value) == (
        "data.root=s3://pictures/table.csv: line 2: path=a/1.png: no such file in s3://pictures "
        "(2 of 2 rows name no file); correct the paths or remove the lines"
    )


def test_a_table_cannot_name_what_is_outside(bucket: Any, cache: Path) -> None:
    put(bucket, {"set/table.csv": b"path,label\n../secret.png,x\n", "secret.png": b"x"})
    with pytest.raises(BadInput, match=r"path=\.\./secret.png: leaves the table's folder"):
        localise("s3://pictures/set/table.csv", cache)


def test_a_key_cannot_leave_the_cache(bucket: Any, cache: Path) -> None:
    put(bucket, {"set/../../evil.png": b"x"})
    with pytest.raises(BadInput, match="would be written outside the cache; rename it there"):
        localise("s3://pictures/set/", cache)


def test_two_threads_copy_once(bucket: Any, cache: Path, fetched: list[str]) -> None:
    put(bucket, FILES)
    threads = [threading.Thread(target=localise, args=("s3://pictures", cache)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(fetched) == 3


@pytest.mark.parametrize("root", ["s3://no-such-bucket/set/", "s3://pictures/no/such/", "s3://pictures/no.zip"])
def test_nothing_of_that_name(root: str, bucket: Any, cache: Path) -> None:
    with pytest.raises(BadInput, match=f"data.root={root}: (no such file or bucket|there is nothing below it)"):
        localise(root, cache)


def test_no_credentials(bucket: Any, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    with pytest.raises(BadInput, match=r"data.root=s3://pictures/set/: no credentials .*; set AWS_PROFILE, or AWS_ACC"):
        localise("s3://pictures/set/", cache)


def test_no_library(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "s3fs", None)
    monkeypatch.delitem(importlib.import_module("fsspec.registry")._registry, "s3", raising=False)
    with pytest.raises(
        BadInput, match=r'data.root=s3://pictures: s3:// needs .*; pip install "sightline-vision\[s3\]"'
    ):
        localise("s3://pictures", cache)


def test_no_such_scheme(cache: Path) -> None:
    with pytest.raises(BadInput, match=r"data.root=gopher://x/y: .*gopher.*; use s3://"):
        localise("gopher://x/y", cache)
