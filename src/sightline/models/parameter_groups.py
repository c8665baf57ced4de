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
    """Groups for an optimizer's constructor, by timm's own division of each network, or by the stages of others.

    Without `norm_weight_decay` norms, biases and what the network names itself (position embeddings) have none. With
    `layer_lr_decay` each layer's learning rate is that share of the one above it; the head has the full one.
    """
    weight_decay, exempt = _argument(optimizer, "weight_decay"), set()
    if not norm_weight_decay and hasattr(network, "no_weight_decay"):
        exempt = set(network.no_weight_decay())  # pyright: ignore[reportCallIssue]
    if layer_lr_decay is None:
        return param_groups_weight_decay(network, weight_decay, no_weight_decay_list=exempt)
    lr = _argument(optimizer, "lr")
    if not hasattr(network, "group_matcher"):
        return _groups_of_stages(network, weight_decay, lr, norm_weight_decay, layer_lr_decay)
    groups = param_groups_layer_decay(
        network,
        weight_decay,
        no_weight_decay_list=exempt,
        weight_decay_exclude_1d=not norm_weight_decay,
        layer_decay=layer_lr_decay,
    )
    return [
        {"params": group["params"], "weight_decay": group["weight_decay"], "lr": lr * group["lr_scale"]}
        for group in groups
    ]


def _groups_of_stages(
    network: nn.Module, weight_decay: float, lr: float, decays_all: bool, layer_lr_decay: float
) -> list[dict[str, Any]]:
    """A group for each stage, or two where those of one dimension have no weight decay."""
    parameters = {name: each for name, each in network.named_parameters() if each.requires_grad}
    divided = stages(network)
    groups = []
    for number, names in enumerate(divided, start=1):
        members = [parameters[name] for name in parameters if name in names]
        for decays in (True, False):
            chosen = [each for each in members if (decays_all or each.ndim > 1) == decays]
            rate = lr * layer_lr_decay ** (len(divided) - number)
            groups.append({"params": chosen, "weight_decay": weight_decay if decays else 0.0, "lr": rate})
    return [group for group in groups if group["params"]]


def _argument(optimizer: Callable[..., Any], name: str) -> float:
    """The value of an optimizer's argument: the configuration's, or its own default."""
    given = optimizer.keywords.get(name) if isinstance(optimizer, partial) else None
    if given is not None:
        return given
    parameter = inspect.signature(optimizer).parameters.get(name)
    return 0.0 if parameter is None or parameter.default is inspect.Parameter.empty else parameter.default


def stages(network: nn.Module) -> list[set[str]]:
    """Names of the parameters stage by stage, from the input to the head, which is the last.

    timm's networks say what their stages are, and others that have `group_matcher()`; else they are the modules at the
    top, or in the only one there.
    """
    heads = tuple(f"{name}." for name in head_modules(network))
    if hasattr(network, "group_matcher"):
        matcher = network.group_matcher(coarse=True)  # pyright: ignore[reportCallIssue]
        groups = [set(names) for _, names in sorted(group_parameters(network, matcher).items())]
    else:
        groups = [*_top_modules(network).values()]
    head = {name for name, _ in network.named_parameters() if name.startswith(heads)}
    return [rest for group in groups if (rest := group - head)] + [head]


def _top_modules(network: nn.Module) -> dict[str, set[str]]:
    """Names of the parameters by the module at the top, or in the only one there, that they belong to."""
    names, depth = [name for name, _ in network.named_parameters()], 1
    while len({name.split(".")[depth - 1] for name in names}) == 1 and all(name.count(".") > depth for name in names):
        depth += 1
    found: dict[str, set[str]] = {}
    for name in names:
        found.setdefault(".".join(name.split(".")[:-1][:depth]), set()).add(name)
    return found
