"""Explanation methods beside ours: captum's classes, or whatever makes a map of each image."""

import copy
import inspect
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn

from sightline.config import build, locate, where_raised
from sightline.errors import BadInput
from sightline.task_spec import TaskSpec

Attribute = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


def make_attribute(name: str, node: Mapping[str, Any], network: nn.Module) -> Attribute:
    """A function of normalised images `(B, C, H, W)` and classes `(B,)` that returns maps `(B, H, W)`.

    A class is made with the network; the object has captum's `attribute(images, target=classes)`, or is called with
    images and classes. A function is called with the network, images and classes. What has channels is summed over
    them.

    Raises: BadInput when it cannot be made; from the function when it takes no such images or makes other maps.
    """
    key = f"explanation.own.{name}"
    made = build({**node, "_partial_": True}, key)
    is_class = inspect.isclass(locate(str(node["_target_"]), key))

    def attribute(images: torch.Tensor, classes: torch.Tensor) -> torch.Tensor:
        try:
            with torch.enable_grad():
                method = made(network) if is_class else None
                images = images.detach().requires_grad_()
                if method is None:
                    maps = made(network, images, classes)
                elif hasattr(method, "attribute"):
                    maps = method.attribute(images, target=classes)
                else:
                    maps = method(images, classes)
        except Exception as error:
            raise BadInput(
                f"{key} ({node['_target_']}): explains no images {tuple(images.shape)} ({where_raised(error)}); change "
                "that code or its arguments"
            ) from error
        return _as_maps(maps, images, f"{key} ({node['_target_']})")

    return attribute


def _as_maps(maps: Any, images: torch.Tensor, what: str) -> torch.Tensor:
    size = (len(images), *images.shape[-2:])
    found = tuple(maps.shape) if isinstance(maps, torch.Tensor) else type(maps).__name__
    if isinstance(maps, torch.Tensor) and maps.ndim == 4:
        maps = maps.sum(1)
    if not isinstance(maps, torch.Tensor) or tuple(maps.shape) != size:
        raise BadInput(
            f"{what}: returned {found} for images {tuple(images.shape)}, and must return a map of each, {size}, or one "
            "with channels"
        )
    return maps.detach()


def check_own_methods(nodes: Mapping[str, Any], network: nn.Module, spec: TaskSpec) -> None:
    """Explain one black image by each method, on a copy of the network, before anything is written.

    Raises: BadInput as `make_attribute` does.
    """
    if not nodes:
        return
    copied = copy.deepcopy(network).eval().requires_grad_(False)
    image = torch.zeros(1, spec.channels, spec.image_size, spec.image_size)
    for name, node in nodes.items():
        make_attribute(name, node, copied)(image, torch.zeros(1, dtype=torch.int64))
