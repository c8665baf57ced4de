"""Registries under attack: several writers, kills, changed and added files, odd names, places that no one can write."""

import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path

import pytest
from tests.made_packages import MakePackage

from sightline.errors import BadInput
from sightline.registry.packages import Registry, open_registry
from sightline.registry.s3 import S3Store
from sightline.registry.stored import StoredRegistry

SECONDS = 60.0
OF_FILES = pytest.mark.parametrize("place", ["local", "s3"], indirect=True)
STALE_AT_ONCE = timedelta(0)
ADD = """
import sys
from pathlib import Path
from sightline.registry.packages import open_registry
place, cache, *packages = sys.argv[1:]
registry = open_registry(place, Path(cache))
print("ready", flush=True)
sys.stdin.readline()
for package in packages:
    registry.add(Path(package), "digits", facts={}, by=package)
"""


class Adding:
    """A process that is about to add packages, and begins when it is told to."""

    def __init__(self, place: str, cache: Path, *packages: Path) -> None:
        words = [place, str(cache), *map(str, packages)]
        self.process = subprocess.Popen(
            [sys.executable, "-c", ADD, *words], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def wait_until_ready(self) -> None:
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == "ready\n"

    def begin(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()

    def __enter__(self) -> "Adding":
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        with self.process:  # closes its pipes
            pass


def add_at_once(place: str, cache: Path, *packages: list[Path]) -> None:
    """One process for each list, all of them beginning when all are ready."""
    with ExitStack() as stack:
        started = [stack.enter_context(Adding(place, cache, *each)) for each in packages]
        for each in started:
            each.wait_until_ready()
        for each in started:
            each.begin()
        assert [each.process.wait(SECONDS) for each in started] == [0] * len(started)


def kill_while_adding(place: str, cache: Path, package: Path, is_time: Callable[[], bool]) -> None:
    with Adding(place, cache, package) as started:
        started.wait_until_ready()
        started.begin()
        wait_until(is_time)
        assert started.process.poll() is None


def wait_until(holds: Callable[[], bool]) -> None:
    end = time.monotonic() + SECONDS
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.001)


@pytest.mark.parametrize("place", ["local", pytest.param("s3", marks=pytest.mark.slow)], indirect=True)
def test_two_processes_add_ten_each(place: str, tmp_path: Path, make_package: MakePackage) -> None:
    packages = [[make_package(f"{who}{number}") for number in range(10)] for who in ("ann", "bob")]
    add_at_once(place, tmp_path, *packages)
    registry = open_registry(place, tmp_path)
    versions = registry.versions("digits")
    assert len({each.number for each in versions}) == 20
    assert {each.history[0]["by"] for each in versions} == {str(package) for each in packages for package in each}
    assert [registry.differences(each) for each in versions] == [[]] * 20


@OF_FILES
def test_two_processes_that_add_the_same_make_one_version(
    place: str, tmp_path: Path, make_package: MakePackage
) -> None:
    package = make_package()
    add_at_once(place, tmp_path, [package], [package])
    registry = open_registry(place, tmp_path)
    assert [each.number for each in registry.versions("digits")] == [1]
    assert registry.differences(registry.get("digits", "1")) == []


def make_large(package: Path, num_bytes: int = 200_000_000) -> Path:
    """With so many bytes that adding it takes a while."""
    with (package / "model" / "large.bin").open("wb") as file:
        file.truncate(num_bytes)
    return package


def test_a_killed_addition_leaves_nothing_and_the_next_cleans_up(tmp_path: Path, make_package: MakePackage) -> None:
    place = tmp_path / "registry"
    registry = open_registry(str(place), tmp_path)
    package = make_large(make_package())
    kill_while_adding(str(place), tmp_path, package, lambda: [*place.glob("digits/.adding-*/model/large.bin")] != [])
    assert registry.names() == []
    with pytest.raises(BadInput, match="digits: no model of that name"):
        registry.versions("digits")
    assert [*place.glob("digits/.adding-*")] != []
    (package / "model" / "large.bin").unlink()
    assert registry.add(package, "digits", facts={}, by="ann").number == 1
    assert {path.name for path in (place / "digits").iterdir()} - {".lock"} == {"1"}


def test_a_killed_addition_to_s3_is_gone_on_with_and_cleaned_up(
    bucket: str, tmp_path: Path, make_package: MakePackage
) -> None:
    import boto3

    place, client, name = f"{bucket}/killed", boto3.client("s3"), bucket.removeprefix("s3://")

    def keys(prefix: str) -> list[str]:
        found = client.list_objects_v2(Bucket=name, Prefix=f"killed/digits/{prefix}").get("Contents", ())
        return [each["Key"].removeprefix("killed/digits/") for each in found]

    registry, package = open_registry(place, tmp_path), make_large(make_package())
    kill_while_adding(place, tmp_path, package, lambda: keys("1/") != [])
    assert (registry.names(), keys(".claims/")) == ([], [".claims/1"])
    (package / "model" / "large.bin").unlink()
    assert registry.add(package, "digits", facts={}, by="ann").number == 2
    assert keys("1/") != []
    hurried = StoredRegistry(S3Store(place, tmp_path, stale=STALE_AT_ONCE))
    assert hurried.add(make_package("second"), "digits", facts={}, by="ann").number == 3
    assert keys("1/") == []


@OF_FILES
def test_what_is_changed_added_or_gone_is_named(place: str, tmp_path: Path, make_package: MakePackage) -> None:
    registry = open_registry(place, tmp_path / "cache")
    added = registry.add(make_package(), "digits", facts={}, by="ann")
    assert registry.differences(added) == []
    tamper(place, {"run.json": b"{}", "model/model.onnx": b"other", "model/new.bin": b"", "config.yaml": None})
    assert registry.differences(added) == [
        "config.yaml: is gone",
        "model/model.onnx: was changed",
        "model/new.bin: was not there",
        "run.json: was changed",
    ]
    with pytest.raises(BadInput, match=r"digits/1: .* is not as it was registered \(config.yaml: is gone, and 3"):
        registry.fetch(added)
    tamper(place, {"files.json": b'{"sha256": "0", "files": {}}'})
    assert registry.differences(added)[0] == "files.json: was changed"


def tamper(place: str, files: dict[str, bytes | None]) -> None:
    """Write, or remove, files of version 1 behind the registry's back."""
    if not place.startswith("s3://"):
        for name, content in files.items():
            file = Path(place, "digits", "1", name)
            file.unlink(missing_ok=True)
            if content is not None:
                file.write_bytes(content)
        return
    import boto3

    bucket, _, prefix = place.removeprefix("s3://").partition("/")
    for name, content in files.items():
        where = {"Bucket": bucket, "Key": f"{prefix}/digits/1/{name}"}
        if content is None:
            boto3.client("s3").delete_object(**where)
        else:
            boto3.client("s3").put_object(**where, Body=content)


@pytest.mark.parametrize("name", ["../x", "", "a/b", "münchen", "-a", "a" * 64, ".hidden", "a b", "digits\n", "_a"])
def test_a_name_that_is_none(registry: Registry, make_package: MakePackage, name: str) -> None:
    with pytest.raises(BadInput, match="no name of a model"):
        registry.add(make_package(), name, facts={}, by="ann")
    assert registry.names() == []


@OF_FILES
@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"name": "digits"}'])
def test_a_broken_version_file_is_named(registry: Registry, place: str, make_package: MakePackage, text: str) -> None:
    registry.add(make_package(), "digits", facts={}, by="ann")
    tamper(place, {"version.json": text.encode()})
    with pytest.raises(BadInput, match=r"digits/1/version.json: is not what a registry wrote"):
        registry.get("digits", "1")


def test_a_place_that_cannot_be_written(tmp_path: Path, make_package: MakePackage) -> None:
    (tmp_path / "file").write_text("")
    registry = open_registry(str(tmp_path / "file"), tmp_path)
    with pytest.raises(BadInput, match=r"paths.registry=.*file: cannot be written"):
        registry.check_writable()
    with pytest.raises(BadInput, match="cannot be written"):
        registry.add(make_package(), "digits", facts={}, by="ann")


def test_a_full_disk_leaves_nothing(tmp_path: Path, make_package: MakePackage) -> None:
    limited = f"""
import resource, signal
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, 1_000_000))
{ADD.replace("sys.stdin.readline()", "")}"""
    package = make_large(make_package(), 5_000_000)
    words = [str(tmp_path / "registry"), str(tmp_path), str(package)]
    done = subprocess.run([sys.executable, "-c", limited, *words], capture_output=True, text=True, timeout=SECONDS)
    assert "BadInput: paths.registry=" in done.stderr
    assert "cannot be written (File too large" in done.stderr
    assert [path.name for path in (tmp_path / "registry" / "digits").iterdir()] == [".lock"]


def test_s3_without_a_bucket_or_credentials(
    bucket: str, tmp_path: Path, make_package: MakePackage, monkeypatch: pytest.MonkeyPatch
) -> None:
    del bucket
    with pytest.raises(BadInput, match="paths.registry=s3://no-such-bucket/x: there is no such bucket"):
        open_registry("s3://no-such-bucket/x", tmp_path).check_writable()
    with pytest.raises(BadInput, match="must be s3://bucket/prefix"):
        open_registry("s3://UPPER/x", tmp_path)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nonexistent")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nonexistent")
    with pytest.raises(BadInput, match="aws configure"):
        open_registry("s3://models-of-the-tests/x", tmp_path).add(make_package(), "digits", facts={}, by="ann")


def test_a_link_that_leads_out_is_not_followed(registry: Registry, make_package: MakePackage, tmp_path: Path) -> None:
    package = make_package()
    (tmp_path / "secret").write_text("secret")
    (package / "model" / "link").symlink_to(tmp_path / "secret")
    with pytest.raises(BadInput, match="is a link that leads out of"):
        registry.add(package, "digits", facts={}, by="ann")


def test_a_stage_that_was_half_moved_is_of_the_version_that_took_it(tmp_path: Path, make_package: MakePackage) -> None:
    """A kill between the two files that a move writes."""
    place = tmp_path / "registry"
    registry = open_registry(str(place), tmp_path)
    for weights in ("a", "b"):
        version = registry.add(make_package(weights), "digits", facts={}, by="ann", status="approved")
        before = (place / "digits" / "1" / "version.json").read_bytes()
        registry.change(version, "stage:production", "ann", None)
    (place / "digits" / "1" / "version.json").write_bytes(before)
    assert [each.stages for each in registry.versions("digits")] == [(), ("production",)]
    assert registry.get("digits", "production").number == 2
