"""Annotations in a pipeline: they make one version, once, and the steps train on it."""

import json
from pathlib import Path

import pytest
from tests.conftest import Cli, compose_task

from sightline.command import read_overrides
from sightline.data.versions.store import open_versions
from sightline.errors import BadInput
from sightline.pipeline.live import Table
from sightline.pipeline.merge_step import NothingNew, check_annotations, merge, with_version
from sightline.pipeline.record import PipelineRecord, StepRecord

SMALL = ("data=folder", "model.name=test_resnet", "data.image_size=32", "evaluation=short")


@pytest.fixture
def version(cli: Cli, colors: Path, tmp_path: Path) -> Path:
    """The folder of runs, where `colors/1` is a version of data."""
    runs = tmp_path / "runs"
    words = (f"data.root={colors}", f"paths.runs={runs}", f"paths.cache={runs / 'cache'}")
    done = cli("data_versions", "create", "colors", *words)
    assert done.returncode == 0, done.stderr
    return runs


def typed(runs: Path, *more: str) -> list[str]:
    given = [*SMALL, "data.version=colors", f"paths.runs={runs}", f"paths.cache={runs / 'cache'}", *more]
    return read_overrides("pipeline", given)[0]


def annotated(folder: Path, path: str, label: str) -> Path:
    """A file that says of one image what it is."""
    folder.mkdir()
    (folder / "labels.csv").write_text(f"image,label\n{path},{label}\n")
    return folder


def record_of(folder: Path) -> PipelineRecord:
    folder.mkdir(exist_ok=True)
    steps = [StepRecord("merge"), StepRecord("train")]
    return PipelineRecord(folder, "colors", "colors", [], "local_process", [], steps=steps)


def test_a_version_is_a_folder_for_the_steps(version: Path) -> None:
    words = typed(version)
    cfg, given = with_version(compose_task("pipeline", *words), words)
    assert cfg.data.version is None
    held = json.loads((Path(cfg.data.root) / "data_version.json").read_text())
    assert (held["name"], held["version"]) == ("colors", 1)
    assert [each for each in given if each.startswith("data.version")] == []


def test_annotations_make_one_version_however_often_the_run_is_killed(version: Path, tmp_path: Path) -> None:
    place = annotated(tmp_path / "annotations", "train/blue/00.png", "red")
    cfg = compose_task("pipeline", *typed(version, f"pipeline.annotations={place}"))
    record = record_of(tmp_path / "run")
    with Table(record) as table:
        assert merge(cfg, record, table) == "colors/2"
        assert merge(cfg, record, table) == "colors/2", "the step is over"
        again = PipelineRecord.load(record.folder)
        again.step("merge").status, again.step("merge").numbers = "running", {"before": 1}  # killed right after it
        assert merge(cfg, again, table) == "colors/2"
        assert open_versions(str(version / "data_versions"), version / "cache").numbers("colors") == [1, 2]
        with pytest.raises(NothingNew):
            merge(cfg, record_of(tmp_path / "other"), table)


def test_nothing_new_is_a_line_and_leaves_no_run(cli: Cli, version: Path, tmp_path: Path) -> None:
    place = annotated(tmp_path / "annotations", "train/blue/00.png", "blue")
    done = cli("pipeline", "run", *typed(version, f"pipeline.annotations={place}"))
    assert done.returncode == 0, done.stderr
    assert "nothing" in done.stdout
    assert not list((version / "pipeline").glob("*/*"))


def test_annotations_that_belong_to_nothing_are_refused(version: Path) -> None:
    with pytest.raises(BadInput, match="pipeline.annotations=/nowhere: no such file or folder"):
        check_annotations(compose_task("pipeline", *typed(version, "pipeline.annotations=/nowhere")))
    with pytest.raises(BadInput, match="name the data alone, with data.version=colors"):
        check_annotations(
            compose_task("pipeline", *typed(version, "pipeline.annotations=/tmp", "data.version=colors/1"))
        )
