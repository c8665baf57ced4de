"""Parameter groups of an optimizer: no weight decay for norms and biases, layer-wise learning rate decay."""

import inspect
from collections.abc import Callable
from functools import partial
from typing import Any

from timm.models import group_parameters
from timm.optim import (
    param_groups_layer_decay,  # pyright: ignore[reportPrivateImportUsage]
    param_groups_weight_decay,  # pyright: ignore[reportPrivateImportUsage]
)
from torch import nn

from sightline.models.backbones import head_modules


def parameter_groups(
    network: nn.Module, optimizer: Callable[..., Any], *, norm_weight_decay: bool, layer_lr_decay: float | None
) -> list[dict[str, Any]]:
    """Groups for an optimizer's constructor, by timm's own division of each network.

    Without `norm_weight_decay` norms, biases and what the network names itself (position embeddings) have none. With
    `layer_lr_decay` each layer's learning rate is that share of the one above it; the head has the full one.
    """
    weight_decay, exempt = _argument(optimizer, "weight_decay"), set()
    if not norm_weight_decay and hasattr(network, "no_weight_decay"):
        exempt = set(network.no_weight_decay())  # pyright: ignore[reportCallIssue]
    if layer_lr_decay is None:
        return param_groups_weight_decay(network, weight_decay, no_weight_decay_list=exempt)
    groups = param_groups_layer_decay(
        network,
        weight_decay,
        no_weight_decay_list=exempt,
        weight_decay_exclude_1d=not norm_weight_decay,
        layer_decay=layer_lr_decay,
    )
    lr = _argument(optimizer, "lr")
    return [
        {"params": group["params"], "weight_decay": group["weight_decay"], "lr": lr * group["lr_scale"]}
        for group in groups
    ]


def _argument(optimizer: Callable[..., Any], name: str) -> float:
    """The value of an optimizer's argument: the configuration's, or its own default."""
    given = optimizer.keywords.get(name) if isinstance(optimizer, partial) else None
    if given is not None:
        return given
    parameter = inspect.signature(optimizer).parameters.get(name)
    return 0.0 if parameter is None or parameter.default is inspect.Parameter.empty else parameter.default


def stages(network: nn.Module) -> list[set[str]]:
    """Names of the parameters stage by stage, from the input to the head, which is the last."""
    heads = tuple(f"{name}." for name in head_modules(network))
    matcher = network.group_matcher(coarse=True)  # pyright: ignore[reportCallIssue]  (every timm network has it)
    groups = [set(names) for _, names in sorted(group_parameters(network, matcher).items())]
    head = {name for name, _ in network.named_parameters() if name.startswith(heads)}
    return [rest for group in groups if (rest := group - head)] + [head]
