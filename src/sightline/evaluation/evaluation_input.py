"""The interface of evaluators: their input, and the section of the report that they return."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Protocol

import numpy as np
import torch
from matplotlib.figure import Figure
from torch.utils.data import DataLoader

from sightline.data.manifest import Manifest
from sightline.evaluation.predictions import Predictions, Runner
from sightline.task_spec import TaskSpec

IMAGES_AT_ONCE = 64


@dataclass(frozen=True)
class EvaluationInput:
    """The predictions of one split, and the way back to its images and to the network."""

    predictions: Predictions
    runner: Runner
    split: str
    loader: DataLoader[tuple[torch.Tensor, torch.Tensor]]
    manifest: Manifest | None = None
    seed: int = 0

    @property
    def spec(self) -> TaskSpec:
        return self.runner.spec

    @property
    def labels(self) -> torch.Tensor:
        return self.predictions.labels

    @cached_property
    def probabilities(self) -> torch.Tensor:
        """Calibrated, float64 `(N, num_classes)`."""
        return self.predictions.probabilities(self.spec.temperature)

    @cached_property
    def confidences(self) -> np.ndarray:
        """Calibrated probability of each predicted class, `(N,)`."""
        return self.probabilities.amax(dim=1).numpy()

    @cached_property
    def names(self) -> list[str]:
        """The path of each image below the data's root."""
        dataset: Any = self.loader.dataset
        return [dataset.name(index) for index in range(len(self.predictions))]

    @cached_property
    def groups(self) -> np.ndarray:
        """Group of each image, int `(N,)` from 0: images of one thing, which are not independent, share one."""
        names: list[str] = self.names
        if self.manifest is not None and self.manifest.group_names is not None:
            known = zip(self.manifest.paths.tolist(), self.manifest.group_names.tolist(), strict=True)
            group_of = dict(known)
            names = [group_of[name] for name in names]
        return np.unique(np.array(names), return_inverse=True)[1]

    @property
    def has_groups(self) -> bool:
        return int(self.groups.max()) + 1 < len(self.groups)

    def pixels(self, indices: Sequence[int]) -> Iterator[torch.Tensor]:
        """The images as the network sees them before normalisation, `(B, H, W, C)`, some at a time."""
        dataset: Any = self.loader.dataset
        for start in range(0, len(indices), IMAGES_AT_ONCE):
            yield dataset.__getitems__([int(index) for index in indices[start : start + IMAGES_AT_ONCE]])[0].cpu()

    def choose_balanced(self, count: int | None) -> np.ndarray:
        """Indices of at most so many images, balanced over the classes; the same for the same names and seed."""
        labels = self.labels.numpy()
        if count is None or count >= len(labels):
            return np.arange(len(labels))
        order = np.argsort(np.array(self.names))[np.random.default_rng(self.seed).permutation(len(labels))]
        rank = np.empty(len(labels), np.int64)
        for label in np.unique(labels):
            members = order[labels[order] == label]
            rank[members] = np.arange(len(members))
        return np.sort(order[np.argsort(rank[order], kind="stable")][:count])


@dataclass(frozen=True)
class Table:
    """Rows for a CSV file; the report shows the first of them."""

    columns: Sequence[str]
    rows: Sequence[Sequence[Any]]


@dataclass(frozen=True)
class Picture:
    """An image as it is shown, uint8 `(H, W, 3)`, with the lines below it."""

    pixels: np.ndarray
    lines: Sequence[str]


@dataclass(frozen=True)
class Section:
    """The result of an evaluator: metrics by name, and what the report shows of them."""

    title: str
    metrics: dict[str, float] = field(default_factory=dict)
    text: str = ""
    tables: dict[str, Table] = field(default_factory=dict)
    figures: dict[str, Figure] = field(default_factory=dict)
    pictures: dict[str, list[Picture]] = field(default_factory=dict)


class Evaluator(Protocol):
    """One entry of `evaluation.evaluators`."""

    def __call__(self, inputs: EvaluationInput) -> Section: ...
