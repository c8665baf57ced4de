"""The journal of a study, whatever was written to it last."""

from pathlib import Path

import optuna

from sightline.sweeping.journal import open_journal


def test_a_half_line_harms_nobody(tmp_path: Path) -> None:
    """A sweep that shares the study was killed while it wrote, or the disk was full for a moment."""
    path = tmp_path / "study.journal"
    study = optuna.create_study(study_name="demo", storage=open_journal(path))
    study.enqueue_trial({"x": 1})
    before = path.read_bytes()
    with path.open("ab") as file:
        file.write(b'{"op_code":4,"worker')
    study.enqueue_trial({"x": 2})
    assert b'"worker{' not in path.read_bytes()
    assert path.read_bytes().startswith(before)
    found = optuna.load_study(study_name="demo", storage=open_journal(path))
    assert [trial.system_attrs["fixed_params"]["x"] for trial in found.get_trials()] == [1, 2]


def test_a_journal_of_half_a_line_is_an_empty_one(tmp_path: Path) -> None:
    path = tmp_path / "study.journal"
    path.write_bytes(b'{"op_code":0')
    assert optuna.get_all_study_names(open_journal(path)) == []
    assert path.read_bytes() == b""
