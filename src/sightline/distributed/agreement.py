"""What the processes of a training agree on; a process that is alone agrees with itself."""

from typing import Any

import torch
from torch import distributed


def is_alone() -> bool:
    return not (distributed.is_available() and distributed.is_initialized())


def largest(*numbers: int) -> tuple[int, ...]:
    """Of each number the largest that a process has."""
    if is_alone():
        return numbers
    agreed = torch.tensor(numbers)
    distributed.all_reduce(agreed, distributed.ReduceOp.MAX)
    return tuple(agreed.tolist())


def mean(number: torch.Tensor) -> torch.Tensor:
    """The mean over all processes, on the device of the given one and not waited for there."""
    if is_alone():
        return number
    number = number.detach().clone()
    distributed.all_reduce(number)
    return number / distributed.get_world_size()


def gathered(value: Any) -> list[Any]:
    """The values of all processes by rank."""
    if is_alone():
        return [value]
    values: list[Any] = [None] * distributed.get_world_size()
    distributed.all_gather_object(values, value)
    return values


def of_the_first(value: Any) -> Any:
    """The first process's value."""
    if is_alone():
        return value
    values = [value]
    distributed.broadcast_object_list(values)
    return values[0]
