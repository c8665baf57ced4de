"""A sampler of one's own, or torch's: its order of an epoch, as ours are dealt out to ranks and gone on with."""

import random
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

from sightline.config import build, locate, taken_by_name, where_raised
from sightline.data.samplers import EpochSampler
from sightline.errors import BadInput


class OwnSampler(EpochSampler):
    """The epoch order of an object with `order(epoch)`, or of torch's kind: indices, or lists of one batch each.

    The object of a `_target_` node is given `labels`, `num_classes`, `batch_size` and `seed` where it takes them. What
    it draws from torch, numpy and random follows from the seed and the epoch. An image that comes several times in an
    epoch is augmented in another way each time.
    """

    def __init__(
        self, node: Mapping[str, Any], labels: np.ndarray, num_classes: int, batch_size: int, seed: int
    ) -> None:
        """Raises: BadInput when it cannot be made, or its first epoch is no order of these images."""
        self.target, self.num_images, self._batch = str(node["_target_"]), len(labels), batch_size
        offered = {"labels": labels, "num_classes": num_classes, "batch_size": batch_size, "seed": seed}
        taken = taken_by_name(locate(self.target, "data.sampler"), offered)
        given: dict[str, Any] = {name: value for name, value in taken.items() if name != "labels"}
        made = build({**given, **node, "_partial_": True}, "data.sampler")
        self._known: tuple[int, np.ndarray] | None = None
        self.length, self.seed = 0, seed
        try:
            with _seeded(seed, 0):
                self.sampler = made(labels=labels) if "labels" in taken and "labels" not in node else made()
        except Exception as error:
            raise self._refused(where_raised(error)) from error
        super().__init__(len(self.order(0)), seed)

    def order(self, epoch: int) -> np.ndarray:
        """Raises: BadInput when it is none, or of another length than that of the first epoch."""
        if self._known is None or self._known[0] != epoch:
            self._known = (epoch, self._checked(epoch, self._read(epoch)))
        return self._known[1]

    def _read(self, epoch: int) -> list[Any]:
        try:
            with _seeded(self.seed, epoch):
                if hasattr(self.sampler, "order"):
                    return list(self.sampler.order(epoch))
                if hasattr(self.sampler, "set_epoch"):
                    self.sampler.set_epoch(epoch)
                return list(self.sampler)
        except Exception as error:
            raise self._refused(where_raised(error)) from error

    def _checked(self, epoch: int, drawn: Sequence[Any]) -> np.ndarray:
        if drawn and not np.isscalar(drawn[0]) and np.ndim(drawn[0]) == 1:
            sizes = {len(batch) for batch in drawn[:-1]} | ({len(drawn[-1])} if len(drawn) == 1 else set())
            if wrong := sorted(sizes - {self._batch}):
                raise self._refused(f"has batches of {wrong[0]} images, and data.batch_size={self._batch}")
            drawn = [index for batch in drawn for index in batch]
        indices = np.asarray(drawn)
        if indices.ndim != 1 or not len(indices) or not np.issubdtype(indices.dtype, np.integer):
            raise self._refused(
                f"epoch {epoch} has no indices of images, whole numbers from 0 to {self.num_images - 1}"
            )
        outside = indices[(indices < 0) | (indices >= self.num_images)]
        if len(outside):
            raise self._refused(f"has the index {outside[0]}, and there are {self.num_images} training images")
        if self.length and len(indices) != self.length:
            raise self._refused(
                f"epoch {epoch} has {len(indices)} images and the first {self.length}; all must be as long"
            )
        return _as_copies(indices, self.num_images)

    def _refused(self, reason: str) -> BadInput:
        return BadInput(f"data.sampler ({self.target}): {reason}; change that code or its arguments")


def _as_copies(indices: np.ndarray, num_images: int) -> np.ndarray:
    """The same order, in which an image's second time is an index beyond all images: a copy of it."""
    by_index = np.argsort(indices, kind="stable")
    ordered = indices[by_index]
    starts = np.maximum.accumulate(np.where(np.r_[True, ordered[1:] != ordered[:-1]], np.arange(len(ordered)), 0))
    times = np.empty(len(indices), np.int64)
    times[by_index] = np.arange(len(ordered)) - starts
    return indices + times * num_images


@contextmanager
def _seeded(seed: int, epoch: int) -> Iterator[None]:
    """Draws of torch, numpy and random that follow from both; afterwards all go on where they were."""
    numpys, pythons = np.random.get_state(), random.getstate()
    value = int(np.random.SeedSequence((seed, epoch)).generate_state(1)[0])
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(value)
            np.random.seed(value)
            random.seed(value)
            yield
    finally:
        np.random.set_state(numpys)
        random.setstate(pythons)
