"""A project of one's own: written whole, and at once trained, searched, sent and tested, by its own folder alone."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.commands import PROJECT, Starter
from tests.conftest import Cli

from sightline.config.code_folder import hash_code
from sightline.errors import BadInput
from sightline.runs.project import extensions_of, home, own_project

Typed = Callable[..., subprocess.CompletedProcess[str]]
TINY = ("trainer.max_epochs=1", "stages=[fit,test]", "evaluation=short")
CLOUD = "role=arn:aws:iam::123456789012:role/sightline bucket=experiments region=eu-west-1 image=image:1 dry_run=true"
ON_THE_WAY = [f"launch.{word}" for word in (*CLOUD.split(), "allow_dirty=true")]


@pytest.fixture(scope="module")
def project(cli: Cli, tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("projects")
    done = cli("new", "my-signs", f"into={place}")
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"project: {place / 'my-signs'}\n"
    assert [path.name for path in place.iterdir()] == ["my-signs"]
    return place / "my-signs"


@pytest.fixture(scope="module")
def typed(starter: Starter, project: Path) -> Typed:
    """Run a program in a folder of the project."""
    return lambda task, *words, cwd=project: starter.run([str(PROJECT / "src" / f"{task}.py"), *words], cwd=cwd)


def test_it_trains_and_is_measured_at_once(project: Path, typed: Typed) -> None:
    """With its own network and pictures; data and runs lie in it, from whatever folder of it the command is typed."""
    done = typed("train", "experiment=my_signs", *TINY, cwd=project / "tests")
    assert done.returncode == 0, done.stderr
    assert f"guessed extensions={project}/src ({project}/pyproject.toml says so)" in done.stderr
    run = (project / "runs" / "latest").resolve()
    record = json.loads((run / "run.json").read_text())
    assert record["code"]["extensions"] == {"path": str(project / "src"), "sha256": hash_code(project / "src")}
    assert record["model"]["target"] == "my_signs.network.MySignsNet"
    assert record["data"]["root"] == str(project / "data" / "shapes")
    assert [guess["key"] for guess in record["guesses"]] == ["extensions"]
    measured = typed("evaluate", "run=latest", "evaluation=short")
    assert measured.returncode == 0, measured.stderr


def test_its_code_travels_with_a_job(project: Path, typed: Typed) -> None:
    done = typed("train", "experiment=my_signs", "launch=sagemaker", *ON_THE_WAY)
    assert done.returncode == 0, done.stderr
    plan = json.loads(done.stdout)
    parameters = plan["request"]["HyperParameters"]
    assert parameters["extensions"] == "${paths.inputs}/extensions"
    assert parameters["++code_sha256.extensions"] == f"'{hash_code(project / 'src')}'"
    assert {*plan["uploads"].values()} == {str(project / "src"), str(project / "data" / "shapes")}


def test_a_job_does_not_read_the_folder_that_it_runs_in(project: Path, typed: Typed) -> None:
    done = typed("train", "experiment=my_signs", "hydra.mode=RUN", "launch=here", *TINY)
    assert done.returncode == 2
    assert "experiment=my_signs: no such option" in done.stderr


def test_it_is_searched_at_once(project: Path, typed: Typed) -> None:
    search = ("-m", "hparams_search=optuna", "hydra.sweeper.n_trials=2", "hydra.sweeper.study_name=two")
    done = typed("train", *search, "experiment=my_signs", "trainer.max_epochs=1")
    assert done.returncode == 0, done.stderr
    assert "model.name is not searched: the network is my_signs.network.MySignsNet" in done.stderr
    assert "2 complete" in done.stderr + done.stdout
    assert (project / "runs" / "sweeps" / "two" / "results.yaml").is_file()


@pytest.mark.slow
def test_the_targets_of_its_makefile(project: Path) -> None:
    sightline = f"{sys.executable} -c 'from sightline.command import main; main()'"
    environment = {**os.environ, "PYTHONPATH": str(PROJECT / "src")}
    variables = [f"PYTHON={sys.executable}", f"SIGHTLINE={sightline}"]
    for target in ("help", "data", "test", "dry-run"):
        words = ["make", target, *variables]
        done = subprocess.run(words, cwd=project, env=environment, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stdout + done.stderr
    made = ["make", "train", *variables, f"ARGS={' '.join(TINY)}"]
    subprocess.run(made, cwd=project, env=environment, check=True, capture_output=True, timeout=300)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("1st", "must be the name of a package"),
        ("my signs", "must be the name of a package"),
        ("a/b", "must be the name of a package"),
        ("class", "must be the name of a package"),
        ("json", "there is a module json already"),
        ("torch", "there is a module torch already"),
        ("hydra-plugins", "there is a module hydra_plugins already"),
    ],
)
def test_names_that_cannot_be(name: str, reason: str, cli: Cli, tmp_path: Path) -> None:
    done = cli("new", f"name={name}", f"into={tmp_path}")
    assert done.returncode == 2
    assert reason in done.stderr
    assert [*tmp_path.iterdir()] == []


def test_nothing_that_is_there_is_touched(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "signs").mkdir()
    done = cli("new", "signs", f"into={tmp_path}")
    assert done.returncode == 2
    assert f"{tmp_path}/signs is there already; choose another name, or another into=…" in done.stderr
    assert [path.name for path in tmp_path.rglob("*")] == ["signs"]
    done = cli("new", "signs", f"into={tmp_path / 'nowhere'}")
    assert done.returncode == 2
    assert "no such folder; make it first" in done.stderr
    done = cli("new", f"into={tmp_path}")
    assert done.returncode == 2
    assert "name: no value is set" in done.stderr


def test_only_a_project_that_says_so_is_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The nearest pyproject.toml decides; our own names no code."""
    monkeypatch.chdir(PROJECT)
    assert own_project() is None
    (tmp_path / "src").mkdir()
    (tmp_path / "below").mkdir()
    file = tmp_path / "pyproject.toml"
    file.write_text("[project]\nname = 'x'\n")
    monkeypatch.chdir(tmp_path / "below")
    assert (own_project(), home()) == (None, PROJECT)
    file.write_text("[tool.sightline]\nextensions = 'src'\n")
    assert (own_project(), home()) == (tmp_path, tmp_path)
    assert extensions_of(tmp_path) == tmp_path / "src"
    file.write_text("[tool.sightline]\n")
    assert extensions_of(tmp_path) is None
    for text, reason in (
        ("[tool.sightline]\nextensions = 'code'\n", "tool.sightline.extensions=code: no such folder"),
        ("[tool.sightline]\nextensions = \n", "cannot be read"),
    ):
        file.write_text(text)
        with pytest.raises(BadInput, match=reason):
            extensions_of(tmp_path)
