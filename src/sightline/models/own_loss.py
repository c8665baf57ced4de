"""Losses beside ours: any callable that takes logits and labels."""

import logging
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn

from sightline.config.instantiation import build_part, taken_by_name
from sightline.config.location import locate, where_raised
from sightline.errors import BadInput

log = logging.getLogger(__name__)
Loss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


def build_own_loss(
    node: Mapping[str, Any], num_classes: int, *, class_weights: torch.Tensor | None, label_smoothing: float
) -> Loss:
    """The loss of a `_target_` node; it is given what it takes of `num_classes`, `class_weights`, `label_smoothing`.

    Raises: BadInput as `build_part` does.
    """
    settings = {"class_weights": class_weights, "label_smoothing": label_smoothing or None}
    settings = {name: value for name, value in settings.items() if value is not None}
    taken = taken_by_name(locate(str(node["_target_"]), "model.loss"), settings)
    for name in settings.keys() - taken.keys() - node.keys():
        log.warning("model.%s has no effect: the loss %s takes no argument of that name", name, node["_target_"])
    return build_part(node, "model.loss", num_classes=num_classes, **taken)


def check_own_loss(loss: Loss, target: str, num_classes: int, *, takes_shares: bool) -> float:
    """Look at the loss of a small batch whose logits are all 0, which is that of guessing, and return it.

    Raises: BadInput when it takes no such batch, or is no finite number with a gradient.
    """
    labels = torch.arange(4) % num_classes
    targets = nn.functional.one_hot(labels, num_classes).float() if takes_shares else labels
    logits, what = (
        torch.zeros(4, num_classes, requires_grad=True),
        "shares of the classes" if takes_shares else "labels",
    )
    try:
        found = loss(logits, targets)
    except Exception as error:
        mixing = "; without augmentation.mixup and augmentation.cutmix it gets labels (B,)" if takes_shares else ""
        raise BadInput(
            f"model.loss ({target}): does not take logits {tuple(logits.shape)} and {what} {tuple(targets.shape)} "
            f"({where_raised(error)}); change that code{mixing}"
        ) from error
    if not isinstance(found, torch.Tensor) or found.ndim != 0 or not found.requires_grad:
        shape = f"a tensor {tuple(found.shape)}" if isinstance(found, torch.Tensor) else type(found).__name__
        if isinstance(found, torch.Tensor) and found.ndim == 0:
            shape = "a number that does not depend on the logits"
        raise BadInput(f"model.loss ({target}): returned {shape}, and must return one number, like their mean")
    return max(float(found.detach()), 0.0)
