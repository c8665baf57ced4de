"""Runs that are stopped or killed, and go on: to the last bit what an undisturbed run gives."""

import itertools
import json
import random
import re
import shlex
import subprocess
import time
from pathlib import Path

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tests.conftest import Cli
from tests.reliability.conftest import WORDS, Struck, Undisturbed, assert_same, record_of
from tests.test_extending import COMMANDS, write_code

MOMENTS = ("step:1", "step:9", "validation:3", "writing:1", "epoch:1", "end:1")
NUM_MOMENTS = {"step": 18, "validation": 6, "epoch": 3, "writing": 5, "moving": 2, "end": 1}
"""How often each kind of moment comes in an undisturbed run."""


def stop_and_go_on(struck: Struck, run: Path, fault: str, *more: str) -> int:
    """The step that the run went on from."""
    ended = struck(run, *more, fault=fault)
    assert ended.code == {"SIGTERM": 143, "SIGINT": 130, "SIGKILL": -9}[fault.split("@")[0]], ended.log
    if not fault.startswith("SIGKILL"):
        assert record_of(run)["status"] == "interrupted"
        assert record_of(run)["reason"] == f"stopped by {fault.split('@')[0]}"
        assert f"output={run}" in ended.log
    ended = struck(run, *more)
    assert ended.code == 0, ended.log
    assert record_of(run)["status"] == "finished"
    assert not list((run / "checkpoints").glob("*.partial"))
    return record_of(run)["resumed"][-1]["from_step"]


@pytest.mark.parametrize(
    ("moment", "workers", "precision", "from_step"),
    [
        pytest.param("step:1", 0, "32-true", 1, marks=pytest.mark.slow),
        pytest.param("step:9", 2, "bf16-mixed", 5, marks=pytest.mark.slow),
        ("validation:3", 2, "bf16-mixed", 5),
        pytest.param("writing:2", 0, "32-true", 4, marks=pytest.mark.slow),
        pytest.param("epoch:1", 2, "32-true", 3, marks=pytest.mark.slow),
        pytest.param("end:1", 0, "32-true", 9, marks=pytest.mark.slow),
    ],
)
def test_a_stopped_run_goes_on_exactly(
    moment: str,
    workers: int,
    precision: str,
    from_step: int,
    struck: Struck,
    undisturbed: Undisturbed,
    tmp_path: Path,
) -> None:
    more = (f"data.num_workers={workers}", f"trainer.precision={precision}")
    assert stop_and_go_on(struck, tmp_path / "run", f"SIGTERM@{moment}", *more) == from_step
    assert_same(tmp_path / "run", undisturbed(*([] if precision == "32-true" else more[1:])))


@pytest.mark.parametrize(
    ("moment", "from_step"),
    [
        ("step:4", 0),
        ("moving:2", 3),
        pytest.param("step:13", 6, marks=pytest.mark.slow),
        pytest.param("writing:3", 3, marks=pytest.mark.slow),
    ],
)
def test_a_killed_run_goes_on_from_its_last_checkpoint(
    moment: str, from_step: int, struck: Struck, undisturbed: Undisturbed, tmp_path: Path
) -> None:
    assert stop_and_go_on(struck, tmp_path / "run", f"SIGKILL@{moment}") == from_step
    assert_same(tmp_path / "run", undisturbed())


def test_a_second_signal_ends_at_once(struck: Struck, undisturbed: Undisturbed, tmp_path: Path) -> None:
    ended = struck(tmp_path / "run", fault="SIGTERM+SIGTERM@writing:3")
    assert ended.code == -15
    assert struck(tmp_path / "run").code == 0
    assert record_of(tmp_path / "run")["resumed"][-1]["from_step"] == 3
    assert_same(tmp_path / "run", undisturbed())


def test_logs_go_on_where_the_checkpoint_was(struck: Struck, undisturbed: Undisturbed, tmp_path: Path) -> None:
    table = "+logger.csv={_target_: pytorch_lightning.loggers.CSVLogger, _partial_: true, name: '', version: csv}"
    both = ("logger=tensorboard", table)
    assert stop_and_go_on(struck, tmp_path / "run", "SIGKILL@step:16", *both) == 6
    expected = undisturbed(*both)
    assert scalars(tmp_path / "run") == scalars(expected)
    assert (tmp_path / "run/csv/metrics.csv").read_text() == (expected / "csv/metrics.csv").read_text()


def scalars(run: Path) -> dict[str, list[tuple[int, float]]]:
    events = EventAccumulator(str(run / "tensorboard"))
    events.Reload()
    return {
        tag: [(event.step, event.value) for event in events.Scalars(tag)]
        for tag in events.Tags()["scalars"]
        if not tag.startswith(("hp/", "train/images_per", "train/seconds"))
    }


@pytest.mark.slow
def test_what_may_change_between_a_stop_and_going_on(struck: Struck, undisturbed: Undisturbed, tmp_path: Path) -> None:
    run = tmp_path / "run"
    assert struck(run, fault="SIGINT@step:3").code == 130
    moved = run.rename(tmp_path / "moved")
    refused = struck(moved, "model.lr=0.5", "seed=3")
    assert refused.code == 2
    last = refused.log.splitlines()[-1]
    assert "has other settings: model.lr=0.5 (was 0.003), " in last
    assert "seed=3 (was 0)" in last
    ended = struck(moved, "data.num_workers=1", "trainer.enable_progress_bar=false", "checkpoint.every_minutes=0.0001")
    assert ended.code == 0, ended.log
    assert_same(moved, undisturbed())
    over = struck(moved)
    assert over.code == 2
    assert "this folder already holds a run, and it is finished" in over.log


def test_other_data_is_refused(struck: Struck, colors: Path, tmp_path: Path) -> None:
    assert struck(tmp_path / "run", fault="SIGTERM@step:3").code == 143
    ended = struck(tmp_path / "run", "data.val_fraction=0.3", "data.on_leak=warn")
    assert ended.code == 2
    assert "was trained on other data" in ended.log


def test_a_torn_checkpoint_is_set_aside(struck: Struck, undisturbed: Undisturbed, tmp_path: Path) -> None:
    run = tmp_path / "run"
    assert struck(run, fault="SIGTERM@step:13").code == 143
    last = run / "checkpoints" / "last.ckpt"
    last.write_bytes(last.read_bytes()[: last.stat().st_size // 2])
    ended = struck(run)
    assert ended.code == 0, ended.log
    assert re.search(r"last\.ckpt does not open \(.*\): kept as last\.ckpt\.torn, going on from", ended.log)
    assert record_of(run)["resumed"][-1]["from_step"] == 6
    assert (run / "checkpoints" / "last.ckpt.torn").is_file()
    assert_same(run, undisturbed())


def test_a_full_disk_stops_the_run_and_keeps_the_last_good_checkpoint(
    struck: Struck, undisturbed: Undisturbed, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    ended = struck(run, fault="FULL@step:10")
    assert ended.code == 1, ended.log
    assert "the checkpoint cannot be written (No space left on device)" in ended.log.splitlines()[-1]
    assert record_of(run)["status"] == "failed"
    assert "No space left on device" in record_of(run)["reason"]
    assert torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["global_step"] == 3
    assert struck(run).code == 0
    assert not list((run / "checkpoints").glob("*.partial"))
    assert_same(run, undisturbed())


@pytest.mark.slow
def test_the_printed_command_goes_on(struck: Struck, undisturbed: Undisturbed, colors: Path, tmp_path: Path) -> None:
    ended = struck(tmp_path / "run", "optimized_metric=val/loss", fault="SIGTERM@step:8")
    command = re.search(r"^go on with: (.*)$", ended.log, re.MULTILINE)
    assert command is not None, ended.log
    assert shlex.split(command[1])[2:] == [
        *WORDS, f"data.root={colors}", "optimized_metric=val/loss", f"output={tmp_path / 'run'}"
    ]  # fmt: skip
    done = subprocess.run(command[1], shell=True, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert "going on from step 4" in done.stderr
    assert_same(tmp_path / "run", undisturbed())


@pytest.mark.slow
@pytest.mark.parametrize(
    "more",
    [
        ("trainer.val_check_interval=2", "trainer.check_val_every_n_epoch=1"),
        ("trainer.val_check_interval=4", "trainer.check_val_every_n_epoch=null"),
        ("trainer.max_steps=7", "trainer.max_epochs=-1"),
        ("trainer.limit_train_batches=5", "trainer.accumulate_grad_batches=3"),
        ("model/scheduler=plateau", "callbacks.early_stopping.patience=1", "model.lr=0.1"),
        ("model/optimizer=sgd", "trainer.gradient_clip_val=0.1", "trainer.min_epochs=3"),
        ("model.ema_decay=0.9", "trainer.val_check_interval=2", "trainer.precision=bf16-mixed"),
        ("augmentation.mixup=0.4", "augmentation.cutmix=1.0", "augmentation.start_size=0.5", "data.sampler=balanced"),
        ("checkpoint.average_best=2", "model.drop_path_rate=0.2", "model.norm_weight_decay=false"),
        ("model/optimizer=muon", "model.lr=0.01", "model.norm_weight_decay=false"),
        ("model.layer_lr_decay=0.7", "model/scheduler=warmup_cosine", "model.loss=focal"),
    ],
    ids=lambda more: more[0],
)
def test_other_settings_go_on_exactly(
    more: tuple[str, ...], struck: Struck, undisturbed: Undisturbed, tmp_path: Path
) -> None:
    stop_and_go_on(struck, tmp_path / "run", "SIGTERM@step:8", *more)
    assert_same(tmp_path / "run", undisturbed(*more))


@pytest.mark.slow
def test_parts_of_own_code_go_on_exactly(struck: Struck, undisturbed: Undisturbed, tmp_path: Path) -> None:
    """Those of docs/extending.md together, with the usual network."""
    others = ("experiment", "extensions", "model._target_", "+model.arguments")
    words = [word for command in COMMANDS for word in command if not word.startswith(others)]
    more = (*dict.fromkeys(words), f"extensions={write_code(tmp_path / 'code')}", "model.lr=0.005")
    stop_and_go_on(struck, tmp_path / "run", "SIGTERM@step:8", *more)
    assert_same(tmp_path / "run", undisturbed(*more))


def test_an_average_of_the_weights_goes_on_exactly(struck: Struck, undisturbed: Undisturbed, tmp_path: Path) -> None:
    """Stopped while the average is in the place of the trained weights, then killed."""
    run = tmp_path / "run"
    more = ("model.ema_decay=0.9", "augmentation.mixup=0.4", "data.sampler=balanced")
    assert struck(run, *more, fault="SIGTERM@validation:3").code == 143
    assert stop_and_go_on(struck, run, "SIGKILL@step:5", *more) == 6
    assert_same(run, undisturbed(*more))


@pytest.mark.slow
def test_resume_names_a_run_or_a_checkpoint(struck: Struck, undisturbed: Undisturbed, tmp_path: Path) -> None:
    run = tmp_path / "run"
    assert struck(run, fault="SIGTERM@step:13").code == 143
    never = struck(run, "resume=null")
    assert never.code == 2
    assert "this folder already holds a run" in never.log
    best = struck(run, f"resume={run}/checkpoints/best.ckpt")
    assert best.code == 2
    assert "was not written to go on from" in best.log
    elsewhere = struck(tmp_path / "other", f"resume={run}")
    assert elsewhere.code == 2
    assert "a run goes on in its own folder; drop output" in elsewhere.log
    ended = struck(run, f"resume={run}/checkpoints/last-previous.ckpt")
    assert ended.code == 0, ended.log
    assert record_of(run)["resumed"][-1]["from_step"] == 6
    assert_same(run, undisturbed())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("moment", "workers", "precision"), [*itertools.product(MOMENTS, (0, 2), ("32-true", "bf16-mixed"))]
)
def test_every_stop_goes_on_exactly(
    moment: str, workers: int, precision: str, struck: Struck, undisturbed: Undisturbed, tmp_path: Path
) -> None:
    more = (f"data.num_workers={workers}", f"trainer.precision={precision}")
    expected = undisturbed(*([] if precision == "32-true" else more[1:]))
    for name in ("SIGTERM", "SIGKILL"):
        stop_and_go_on(struck, tmp_path / name, f"{name}@{moment}", *more)
        assert_same(tmp_path / name, expected)


@pytest.mark.slow
def test_thirty_random_faults(struck: Struck, undisturbed: Undisturbed, tmp_path: Path) -> None:
    """Runs that are struck again and again, each time somewhere else, until they have had thirty faults."""
    draw = random.Random(2026)
    expected = undisturbed()
    faults = 0
    for number in itertools.count():
        run = tmp_path / str(number)
        for _ in range(draw.randint(1, 4)):
            moment, most = draw.choice(sorted(NUM_MOMENTS.items()))
            name = draw.choice(("SIGTERM", "SIGINT", "SIGKILL"))
            workers = f"data.num_workers={draw.choice((0, 2))}"
            ended = struck(run, workers, fault=f"{name}@{moment}:{draw.randint(1, most)}")
            if ended.code == 0:  # it was over before that moment came
                break
            assert ended.code in (143, 130, -9), ended.log
            faults += 1
        if record_of(run)["status"] != "finished":
            ended = struck(run)
            assert ended.code == 0, ended.log
        assert_same(run, expected)
        if faults >= 30:
            return


@pytest.mark.slow
def test_resnet18_stops_within_twenty_seconds(colors: Path, tmp_path: Path) -> None:
    """What schedulers wait for at the least: 30 s on most, here 20."""
    import os
    import signal
    import sys

    from tests.conftest import PROJECT

    words = ["data=synthetic", "model=resnet18", "data.image_size=64", "data.batch_size=32", "data.num_workers=2"]
    process = subprocess.Popen(
        [sys.executable, str(PROJECT / "src" / "train.py"), *words, "logger=none", f"output={tmp_path / 'run'}"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline().startswith("epoch 1/")
    os.killpg(process.pid, signal.SIGTERM)
    start = time.monotonic()
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 143, errors
    assert time.monotonic() - start < 20
    assert json.loads((tmp_path / "run" / "run.json").read_text())["status"] == "interrupted"
    assert (tmp_path / "run" / "checkpoints" / "last.ckpt").is_file()


@pytest.mark.slow
def test_a_run_on_shards_goes_on_exactly(
    struck: Struck, undisturbed: Undisturbed, colors: Path, cli: Cli, tmp_path: Path
) -> None:
    packed = tmp_path / "shards"
    done = cli("prepare", "data=folder", f"data.root={colors}", "pin=false", f"shards={packed}", f"output={tmp_path}/p")
    assert done.returncode == 0, done.stderr
    more = ("data=shards", f"data.root={packed}", "data.num_workers=2")
    assert stop_and_go_on(struck, tmp_path / "run", "SIGTERM@step:9", *more) == 5
    assert_same(tmp_path / "run", undisturbed(*more))
