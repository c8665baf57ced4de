"""Runs that go on with the settings of their record, and finished ones that train for more epochs."""

import csv
import shutil
from pathlib import Path

import pytest
import torch
from tests.reliability.conftest import Struck, Undisturbed, assert_same, record_of

from sightline.callbacks.checkpoint_files import drop_unneeded


def rows_of(run: Path) -> list[dict[str, str]]:
    with (run / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_stopped_run_needs_no_other_word_than_its_name(
    struck: Struck, undisturbed: Undisturbed, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    assert struck(run, fault="SIGTERM@step:8").code == 143
    before = record_of(run)["overrides"]
    ended = struck(None, f"resume={run}", "data.num_workers=1", words=())
    assert ended.code == 0, ended.log
    assert "data.num_workers: 0 → 1" in ended.log
    assert_same(run, undisturbed())
    kept = [word for word in before if word.split("=")[0] not in ("output", "data.root", "data.num_workers")]
    assert record_of(run)["overrides"][: len(kept)] == kept


@pytest.fixture(scope="module")
def trained_on(undisturbed: Undisturbed, struck: Struck, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A finished run of 3 epochs that then trained for 2 more, and what was said."""
    run = shutil.copytree(undisturbed(), tmp_path_factory.mktemp("on") / "run")
    ended = struck(None, f"resume={run}", "trainer.max_epochs=5", words=())
    assert ended.code == 0, ended.log
    return run, ended.log


def test_a_finished_run_trains_for_more_epochs(trained_on: tuple[Path, str], undisturbed: Undisturbed) -> None:
    run, log = trained_on
    assert "trainer.max_epochs: 3 → 5" in log
    assert "a new schedule from step 9: weights and the state of the optimizer are kept" in log
    record, first = record_of(run), rows_of(undisturbed())
    assert record["status"] == "finished"
    assert record["resumed"][-1]["from_step"] == 9
    assert record["resumed"][-1]["changed"] == {"trainer.max_epochs": [3, 5]}
    rows = rows_of(run)
    assert rows[:3] == first
    assert [(row["epoch"], row["step"]) for row in rows[3:]] == [("3", "12"), ("4", "15")]
    last = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)
    assert {int(each["step"]) for each in last["optimizer_states"][0]["state"].values()} == {15}
    assert last["lr_schedulers"][0]["total_steps"] == 6
    assert last["lr_schedulers"][0]["last_epoch"] == 6
    assert float(rows[3]["lr"]) > 5 * float(rows[2]["lr"]), "the rate has risen again"


def test_training_on_goes_on_exactly_too(
    trained_on: tuple[Path, str], undisturbed: Undisturbed, struck: Struck, tmp_path: Path
) -> None:
    """Killed before the first checkpoint of the new schedule, then stopped within it."""
    run = shutil.copytree(undisturbed(), tmp_path / "run")
    ended = struck(None, f"resume={run}", "trainer.max_epochs=5", words=(), fault="SIGKILL@step:2")
    assert ended.code == -9, ended.log
    ended = struck(None, f"resume={run}", words=(), fault="SIGTERM@step:9")
    assert ended.code == 143, ended.log
    assert "trainer.max_epochs: 3 → 5" in ended.log
    assert f" resume={run}" in ended.log.split("go on with: ")[1]
    ended = struck(None, f"resume={run}", words=())
    assert ended.code == 0, ended.log
    assert record_of(run)["resumed"][-1]["from_step"] == 14
    assert_same(run, trained_on[0])


def test_what_training_on_refuses(undisturbed: Undisturbed, struck: Struck, tmp_path: Path) -> None:
    run = shutil.copytree(undisturbed(), tmp_path / "run")
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    for words, why in (
        ((), "3 epochs and 9 steps of this run are done, and no more are asked for"),
        (("trainer.max_epochs=2",), "3 epochs and 9 steps of this run are done"),
        (("trainer.max_epochs=5", "model.name=test_vit"), "has other settings: model.name=test_vit (was test_resnet)"),
    ):
        ended = struck(None, f"resume={run}", *words, words=())
        assert ended.code == 2, ended.log
        assert why in ended.log.splitlines()[-1]
    drop_unneeded(run / "checkpoints", "weights")
    ended = struck(None, f"resume={run}", "trainer.max_epochs=5", words=())
    assert ended.code == 2, ended.log
    assert (
        "or checkpoint.keep=weights left its weights alone; take them into a new run with model.weights=" in ended.log
    )
    for path in (run / "checkpoints").iterdir():
        path.unlink()
    ended = struck(None, f"resume={run}", "trainer.max_epochs=5", words=())
    assert ended.code == 2, ended.log
    assert "this run is finished, and its checkpoints are gone" in ended.log
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == {
        path: content for path, content in before.items() if path.parent.name != "checkpoints"
    }
