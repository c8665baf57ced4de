"""Work on many files in several processes, with its progress shown."""

import logging
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from typing import Any, TypeVar

log = logging.getLogger(__name__)
Item = TypeVar("Item")
Result = TypeVar("Result")

FEW = 400
"""Up to this many items, starting processes takes longer than the work."""
CHUNK = 64
SECONDS_BETWEEN_LINES = 10.0


def map_chunks(
    function: Callable[[Sequence[Item]], Result],
    items: Sequence[Item],
    *,
    title: str,
    num_workers: int | None = None,
    chunk: int = CHUNK,
) -> Iterator[Result]:
    """`function` of successive chunks of the items, in order; many items are shared out to processes.

    The processes are fresh ones (no locks or threads of this process come with them), they leave signals to this one,
    and they end when it does, even by SIGKILL.
    """
    chunks = (items[start : start + chunk] for start in range(0, len(items), chunk))
    sizes = [min(chunk, len(items) - start) for start in range(0, len(items), chunk)]
    workers = num_workers or os.cpu_count() or 1
    results = map(function, chunks) if len(items) <= FEW or workers == 1 else _in_processes(function, chunks, workers)
    yield from track(results, sizes, title)


def _in_processes(function: Callable[[Any], Result], chunks: Iterable[Any], workers: int) -> Iterator[Result]:
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(workers, mp_context=context, initializer=_depend_on_parent)
    try:
        waiting: deque[Future[Result]] = deque()
        for chunk in chunks:
            waiting.append(pool.submit(function, chunk))
            if len(waiting) > 4 * workers:  # results that nobody has taken yet stay few
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def _depend_on_parent() -> None:
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def track(results: Iterable[Result], sizes: Sequence[int], title: str) -> Iterator[Result]:
    """The same results, with a progress bar in a terminal or a line now and then elsewhere."""
    total = sum(sizes)
    if not sys.stderr.isatty():
        yield from _count_in_lines(results, sizes, title, total)
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(title, total=total)
        for result, size in zip(results, sizes, strict=True):
            yield result
            progress.advance(task, size)


def _count_in_lines(results: Iterable[Result], sizes: Sequence[int], title: str, total: int) -> Iterator[Result]:
    done, last = 0, time.monotonic()
    for result, size in zip(results, sizes, strict=True):
        yield result
        done += size
        if time.monotonic() - last > SECONDS_BETWEEN_LINES and done < total:
            last = time.monotonic()
            log.info("%s: %s of %s", title, f"{done:,}", f"{total:,}")
