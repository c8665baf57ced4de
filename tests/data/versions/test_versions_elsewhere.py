"""Versions in a bucket, and jobs that train on a version where nobody sees this disk."""

import json
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import Cli, compose_train, write_image
from tests.data.versions.conftest import RED, Do

from sightline.data.opening import open_data
from sightline.data.versions.checkout import with_data_version
from sightline.data.versions.merging import merge_annotations
from sightline.data.versions.places import Bucket, Folder, Place
from sightline.data.versions.store import open_versions
from sightline.errors import BadInput


@pytest.fixture
def in_bucket(bucket: str, request: pytest.FixtureRequest) -> str:
    return f"{bucket}/{request.node.name[:40].strip('[]')}/versions"


def where(place: str, tmp_path: Path) -> list[str]:
    return [f"paths.data_versions={place}", f"paths.cache={tmp_path / 'cache'}", f"paths.runs={tmp_path / 'runs'}"]


def test_a_bucket_holds_versions_as_a_folder_does(do: Do, signs: Path, in_bucket: str, tmp_path: Path) -> None:
    there = f"paths.data_versions={in_bucket}"
    made = do("create", "signs", f"data.root={signs}", there)
    assert made["is_new"]
    assert not do("create", "signs", f"data.root={signs}", there)["is_new"]
    assert do("create", "signs", f"data.root={signs}")["sha256"] == made["sha256"]  # of the folder
    (signs / "train" / "red" / "train00.png").unlink()
    assert do("create", "signs", f"data.root={signs}", there)["changes"]["removed"] == 1
    do("tag", "signs/1", "paper", there)
    assert do("show", "signs/paper", there)["version"] == 1
    assert len(do("diff", "signs/1", "signs/2", there)["removed"]) == 1
    shutil.rmtree(tmp_path / "cache")
    do("checkout", "signs/paper", f"into={tmp_path / 'out'}", there)
    assert len([*(tmp_path / "out").rglob("*.png")]) == 36
    cfg = with_data_version(compose_train("data=digits", "data.version=signs/paper", *where(in_bucket, tmp_path)))
    assert cfg.data.version == "signs/1"
    assert open_data(cfg).describe()["sha256"] == made["sha256"]


def test_annotations_as_the_target_storage_writes_them_into_a_bucket(
    do: Do, signs: Path, bucket: str, in_bucket: str, tmp_path: Path
) -> None:
    do("create", "signs", f"data.root={signs}", f"paths.data_versions={in_bucket}")
    storage = Bucket(f"{bucket}/annotated").storage
    write_image(tmp_path / "new.png", RED, seed=31)
    storage.write(f"{bucket}/new/pictures/new.png", (tmp_path / "new.png").read_bytes())
    for number, (image, label) in enumerate(
        {"new/pictures/new.png": "red", "x/train/red/train00.png": "green"}.items()
    ):
        value = {"choices": [label]}
        one: dict[str, Any] = {"id": number, "completed_by": {"id": 1}, "was_cancelled": False}
        one |= {"result": [{"type": "choices", "from_name": "label", "value": value}]}
        one["task"] = {"id": number, "data": {"image": f"{bucket}/{image}"}}
        storage.write(f"{bucket}/annotated/{number}", json.dumps(one).encode())
    versions = open_versions(in_bucket, tmp_path / "cache")
    done = merge_annotations(versions, "signs", f"{bucket}/annotated", by="ann")
    assert (done.added, done.relabelled, done.version.number) == (1, 1, 2)
    assert not merge_annotations(versions, "signs", f"{bucket}/annotated", by="ann").is_new
    with pytest.raises(BadInput, match="nothing below it"):
        merge_annotations(versions, "signs", f"{bucket}/nowhere", by="ann")


@pytest.mark.parametrize("kind", ["folder", "bucket"])
def test_of_writers_at_once_one_is_first(kind: str, in_bucket: str, tmp_path: Path) -> None:
    place: Place = Folder(tmp_path) if kind == "folder" else Bucket(in_bucket)
    with ThreadPoolExecutor(8) as pool:
        won = list(pool.map(lambda number: place.write_new("signs/1.json", str(number).encode()), range(8)))
    assert sum(won) == 1
    assert place.read("signs/1.json") == str(won.index(True)).encode()
    assert place.names("signs") == ["1.json"]
    assert place.missing(["0" * 64]) == ["0" * 64]


def test_a_bucket_that_is_not_there_is_named(bucket: str, do: Do, signs: Path) -> None:
    with pytest.raises(BadInput, match=r"paths\.data_versions=s3://no-such-bucket/x: there is no such bucket"):
        do("create", "signs", f"data.root={signs}", "paths.data_versions=s3://no-such-bucket/x")


def plan(cli: Cli, launch: str, *words: str) -> dict[str, Any]:
    more = ["launch.role=arn:aws:iam::123456789012:role/r", "launch.bucket=experiments", "launch.region=eu-west-1"]
    more += ["launch.image=123456789012.dkr.ecr.eu-west-1.amazonaws.com/i@sha256:" + "0" * 64]
    where = more if launch == "sagemaker" else []
    done = cli("train", *words, f"launch={launch}", "launch.dry_run=true", "launch.allow_dirty=true", *where)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    return found[0] if isinstance(found, list) else found


@pytest.mark.parametrize("launch", ["local_container", "sagemaker"])
def test_a_version_of_this_disk_goes_along_as_its_folder(
    launch: str, do: Do, signs: Path, place: str, cli: Cli, tmp_path: Path
) -> None:
    do("create", "signs", f"data.root={signs}")
    made = plan(cli, launch, "data.version=signs", *where(place, tmp_path))
    (root,) = [each.partition("=")[2] for each in made["job"]["overrides"] if each.startswith("data.root=")]
    held = json.loads((Path(root) / "data_version.json").read_text())
    assert (held["name"], held["version"]) == ("signs", 1)
    request = json.dumps(made["request"])
    assert "${paths.inputs}/data_root" in request
    assert "data.version" not in request
    if launch == "sagemaker":
        assert root in made["uploads"].values()
    # what the far side makes of that folder
    opened = open_data(compose_train("data=folder", f"data.root={root}", *where("/nowhere", tmp_path)))
    assert opened.describe()["version"]["version"] == 1


@pytest.mark.parametrize("launch", ["local_container", "sagemaker"])
def test_a_version_in_a_bucket_is_checked_out_there(
    launch: str, do: Do, signs: Path, in_bucket: str, cli: Cli, tmp_path: Path
) -> None:
    do("create", "signs", f"data.root={signs}", f"paths.data_versions={in_bucket}")
    made = plan(cli, launch, "data.version=signs", *where(in_bucket, tmp_path))
    request = json.dumps(made["request"])
    assert "signs/1" in request  # the number, whatever is newest when it runs
    assert in_bucket in request
    assert "data_root" not in request
    assert not (tmp_path / "cache").is_dir() or not [*(tmp_path / "cache").rglob("*.png")]
    far = [each for each in made["job"]["overrides"] if not each.startswith(("launch", "paths.runs", "paths.cache"))]
    cfg = with_data_version(compose_train(*far, f"paths.cache={tmp_path / 'far'}"))
    assert open_data(cfg).describe()["version"]["name"] == "signs"
