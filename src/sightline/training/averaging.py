"""One network from several checkpoints of a run (Izmailov et al., arXiv:1803.05407)."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import torch
from torch import nn
from torch.optim.swa_utils import update_bn

from sightline.models.checkpoint import load_model


def average_checkpoints(paths: Sequence[Path]) -> nn.Module:
    """A network whose weights are the mean of those of the checkpoints; counters are the first one's."""
    first, *others = (load_model(path).network for path in paths)
    state = first.state_dict()
    for network in others:
        for name, tensor in network.state_dict().items():
            if tensor.is_floating_point():
                state[name] += tensor
    for tensor in state.values():
        if tensor.is_floating_point():
            tensor /= len(paths)
    return first


def measure_batch_norm(network: nn.Module, batches: Iterable[torch.Tensor], device: torch.device) -> nn.Module:
    """Means and variances that the averaged weights have: those of one pass over training images, not averages."""
    update_bn(batches, network.to(device), device)  # pyright: ignore[reportArgumentType]  (any iterable will do)
    return network.eval()
