"""The integral of gradients along a straight path, refined where it is wrong, for many images at once."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np
import torch

Score = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
"""Images `(B, C, H, W)` and classes `(B,)` to one number each, `(B,)`."""
NARROWEST = 2.0**-20
GROWTH = 4
"""At each refinement at most a quarter of the intervals (or eight), the worst, are halved."""


@dataclass(frozen=True)
class Settings:
    """The tolerance and the number of nodes of a path, and how many go through the network together."""

    tolerance: float = 0.01
    min_steps: int = 16
    max_steps: int = 1024
    batch_size: int = 16
    paths_at_once: int = 16


@dataclass(frozen=True)
class PathIntegral:
    """The attribution of one path, float32 `(H, W)`, summed over the channels.

    `completeness_error` is |sum of the attributions - difference| / |difference|, where `difference` is what the score
    gains from the baseline to the image.
    """

    attribution: torch.Tensor
    steps: int
    total: float
    difference: float

    @property
    def completeness_error(self) -> float:
        return abs(self.total - self.difference) / max(abs(self.difference), 1e-12)


def integrate(
    score: Score,
    images: torch.Tensor,
    baselines: torch.Tensor,
    classes: torch.Tensor,
    settings: Settings,
    on_done: Callable[[], None] = lambda: None,
) -> list[PathIntegral]:
    """Integrated gradients (Sundararajan et al., arXiv:1703.01365) from `baselines` to `images`, both `(N, C, H, W)`.

    The trapezium rule on nodes that are all kept. The scores at the nodes, which come free with the gradients, tell
    what the integral over every interval must be; those that are most wrong are halved, until the error of the sum and
    the root of the squared errors of the intervals are within the tolerance. Such a network's score has kinks: high
    orders gain nothing on it, and equal steps waste most gradients where the path is straight.
    """
    done: dict[int, PathIntegral] = {}
    waiting = iter(range(len(images)))
    active: dict[int, _Path] = {}
    while True:
        while len(active) < settings.paths_at_once and (number := next(waiting, None)) is not None:
            active[number] = _Path(images[number], baselines[number], int(classes[number]), settings)
        if not active:
            return [done[number] for number in range(len(images))]
        _measure(score, list(active.values()), settings.batch_size)
        for number, path in list(active.items()):
            if path.is_done():
                done[number] = active.pop(number).finish()
                on_done()
            else:
                path.refine()


@dataclass
class _Path:
    """One path with the nodes that have been measured and those that wait for it."""

    image: torch.Tensor
    baseline: torch.Tensor
    label: int
    settings: Settings
    pending: list[float] = field(default_factory=list)
    nodes: list[float] = field(default_factory=list)
    scores: list[float] = field(default_factory=list)
    slopes: list[float] = field(default_factory=list)
    maps: list[torch.Tensor] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.pending = np.linspace(0, 1, self.settings.min_steps).tolist()

    def point(self, node: float) -> torch.Tensor:
        return torch.lerp(self.baseline, self.image, node)

    def add(self, node: float, score: float, gradient: torch.Tensor) -> None:
        """One measured node; its gradient `(C, H, W)` is kept as its part of the attribution, `(H, W)`."""
        contribution = (gradient * (self.image - self.baseline)).sum(dim=0)
        self.nodes.append(node)
        self.scores.append(score)
        self.slopes.append(float(contribution.double().sum()))
        self.maps.append(contribution)

    def sort(self) -> None:
        order = np.argsort(self.nodes)
        for name in ("nodes", "scores", "slopes", "maps"):
            values = getattr(self, name)
            setattr(self, name, [values[number] for number in order])

    @property
    def errors(self) -> np.ndarray:
        """The error of each interval: the trapezium's area minus the gain of the score."""
        slopes = np.array(self.slopes)
        return np.diff(self.nodes) * (slopes[:-1] + slopes[1:]) / 2 - np.diff(self.scores)

    def is_done(self) -> bool:
        self.sort()
        errors, gained = self.errors, abs(self.scores[-1] - self.scores[0])
        bound = self.settings.tolerance * gained
        is_exact = abs(errors.sum()) <= bound and float(np.sqrt(np.square(errors).sum())) <= bound
        return is_exact or len(self.nodes) >= self.settings.max_steps or not self._can_refine.any()

    @property
    def _can_refine(self) -> np.ndarray:
        return np.diff(self.nodes) > NARROWEST

    def refine(self) -> None:
        """Halve the intervals that are most wrong, and none that the tolerance has room for."""
        errors = np.abs(self.errors) * self._can_refine
        worst = np.argsort(-errors, kind="stable")
        rest = np.sqrt(np.cumsum(np.square(errors[worst])[::-1]))[::-1]
        needed = int((rest > self.settings.tolerance * abs(self.scores[-1] - self.scores[0]) / 2).sum())
        room = self.settings.max_steps - len(self.nodes)
        count = min(max(8, len(self.nodes) // GROWTH), max(1, needed), room, int(self._can_refine.sum()))
        worst = worst[:count]
        self.pending = [(self.nodes[number] + self.nodes[number + 1]) / 2 for number in worst]

    def finish(self) -> PathIntegral:
        widths = np.diff(self.nodes)
        weights = (np.append(widths, 0) + np.insert(widths, 0, 0)) / 2
        attribution = torch.zeros_like(self.maps[0])
        for weight, contribution in zip(weights.tolist(), self.maps, strict=True):
            attribution.add_(contribution, alpha=weight)
        total = float(np.dot(weights, self.slopes))
        return PathIntegral(attribution.cpu(), len(self.nodes), total, self.scores[-1] - self.scores[0])


def _measure(score: Score, paths: list[_Path], batch_size: int) -> None:
    """Score and gradient at every pending node of every path, in batches that paths share."""
    jobs = [(path, node) for path in paths for node in path.pending]
    for start in range(0, len(jobs), batch_size):
        chunk = jobs[start : start + batch_size]
        points = torch.stack([path.point(node) for path, node in chunk])
        points = points.contiguous(memory_format=torch.channels_last).requires_grad_()
        labels = torch.tensor([path.label for path, _ in chunk], device=points.device)
        with torch.enable_grad():
            scores = score(points, labels)
            (gradients,) = torch.autograd.grad(scores.sum(), points)
        for (path, node), value, gradient in zip(chunk, scores.detach().tolist(), gradients, strict=True):
            path.add(node, value, gradient)
    for path in paths:
        path.pending = []


def batches_of(count: int, size: int) -> Iterator[slice]:
    """Slices that cover a sequence, each of at most so many."""
    return (slice(start, start + size) for start in range(0, count, size))
