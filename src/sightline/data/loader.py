"""The one maker of data loaders."""

import functools
import multiprocessing
import os
import signal
import weakref
from collections.abc import Callable
from multiprocessing.util import Finalize
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset, Sampler

_made: "weakref.WeakSet[DataLoader]" = weakref.WeakSet()


def make_loader(
    dataset: Dataset,
    *,
    batch_size: int,
    num_workers: int = 0,
    sampler: Sampler | None = None,
    drop_last: bool = False,
    batch_sampler: Sampler | None = None,
    collate_fn: Callable | None = None,
    kind: type[DataLoader] = DataLoader,
) -> DataLoader:
    """A loader whose workers stay alive between epochs and leave signals to the main process.

    A `batch_sampler` yields whole batches of keys, in place of the three settings before it.
    """
    batches: dict[str, Any] = {"batch_size": batch_size, "sampler": sampler, "drop_last": drop_last}
    if batch_sampler is not None:
        batches = {"batch_sampler": batch_sampler}
    loader = kind(
        dataset,
        **batches,
        num_workers=num_workers,
        persistent_workers=num_workers > 0,
        worker_init_fn=_leave_signals_to_main,
        pin_memory=torch.cuda.is_available() and not getattr(dataset, "is_on_device", False),
        collate_fn=_as_it_is if hasattr(dataset, "__getitems__") else collate_fn,
    )
    _made.add(loader)
    _end_workers_with(os.getpid())
    return loader


def length_of(loader: Any) -> int | None:
    """The number of batches, or of items; None where it is not known."""
    try:
        return len(loader)
    except TypeError:
        return None


def _as_it_is(batch: Any) -> Any:
    """The collate function of data sets that return whole batches: identity."""
    return batch


def _leave_signals_to_main(worker: int) -> None:
    """A signal to the whole process group must not kill the workers: the main process stops them in good order."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)


@functools.cache
def _end_workers_with(process: int) -> None:
    """When the process that makes loaders ends (not the one it was forked from), before multiprocessing ends them."""
    Finalize(None, _end_workers, exitpriority=100)


def _end_workers() -> None:
    """End workers that live as long as the program: multiprocessing would wait for them after a SIGTERM in vain."""
    for loader in list(_made):
        loader._iterator = None
    left = [child for child in multiprocessing.active_children() if child.daemon]  # their loader is gone, they are not
    if left:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # torch's handler would call them lost
    for child in left:
        child.kill()
