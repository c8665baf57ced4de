"""The run folder: never shared, never overwritten; its record is true however the run ends."""

import json
import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from sightline.errors import BadInput, Interrupted
from sightline.runs.guesses import GUESSED, Guess
from sightline.runs.invocation import Invocation
from sightline.runs.record import RunRecord, open_folder


def read(folder: Path) -> dict:
    return json.loads((folder / "run.json").read_text())


def test_folders_of_one_second_get_numbers(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        folders = list(pool.map(lambda _: open_folder(tmp_path, "train", "x"), range(24)))
    assert len(set(folders)) == 24
    assert (tmp_path / "latest").resolve() in {folder.resolve() for folder in folders}
    assert not list(tmp_path.glob(".latest*"))


def test_the_guesses_of_a_run_stay_when_it_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for key in ("a", "b"):
        monkeypatch.setitem(GUESSED, key, "an example")
    with RunRecord(tmp_path, Invocation(guesses=(Guess("a", 1, "told"),))) as record:
        record.add_guesses([Guess("b", 2, "seen")])
    earlier = read(tmp_path)
    with RunRecord(tmp_path, earlier=earlier) as record:
        record.add_guesses([Guess("b", 3, "seen again")])
    assert [(each["key"], each["value"]) for each in read(tmp_path)["guesses"]] == [("a", 1), ("b", 3)]


def test_an_output_folder_is_used_as_it_is_and_latest_stays(tmp_path: Path) -> None:
    first = open_folder(tmp_path / "runs", "train", "x")
    given = open_folder(tmp_path / "runs", "train", "x", str(tmp_path / "mine"))
    assert given == tmp_path / "mine"
    assert (tmp_path / "runs" / "latest").resolve() == first.resolve()


def test_an_output_folder_with_a_run_in_it_is_refused(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text("{}")
    with pytest.raises(BadInput, match="this folder already holds a run"):
        open_folder(tmp_path, "train", "x", str(tmp_path))


def test_an_output_folder_with_other_things_in_it_is_refused(tmp_path: Path) -> None:
    (tmp_path / ".job").mkdir()  # what a launch keeps there is no stranger
    (tmp_path / "checkpoints").mkdir()  # nor a copy of a run that was cut short
    assert open_folder(tmp_path, "train", "x", str(tmp_path)) == tmp_path
    (tmp_path / "photos").mkdir()
    with pytest.raises(BadInput, match="other things lie in this folder, like photos; name a new or an empty one"):
        open_folder(tmp_path, "train", "x", str(tmp_path))


def test_an_output_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(BadInput, match="cannot make this folder"):
        open_folder(tmp_path, "train", "x", str(tmp_path / "file" / "run"))


def test_the_record_runs_then_finishes(tmp_path: Path) -> None:
    with RunRecord(tmp_path, task="train") as record:
        assert read(tmp_path)["status"] == "running"
        record.update(device="cpu")
    assert read(tmp_path)["status"] == "finished"
    assert read(tmp_path)["device"] == "cpu"
    assert not list(tmp_path.glob("*.partial"))


@pytest.mark.parametrize(
    ("error", "status", "reason"),
    [
        (RuntimeError("the disk\nis full"), "failed", "the disk is full"),
        (MemoryError(), "failed", "MemoryError"),
        (Interrupted(signal.SIGTERM), "interrupted", "stopped by SIGTERM"),
        (KeyboardInterrupt(), "interrupted", "KeyboardInterrupt"),
    ],
)
def test_the_record_says_how_it_ended(error: BaseException, status: str, reason: str, tmp_path: Path) -> None:
    def run() -> None:
        with RunRecord(tmp_path, task="train"):
            raise error

    with pytest.raises(type(error)):
        run()
    assert read(tmp_path)["status"] == status
    assert read(tmp_path)["reason"] == reason
