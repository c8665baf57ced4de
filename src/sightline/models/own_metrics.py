"""Metrics beside ours: torchmetrics' classes, or functions of all logits and labels of a split."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from sightline.config.instantiation import build_part
from sightline.config.location import where_raised
from sightline.errors import BadInput


class OfAll(Metric):
    """A number that a function makes of the logits `(N, num_classes)` and labels `(N,)` of a whole split."""

    full_state_update = False
    logits: list[torch.Tensor]
    labels: list[torch.Tensor]

    def __init__(self, function: Callable[[torch.Tensor, torch.Tensor], Any]) -> None:
        super().__init__()
        self.function = function
        self.add_state("logits", [], dist_reduce_fx="cat")
        self.add_state("labels", [], dist_reduce_fx="cat")

    def update(self, logits: torch.Tensor, labels: torch.Tensor) -> None:
        self.logits.append(logits)
        self.labels.append(labels)

    def compute(self) -> torch.Tensor:
        return torch.as_tensor(self.function(dim_zero_cat(self.logits), dim_zero_cat(self.labels)))


def build_metrics(nodes: Mapping[str, Any], num_classes: int) -> dict[str, Metric]:
    """The metrics of `evaluation.metrics` by name; each is given `num_classes` where it takes it.

    Raises: BadInput as `build_part` does.
    """
    return {name: _build(name, node, num_classes) for name, node in nodes.items() if node is not None}


def _build(name: str, node: Mapping[str, Any], num_classes: int) -> Metric:
    plain = {key: value for key, value in node.items() if key != "mode"}
    made = build_part(plain, f"evaluation.metrics.{name}", num_classes=num_classes)
    return made if isinstance(made, Metric) else OfAll(made)


def check_metrics(nodes: Mapping[str, Any], num_classes: int) -> None:
    """Look at each metric on a small batch, before anything is written.

    Raises: BadInput when one does not take it, makes no single number of it, or is best where `mode` does not say so.
    """
    for name, node in nodes.items():
        if node is not None:
            check_metric(name, node, num_classes)


def check_metric(name: str, node: Mapping[str, Any], num_classes: int) -> None:
    """The same for one."""
    metric, what = _build(name, node, num_classes), f"evaluation.metrics.{name} ({node['_target_']})"
    labels = torch.arange(2 * num_classes) % num_classes
    logits = torch.linspace(-1, 1, 2 * num_classes**2).reshape(-1, num_classes)
    try:
        metric.update(logits, labels)
        found: Any = metric.compute()
    except Exception as error:
        raise BadInput(
            f"{what}: does not take logits {tuple(logits.shape)} and labels {tuple(labels.shape)} "
            f"({where_raised(error)}); change its arguments"
        ) from error
    if not isinstance(found, torch.Tensor) or found.numel() != 1:
        shape = f"values {tuple(found.shape)}" if isinstance(found, torch.Tensor) else type(found).__name__
        raise BadInput(f"{what}: makes {shape}, and must make one number; for a mean over classes add average: macro")
    if metric.higher_is_better is False and node.get("mode") is None:
        raise BadInput(f"{what}: less is better; add evaluation.metrics.{name}.mode=min")
