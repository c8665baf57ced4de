"""Runs, a study and a job that the code wrote before it was laid out anew, in tests/old_layout/runs.tar.xz.

All are of one network with 3,621 parameters, trained on the digits, which are written here again.
"""

import csv
import json
from pathlib import Path

import pytest

from sightline.data.collection.digits import write_digits
from sightline.evaluation.evaluate import evaluate
from sightline.runs.archives import unpack
from sightline.training.train import train
from tests.conftest import PROJECT, Cli, compose_config, do_jobs

MADE_IN = "/tmp/example"
"""The folder of the project then, which the records name."""
PLACES = ("paths.data={0}/data", "paths.cache={0}/data/.cache", "paths.runs={0}/runs")


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder in which all of it was made, under another name."""
    folder = tmp_path_factory.mktemp("old")
    unpack(PROJECT / "tests" / "old_layout" / "runs.tar.xz", folder)
    for record in folder.rglob("*.json"):
        record.write_text(record.read_text().replace(MADE_IN, str(folder)))
    (folder / "data").mkdir()
    write_digits(folder / "data" / "digits")
    return folder


def places(project: Path) -> list[str]:
    return [word.format(project) for word in PLACES]


def read(path: Path) -> dict[str, float]:
    return json.loads(path.read_text())


def test_a_finished_run_is_measured_as_it_was(project: Path, tmp_path: Path) -> None:
    run = project / "runs" / "train" / "finished"
    words = [f"run={run}", f"data.own_root={project / 'data' / 'digits'}", "evaluation=short", "data.num_workers=0"]
    found = evaluate(compose_config("evaluate", *words, f"output={tmp_path / 'evaluated'}")).metrics
    before = {name: value for name, value in read(run / "metrics.json").items() if name.startswith("test/")}
    assert len(before) > 10
    assert {name: found.get(name) for name in before} == pytest.approx(before, abs=1e-3)


def test_a_run_that_was_stopped_goes_on(project: Path) -> None:
    """To the end that another one reached undisturbed, give or take what processors differ in."""
    run = project / "runs" / "train" / "stopped"
    words = json.loads((run / "run.json").read_text())["overrides"]
    with (run / "metrics.csv").open() as file:
        before = [*csv.DictReader(file)]
    result = train(compose_config("train", *words, *places(project), f"output={run}"))
    record = json.loads((run / "run.json").read_text())
    assert record["status"] == "finished"
    (resumed,) = record["resumed"]
    assert resumed["from_step"] > int(before[-1]["step"]), "it was stopped within an epoch"
    with (run / "metrics.csv").open() as file:
        rows = [*csv.DictReader(file)]
    assert [row["epoch"] for row in rows] == ["0", "1", "2"]
    assert rows[: len(before)] == before
    undisturbed = read(project / "runs" / "train" / "undisturbed" / "metrics.json")
    for name in ("train/loss", "val/loss", "test/loss"):
        assert result.metrics[name] == pytest.approx(undisturbed[name], abs=0.02)
    assert result.metrics.keys() == undisturbed.keys()


def test_a_study_goes_on(project: Path, cli: Cli) -> None:
    """The same command with one trial more: the two that it has are neither repeated nor lost."""
    study = project / "runs" / "sweeps" / "old"
    words = [
        *("experiment=digits", "model.name=resnet10t", "+model.arguments.channels=[4,4,8,8]"),
        *("+model.arguments.stem_width=4", "data.image_size=32", "data.num_workers=0", "data.cache=off"),
        *("trainer.max_epochs=1", "logger=none", "trainer.precision=32-true", "trainer.enable_progress_bar=false"),
        *("stages=[fit]", "model.lr=tag(log,interval(0.001,0.01))", "hydra.sweeper.study_name=old"),
    ]
    with (study / "trials.csv").open() as file:
        before = [*csv.DictReader(file)]
    records = [(study / "trials" / row["number"] / "run.json").read_text() for row in before]
    done = cli("train", "-m", "hydra/sweeper=sightline", *words, "hydra.sweeper.n_trials=3", *places(project))
    assert done.returncode == 0, done.stderr
    with (study / "trials.csv").open() as file:
        after = [*csv.DictReader(file)]
    assert [row["state"] for row in after] == ["complete"] * 3
    assert [row["value"] for row in after[:2]] == [row["value"] for row in before]
    assert [(study / "trials" / row["number"] / "run.json").read_text() for row in before] == records


def test_jobs_are_known(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    name = "digits-78dbfbb932"
    do_jobs(project / "runs", "list")
    assert name in capsys.readouterr().out
    do_jobs(project / "runs", "status", name)
    assert capsys.readouterr().out == "succeeded\n"
