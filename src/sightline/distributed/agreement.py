"""Collective operations over the processes of a training; for a single process they return its own values."""

from typing import Any

import torch
from torch import distributed


def is_alone() -> bool:
    return not (distributed.is_available() and distributed.is_initialized())


def largest(*numbers: int) -> tuple[int, ...]:
    """All-reduce: the maximum of each number over the processes."""
    if is_alone():
        return numbers
    agreed = torch.tensor(numbers)
    distributed.all_reduce(agreed, distributed.ReduceOp.MAX)
    return tuple(agreed.tolist())


def mean(number: torch.Tensor) -> torch.Tensor:
    """All-reduce: the mean over the processes, on the device of the given tensor, without synchronisation."""
    if is_alone():
        return number
    number = number.detach().clone()
    distributed.all_reduce(number)
    return number / distributed.get_world_size()


def gathered(value: Any) -> list[Any]:
    """All-gather: the values of all processes by rank."""
    if is_alone():
        return [value]
    values: list[Any] = [None] * distributed.get_world_size()
    distributed.all_gather_object(values, value)
    return values


def of_the_first(value: Any) -> Any:
    """Broadcast: the value of the main process."""
    if is_alone():
        return value
    values = [value]
    distributed.broadcast_object_list(values)
    return values[0]
