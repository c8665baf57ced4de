"""How many images fit through a network with their gradients."""

import psutil
import torch
from torch import nn

SHARE_OF_FREE = 0.25
MAX_AUTOMATIC_GB = 4.0
MAX_AT_ONCE = 16
"""Larger batches are no faster on a processor, whose caches they leave."""
OVERHEAD = 3.0
"""Activations and gradients of a backward pass over what autograd keeps, with the libraries' own buffers."""


def memory_budget(memory_gb: float | None, device: torch.device) -> float:
    """Bytes that gradients and activations may take: `memory_gb`, or a quarter of what is free."""
    if memory_gb is not None:
        return memory_gb * 1e9
    free = torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else psutil.virtual_memory().available
    return min(SHARE_OF_FREE * free, MAX_AUTOMATIC_GB * 1e9)


def choose_batch_size(network: nn.Module, image: torch.Tensor, budget: float) -> int:
    """How many images `(C, H, W)` may go through forward and backward together, from what autograd keeps of one."""
    kept = 0
    own = {parameter.data_ptr() for parameter in network.parameters()}

    def count(tensor: torch.Tensor) -> torch.Tensor:
        nonlocal kept
        kept += 0 if tensor.data_ptr() in own else tensor.numel() * tensor.element_size()
        return tensor

    given = image[None].clone().contiguous(memory_format=torch.channels_last).requires_grad_()
    with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
        network(given)
    return int(min(max(1, budget // (OVERHEAD * max(1, kept))), MAX_AT_ONCE))
