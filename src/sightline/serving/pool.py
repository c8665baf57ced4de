"""Threads that compute, each on a core of its own, with a bounded queue before them."""

import asyncio
import math
import os
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Any

from sightline.serving.contract import Problem, Response

Work = Callable[[], Response]
FIRST_GUESS = 0.05
"""Seconds that a request takes, before any was measured."""


class ClientLeft(Exception):
    """Who asked is gone: there is nobody to answer."""


def count_cores(groups: Path = Path("/sys/fs/cgroup")) -> int:
    """Cores that this process may use: those it is allowed to run on, and no more than its container's share of time.

    `groups` is where Linux shows the limits of containers (cgroup v2, then v1).
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = _words(groups / "cpu.max") or (
            *_words(groups / "cpu" / "cpu.cfs_quota_us"),
            *_words(groups / "cpu" / "cpu.cfs_period_us"),
        )
        share = int(quota) / int(period)
    except ValueError:  # no limit: `max` in v2, and in neither version
        return cores
    return cores if share <= 0 else max(1, min(cores, math.ceil(share)))


def _words(path: Path) -> list[str]:
    return path.read_text(encoding="ascii").split() if path.is_file() else []


class _Job:
    """Work that waits, and where its result will be."""

    def __init__(self, work: Work) -> None:
        self.work = work
        self.future: Future[Response] = Future()


class Pool:
    """Runs work in so many threads; at most `capacity` pieces wait, none of them longer than `deadline` seconds.

    The threads end with the process, whatever they are at.
    """

    def __init__(self, threads: int, capacity: int, deadline: float) -> None:
        self.threads, self.capacity, self.deadline = threads, capacity, deadline
        self._waiting: deque[_Job] = deque()
        self._changed = threading.Condition()
        self._num_running, self._is_closed = 0, False
        self._seconds = FIRST_GUESS
        for number in range(threads):
            threading.Thread(target=self._work, name=f"compute-{number}", daemon=True).start()

    @property
    def num_waiting(self) -> int:
        return len(self._waiting)

    @property
    def num_running(self) -> int:
        return self._num_running

    def check_room(self) -> None:
        """Raises: Problem 429 where no more may wait."""
        if len(self._waiting) >= self.capacity:
            detail = f"{self.capacity} requests wait already; ask again after the seconds that Retry-After says"
            raise Problem(429, "Too many requests", detail, retry_after=self.seconds_to_wait())

    def seconds_to_wait(self) -> int:
        """Whole seconds until what waits now is done, by the time that the last requests took."""
        return max(1, math.ceil(self._seconds * (len(self._waiting) + self._num_running) / self.threads))

    async def run(self, work: Work, left: "asyncio.Future[Any]") -> Response:
        """The result of work in a thread. It is not begun after the deadline, or when `left` is done.

        Raises: Problem 429 or 503, ClientLeft, and what the work raises.
        """
        job = self._admit(work)
        computed = asyncio.wrap_future(job.future)
        try:
            await asyncio.wait((computed, left), timeout=self.deadline, return_when=asyncio.FIRST_COMPLETED)
            if not computed.done() and self._withdraw(job):
                if left.done():
                    raise ClientLeft
                detail = (
                    f"the request waited for {self.deadline:g} s; ask again after the seconds that Retry-After says"
                )
                raise Problem(503, "Overloaded", detail, retry_after=self.seconds_to_wait())
            return await computed
        finally:
            self._withdraw(job)

    def close(self) -> None:
        """End the threads once they have done what waits."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()

    def _admit(self, work: Work) -> _Job:
        job = _Job(work)
        with self._changed:
            self.check_room()
            self._waiting.append(job)
            self._changed.notify()
        return job

    def _withdraw(self, job: _Job) -> bool:
        """Whether the work had not begun; now it never will."""
        with self._changed:
            if job not in self._waiting:
                return False
            self._waiting.remove(job)
        job.future.cancel()
        return True

    def _work(self) -> None:
        while True:
            with self._changed:
                while not self._waiting:
                    if self._is_closed:
                        return
                    self._changed.wait()
                job = self._waiting.popleft()
                job.future.set_running_or_notify_cancel()  # from here on nobody can cancel it
                self._num_running += 1
            start = time.perf_counter()
            try:
                result, error = job.work(), None
            except BaseException as raised:  # noqa: BLE001 - it is raised again where the result is waited for
                result, error = None, raised
            with self._changed:
                self._num_running -= 1
                self._seconds += 0.1 * (time.perf_counter() - start - self._seconds)
            if error is not None:
                job.future.set_exception(error)
            elif result is not None:
                job.future.set_result(result)
            del job, result, error  # the picture is not kept until the next one comes
