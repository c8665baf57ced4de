"""Objects from `_target_` nodes, of packages that we trust."""

import inspect
import warnings
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

from omegaconf import OmegaConf

from sightline.errors import BadInput

TARGET_PACKAGES = ("torch", "timm", "pytorch_lightning", "torchmetrics", "albumentations", "sightline")
"""Packages that a `_target_` may name."""


def check_targets(node: Any, key: str) -> None:
    """Refuse `_target_` values outside the packages that we build objects from; `key` names the node in errors."""
    for target in _targets(node):
        if target.split(".")[0] not in TARGET_PACKAGES:
            raise BadInput(f"{key}: _target_={target}: objects may come from {', '.join(TARGET_PACKAGES)} alone")


def _targets(node: Any) -> Iterator[str]:
    """Every `_target_` in a node, however deep."""
    plain = OmegaConf.to_container(node, resolve=False) if OmegaConf.is_config(node) else node
    children = plain.items() if isinstance(plain, dict) else enumerate(plain) if isinstance(plain, list) else ()
    for key, value in children:
        if key == "_target_":
            yield str(value)
        yield from _targets(value)


def build(node: Mapping[str, Any], key: str, **arguments: Any) -> Any:
    """Build the object that a `_target_` node describes; `key` names the node in errors.

    Raises: BadInput for a target outside the allowed packages, one that does not exist, or arguments it does not take.
    """
    from hydra.errors import HydraException
    from hydra.utils import get_object, instantiate

    check_targets(node, key)
    try:
        for target in _targets(node):  # torch.os.system begins with torch and is none of it
            if get_object(target).__module__.split(".")[0] not in TARGET_PACKAGES:
                raise BadInput(f"{key}: _target_={target}: not defined in {', '.join(TARGET_PACKAGES)}")
        with warnings.catch_warnings():  # albumentations warns of arguments it does not know, and goes on
            warnings.filterwarnings("error", message="Argument.* not valid for transform")
            made = instantiate(node, **arguments, _convert_="all")
        if isinstance(made, partial):  # a partial accepts anything until it is called
            inspect.signature(made.func).bind_partial(*made.args, **made.keywords)
    except BadInput:
        raise
    except (HydraException, ImportError, AttributeError, TypeError, ValueError, UserWarning) as error:
        cause = error.__cause__ or error
        raise BadInput(f"{key} ({node.get('_target_')}): {cause}; change or remove that argument") from error
    return made


def build_each(nodes: Mapping[str, Any], key: str) -> dict[str, Any]:
    """The objects of several nodes by name, in their order; null leaves one out.

    Raises: BadInput as `build` does.
    """
    return {str(name): build(node, f"{key}.{name}") for name, node in nodes.items() if node is not None}
