"""Whether an exported model answers as the network does, on the run's own validation images."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np

from sightline.errors import GateNotMet

if TYPE_CHECKING:
    import torch

    from sightline.evaluation.predictions import Runner
    from sightline.models.exported import ExportedModel
    from sightline.task_spec import TaskSpec

MAX_DIFFERENCE = 1e-4
"""Of any probability, at fp32."""
UNDECIDED = 2 * MAX_DIFFERENCE
"""Where the network's two best classes lie nearer to each other, either may come first."""


@dataclass(frozen=True, eq=False)
class Answers:
    """What a model says of N images: probabilities `(N, num_classes)`, features `(N, D)`, and the labels `(N,)`."""

    probabilities: np.ndarray
    features: np.ndarray
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def predicted(self) -> np.ndarray:
        return self.probabilities.argmax(1)

    @property
    def accuracy(self) -> float:
        return float((self.predicted == self.labels).mean())


@dataclass(frozen=True)
class Batches:
    """Batches of prepared images and labels, that can be read several times."""

    loader: Any
    spec: "TaskSpec"
    limit: int | float | None = None
    """Of batches, or below 1 a share of them."""

    def read(self, said: str) -> Iterator[tuple["torch.Tensor", "torch.Tensor"]]:
        """Prepared images `(B, H, W, C)` and labels, with a progress bar of that name in a terminal."""
        from rich.progress import track

        from sightline.data.loader import length_of
        from sightline.evaluation.predictions import num_batches

        total = num_batches(length_of(self.loader), self.limit)
        for images, labels in track(islice(self.loader, total), said, total=total, transient=True):
            yield prepared(images, self.spec), labels.cpu()

    def some(self, count: int) -> np.ndarray:
        """So many prepared images `(N, H, W, C)`, drawn at random where they can be read in any order, else the first.

        The draw is the same each time.
        """
        from sightline.data.shards.loading import ShardDataset

        dataset: Any = getattr(self.loader, "dataset", None)
        if hasattr(dataset, "__getitems__") and not isinstance(dataset, ShardDataset):  # which shuffles when it packs
            drawn = np.random.default_rng(0).permutation(len(dataset))[:count]
            return prepared(dataset.__getitems__([int(index) for index in sorted(drawn)])[0], self.spec).numpy()
        found: list[np.ndarray] = []
        for images, _ in self.loader:
            found.append(prepared(images, self.spec).numpy())
            if sum(map(len, found)) >= count:
                break
        return np.concatenate(found)[:count]


def prepared(images: "torch.Tensor", spec: "TaskSpec") -> "torch.Tensor":
    """Prepared images as they are; floats `(B, C, H, W)` of a data module of own code, back to the nearest levels."""
    if not images.is_floating_point():
        return images.cpu()
    import torch

    from sightline.data.transforms import denormalise

    levels = (denormalise(images.cpu(), spec) * spec.max_level).round().permute(0, 2, 3, 1)
    return levels.to(torch.uint8 if spec.bit_depth == 8 else torch.int32).to(getattr(torch, spec.dtype)).contiguous()


Watcher = Callable[[np.ndarray], None]
"""Sees each batch of prepared images."""


def answer_both(
    runner: "Runner", exported: "ExportedModel", batches: Batches, watch: Watcher
) -> tuple[np.ndarray, Answers]:
    """The network's probabilities `(N, num_classes)`, by the way that evaluation takes, and the file's answers."""
    found: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []

    def images() -> Iterator["torch.Tensor"]:
        for pixels, labels in batches.read("Comparing"):
            watch(pixels.numpy())
            found.append((*exported.run(pixels.numpy()), labels.numpy()))
            yield pixels

    logits = runner.predict(images())
    return (logits.double() / runner.spec.temperature).softmax(dim=1).numpy(), _joined(found)


def answer(exported: "ExportedModel", batches: Batches, said: str) -> Answers:
    """The file's answers alone."""
    return _joined((*exported.run(pixels.numpy()), labels.numpy()) for pixels, labels in batches.read(said))


def _joined(found: Iterable[tuple[np.ndarray, np.ndarray, np.ndarray]]) -> Answers:
    return Answers(*(np.concatenate(column) for column in zip(*found, strict=True)))


def check_fp32(network: np.ndarray, exported: np.ndarray) -> tuple[float, float]:
    """The greatest difference of probabilities `(N, num_classes)`, and the share of images of the same class.

    Raises: GateNotMet when the file answers differently.
    """
    difference = float(np.abs(network - exported).max())
    differs = network.argmax(1) != exported.argmax(1)
    best = np.sort(network, axis=1)
    gap = best[:, -1] - best[:, -2] if network.shape[1] > 1 else np.ones(len(network))
    num_wrong = int((differs & (gap > UNDECIDED)).sum())
    if not difference <= MAX_DIFFERENCE or num_wrong:  # also where it is no number
        raise GateNotMet(
            f"export: model.onnx answers differently than the network: probabilities differ by up to {difference:.2g} "
            f"(at most {MAX_DIFFERENCE:g}), and {num_wrong} of {len(network)} validation images get another class; "
            "nothing was written"
        )
    return difference, float(1 - differs.mean())
