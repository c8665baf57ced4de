"""The predictions of a network for the images of a split."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np
import torch
from rich.progress import track

from sightline.data.loader import length_of
from sightline.data.transforms import normalise
from sightline.models.inference import TorchRuntime
from sightline.models.runtimes import Runtime, compute_logits

if TYPE_CHECKING:
    from torch import nn
    from torch.utils.data import DataLoader

    from sightline.task_spec import TaskSpec


@dataclass(frozen=True)
class Predictions:
    """Logits float32 `(N, num_classes)` and labels `(N,)` of one split, in the split's order."""

    logits: torch.Tensor
    labels: torch.Tensor

    def __len__(self) -> int:
        return len(self.labels)

    @cached_property
    def predicted(self) -> torch.Tensor:
        """Index of the class with the highest logit, `(N,)`."""
        return self.logits.argmax(dim=1)

    @cached_property
    def is_right(self) -> np.ndarray:
        """Whether each prediction is the label, bool `(N,)`."""
        return (self.predicted == self.labels).numpy()

    def probabilities(self, temperature: float = 1.0) -> torch.Tensor:
        """Float64 `(N, num_classes)`, each row with the sum 1."""
        return (self.logits.double() / temperature).softmax(dim=1)


@dataclass(frozen=True)
class Runner:
    """A network with its views, the device and the precision that it runs on, and what computes it."""

    network: "nn.Module"
    spec: "TaskSpec"
    device: torch.device
    precision: str
    channels_last: bool = True
    runtime: Runtime | None = None
    """None: torch."""

    def predict(self, batches: "Iterator[torch.Tensor]") -> torch.Tensor:
        """Logits float32 `(N, num_classes)` of prepared images, `(B, image_size, image_size, C)`."""
        runtime = self.runtime
        if runtime is None:
            prepare = partial(normalise, spec=self.spec)
            runtime = TorchRuntime(self.network, prepare, self.device, self.precision, channels_last=self.channels_last)
        return compute_logits(runtime, batches)


def predict_split(
    runner: Runner, loader: "DataLoader[tuple[torch.Tensor, torch.Tensor]]", limit: int | float | None = None
) -> Predictions:
    """Logits and labels of what a loader yields, with a progress bar in a terminal.

    `limit` is a number of batches or, below 1, a share of them, as in Lightning's `limit_test_batches`.
    """
    labels: list[torch.Tensor] = []

    def images() -> Iterator[torch.Tensor]:
        total = num_batches(length_of(loader), limit)
        for batch, batch_labels in track(islice(loader, total), "Evaluating", total=total, transient=True):
            labels.append(batch_labels.cpu())
            yield batch

    logits = runner.predict(images())
    return Predictions(logits, torch.cat(labels))


def num_batches(available: int | None, limit: int | float | None) -> int | None:
    """How many batches a limit leaves of those that there are; None where that is not known."""
    if limit is None or available is None:
        return available if limit is None or isinstance(limit, float) else limit
    return max(1, int(limit * available) if isinstance(limit, float) else min(limit, available))
