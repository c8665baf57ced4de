"""How every loader of the project is made."""

import signal
from collections.abc import Callable

import torch
from torch.utils.data import DataLoader, Dataset, Sampler


def make_loader(
    dataset: Dataset,
    *,
    batch_size: int,
    num_workers: int = 0,
    sampler: Sampler | None = None,
    drop_last: bool = False,
    collate_fn: Callable | None = None,
) -> DataLoader:
    """A loader whose workers stay alive between epochs and leave signals to the main process."""
    return DataLoader(
        dataset,
        batch_size=batch_size,
        sampler=sampler,
        drop_last=drop_last,
        num_workers=num_workers,
        persistent_workers=num_workers > 0,
        worker_init_fn=_leave_signals_to_main,
        pin_memory=torch.cuda.is_available(),
        collate_fn=collate_fn,
    )


def _leave_signals_to_main(worker: int) -> None:
    """A signal to the whole process group must not kill the workers: the main process stops them in good order."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
