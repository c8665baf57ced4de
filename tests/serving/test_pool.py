"""Cores, threads and the queue before them."""

import asyncio
import threading
from pathlib import Path

import pytest
from tests.serving.servers import SECONDS, wait_until

from sightline.serving.contract import Problem, Response
from sightline.serving.pool import ClientLeft, Pool, count_cores

DONE = Response(200, b"done")


@pytest.mark.parametrize(
    ("files", "cores"),
    [
        ({"cpu.max": "100000 100000\n"}, 1),
        ({"cpu.max": "50000 100000\n"}, 1),
        ({"cpu.max": "150000 100000\n"}, 2),
        ({"cpu.max": "max 100000\n"}, None),
        ({"cpu/cpu.cfs_quota_us": "100000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 1),
        ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, None),
        ({}, None),
    ],
)
def test_a_container_has_as_many_cores_as_its_share_of_time(
    files: dict[str, str], cores: int | None, tmp_path: Path
) -> None:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    unlimited = count_cores(tmp_path / "none")
    assert count_cores(tmp_path) == min(unlimited, cores or unlimited)


def test_so_many_threads_work_at_once() -> None:
    together = threading.Barrier(3)

    def work() -> Response:
        together.wait(SECONDS)
        return DONE

    async def run() -> list[Response]:
        pool, left = Pool(3, 10, SECONDS), asyncio.get_running_loop().create_future()
        return await asyncio.gather(*(pool.run(work, left) for _ in range(3)))

    assert asyncio.run(run()) == [DONE] * 3


def test_who_waits_is_told_for_how_long_by_what_was_measured() -> None:
    gate = threading.Event()

    def work() -> Response:
        assert gate.wait(SECONDS)
        return DONE

    async def run() -> tuple[int, int, Problem]:
        pool, left = Pool(1, 40, SECONDS), asyncio.get_running_loop().create_future()
        taken = [asyncio.ensure_future(pool.run(work, left))]
        await asyncio.to_thread(wait_until, lambda: pool.num_running == 1)
        taken += [asyncio.ensure_future(pool.run(work, left)) for _ in range(40)]
        await asyncio.to_thread(wait_until, lambda: pool.num_waiting == 40)
        many = pool.seconds_to_wait()
        with pytest.raises(Problem) as refused:
            await pool.run(work, left)
        gate.set()
        await asyncio.gather(*taken)
        return many, pool.seconds_to_wait(), refused.value

    many, none, refused = asyncio.run(run())
    assert many > none == 1
    assert (refused.status, refused.retry_after) == (429, many)


def test_a_thread_outlives_work_that_nobody_waits_for_any_more() -> None:
    gate = threading.Event()

    def work() -> Response:
        assert gate.wait(SECONDS)
        return DONE

    async def run() -> Response:
        pool, left = Pool(1, 1, SECONDS), asyncio.get_running_loop().create_future()
        begun = asyncio.ensure_future(pool.run(work, left))
        await asyncio.to_thread(wait_until, lambda: pool.num_running == 1)
        begun.cancel()
        with pytest.raises(asyncio.CancelledError):
            await begun
        gate.set()
        return await pool.run(lambda: DONE, left)

    assert asyncio.run(run()) == DONE


def test_what_fails_or_is_left_takes_no_place() -> None:
    gate = threading.Event()

    def fail() -> Response:
        assert gate.wait(SECONDS)
        raise RuntimeError("broken")

    async def run() -> None:
        pool, loop = Pool(1, 1, SECONDS), asyncio.get_running_loop()
        left = loop.create_future()
        failing = asyncio.ensure_future(pool.run(fail, loop.create_future()))
        await asyncio.to_thread(wait_until, lambda: pool.num_running == 1)
        leaving = asyncio.ensure_future(pool.run(fail, left))
        await asyncio.to_thread(wait_until, lambda: pool.num_waiting == 1)
        left.set_result(None)
        with pytest.raises(ClientLeft):
            await leaving
        stopped = asyncio.ensure_future(pool.run(fail, loop.create_future()))
        await asyncio.to_thread(wait_until, lambda: pool.num_waiting == 1)
        stopped.cancel()
        with pytest.raises(asyncio.CancelledError):
            await stopped
        assert pool.num_waiting == 0
        gate.set()
        with pytest.raises(RuntimeError, match="broken"):
            await failing
        assert await pool.run(lambda: DONE, loop.create_future()) == DONE

    asyncio.run(run())
