"""Which run is gone on with, and what it refuses."""

import fcntl
import os
from pathlib import Path

import pytest
import torch
from tests.conftest import compose_train

from sightline.callbacks.resumable import STATE
from sightline.errors import BadInput
from sightline.runs.invocation import Invocation
from sightline.training import resume as resuming
from sightline.training.resume import open_run, resume_command, resume_fingerprint


def opened(*words: str) -> Path:
    cfg = compose_train(*words)
    with open_run(cfg, resume_fingerprint(cfg, "32-true", {"sha256": "0"})) as start:
        assert start.checkpoint is None
        return start.folder


def test_without_a_run_there_a_folder_is_new(tmp_path: Path) -> None:
    assert opened(f"output={tmp_path / 'a'}") == tmp_path / "a"
    assert opened(f"paths.runs={tmp_path}").parent == tmp_path / "train" / "digits"
    assert opened(f"paths.runs={tmp_path}", "resume=null").parent == tmp_path / "train" / "digits"


def test_a_folder_is_for_one_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resuming, "SECONDS_TO_END", 0.1)
    descriptor = os.open(tmp_path, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        with pytest.raises(BadInput, match="another process is training there"):
            opened(f"output={tmp_path}")
    finally:
        os.close(descriptor)
    assert opened(f"output={tmp_path}") == tmp_path


def test_a_key_that_an_old_run_lacks_counts_as_its_default(tmp_path: Path) -> None:
    """A key that came later changes nothing while it stays what it was before there was one."""
    cfg = compose_train(f"output={tmp_path}")
    before = resume_fingerprint(cfg, "32-true", {"sha256": "0"})
    del before["config"]["model"]["fast_convolutions"]
    (tmp_path / "checkpoints").mkdir()
    state = {**before, "is_exact": True, "batches_that_stepped": 3}
    torch.save({"global_step": 3, STATE: state}, tmp_path / "checkpoints" / "last.ckpt")
    with open_run(cfg, resume_fingerprint(cfg, "32-true", {"sha256": "0"})) as start:
        assert start.step == 3
    with pytest.raises(BadInput, match=r"model.fast_convolutions=False \(was True\)"):
        opened(f"output={tmp_path}", "model.fast_convolutions=false")


def test_a_relative_path_is_that_of_the_folder_where_it_was_typed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "net.safetensors").touch()
    monkeypatch.chdir(tmp_path)
    cfg = compose_train("model.weights=net.safetensors", f"output={tmp_path / 'run'}")
    state = {**resume_fingerprint(cfg, "32-true", {"sha256": "0"}), "is_exact": True, "batches_that_stepped": 3}
    state["config"]["model"]["weights"] = "net.safetensors"  # as older runs have it
    (tmp_path / "run" / "checkpoints").mkdir(parents=True)
    torch.save({"global_step": 3, STATE: state}, tmp_path / "run" / "checkpoints" / "last.ckpt")
    (tmp_path / "run" / "run.json").write_text(f'{{"task": "train", "cwd": "{tmp_path}"}}')
    monkeypatch.chdir("/")
    cfg = compose_train(f"model.weights={tmp_path}/net.safetensors", f"output={tmp_path / 'run'}")
    with open_run(cfg, resume_fingerprint(cfg, "32-true", {"sha256": "0"})) as start:
        assert start.changed == {}


def test_the_folder_of_another_task_is_refused(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text('{"task": "evaluate", "status": "finished"}')
    with pytest.raises(BadInput, match="already holds a run of evaluate"):
        opened(f"output={tmp_path}")


@pytest.mark.parametrize("name", ["nothing", "empty"])
def test_resume_needs_a_run(name: str, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(BadInput, match=f"resume={tmp_path / name}: "):
        opened(f"resume={tmp_path / name}")


def test_a_run_without_a_checkpoint_leaves_nothing_of_its_first_try(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text('{"task": "train", "status": "running"}')
    (tmp_path / "metrics.csv").write_text("epoch\n0\n")
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "best.ckpt").write_text("of another life")
    assert opened(f"output={tmp_path}") == tmp_path
    assert [path.name for path in tmp_path.iterdir()] == ["run.json"]


def test_the_command_names_the_folder_once() -> None:
    told = Invocation(("src/train.py", "seed=1", "output=old", "resume=null", "name=a b"))
    assert resume_command(Path("/r"), told).split(" ", 1)[1] == "src/train.py seed=1 'name=a b' output=/r"
    told = Invocation(("src/train.py", "resume=train/x", "trainer.max_epochs=9"))
    assert resume_command(Path("/r"), told).split(" ", 1)[1] == "src/train.py trainer.max_epochs=9 resume=/r"


def test_resume_latest_is_the_newest_training_whatever_its_state(tmp_path: Path) -> None:
    for number, name in enumerate("ab"):
        folder = tmp_path / "train" / "digits" / name
        folder.mkdir(parents=True)
        (folder / "run.json").write_text(f'{{"task": "train", "started": "2026-01-0{number + 1}"}}')
    assert opened("resume=latest", f"paths.runs={tmp_path}") == tmp_path / "train" / "digits" / "b"
