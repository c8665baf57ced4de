"""Sweeps that are killed at random moments, all of them or a part, and started again with the same command."""

import contextlib
import csv
import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from tests.conftest import PROJECT

NUM_EPOCHS = 6
MAX_SECONDS = 120.0


class Sweeping:
    """The process of a sweep, and all that it started, now or before: they work below one folder."""

    def __init__(self, folder: Path, n_trials: int, storage: str | None = None) -> None:
        self.folder, self.words = folder, [str(folder), str(n_trials), *([storage] if storage else [])]
        self.process = self.start()

    def start(self) -> subprocess.Popen[bytes]:
        with (self.folder / "stderr.txt").open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "tests.sweeping.restarted", *self.words],
                cwd=self.folder,
                env={**os.environ, "PYTHONPATH": f"{PROJECT / 'src'}:{PROJECT}"},
                stdout=subprocess.DEVNULL,
                stderr=log,
            )
        return self.process

    def everything(self) -> list[psutil.Process]:
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                if Path(process.cwd()).is_relative_to(self.folder) and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
        return found

    def trials(self) -> list[int]:
        """Processes of trials that run."""
        states = (self.folder / "demo" / "trials").glob("*/.job/state.json")
        read = [json.loads(path.read_text()) for path in states]
        return [state["pid"] for state in read if "exit_code" not in state and psutil.pid_exists(state["pid"])]


def kill_sweep(sweeping: Sweeping, chance: random.Random) -> None:
    sweeping.process.kill()


def kill_trial(sweeping: Sweeping, chance: random.Random) -> None:
    for pid in sweeping.trials()[:1]:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def kill_machine(sweeping: Sweeping, chance: random.Random) -> None:
    for process in sweeping.everything():
        with contextlib.suppress(psutil.Error):
            process.kill()


def interrupt(sweeping: Sweeping, chance: random.Random) -> None:
    sweeping.process.send_signal(chance.choice([signal.SIGINT, signal.SIGTERM]))


STRIKES: list[Callable[[Sweeping, random.Random], None]] = [kill_sweep, kill_machine, interrupt, kill_trial]


@pytest.mark.parametrize(("rounds", "n_trials", "seed"), [(4, 14, 1), pytest.param(20, 70, 2, marks=pytest.mark.slow)])
def test_killed_and_started_again(rounds: int, n_trials: int, seed: int, tmp_path: Path) -> None:
    chance = random.Random(seed)
    sweeping = Sweeping(tmp_path, n_trials)
    struck = 0
    for number in range(rounds):
        wait(lambda: bool(sweeping.trials()) or sweeping.process.poll() is not None)
        time.sleep(chance.uniform(0.0, 1.0))  # the moment is part of what is tested
        struck += sweeping.process.poll() is None
        strike = STRIKES[number % len(STRIKES)]
        strike(sweeping, chance)
        if strike is not kill_trial:
            sweeping.process.wait(timeout=MAX_SECONDS)
        if sweeping.process.poll() is not None:
            sweeping.start()
    assert sweeping.process.wait(timeout=MAX_SECONDS) == 0, (tmp_path / "stderr.txt").read_text()
    assert struck >= rounds - 1, "the sweep was over before it was struck often enough"
    check(sweeping, n_trials)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["journal", "database"])
def test_two_sweeps_share_a_study(kind: str, tmp_path: Path) -> None:
    """They are started at the same moment."""
    storage = f"sqlite:///{tmp_path / 'shared.db'}" if kind == "database" else None
    first, second = Sweeping(tmp_path, 14, storage), Sweeping(tmp_path, 14, storage)
    for sweeping in (first, second):
        assert sweeping.process.wait(timeout=MAX_SECONDS) == 0, (tmp_path / "stderr.txt").read_text()
    check(first, 14)


def check(sweeping: Sweeping, n_trials: int) -> None:
    """The total is right, no point was repeated, nothing still runs, and every folder is whole."""
    folder = sweeping.folder / "demo"
    with (folder / "trials.csv").open() as file:
        rows = list(csv.DictReader(file))
    counted = [row for row in rows if row["state"] in ("complete", "pruned", "failed")]
    assert len(counted) == n_trials
    assert {row["state"] for row in rows} <= {"complete", "failed", "retired"}
    points = [(row["params_x"], row["params_y"]) for row in counted]
    assert len(set(points)) == n_trials
    for row in counted:
        run = folder / row["run"]
        if row["state"] == "complete":
            with (run / "metrics.csv").open() as file:
                assert [int(each["epoch"]) for each in csv.DictReader(file)] == list(range(NUM_EPOCHS)), run
            assert json.loads((run / "metrics.json").read_text())["val/accuracy"] == float(row["value"])
        else:
            assert "SIGKILL" in row["reason"], row
    log = (sweeping.folder / "stderr.txt").read_text()
    errors = [line for line in log.splitlines() if re.match(r"[\w.]*(Error|Exception|BadInput)\b", line)]
    assert not errors, log  # a signal before the first line of the program is a KeyboardInterrupt
    wait(lambda: not sweeping.everything())


def wait(true: Callable[[], bool]) -> None:
    until = time.monotonic() + MAX_SECONDS
    while not true():
        assert time.monotonic() < until, "it never came"
        time.sleep(0.02)
