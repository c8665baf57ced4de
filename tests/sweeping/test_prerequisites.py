"""A sweep, or a grid of processes, looks whether its data and weights are there before the first run."""

from pathlib import Path

import pytest
from tests.conftest import Cli

NO_FOLDER = "no such folder; set it to one that holds train/<class>/"
REFUSED = [
    ("hparams_search=optuna experiment=gtsrb", f"/gtsrb: {NO_FOLDER}"),
    ("hparams_search=optuna data=choice(digits,gtsrb)", f"/gtsrb: {NO_FOLDER}"),
    ("launch=local_process experiment=gtsrb", f"/gtsrb: {NO_FOLDER}"),
    ("hparams_search=optuna data=shards data.root=SHARDS", "shards: there is no shards.json in it"),
    ("hparams_search=optuna model.weights=choice(HERE,nowhere.safetensors)", "nowhere.safetensors: no such file"),
    (
        "hparams_search=optuna model.name=choice(resnet18,resnet34) model.weights_for={resnet34:nowhere.safetensors}",
        "model.weights_for.resnet34=nowhere.safetensors: no such file",
    ),
    ("hparams_search=optuna model.teacher=choice(RUN,nowhere)", "nowhere: no such file or folder"),
    (
        "hparams_search=optuna model.pretrained=true",
        "model.pretrained=true: the weights of resnet18 could not be downloaded",
    ),
    ("hparams_search=optuna model.pretrained=true model.name=test_nothing", "model.name=test_nothing: timm has no"),
]


@pytest.mark.parametrize(("words", "message"), REFUSED)
def test_what_is_missing_is_refused_before_the_first_run(words: str, message: str, cli: Cli, tmp_path: Path) -> None:
    here, run = tmp_path / "here.safetensors", tmp_path / "run"
    here.touch()
    run.mkdir()
    (tmp_path / "shards").mkdir()
    words = words.replace("HERE", str(here)).replace("RUN", str(run)).replace("SHARDS", str(tmp_path / "shards"))
    hub = {"HF_ENDPOINT": "http://127.0.0.1:9", "HF_HOME": str(tmp_path / "hub"), "HF_HUB_OFFLINE": "0"}
    paths = [f"paths.{name}={tmp_path / name}" for name in ("runs", "data", "cache")]
    done = cli("train", *words.split(), *paths, **hub)
    assert done.returncode == 2, done.stderr
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "runs").exists()


def test_a_dry_run_asks_for_nothing(cli: Cli, tmp_path: Path) -> None:
    paths = [f"paths.{name}={tmp_path / name}" for name in ("runs", "data", "cache")]
    done = cli("train", "launch=local_process", "experiment=gtsrb", "launch.dry_run=true", *paths)
    assert done.returncode == 0, done.stderr
    assert not list(tmp_path.iterdir())


def test_a_job_that_refuses_what_it_was_given_ends_the_command_alike(cli: Cli, tmp_path: Path) -> None:
    """What only the training can know is exit code 2, too, and not a failure of the machine."""
    words = ["launch=local_process", "data=synthetic", "model.name=test_nothing", f"paths.runs={tmp_path / 'runs'}"]
    done = cli("train", *words)
    assert done.returncode == 2, done.stderr
    assert "model.name=test_nothing: timm has no such model" in done.stderr.splitlines()[-1]
