"""The processes of one training: how they start, join a process group, and end."""

import functools
import itertools
import logging
import multiprocessing
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from multiprocessing import connection
from typing import TYPE_CHECKING, Any

from sightline.distributed.rank import Rank
from sightline.errors import BadInput, Interrupted
from sightline.runs.invocation import UNTOLD, Invocation
from sightline.runs.record import reason

if TYPE_CHECKING:
    from multiprocessing.process import BaseProcess

    from torch._C._distributed_c10d import Store

log = logging.getLogger(__name__)
MEETING = "MEETING"
"""A further variable: the number of this training within its program, which may run several."""
MINUTES_TO_MEET = 30
SECONDS_TO_END = 30.0
SECONDS_TO_FAIL = 3.0
SECONDS_TO_TELL = 15.0
WELL = (0, 128 + signal.SIGINT, 128 + signal.SIGTERM)
_numbers = itertools.count()
Task = Callable[[Any, Invocation], Any]


class ProcessGroup:
    """The processes of one training, each of which runs `task(cfg, invocation)`."""

    def __init__(self, rank: Rank, task: Task, cfg: Any, invocation: Invocation = UNTOLD) -> None:
        self.rank, self.task, self.cfg = rank, task, cfg
        self.number = invocation.ranks.get(MEETING) or str(next(_numbers))

    @contextmanager
    def main_process_first(self) -> Iterator[None]:
        """Within it the first process of a node goes first, so that the others find what it writes into the cache."""
        rank = self.rank
        key = f"turn/{rank.node}"
        if rank.is_started and rank.local_rank:
            store, until = self._store(), _deadline()
            while not store.check([key]):
                _wait(until, f"process {rank.rank} of {rank.world_size}: the first process is still at the data")
        yield
        if rank.is_started and rank.num_local > 1 and not rank.local_rank:
            self._store().set(key, "over")

    @contextmanager
    def join(self, device: str) -> Iterator[None]:
        """Within it torch's process group is initialised; nothing happens for a single process.

        Raises: RuntimeError with the reason of another process that failed first.
        """
        if self.rank.world_size == 1:
            yield
            return
        store = self._store()
        others = [] if self.rank.is_started else self._start_others(store)
        try:
            self._meet(store, others, device)
            yield
        except BaseException as error:
            self._part()
            is_lost = isinstance(error, RuntimeError)  # the connection, mostly: because another process failed
            failure = _end(others, SECONDS_TO_TELL if is_lost else SECONDS_TO_FAIL)
            if failure and is_lost:
                raise RuntimeError(failure) from error
            raise
        else:
            self._part()
            if failure := _end(others, SECONDS_TO_END):
                raise RuntimeError(failure)

    def _store(self) -> "Store":
        from torch._C._distributed_c10d import PrefixStore  # torch.distributed has it too, unknown to type checkers

        rank = self.rank
        hosts = rank.is_main and rank.hosts_store
        store = _open_store(rank.address, rank.port, hosts, rank.port or self.number)
        return PrefixStore(f"{rank.attempt}/{self.number}", store)

    def _start_others(self, store: Any) -> "list[_Other]":
        rank = self.rank
        variables = {
            "WORLD_SIZE": str(rank.world_size),
            "LOCAL_WORLD_SIZE": str(rank.num_local),
            "MASTER_ADDR": rank.address,
            "MASTER_PORT": str(store.underlying_store.port),
            MEETING: self.number,
        }
        store.set(f"turn/{rank.node}", "over")
        started = []
        for local_rank in range(1, rank.num_local):
            other = str(rank.rank + local_rank)
            started.append(_Other.start(self.task, self.cfg, {**variables, "RANK": other}))
        return started

    def _meet(self, store: "Store", others: "list[_Other]", device: str) -> None:
        """Rendezvous: wait for all processes, interruptible by signals, then initialise the process group."""
        from torch import distributed

        rank = self.rank
        store.set(f"here/{rank.rank}", "yes")
        until = _deadline()
        missing = [f"here/{each}" for each in range(rank.world_size)]
        while missing := [key for key in missing if not store.check([key])]:
            if any(other.process.exitcode is not None for other in others):
                raise RuntimeError("a process of this training ended before it began")
            names = ", ".join(key.removeprefix("here/") for key in missing)
            _wait(until, f"of {rank.world_size} processes these did not come: {names}")
        distributed.init_process_group(
            "gloo" if device == "cpu" else "cpu:gloo,cuda:nccl",
            store=store,
            rank=rank.rank,
            world_size=rank.world_size,
            timeout=timedelta(minutes=MINUTES_TO_MEET),
        )

    @staticmethod
    def _part() -> None:
        from torch import distributed

        if distributed.is_initialized():
            distributed.destroy_process_group()


@dataclass(frozen=True)
class _Other:
    """Another process of this machine, with the pipe for the reason of its failure."""

    rank: str
    process: "BaseProcess"
    pipe: Any
    """The reading end of that pipe."""

    @staticmethod
    def start(task: Task, cfg: Any, variables: dict[str, str]) -> "_Other":
        context = multiprocessing.get_context("spawn")
        pipe, their_end = context.Pipe(duplex=False)
        process = context.Process(
            target=_run_task, args=(task, cfg, variables, their_end), name=f"rank {variables['RANK']}"
        )
        process.start()
        their_end.close()
        return _Other(variables["RANK"], process, pipe)


def _end(others: list[_Other], seconds: float) -> str | None:
    """Give processes some time to end, and end those that have not; the reason of the first that failed."""
    until = time.monotonic() + seconds
    failure = None
    for other in others:
        connection.wait([other.process.sentinel, other.pipe], max(0.0, until - time.monotonic()))
        reason_given = _read(other)  # it comes before the end, which takes long on a busy machine
        other.process.join(max(0.0, until - time.monotonic()))
        if other.process.exitcode is None:
            other.process.kill()
            other.process.join()
        elif reason_given is None and other.process.exitcode not in WELL:
            reason_given = _read(other) or f"ended without a reason (exit code {other.process.exitcode})"
        if failure is None and reason_given is not None:
            failure = f"process {other.rank}: {reason_given}"
    return failure


def _read(other: _Other) -> str | None:
    """The reason that another process has sent, if any."""
    try:
        return other.pipe.recv() if other.pipe.poll() else None
    except EOFError:
        return None


def _run_task(task: Task, cfg: Any, variables: dict[str, str], pipe: Any) -> None:
    """Main function of a started process; it ignores signals, which the first process answers."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        task(cfg, Invocation(ranks=variables))
    except Interrupted as stopped:
        sys.exit(stopped.exit_code)
    except BaseException as error:  # noqa: BLE001  (the first process raises it)
        pipe.send(f"{type(error).__name__}: {reason(error)}")
        sys.exit(1)


def _end_with_parent() -> None:
    """End this process when its parent has ended, whatever the cause."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


@functools.lru_cache(maxsize=1)
def _open_store(address: str, port: int, hosts: bool, identity: Any) -> "Store":
    """The key-value store of the rendezvous; one for all trainings of a program that share a port."""
    from torch._C._distributed_c10d import TCPStore
    from torch.distributed import DistError

    if hosts:
        try:
            return TCPStore(address, port, is_master=True, wait_for_workers=False)
        except (DistError, RuntimeError) as error:
            raise BadInput(f"MASTER_ADDR={address} MASTER_PORT={port}: {error}; choose another port") from error
    until = _deadline()
    while True:
        try:
            socket.create_connection((address, port), timeout=5).close()
            return TCPStore(address, port, is_master=False, wait_for_workers=False)
        except OSError as error:
            _wait(until, f"MASTER_ADDR={address} MASTER_PORT={port}: the first process is not there ({error})")


def _deadline() -> float:
    return time.monotonic() + 60 * MINUTES_TO_MEET


def _wait(until: float, what: str) -> None:
    """Raises: RuntimeError when it is too late."""
    if time.monotonic() > until:
        raise RuntimeError(f"{what}, after {MINUTES_TO_MEET} minutes")
    time.sleep(0.05)
