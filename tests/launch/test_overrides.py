"""Paths of this machine never travel as text."""

from pathlib import Path

import pytest
from omegaconf import OmegaConf
from tests.conftest import compose_config

from sightline.errors import BadInput
from sightline.launch.overrides import split_channels, with_absolute_paths, with_composed_paths
from sightline.launch.submission import Submission
from sightline.runs.override_text import quoted, unquoted

HOSTILE = ["a b", "it's", 'say "hi"', "größe", "$(rm -rf x)", "${oc.env:HOME}", "a=b,c", "back\\slash", "ends\\", "-rf"]


def test_a_folder_and_a_file_become_channels(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "net.safetensors").touch()
    words = ["experiment=gtsrb", "data.root=photos", f"+model.weights={tmp_path}/net.safetensors", "output=/somewhere"]
    rewritten, channels = split_channels(words, tmp_path)
    assert rewritten == [
        "experiment=gtsrb",
        "data.root=${paths.inputs}/data_root",
        "+model.weights=${paths.inputs}/model_weights/net.safetensors",
    ]
    assert channels == {"data_root": f"{tmp_path}/photos", "model_weights": f"{tmp_path}/net.safetensors"}


def test_a_part_of_a_run_takes_the_run_along(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "run.json").write_text("{}")
    rewritten, channels = split_channels([f"run={tmp_path}/model"], tmp_path)
    assert rewritten == ["run=${paths.inputs}/run/model"]
    assert channels == {"run": str(tmp_path)}


def test_a_relative_path_is_the_same_folder_however_it_is_written(tmp_path: Path) -> None:
    """For a process that runs in another folder, and as a channel."""
    (tmp_path / "my photos").mkdir()
    for written in ("'my photos'", '"my photos"', "my\\ photos", f"'{tmp_path}/my photos'"):
        (word,) = with_absolute_paths([f"data.root={written}"], tmp_path)
        assert compose_config("train", word).data.root == f"{tmp_path}/my photos"
        assert split_channels([f"data.root={written}"], tmp_path)[1] == {"data_root": f"{tmp_path}/my photos"}
    (word,) = with_absolute_paths([f"data.root={quoted('${x}')}"], tmp_path)
    assert compose_config("train", word).data.root == f"{tmp_path}/${{x}}"


@pytest.mark.parametrize("key", ["run", "against", "resume", "model.teacher"])
def test_a_run_by_name_is_the_run_that_it_means_now(key: str, tmp_path: Path) -> None:
    run = tmp_path / "runs" / "train" / "x"
    run.mkdir(parents=True)
    (tmp_path / "runs" / "latest").symlink_to(run)
    trained = tmp_path / "runs" / "train" / "x" / "1"
    (trained / "model").mkdir(parents=True)
    for name in ("run.json", "model/model.json"):
        (trained / name).write_text("{}")
    for name, means in (("latest", trained), ("train/x", run)):
        assert with_absolute_paths([f"{key}={name}"], tmp_path, tmp_path / "runs") == [f"{key}={means}"]
        named = with_composed_paths([f"{key}={name}"], {key: name}, tmp_path / "runs", tmp_path)
        assert split_channels(named, tmp_path)[1] == {key.replace(".", "_"): str(means)}
    assert with_absolute_paths(["resume=auto", "model.teacher=${run}"], tmp_path, tmp_path / "runs") == [
        "resume=auto",
        "model.teacher=${run}",
    ]
    (tmp_path / "latest").mkdir()
    assert with_absolute_paths([f"{key}=./latest"], tmp_path, tmp_path / "runs") == [f"{key}={tmp_path}/latest"]


def test_what_names_no_place_stays_as_it_is(tmp_path: Path) -> None:
    words = ["data.root=null", "data.manifest=auto", "resume=null", "model.weights=", "data.root=${paths.data}/x"]
    assert split_channels(words, tmp_path) == (words, {})


def test_a_folder_that_is_written_is_no_channel(tmp_path: Path) -> None:
    """`shards` of prepare.py is a folder here, the same for processes of this machine, or an address."""
    assert with_absolute_paths(["shards='my shards'"], tmp_path) == [f"shards='{tmp_path}/my shards'"]
    words = ["shards=s3://bucket/packed"]
    assert with_absolute_paths(words, tmp_path) == words
    assert split_channels(words, tmp_path) == (words, {})


def test_a_folder_here_is_no_place_for_what_another_machine_writes(tmp_path: Path) -> None:
    submission = Submission.open({"backend": "local_container", "allow_dirty": True}, tmp_path / "jobs")
    composed = {"shards": "packed", "data.source": "digits"}
    with pytest.raises(BadInput, match="shards=.*/packed: .* does not see this machine's folders; name s3://"):
        submission.overrides(["shards=packed"], composed, tmp_path / "runs")
    addressed = {**composed, "shards": "s3://bucket/packed"}
    assert submission.overrides(["shards=s3://bucket/packed"], addressed, tmp_path / "runs")


def test_an_address_is_a_channel_too(tmp_path: Path) -> None:
    words = ["data.root=s3://bucket/signs/", "model.weights=s3://bucket/net.safetensors"]
    rewritten, channels = split_channels(words, tmp_path)
    assert rewritten == [
        "data.root=${paths.inputs}/data_root",
        "model.weights=${paths.inputs}/model_weights/net.safetensors",
    ]
    assert channels == {"data_root": "s3://bucket/signs/", "model_weights": "s3://bucket/net.safetensors"}


def test_a_place_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="data.root=photos: no such file or folder"):
        split_channels(["data.root=photos"], tmp_path)


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_names(name: str, tmp_path: Path) -> None:
    """As a folder and as a file: found here, and read over there as the same name."""
    (tmp_path / name).mkdir()
    (tmp_path / name / f"{name}.pt").touch()
    for path in (tmp_path / name, tmp_path / name / f"{name}.pt"):
        assert unquoted(quoted(str(path))) == str(path)
        assert compose_config("train", f"data.root={quoted(str(path))}").data.root == str(path)
    (word,), channels = split_channels([f"model.weights={quoted(f'{tmp_path}/{name}/{name}.pt')}"], tmp_path)
    assert channels == {"model_weights": f"{tmp_path}/{name}/{name}.pt"}
    cfg = compose_config("train", word, "++paths.inputs=/in")
    OmegaConf.set_struct(cfg, False)
    assert cfg.model.weights == f"/in/model_weights/{name}.pt"


def test_what_the_configuration_names_counts_too(tmp_path: Path) -> None:
    for name in ("data/gtsrb", "runs/train/x"):
        (tmp_path / name).mkdir(parents=True)
    composed = {
        "data.root": str(tmp_path / "data" / "gtsrb"),
        "model.teacher": "train/x",
        "model.weights": None,
        "resume": "auto",
        "data.manifest": "auto",
    }
    words = with_composed_paths(["experiment=gtsrb", "model.teacher=train/x"], composed, tmp_path / "runs", tmp_path)
    assert words == [
        "experiment=gtsrb",
        f"data.root={tmp_path}/data/gtsrb",
        f"model.teacher={tmp_path}/runs/train/x",
    ]
    _, channels = split_channels(words, Path("/nowhere"))
    assert set(channels) == {"data_root", "model_teacher"}


def test_data_that_is_not_here_is_left_to_the_far_side_unless_it_was_named(tmp_path: Path) -> None:
    composed = {"data.root": str(tmp_path / "digits")}
    assert with_composed_paths(["seed=1"], composed, tmp_path, tmp_path) == ["seed=1"]
    assert with_composed_paths(["data.root=digits"], composed, tmp_path, tmp_path) == [f"data.root={tmp_path}/digits"]
    assert with_composed_paths(["data.root=null"], {"data.root": None}, tmp_path, tmp_path) == ["data.root=null"]


def test_several_pictures_are_for_processes_of_this_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A list and a pattern stay what they are, from any folder; another machine gets one folder or one file."""
    monkeypatch.chdir(tmp_path)
    for name in ("a b.png", "c.png"):
        (tmp_path / name).touch()
    here = Submission.open({"backend": "local_process"}, tmp_path / "jobs")
    there = Submission.open({"backend": "local_container", "allow_dirty": True}, tmp_path / "jobs")
    for typed, images, absolute in (
        ("images=['a b.png',c.png]", ["a b.png", "c.png"], f"images=['{tmp_path}/a b.png',{tmp_path}/c.png]"),
        ("images='*.png'", "*.png", f"images='{tmp_path}/*.png'"),
    ):
        assert here.overrides([typed], {"images": images}, tmp_path / "runs") == [absolute]
        named = there.overrides([typed], {"images": images}, tmp_path / "runs")
        with pytest.raises(BadInput, match="a job gets one folder or one file for a key; name a folder that holds"):
            split_channels(named, tmp_path)


def test_versions_of_data_in_s3_are_looked_for_there_too(tmp_path: Path) -> None:
    given = ["paths.data_versions=s3://bucket/versions", "paths.runs=elsewhere"]
    assert split_channels(given, tmp_path) == (["paths.data_versions=s3://bucket/versions"], {})
    assert split_channels(["paths.data_versions=here"], tmp_path) == ([], {})
