"""Which run a name means."""

import json
from pathlib import Path
from typing import Any

import pytest

from sightline.errors import BadInput
from sightline.runs.folder import find_resumed, find_run, named_path


def make_run(folder: Path, *, has_model: bool = True, **facts: Any) -> Path:
    (folder / "model").mkdir(parents=True)
    (folder / "run.json").write_text(json.dumps({"task": "train", **facts}))
    if has_model:
        (folder / "model" / "model.json").write_text("{}")
    return folder


def test_runs_are_found_as_given_or_below_the_runs_folder(tmp_path: Path) -> None:
    model = make_run(tmp_path / "run") / "model"
    assert find_run(model, tmp_path) == model.resolve()
    assert find_run("run/model", tmp_path) == model.resolve()
    with pytest.raises(BadInput, match="run=nothing: no such run folder"):
        find_run("nothing", tmp_path)


def test_a_name_of_several_runs_is_answered_with_the_newest(tmp_path: Path) -> None:
    """Of those that it may mean, and of all where it means none; a run to go on with needs no model yet."""
    make_run(tmp_path / "train" / "photos" / "1", finished="2026-01-01")
    make_run(tmp_path / "train" / "photos" / "2", finished="2026-01-02")
    make_run(tmp_path / "train" / "photos" / "3", has_model=False, started="2026-01-03")
    make_run(tmp_path / "train" / "my signs" / "4", finished="2026-01-04")
    for name, answer in (
        ("photos", "the newest training of that name: run=train/photos/2"),
        ("nothing", "the newest training: 'run=\"train/my signs/4\"'"),
        ("train/photos", "a folder of runs; the newest training in it: run=train/photos/2"),
        (str(tmp_path), "a folder of runs; the newest training in it: 'run=\"train/my signs/4\"'"),
    ):
        with pytest.raises(BadInput) as caught:
            find_run(name, tmp_path)
        assert str(caught.value).endswith(answer)
    for name in ("photos", "train/photos"):
        with pytest.raises(BadInput, match="resume=train/photos/3$"):
            find_resumed(name, tmp_path)


def test_a_run_of_another_task_stands_for_the_run_whose_model_it_used(tmp_path: Path) -> None:
    run = make_run(tmp_path / "train" / "a" / "1")
    used = make_run(tmp_path / "predict" / "a" / "2", has_model=False, task="predict", run=str(run))
    assert find_run(used, tmp_path) == run.resolve()


def test_latest_is_the_training_that_ended_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the link and a folder of that name say, and whatever other tasks, jobs and sweeps did since."""
    runs = tmp_path / "runs"
    make_run(runs / "train" / "z" / "3", started="2026-01-03", finished="2026-01-04")
    new = make_run(runs / "train" / "a" / "1", started="2026-01-01", finished="2026-01-09")
    begun = make_run(runs / "train" / "a" / "5", has_model=False, started="2026-02-01")
    later: dict[str, Any] = {"started": "2026-03-01", "finished": "2026-03-02"}
    evaluated = make_run(runs / "evaluate" / "a" / "6", has_model=False, task="evaluate", run="/elsewhere", **later)
    make_run(runs / "jobs" / "a-1", **later)
    make_run(runs / "sweeps" / "study" / "trials" / "0", **later)
    (runs / "latest").symlink_to(evaluated)
    (tmp_path / "latest").mkdir()
    monkeypatch.chdir(tmp_path)
    assert find_run("latest", runs) == new.resolve()
    assert find_run(runs / "latest", runs) == new.resolve(), "the link itself is taken for the word"
    assert find_run("./latest", runs) == tmp_path / "latest"
    assert named_path("latest", runs, needs_model=False) == begun.resolve(), "what resume=latest goes on with"


def test_without_a_training_latest_is_what_the_link_leads_to(tmp_path: Path) -> None:
    job = make_run(tmp_path / "jobs" / "a-1")
    (tmp_path / "evaluate").mkdir()
    evaluated = make_run(tmp_path / "evaluate" / "1", has_model=False, task="evaluate", run=str(job))
    with pytest.raises(BadInput, match="run=latest: no such run folder"):
        find_run("latest", tmp_path)
    (tmp_path / "latest").symlink_to(evaluated)
    assert find_run("latest", tmp_path) == job.resolve()
