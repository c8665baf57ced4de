"""Processes that start, meet, agree and part, or fail together."""

import os
import signal
import time
from pathlib import Path

import pytest
from torch import distributed

from sightline.distributed import agreement
from sightline.distributed.process_group import ProcessGroup
from sightline.distributed.rank import Rank, rank_from_environment
from sightline.errors import Interrupted
from sightline.runs.invocation import UNTOLD, Invocation


def agree(folder: Path, invocation: Invocation = UNTOLD) -> None:
    """What each process runs: the task of the tests."""
    place = rank_from_environment(2, 1, invocation.ranks)
    with ProcessGroup(place, agree, folder, invocation).join("cpu"):
        agreed = agreement.largest(place.rank, -place.rank), agreement.gathered(place.rank)
        (folder / str(place.rank)).write_text(f"{agreed} {agreement.of_the_first(place.rank)}")


def test_processes_agree_again_and_again(tmp_path: Path) -> None:
    for number in ("first", "second"):
        folder = tmp_path / number
        folder.mkdir()
        agree(folder)
        assert [(folder / rank).read_text() for rank in "01"] == ["((1, 0), [0, 1]) 0"] * 2
        assert not distributed.is_initialized()


def fail(folder: Path, invocation: Invocation = UNTOLD) -> None:
    place = rank_from_environment(2, 1, invocation.ranks)
    with ProcessGroup(place, fail, folder, invocation).join("cpu"):
        if place.rank:
            raise ValueError("the second has no disk")
        agreement.largest(1)


def test_the_reason_of_another_process_is_told(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="process 1: ValueError: the second has no disk"):
        fail(tmp_path)


def wait(folder: Path, invocation: Invocation = UNTOLD) -> None:
    place = rank_from_environment(2, 1, invocation.ranks)
    with ProcessGroup(place, wait, folder, invocation).join("cpu"):
        (folder / str(place.rank)).write_text(str(os.getpid()))
        agreement.largest(1)
        if place.rank:
            time.sleep(1000)
        raise Interrupted(signal.SIGTERM)


def test_nobody_is_left_behind(tmp_path: Path) -> None:
    start = time.monotonic()
    with pytest.raises(Interrupted):
        wait(tmp_path)
    assert time.monotonic() - start < 60
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "1").read_text()), 0)


def test_a_process_alone_agrees_with_itself() -> None:
    with ProcessGroup(Rank(), agree, None).join("cpu"):
        assert agreement.largest(3, 0) == (3, 0)
        assert agreement.gathered("a") == ["a"]
        assert not distributed.is_initialized()
