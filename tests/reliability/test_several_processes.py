"""Several processes train as one does, make one run, and stop and go on together."""

import csv
import json
import math
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from tests.conftest import PROJECT, Cli
from tests.reliability.conftest import WORDS, Ended, Struck, assert_same, record_of

EXACT = [
    "data=folder",
    "model.name=convnext_atto",
    "+model.arguments={depths:[1,1,1,1],dims:[8,16,16,24]}",
    "data.image_size=32",
    "data.batch_size=8",
    "data.num_workers=0",
    "augmentation=none",
    "trainer.precision=32-true",
    "trainer.accelerator=cpu",
    "trainer.max_epochs=2",
    "trainer.accumulate_grad_batches=2",
    "trainer.log_every_n_steps=1",
    "model.lr=0.003",
    "logger=tensorboard",
    "stages=[fit,test]",
]
"""No batch norm, no randomness but the order. Of 9 validation images the last batch has one: a process gets none."""
TWO = ("trainer=ddp", "trainer.devices=2")


def free_port() -> str:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return str(listener.getsockname()[1])


def ranks(count: int = 2) -> list[dict[str, str]]:
    """What torchrun tells its processes."""
    shared = {"WORLD_SIZE": str(count), "LOCAL_WORLD_SIZE": str(count), "MASTER_ADDR": "127.0.0.1"}
    shared |= {"MASTER_PORT": free_port(), "OMP_NUM_THREADS": "1"}
    return [{**shared, "RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(count)]


def nodes() -> list[dict[str, str]]:
    """What a scheduler tells the first process of each machine."""
    shared = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": free_port()}
    return [{**shared, "NODE_RANK": str(node)} for node in range(2)]


@pytest.fixture(scope="session")
def alone(struck: Struck, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run of one process."""
    folder = tmp_path_factory.mktemp("alone") / "run"
    ended = struck(folder, words=EXACT)
    assert ended.code == 0, ended.log
    return folder


@pytest.fixture(scope="session")
def together(struck: Struck, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run of two processes that nothing happened to."""
    folder = tmp_path_factory.mktemp("together") / "run"
    ended = struck(folder, *TWO, environments=ranks())
    assert ended.code == 0, ended.log
    return folder


def assert_close(run: Path, expected: Path) -> None:
    """The same metrics to 1e-4, in every epoch and at the end."""
    metrics, others = (json.loads((folder / "metrics.json").read_text()) for folder in (run, expected))
    assert metrics.keys() == others.keys()
    for name in metrics.keys() - {"train/images_per_second", "train/seconds"}:
        assert metrics[name] == pytest.approx(others[name], abs=1e-4), name
    rows, other_rows = (
        [*csv.DictReader((folder / "metrics.csv").read_text().splitlines())] for folder in (run, expected)
    )
    assert len(rows) == len(other_rows) == 2
    for row, other in zip(rows, other_rows, strict=True):
        assert row.keys() == other.keys()
        for name in row:
            assert float(row[name]) == pytest.approx(float(other[name]), abs=1e-4), name
    matrix = csv.reader((run / "confusion_matrix.csv").read_text().splitlines())
    counts = [sum(map(int, row[1:])) for row in matrix if row[1].isdigit()]
    assert sum(counts) == 18  # every test image once


def assert_whole(ended: Ended, run: Path) -> None:
    assert ended.code == 0, ended.log
    assert record_of(run)["status"] == "finished"
    assert record_of(run)["config"]["trainer"]["num_nodes"] * record_of(run)["config"]["trainer"]["devices"] == 2
    assert len({path.name.split(".")[-2] for path in (run / "tensorboard").glob("events.*")}) == 1  # process
    assert not list(run.rglob("*.partial"))


def test_two_processes_do_what_one_does(struck: Struck, alone: Path, colors: Path, tmp_path: Path) -> None:
    """They were started by something else, as torchrun does."""
    ended = struck(None, f"paths.runs={tmp_path}", "trainer=ddp", words=EXACT, environments=ranks())
    (run,) = (tmp_path / "train" / colors.name).iterdir()
    assert_whole(ended, run)
    assert ended.log.count("results: ") == 1
    assert_close(run, alone)


@pytest.mark.slow
def test_two_nodes_do_what_one_process_does(struck: Struck, alone: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    assert_whole(struck(run, "trainer=ddp", "trainer.num_nodes=2", words=EXACT, environments=nodes()), run)
    assert_close(run, alone)


@pytest.mark.slow
def test_one_command_starts_both_also_in_a_sweep(struck: Struck, alone: Path, colors: Path, tmp_path: Path) -> None:
    more = ("seed=0", "data.num_workers=1", f"paths.runs={tmp_path}", *TWO)
    ended = struck(None, *more, words=["-m", *EXACT])
    assert ended.code == 0, ended.log
    (run,) = (tmp_path / "train" / colors.name).iterdir()
    assert_whole(ended, run)
    assert_close(run, alone)


@pytest.mark.parametrize(
    ("fault", "from_step", "workers"),
    [
        ("1:SIGTERM@step:9", 5, 0),
        pytest.param("SIGTERM@step:9", 5, 2, marks=pytest.mark.slow),
        pytest.param("0:SIGTERM@validation:3", 5, 2, marks=pytest.mark.slow),
        pytest.param("1:SIGTERM@validation:4", 6, 0, marks=pytest.mark.slow),  # its last batch: left when it is over
        pytest.param("SIGTERM@epoch:1", 3, 0, marks=pytest.mark.slow),
        pytest.param("1:SIGTERM@step:18", 8, 0, marks=pytest.mark.slow),  # seen in the validation that follows
    ],
)
def test_all_stop_at_one_step_and_go_on_exactly(
    fault: str, from_step: int, workers: int, struck: Struck, together: Path, tmp_path: Path
) -> None:
    """With batch norm, dropout, augmentation and accumulation; whichever process gets the signal."""
    run = tmp_path / "run"
    loading = f"data.num_workers={workers}"
    ended = struck(run, *TWO, loading, fault=fault, environments=ranks())
    assert ended.codes == [143, 143], ended.log
    assert record_of(run)["status"] == "interrupted"
    ended = struck(run, *TWO, loading, environments=ranks())
    assert ended.code == 0, ended.log
    assert [each["from_step"] for each in record_of(run)["resumed"]] == [from_step]
    assert_same(run, together)


@pytest.mark.slow
def test_all_go_back_after_one_sees_no_number(struck: Struck, tmp_path: Path) -> None:
    run = tmp_path / "run"
    ended = struck(run, *TWO, "divergence.action=rollback", fault="1:NAN@batch:10", environments=ranks())
    assert ended.code == 0, ended.log
    (rollback,) = record_of(run)["rollbacks"]
    assert (rollback["reason"], rollback["step"], rollback["to_step"]) == ("the loss became nan", 4, 3)
    assert len(rollback["files"]) == 8
    assert math.isfinite(json.loads((run / "metrics.json").read_text())["train/loss"])


@pytest.mark.slow
def test_another_number_of_processes_does_not_go_on(struck: Struck, together: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(together, run)
    record = {**record_of(run), "status": "interrupted"}
    (run / "run.json").write_text(json.dumps(record))
    refused = struck(run)
    assert refused.code == 2
    assert "has other settings: trainer.devices=1 (was 2), trainer.strategy=auto (was ddp)" in refused.log


@pytest.mark.slow
def test_numbers_that_do_not_go_together_are_refused(struck: Struck, tmp_path: Path) -> None:
    ended = struck(tmp_path / "run", environments=ranks())
    assert ended.code == 2
    assert "trainer.devices=1 trainer.num_nodes=1: the environment says WORLD_SIZE=2; add trainer=ddp" in ended.log
    ended = struck(tmp_path / "run", "trainer=ddp", "trainer.num_nodes=2")
    assert ended.code == 2
    assert "trainer.num_nodes=2: set MASTER_ADDR and MASTER_PORT" in ended.log
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_torchrun(colors: Path, alone: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node=2", f"--master_port={free_port()}"]
    words = [*EXACT, f"data.root={colors}", "trainer=ddp", f"output={run}"]
    done = subprocess.run(
        [*torchrun, str(PROJECT / "src" / "train.py"), *words],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("results: ") == 1
    assert_close(run, alone)


@pytest.mark.slow
def test_a_sweep_of_several(cli: Cli, colors: Path, tmp_path: Path) -> None:
    words = [*WORDS, f"data.root={colors}", f"paths.runs={tmp_path}", "trainer.max_epochs=1"]
    done = cli("train", "-m", "seed=0,1", *words, *TWO)
    assert done.returncode == 0, done.stderr
    runs = sorted((tmp_path / "train" / colors.name).iterdir())
    assert [record_of(run)["seed"] for run in runs] == [0, 1]
    assert {record_of(run)["status"] for run in runs} == {"finished"}
