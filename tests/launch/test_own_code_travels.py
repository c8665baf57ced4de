"""Own code of jobs: it travels with them under the hash of its content, and is what was submitted or nothing."""

import json
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import BARE, Cli
from tests.launch.conftest import BUCKET, ROLE
from tests.launch.fake_sagemaker import FakeSageMaker
from tests.own_code import TARGET, edit, with_network, write_code

from sightline.config.code_folder import hash_code

SYNTHETIC = ("data=synthetic", "data.num_synthetic=16", *(word for word in BARE if not word.startswith("model.name")))
EXPERIMENT = f"""# @package _global_
defaults:
  - override /data: synthetic

model:
  _target_: {TARGET}
  arguments: {{width: 3}}
"""


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """A folder of own code with an experiment of its own."""
    folder = write_code(tmp_path / "my code")
    (folder / "configs" / "experiment").mkdir(parents=True)
    (folder / "configs" / "experiment" / "mine.yaml").write_text(EXPERIMENT)
    return folder


def last_line(text: str) -> Path:
    return Path(text.strip().splitlines()[-1].removeprefix("results: "))


def sagemaker(service: FakeSageMaker, runs: Path, *words: str) -> list[str]:
    launch = f"role={ROLE} bucket={BUCKET} prefix={service.folder.name} image=image:1 poll_seconds=0.1 allow_dirty=true"
    return ["launch=sagemaker", *(f"launch.{word}" for word in launch.split()), f"paths.runs={runs}", *words]


def test_a_job_of_this_machine_runs_the_code_that_was_submitted(
    own: Path, cli: Cli, colors: Path, tmp_path: Path
) -> None:
    runs = f"paths.runs={tmp_path / 'runs'}"
    done = cli("train", "experiment=mine", "launch=local_process", f"extensions={own}", runs, *SYNTHETIC)
    assert done.returncode == 0, done.stderr
    run = last_line(done.stdout)
    record = json.loads((run / "run.json").read_text())
    assert record["code"] == {"extensions": {"path": str(own), "sha256": hash_code(own)}}
    assert record["config"]["code_sha256"] == {"extensions": hash_code(own)}
    assert record["model"]["arguments"] == {"width": 3}
    assert hash_code(run / "code") == hash_code(own)
    again = cli("predict", f"run={run}", f"images={colors / 'test' / 'red'}", runs, "launch=local_process")
    assert again.returncode == 0, again.stderr


def test_a_stored_plan_is_of_the_code_of_then(own: Path, cli: Cli, tmp_path: Path) -> None:
    """It is refused by name where it is submitted, and where it would run."""
    runs = f"paths.runs={tmp_path / 'runs'}"
    planned = cli(
        "train", "experiment=mine", "launch=local_process", "launch.dry_run=true", f"extensions={own}", runs, *SYNTHETIC
    )
    assert planned.returncode == 0, planned.stderr
    edit(own)
    sent = cli("jobs", "submit", str(write(tmp_path / "plan.json", planned.stdout)), runs)
    assert sent.returncode == 2
    assert f"the code in {own} has changed since" in sent.stderr
    words = [word for word in json.loads(planned.stdout)["job"]["overrides"] if not word.startswith("launch")]
    ran = cli("train", *words, "launch=here", "hydra.mode=RUN", f"output={tmp_path / 'run'}")
    assert ran.returncode == 2
    assert f"the code in {own} has changed since" in ran.stderr
    assert not (tmp_path / "run").exists()


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def test_the_request_has_the_folder_and_its_hash(service: FakeSageMaker, own: Path, cli: Cli, tmp_path: Path) -> None:
    words = sagemaker(service, tmp_path / "runs", f"extensions={own}", "experiment=mine", *SYNTHETIC)
    planned = cli("train", *words, "launch.dry_run=true")
    assert planned.returncode == 0, planned.stderr
    plan = json.loads(planned.stdout)
    parameters = plan["request"]["HyperParameters"]
    assert parameters["extensions"] == "${paths.inputs}/extensions"
    assert parameters["++code_sha256.extensions"] == f"'{hash_code(own)}'"
    (channel,) = plan["request"]["InputDataConfig"]
    assert channel["ChannelName"] == "extensions"
    assert plan["uploads"][channel["DataSource"]["S3DataSource"]["S3Uri"]] == str(own)
    assert str(own) not in json.dumps(plan["request"])
    edit(own)
    other = json.loads(cli("train", *words, "launch.dry_run=true").stdout)
    assert other["request"]["TrainingJobName"] != plan["request"]["TrainingJobName"], "other code is another job"


def test_a_network_of_ones_own_in_the_cloud_and_home_again(
    service: FakeSageMaker, own: Path, cli: Cli, colors: Path, tmp_path: Path
) -> None:
    """Trained there with the experiment of its folder, measured here without a word about its code."""
    data = ("data=folder", f"data.root={colors}")
    tiny = [word for word in SYNTHETIC if not word.startswith("data")]
    words = ["data.image_size=32", "data.batch_size=8", "data.num_workers=0", *data, *tiny]
    done = cli("train", *sagemaker(service, tmp_path / "runs", f"extensions={own}", "experiment=mine", *words))
    assert done.returncode == 0, done.stderr
    run = last_line(done.stdout)
    record = json.loads((run / "run.json").read_text())
    assert record["code"] == {"extensions": {"path": str(own), "sha256": hash_code(own)}}, "as if it had run here"
    assert record["config"]["extensions"] == str(own)
    assert hash_code(run / "code") == hash_code(own)
    here = cli("evaluate", f"run={run}", "split=test", "evaluation=short", f"output={tmp_path / 'here'}")
    assert here.returncode == 0, here.stderr
    there = cli("evaluate", *sagemaker(service, tmp_path / "runs", f"run={run}", "split=test", "evaluation=short"))
    assert there.returncode == 0, there.stderr
    request = list(service.machines.values())[-1].request
    assert request["HyperParameters"]["++code_sha256.extensions"] == f"'{hash_code(own)}'"
    measured = [
        json.loads((folder / "metrics.json").read_text()) for folder in (last_line(there.stdout), tmp_path / "here")
    ]
    assert measured[0] == measured[1]


def test_a_package_that_is_installed_here_alone_is_refused_before_anything_is_sent(
    service: FakeSageMaker, cold_cli: Cli, tmp_path: Path
) -> None:
    write_code(tmp_path / "installed" / "my_package")
    (tmp_path / "installed" / "my_package" / "__init__.py").write_text("from my_package.my_nets import SmallNet")
    words = sagemaker(service, tmp_path / "runs", "model._target_=my_package.SmallNet", *SYNTHETIC)
    done = cold_cli("train", *words, PYTHONPATH=str(tmp_path / "installed"))
    assert done.returncode == 2, done.stdout
    assert "my_package is installed here, and not where a job of launch=sagemaker runs; copy it" in done.stderr
    assert service.requests == []


def test_a_container_gets_the_folder_too(own: Path, cli: Cli, tmp_path: Path) -> None:
    words = ["launch=local_container", "launch.image=image:1", "launch.dry_run=true", f"paths.runs={tmp_path / 'runs'}"]
    planned = cli("train", "experiment=mine", *words, "launch.allow_dirty=true", f"extensions={own}", *SYNTHETIC)
    assert planned.returncode == 0, planned.stderr
    plan: dict[str, Any] = json.loads(planned.stdout)
    assert str(own) in json.dumps(plan)
    assert hash_code(own) in json.dumps(plan)


def test_runs_of_a_grid_and_of_a_sweep(own: Path, cli: Cli, tmp_path: Path) -> None:
    """Each job has the code and its hash; a study goes on with the code that it began with, or says so."""
    runs = f"paths.runs={tmp_path / 'runs'}"
    tiny = [word for word in SYNTHETIC if not word.startswith(("data=", "stages"))]
    search = [
        "hydra.sweeper.n_trials=2",
        "hydra.sweeper.study_name=mine",
        "model.lr=interval(1e-3,1e-1)",
    ]
    words = ["-m", "hparams_search=optuna", "experiment=mine", f"extensions={own}", runs, *tiny, *search]
    done = cli("train", *words)
    assert done.returncode == 0, done.stderr
    for number in (0, 1):
        record = json.loads((tmp_path / "runs" / "sweeps" / "mine" / "trials" / str(number) / "run.json").read_text())
        assert record["config"]["code_sha256"] == {"extensions": hash_code(own)}
    edit(own)
    changed = cli("train", *words, "hydra.sweeper.n_trials=3")
    assert changed.returncode == 2, changed.stderr
    assert "code_sha256" in changed.stderr


def test_a_job_of_another_configuration_needs_a_word(own: Path, cli: Cli, tmp_path: Path) -> None:
    """What a job names beyond ours must stand in its request with its hash."""
    words = [*with_network(own), *SYNTHETIC, f"output={tmp_path / 'run'}", "hydra.mode=RUN", "launch=here"]
    refused = cli("train", *words)
    assert refused.returncode == 2
    assert f"states no hash of {own}; where you know that code, add trust_code=true" in refused.stderr
    assert not (tmp_path / "run").exists()
    trusted = cli("train", *words, "trust_code=true", "stages=[fit]")
    assert trusted.returncode == 0, trusted.stderr
