"""A LightningModule of own code in place of ours: made from its target, and looked at before it is trained."""

from collections.abc import Mapping
from typing import Any

import pytorch_lightning as pl

from sightline.config.instantiation import build, check_arguments
from sightline.config.location import locate, parameters_of
from sightline.errors import BadInput

NEEDED = {
    "training_step": "add one that returns the loss of a batch",
    "configure_optimizers": "add one that returns an optimizer over self.parameters()",
}
"""What Lightning itself would miss only in the fit, and what to do."""


def complete_arguments(node: Mapping[str, Any], offered: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of a module's node, and those of the `offered` ones that its target names."""
    named = parameters_of(locate(str(node["_target_"]), "module"))
    given = {name: value for name, value in node.items() if name != "_target_"}
    return {**{name: value for name, value in offered.items() if name in named}, **given}


def check_own_module(target: str, arguments: Mapping[str, Any]) -> None:
    """Look whether the class is there, is a LightningModule and takes the arguments; nothing is made.

    Raises: BadInput when it is not.
    """
    found = locate(target, "module")
    if isinstance(found, type):
        _check_class(found, target)
    check_arguments({**arguments, "_target_": target}, "module")


def create_own_module(target: str, arguments: Mapping[str, Any]) -> pl.LightningModule:
    """The module that `target`, a dotted name of a class or a function, gives for `arguments`.

    Raises: BadInput when there is no such target, it does not take these arguments, or gives no LightningModule.
    """
    module = build({**arguments, "_target_": target}, "module")
    _check_class(type(module), target)
    return module


def _check_class(kind: type, target: str) -> None:
    if not issubclass(kind, pl.LightningModule):
        raise BadInput(
            f"module._target_={target}: {kind.__name__} is no LightningModule of pytorch_lightning; a plain network "
            f"goes with model._target_={target}"
        )
    for name, change in NEEDED.items():
        if getattr(kind, name) is getattr(pl.LightningModule, name):
            raise BadInput(f"module._target_={target}: {kind.__name__} has no {name}; {change}")
