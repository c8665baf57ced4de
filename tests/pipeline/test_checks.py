"""What cannot work is said before the first step, and leaves nothing behind."""

import json
from pathlib import Path

import pytest
from tests.conftest import COLORS, Cli, compose_task, write_image
from tests.exported_models import export_tiny_model

from sightline.errors import BadInput
from sightline.pipeline.checks import check

SMALL = ("data=folder", "name=colors", "model.name=test_resnet", "data.image_size=32", "evaluation=short")


def words(data: Path, runs: Path, *more: str) -> list[str]:
    return [f"data.root={data}", *SMALL, f"paths.runs={runs}", f"paths.cache={runs / 'cache'}", *more]


def refused(data: Path, runs: Path, *more: str) -> str:
    """The message of what is refused; nothing is written below the folder of runs."""
    typed = words(data, runs, *more)
    with pytest.raises(BadInput) as error:
        check(compose_task("pipeline", *typed), typed)
    assert not (runs / "pipeline").exists()
    return str(error.value)


@pytest.mark.parametrize(
    ("typed", "message"),
    [
        (
            "pipeline.gates={test/acuracy: 0.9}",
            "test/acuracy: no metric of the evaluation (did you mean test/accuracy or",
        ),
        ("pipeline.gates={val/accuracy: 0.9}", "val/accuracy: no metric of the evaluation"),
        (
            "pipeline.gates={test/corruption/mean_accuracy: 0.9}",
            "is not measured by this evaluation, which lacks Corruptions",
        ),
        ("pipeline.gates={test/accuracy: nan}", "test/accuracy: nan is no bound"),
        ("stages=[fit]", "stages=[fit]: a pipeline has steps of its own"),
        ("resume=latest", "resume=latest: the same command goes on with a pipeline that was interrupted"),
        ("runtime=torch", "runtime=torch: what is evaluated is the exported model"),
        ("data.num_folds=5", "data.num_folds=5: a pipeline makes one model"),
        ("pipeline.rerun=[trian]", "pipeline.rerun=trian: must be one of"),
        ("pipeline.champion=registry:colors/3", "colors: no model of that name"),
        ("pipeline.champion=nowhere", "run=nowhere: no such run folder"),
        ("pipeline.model='a b'", "'a b': no name of a model"),
        ("model.focal_gamma=3", "model.focal_gamma=3: has no effect here"),
        (
            "pipeline.precision=int8 export.int8=false",
            "pipeline.precision=int8 export.int8=false: there would be nothing",
        ),
        ("pipeline.champion=none pipeline.against=better", "there is nothing to be better than"),
    ],
)
def test_bad_input_is_refused_before_the_first_step(typed: str, message: str, colors: Path, tmp_path: Path) -> None:
    more = typed.split() if "{" not in typed else [typed]
    if "'" in typed:
        more = [typed]
    assert message in refused(colors, tmp_path / "runs", *more)


def test_corruptions_are_a_gate_where_they_are_measured(colors: Path, tmp_path: Path) -> None:
    gates = "pipeline.gates={test/corruption/mean_accuracy: 0.5, test/corruption/brightness/3/accuracy: 0.4}"
    typed = [*words(colors, tmp_path / "runs", gates), "evaluation=full"]
    assert check(compose_task("pipeline", *typed), typed).model == "colors"
    other = "pipeline.gates={test/corruption/snow/3/accuracy: 0.5}"
    assert "test/corruption/snow/3/accuracy" in refused(colors, tmp_path / "b", other, "evaluation=default")


def test_a_data_set_without_test_images_is_refused(tmp_path: Path) -> None:
    for number, (name, color) in enumerate(COLORS.items()):
        for index in range(6):
            write_image(tmp_path / "data" / "train" / name / f"{index}.png", color, seed=100 * number + index)
    told = refused(tmp_path / "data", tmp_path / "runs", "data.test_fraction=0")
    assert "no test images, and what is registered is measured on test images" in told
    assert "data.test_fraction=0.15" in told


def test_a_registry_that_cannot_be_written_is_refused(colors: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert str(tmp_path / "file") in refused(colors, tmp_path / "runs", f"paths.registry={tmp_path / 'file'}/registry")


def test_a_champion_of_other_classes_or_without_the_precision_is_refused(colors: Path, tmp_path: Path) -> None:
    folder = tmp_path / "other"
    export_tiny_model(folder / "model")
    (folder / "run.json").write_text(json.dumps({"task": "train", "status": "finished"}))
    told = refused(colors, tmp_path / "runs", f"pipeline.champion={folder}")
    assert "it knows other classes than" in told
    assert "pipeline.champion=none" in told
    (folder / "model" / "model.int8.onnx").unlink(missing_ok=True)
    told = refused(colors, tmp_path / "runs", f"pipeline.champion={folder}", "pipeline.precision=int8")
    assert "has no model/model.int8.onnx to measure" in told


def test_annotations_need_a_version_of_data(cli: Cli, colors: Path, tmp_path: Path) -> None:
    done = cli("pipeline", "run", *words(colors, tmp_path / "runs", f"pipeline.annotations={tmp_path}"))
    assert done.returncode == 2
    assert "into which data? name their versions with data.version=NAME" in done.stderr
    done = cli("pipeline", "run", *words(colors, tmp_path / "runs", "launch=local_process", "launch.wait=false"))
    assert done.returncode == 2
    assert "launch.wait=false launch=local_process: the steps need this process" in done.stderr
    assert not (tmp_path / "runs" / "pipeline").exists()


def test_a_dry_run_prints_the_steps_and_starts_nothing(cli: Cli, colors: Path, tmp_path: Path) -> None:
    more = ("launch=local_process", "launch.dry_run=true")
    done = cli("pipeline", "run", *words(colors, tmp_path / "runs", *more))
    assert done.returncode == 0, done.stderr
    steps = json.loads(done.stdout)
    assert [each["name"] for each in steps] == ["prepare", "train", "export", "evaluate", "explain", "gate"]
    assert steps[1]["inputs"] == {"data.manifest": "prepare/manifest.csv"}
    assert not (tmp_path / "runs" / "pipeline").exists()


def test_why_says_what_there_is(cli: Cli, tmp_path: Path) -> None:
    done = cli("pipeline", "why", "latest", f"paths.runs={tmp_path}")
    assert done.returncode == 2
    assert done.stderr.strip() == "error: latest: no run of a pipeline; none has run here"


@pytest.mark.parametrize("named", [["data=folder"], [], ["data=folder", "data.root=/elsewhere"]])
def test_a_version_of_a_folder_needs_no_root(cli: Cli, colors: Path, tmp_path: Path, named: list[str]) -> None:
    places = (f"paths.runs={tmp_path / 'runs'}", f"paths.cache={tmp_path / 'cache'}")
    made = cli("data_versions", "create", "colors", f"data.root={colors}", *places)
    assert made.returncode == 0, made.stderr
    words = ("data.version=colors", *named, "name=colors", "model.name=test_resnet", "launch.dry_run=true")
    done = cli("pipeline", "run", *words, "launch=local_process", *places)
    assert done.returncode == 0, done.stderr
    prepared = next(each for each in json.loads(done.stdout) if each["name"] == "prepare")
    [root] = [each for each in prepared["overrides"] if each.startswith("data.root=")]
    assert Path(root.removeprefix("data.root=")).is_relative_to(tmp_path / "cache")
    assert "data=folder" in prepared["overrides"]
