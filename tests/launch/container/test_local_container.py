"""Containers without an engine: what is planned, what is refused, and how a run is brought home."""

import csv
import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.conftest import Cli

from sightline.errors import BadInput
from sightline.launch.backend import Backend
from sightline.launch.backends import make_backend
from sightline.launch.container.backend import ContainerSettings, LocalContainer
from sightline.launch.container.containers import container_args
from sightline.launch.container.engine import mount
from sightline.launch.job import Job
from sightline.runs.folder import localise_paths

HOSTILE = "a, b \"c\" 'd' é=1"


def test_a_channel_of_any_name_is_mounted_for_reading_alone(tmp_path: Path) -> None:
    (tmp_path / HOSTILE).mkdir()
    weights = tmp_path / HOSTILE / "weights, 1.safetensors"
    weights.write_text("")
    backend = LocalContainer(tmp_path / "jobs", ContainerSettings(image="image:1"))
    backend.working_folder = tmp_path
    job = Job("a-job", "src/train.py", (f"data.root='{HOSTILE.replace(chr(39), chr(92) + chr(39))}'", "seed=1"))
    plan = backend.plan(Job(job.name, job.script, (*job.overrides, f"model.weights='{_escaped(weights)}'")))
    assert plan["uploads"] == {}
    plan = plan["request"]
    args = container_args(plan, plan["hosts"][0])
    mounts = [next(csv.reader([args[i + 1]])) for i, word in enumerate(args) if word == "--mount"]
    assert ["type=bind", f"source={tmp_path / HOSTILE}", "target=/opt/ml/input/data/data_root", "readonly"] in mounts
    target = f"target=/opt/ml/input/data/model_weights/{weights.name}"
    assert ["type=bind", f"source={weights}", target, "readonly"] in mounts
    assert plan["hyperparameters"]["data.root"] == "${paths.inputs}/data_root"
    assert str(tmp_path) not in json.dumps(plan["hyperparameters"]), "no path of this machine travels as text"
    assert args[-2:] == ["image:1", "train"]


def _escaped(path: Path) -> str:
    return str(path).replace("'", "\\'")


def test_what_lies_in_s3_is_refused_with_the_way_to_get_it(tmp_path: Path) -> None:
    backend = LocalContainer(tmp_path, ContainerSettings(image="image:1"))
    with pytest.raises(BadInput, match="data_root: s3://bucket/data is not on this machine.*aws s3 sync"):
        backend.plan(Job("a-job", "src/train.py", ("data.root=s3://bucket/data",)))


def test_a_mount_is_one_line_of_comma_separated_values(tmp_path: Path) -> None:
    _, line = mount(tmp_path / HOSTILE, "/a", is_read_only=False)
    assert next(csv.reader([line])) == ["type=bind", f"source={tmp_path / HOSTILE}", "target=/a"]


def test_several_hosts_have_folders_of_their_own_and_a_network(tmp_path: Path) -> None:
    plan = LocalContainer(tmp_path, ContainerSettings(image="image:1", instance_count=2)).plan(
        Job("a-job", "src/train.py", ())
    )["request"]
    first, second = plan["hosts"]
    assert Path(second["folder"]).parent.parent == Path(first["folder"])
    assert first["container"] != second["container"]
    for host in plan["hosts"]:
        assert host["words"][host["words"].index("--network") + 1] == plan["network"]
        assert host["words"][host["words"].index("--network-alias") + 1] == host["name"]


def plan_of(backend: Backend) -> dict[str, Any]:
    return backend.plan(Job("a", "src/train.py", ()))["request"]


def test_cores_are_shared_between_parallel_jobs(tmp_path: Path) -> None:
    alone, shared = (plan_of(LocalContainer(tmp_path, ContainerSettings(n_parallel=n)))["places"] for n in (1, 2))
    assert alone == [{}]
    assert [set(place) >= {"OMP_NUM_THREADS"} for place in shared] == [True, True]


def test_settings_of_the_group_reach_the_backend(tmp_path: Path) -> None:
    launch = {"backend": "local_container", "image": "image:1", "instance_count": 3, "n_parallel": 1}
    backend = make_backend("local_container", tmp_path, launch)
    request = plan_of(backend)
    assert (request["image"], len(request["hosts"])) == ("image:1", 3)
    with pytest.raises(BadInput, match="launch.instance_count=0: must be 1 or more"):
        LocalContainer.check(ContainerSettings(instance_count=0))
    with pytest.raises(BadInput, match="launch.shm_gb=0: must be above 0"):
        LocalContainer.check(ContainerSettings(shm_gb=0))
    with pytest.raises(BadInput, match=r"launch.shm: no such key \(did you mean launch.shm_gb\?\)"):
        make_backend("local_container", tmp_path, {"shm": 1})


def test_without_a_client_the_key_and_the_way_out_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    backend = LocalContainer(tmp_path / "jobs", ContainerSettings(image="image:1"))
    with pytest.raises(BadInput, match="launch=local_container: no container engine answers.*no docker command"):
        backend.submit(backend.plan(Job("a-job", "src/train.py", ())))
    assert not (tmp_path / "jobs").exists()


def test_a_dry_run_is_the_request_and_needs_no_engine(cli: Cli, colors: Path, tmp_path: Path) -> None:
    words = ["data=folder", f"data.root={colors}", "name=colors", "launch=local_container", "launch.dry_run=true"]
    done = cli("train", *words, "launch.allow_dirty=true", f"paths.runs={tmp_path}", PATH="/usr/bin:/bin")
    assert done.returncode == 0, done.stderr
    request = json.loads(done.stdout)["request"]
    assert request["channels"] == {"data_root": str(colors)}
    assert request["hyperparameters"]["name"] == "colors"
    assert not list(tmp_path.iterdir())


def test_a_fetched_run_finds_its_data_here(tmp_path: Path) -> None:
    data, weights = tmp_path / HOSTILE, tmp_path / "w.safetensors"
    data.mkdir()
    weights.write_text("")
    inputs = "/opt/ml/input/data"
    config = {"data": {"root": f"{inputs}/data_root"}, "model": {"weights": f"{inputs}/model_weights/w.safetensors"}}
    run = tmp_path / "run"
    run.mkdir()
    (run / "config.yaml").write_text(yaml.safe_dump({**config, "name": "é: [1]"}, allow_unicode=True))
    (run / "run.json").write_text(json.dumps({"config": config}))
    localise_paths(run, {f"{inputs}/data_root": str(data), f"{inputs}/model_weights": str(weights)})
    expected = {"data": {"root": str(data)}, "model": {"weights": str(weights)}}
    assert yaml.safe_load((run / "config.yaml").read_text()) == {**expected, "name": "é: [1]"}
    assert json.loads((run / "run.json").read_text())["config"] == expected


def test_a_fetched_run_names_what_lies_in_s3_by_its_address(tmp_path: Path) -> None:
    inputs = "/opt/ml/input/data"
    config = {"data": {"root": f"{inputs}/data_root"}, "model": {"weights": f"{inputs}/model_weights/w.safetensors"}}
    (tmp_path / "run.json").write_text(json.dumps({"config": config}))
    there = {f"{inputs}/data_root": "s3://signs/train/", f"{inputs}/model_weights": "s3://signs/w.safetensors"}
    localise_paths(tmp_path, there)
    found = json.loads((tmp_path / "run.json").read_text())["config"]
    assert found == {"data": {"root": "s3://signs/train/"}, "model": {"weights": "s3://signs/w.safetensors"}}
