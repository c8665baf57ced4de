"""Going back after a divergence, and stopping and going on, in one run."""

from pathlib import Path

import pytest
import torch
from tests.reliability.conftest import Struck, Undisturbed, assert_same, record_of

BACK = ("divergence.action=rollback", "divergence.lr_factor=0.5", "trainer.max_epochs=4")


@pytest.fixture(scope="session")
def went_back(struck: Struck, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of 12 steps that lost its loss in the third epoch, went back to step 6 and on to its end."""
    folder = tmp_path_factory.mktemp("went_back") / "run"
    ended = struck(folder, *BACK, fault="NAN@batch:14")
    assert ended.code == 0, ended.log
    (rollback,) = record_of(folder)["rollbacks"]
    assert (rollback["to_step"], rollback["lr_scale"]) == (6, 0.5)
    return folder


@pytest.mark.parametrize(
    "moment",
    [
        "step:17",
        pytest.param("step:14", marks=pytest.mark.slow),  # the first after going back
        pytest.param("validation:6", marks=pytest.mark.slow),
        pytest.param("epoch:3", marks=pytest.mark.slow),
    ],
)
def test_a_run_that_went_back_and_was_stopped_goes_on_exactly(
    moment: str, struck: Struck, went_back: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    ended = struck(run, *BACK, fault=f"NAN@batch:14,SIGTERM@{moment}")
    assert ended.code == 143, ended.log
    ended = struck(run, *BACK)
    assert ended.code == 0, ended.log
    assert record_of(run)["rollbacks"] == record_of(went_back)["rollbacks"]
    assert record_of(run)["resumed"][0]["from_step"] > 6
    assert_same(run, went_back)


@pytest.mark.slow
def test_a_run_that_was_stopped_and_diverges_goes_back(struck: Struck, went_back: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    assert struck(run, *BACK, fault="SIGTERM@step:8").code == 143
    ended = struck(run, *BACK, fault="NAN@batch:6")
    assert ended.code == 0, ended.log
    (rollback,) = record_of(run)["rollbacks"]
    assert (rollback["to_step"], rollback["lr_scale"]) == (6, 0.5)
    assert_same(run, went_back)


@pytest.mark.slow
def test_a_killed_run_forgets_a_rollback_that_no_checkpoint_has(
    struck: Struck, undisturbed: Undisturbed, tmp_path: Path
) -> None:
    """It goes on from before the divergence, which would come again, were it not for an injected fault."""
    run = tmp_path / "run"
    assert struck(run, *BACK, fault="NAN@batch:14,SIGKILL@step:14").code == -9
    ended = struck(run, *BACK)
    assert ended.code == 0, ended.log
    assert len(record_of(run)["rollbacks"]) == 1
    assert_same(run, undisturbed(*BACK))


@pytest.mark.parametrize("batch", [pytest.param(6, marks=pytest.mark.slow), 7, pytest.param(9, marks=pytest.mark.slow)])
def test_no_checkpoint_holds_what_diverged(batch: int, struck: Struck, tmp_path: Path) -> None:
    """Just before a validation, just before a save point, within an epoch; with a checkpoint at every save point."""
    run = tmp_path / "run"
    ended = struck(run, "checkpoint.every_minutes=1e-9", fault=f"NAN@batch:{batch}")
    assert ended.code == 1, ended.log
    assert "the loss became nan" in ended.log.splitlines()[-1]
    for path in (run / "checkpoints").iterdir():
        state = torch.load(path, weights_only=True)
        assert state["global_step"] <= (batch - 1) // 2
        assert all(value.isfinite().all() for value in state["state_dict"].values())
