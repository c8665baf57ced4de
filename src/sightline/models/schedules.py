"""Learning rate schedules that torch lacks."""

import math

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR


def warmup_cosine(optimizer: Optimizer, total_steps: int, warm_up: float = 0.05, floor: float = 0.0) -> LambdaLR:
    """Rises evenly over a share `warm_up` of the steps, then falls along half a cosine to `floor` times the full rate.

    Goyal et al. (arXiv:1706.02677) for the rise, Loshchilov and Hutter (arXiv:1608.03983) for the fall.

    Raises: ValueError when a share is not one.
    """
    if not (0 <= warm_up < 1 and 0 <= floor < 1):
        raise ValueError(f"warm_up={warm_up} floor={floor}: both must be from 0 to below 1")
    num_rising = round(warm_up * total_steps)

    def factor(step: int) -> float:
        if step < num_rising:
            return (step + 1) / (num_rising + 1)
        done = min(1.0, (step - num_rising) / max(1, total_steps - num_rising))
        return floor + (1 - floor) * (1 + math.cos(math.pi * done)) / 2

    return LambdaLR(optimizer, factor)
