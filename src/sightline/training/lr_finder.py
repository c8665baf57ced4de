"""A learning rate from a short training whose rate grows at every step (Smith, arXiv:1506.01186)."""

import copy
import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from scipy.ndimage import gaussian_filter1d

from sightline.data.parallel import track
from sightline.errors import BadInput
from sightline.models.classifier import Classifier
from sightline.models.inference import DTYPES, autocast

FIRST_SHARE = 0.08
"""The loss over so many of the first steps is what a network without training has."""
SMOOTHED_OVER = 0.04
"""Width of the Gaussian that smooths the loss, as a share of the steps."""
STOP_FACTOR = 4.0
"""The sweep ends when the loss is so many times its smallest."""
MIN_STEPS = 20


@dataclass(frozen=True)
class LrSweep:
    """What a sweep found; rates are None where the loss shows none."""

    lr: list[float]
    loss: list[float]
    smoothed: list[float]
    steepest: float | None
    """Where the smoothed loss falls fastest."""
    tenth_of_divergence: float | None
    """A tenth of the rate at which half of what was won is lost again."""
    suggestion: float | None
    """The smaller of both, or the one that there is."""

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def sweep_lr(
    classifier: Classifier,
    batches: Iterable[tuple[torch.Tensor, ...]],
    *,
    device: torch.device,
    precision: str,
    lowest: float,
    highest: float,
    num_steps: int,
) -> LrSweep:
    """Train on normalised batches with rates from `lowest` to `highest`, and put every weight back.

    Batches may be fewer than steps: they come again. Options of the recipe count as in training; what the optimizer's
    groups have less of, they have less of here.
    """
    assert num_steps >= MIN_STEPS, num_steps
    before = copy.deepcopy(classifier.state_dict())
    width, kind = precision.split("-")
    classifier.to(device, DTYPES[width] if kind == "true" else torch.float32).train()
    rates = np.geomspace(lowest, highest, num_steps).tolist()
    losses = []
    try:
        trained = _train(classifier, rates, _again(lambda: iter(batches)), autocast_to=(precision, device))
        for loss in track(trained, [1] * num_steps, "finding the learning rate"):
            losses.append(loss)
            if not math.isfinite(loss) or _is_lost(losses):
                break
    finally:
        classifier.zero_grad(set_to_none=True)
        classifier.to("cpu", torch.float32)
        classifier.load_state_dict(before)
    return read_sweep(rates[: len(losses)], losses, complete=len(losses) == num_steps)


def _train(
    classifier: Classifier,
    rates: list[float],
    batches: Iterator[tuple[torch.Tensor, torch.Tensor]],
    autocast_to: tuple[str, torch.device],
) -> Iterator[float]:
    precision, device = autocast_to
    optimizer = classifier.make_optimizer()
    highest = max(group["lr"] for group in optimizer.param_groups)
    shares = [group["lr"] / highest for group in optimizer.param_groups]
    for rate, (images, labels) in zip(rates, batches, strict=False):
        for group, share in zip(optimizer.param_groups, shares, strict=True):
            group["lr"] = rate * share
        with autocast(precision, device):
            loss = classifier.objective(images.to(classifier.dtype), labels)[0]
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        yield loss.item()


def _again(make: Callable[[], Iterator[Any]]) -> Iterator[Any]:
    """One pass after another, for ever."""
    while True:
        iterator = make()
        first = next(iterator)
        yield first
        yield from iterator


def _is_lost(losses: list[float]) -> bool:
    """Whether the last steps are far above the best; single bad batches do not count."""
    if len(losses) < MIN_STEPS:
        return False
    recent = float(np.median(losses[-5:]))
    return recent > STOP_FACTOR * float(np.min(gaussian_filter1d(losses, 2.0)))


def read_sweep(lr: list[float], loss: list[float], *, complete: bool = True) -> LrSweep:
    """What the losses of a sweep say; a last one that is not finite marks the divergence and is left out."""
    lr, loss = [*lr], [*loss]
    diverged_at = None if complete else lr[-1]
    while loss and not math.isfinite(loss[-1]):
        lr, loss = lr[:-1], loss[:-1]
    if len(loss) < MIN_STEPS:
        return LrSweep(lr, loss, loss, None, None, None)
    smoothed = gaussian_filter1d(np.minimum(loss, 10 * np.median(loss)), max(1.0, SMOOTHED_OVER * len(loss)))
    start = float(np.median(loss[: max(3, round(FIRST_SHARE * len(loss)))]))
    lowest = int(np.argmin(smoothed))
    noise = float(np.median(np.abs(loss - smoothed)))
    steepest = tenth = None
    if start - smoothed[lowest] > noise and lowest > 0:
        slopes = np.gradient(smoothed[: lowest + 1], np.log(lr[: lowest + 1])) if lowest > 1 else np.array([0.0])
        steepest = lr[int(np.argmin(slopes))]
        lost = np.flatnonzero(smoothed[lowest:] > smoothed[lowest] + (start - smoothed[lowest]) / 2)
        diverged_at = lr[lowest + int(lost[0])] if len(lost) else diverged_at
        tenth = None if diverged_at is None else diverged_at / 10
    found = [each for each in (steepest, tenth) if each is not None]
    return LrSweep(lr, loss, smoothed.tolist(), steepest, tenth, min(found, default=None))


def require_suggestion(sweep: LrSweep) -> float:
    """Raises: BadInput when the loss never fell."""
    if sweep.suggestion is None:
        raise BadInput(
            f"model.lr=auto: the loss did not fall at any rate from {sweep.lr[0]:.0e} to {sweep.lr[-1]:.0e} in "
            f"{len(sweep.lr)} steps; give model.lr a number, like 0.001"
        )
    return sweep.suggestion
