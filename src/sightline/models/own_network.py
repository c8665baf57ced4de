"""Networks beside timm's: whatever a callable of one's own returns."""

import inspect
from collections.abc import Mapping
from typing import Any

from torch import nn

from sightline.config.instantiation import build, check_arguments, taken_by
from sightline.config.location import locate
from sightline.errors import BadInput


def check_own_network(target: str, arguments: Mapping[str, Any]) -> None:
    """Look whether the callable is there and takes the arguments; nothing is made.

    Raises: BadInput when it is not, or does not take them.
    """
    check_arguments({**_offered(target, 2, 3), **arguments, "_target_": target}, "model")


def _offered(target: str, num_classes: int, channels: int) -> dict[str, int]:
    """`num_classes` and `in_chans`, where the callable takes them; behind `**` only channels that are not the usual."""
    made, offered = locate(target, "model"), {"num_classes": num_classes, "in_chans": channels}
    if channels == 3 and "in_chans" not in inspect.signature(made).parameters:
        del offered["in_chans"]
    return taken_by(made, offered)


def create_own_network(target: str, arguments: Mapping[str, Any], *, num_classes: int, channels: int) -> nn.Module:
    """The module that `target`, a dotted name, returns for `arguments`.

    It is also given `num_classes` and `in_chans`, where it takes them.

    Raises: BadInput when there is no such callable, it does not take these arguments, or it returns something else.
    """
    network = build({**_offered(target, num_classes, channels), **arguments, "_target_": target}, "model")
    if not isinstance(network, nn.Module):
        raise BadInput(
            f"model._target_={target}: returned {type(network).__name__}, and no torch.nn.Module; name a callable that "
            "returns one"
        )
    return network
