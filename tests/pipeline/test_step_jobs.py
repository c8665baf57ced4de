"""What the job of a step is told, on every backend that a pipeline here has."""

import json
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import compose_config, compose_task

from sightline.launch.submission import Submission
from sightline.pipeline.checks import check, places
from sightline.pipeline.record import PipelineRecord
from sightline.pipeline.step_jobs import StepJobs
from sightline.runs.override_text import key_of, value_of

SMALL = ("data=folder", "name=colors", "model.name=test_resnet", "data.image_size=32", "evaluation=short")


@pytest.fixture
def left(colors: Path, tmp_path: Path) -> dict[str, Path]:
    """Folders as earlier steps leave them, as far as a plan looks at them."""
    folders = {name: tmp_path / name for name in ("prepare", "train", "export", "evaluate", "explain")}
    for folder in folders.values():
        folder.mkdir()
        (folder / "run.json").write_text(json.dumps({"data": {"root": str(colors)}}))
    (folders["prepare"] / "manifest.csv").write_text("path,label,split,group,sha256\n")
    return folders


def plans(backend: str, data: Path, left: dict[str, Path], folder: Path, **settings: Any) -> dict[str, Any]:
    typed = [f"data.root={data}", *SMALL, f"paths.runs={folder / 'runs'}", f"paths.cache={folder / 'cache'}"]
    checked = check(compose_task("pipeline", *typed), typed)
    submission = Submission.open({"backend": backend, **settings}, folder / "jobs")
    record = PipelineRecord(folder / "run", "colors", "colors", [], backend, [])
    jobs = StepJobs(submission, record, folder / "runs", places(typed))
    return {each.step.name: (each.step, jobs.plan(each, left)) for each in checked.steps}


def test_the_job_of_every_step_composes_where_files_are_seen(
    colors: Path, left: dict[str, Path], tmp_path: Path
) -> None:
    for name, (step, plan) in plans("local_process", colors, left, tmp_path).items():
        _, script, *overrides = plan["request"]["command"]
        assert script.endswith(step.script)
        assert value_of(overrides, "output") == str(tmp_path / "run" / name)
        compose_config(Path(script).stem, *(each for each in overrides if not each.startswith("hydra.")))


def test_the_job_of_every_step_composes_in_a_container_and_names_no_folder_of_here(
    colors: Path, left: dict[str, Path], tmp_path: Path
) -> None:
    for name, (step, plan) in plans("local_container", colors, left, tmp_path, allow_dirty=True).items():
        told = plan["request"]["hyperparameters"]
        overrides = [f"{key}={value}" for key, value in told.items() if key != "_script"]
        compose_config(Path(step.script).stem, *overrides)
        assert all(str(tmp_path) not in each for each in overrides), name
        channels = {key.replace(".", "_") for key in step.inputs}
        assert channels <= plan["request"]["channels"].keys()
        assert "output" not in {key_of(each) for each in overrides}
