"""The order of an epoch: a function of the seed and the epoch alone, dealt out to ranks, resumable at any batch."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch.utils.data import DistributedSampler, Sampler

from sightline.data.shards.stores import SHARDS_AT_ONCE

NO_SHARD = -1


class EpochSampler(Sampler[tuple[int, int]]):
    """Yields `(epoch, index)` in an order that is a function of the seed and the epoch alone.

    With a world size above one each rank gets its part of every global batch of `batch_size` images, and the
    incomplete last is left out: together the ranks take the batches that one process would.
    """

    def __init__(self, length: int, seed: int, batch_size: int = 1, rank: int = 0, world_size: int = 1) -> None:
        self.length, self.seed, self.epoch, self.first = length, seed, 0, 0
        self.batch_size, self.rank, self.world_size = batch_size, rank, world_size

    def set_epoch(self, epoch: int) -> None:
        """Lightning calls this before each epoch: another one begins at its start, the same one goes on."""
        if epoch != self.epoch:
            self.seek(epoch, 0)

    def seek(self, epoch: int, first: int) -> None:
        """The next iteration is of this epoch, without so many images at its beginning."""
        self.epoch, self.first = epoch, first

    def __len__(self) -> int:
        """Of a whole epoch: Lightning adds the batches that it has had to those that come."""
        if self.world_size == 1:
            return self.length
        return self.length // self.batch_size * (self.batch_size // self.world_size)

    def __iter__(self) -> Iterator[tuple[int, int]]:
        epoch = self.epoch
        order = self.order(epoch)[self.first :]
        if self.world_size > 1:
            whole = order[: len(order) // self.batch_size * self.batch_size]
            order = whole.reshape(-1, self.world_size, self.batch_size // self.world_size)[:, self.rank].ravel()
        return ((epoch, int(index)) for index in order)

    def order(self, epoch: int) -> np.ndarray:
        """The epoch permutation: the indices of all ranks."""
        return np.random.default_rng((self.seed, epoch)).permutation(self.length)


class SequentialBatches(Sampler[list[int]]):
    """A rank's part of every global batch of a data set in its order: of the last one some ranks may get nothing.

    All ranks have equally many batches, and every image is in one of one rank.
    """

    def __init__(self, length: int, batch_size: int, rank: int, world_size: int) -> None:
        self.length, self.batch_size, self.rank, self.world_size = length, batch_size, rank, world_size

    def __len__(self) -> int:
        return -(-self.length // self.batch_size)

    def __iter__(self) -> Iterator[list[int]]:
        size = self.batch_size // self.world_size
        for start in range(self.rank * size, len(self) * self.batch_size, self.batch_size):
            yield list(range(start, min(start + size, self.length)))


class BalancedSampler(EpochSampler):
    """An epoch has its usual length and as many images of one class as of another.

    A class's images come in turn: a small class is gone through several times, of a large one each epoch sees another
    part. An index beyond the data's length means one more copy of an image, which is augmented in its own way.
    """

    def __init__(self, labels: np.ndarray, seed: int) -> None:
        super().__init__(len(labels), seed)
        self.members = [np.flatnonzero(labels == label) for label in np.unique(labels)]

    def order(self, epoch: int) -> np.ndarray:
        generator = np.random.default_rng((self.seed, epoch))
        quotas = np.full(len(self.members), self.length // len(self.members))
        quotas[generator.permutation(len(quotas))[: self.length % len(quotas)]] += 1
        drawn = [self._draw(members, quota, generator) for members, quota in zip(self.members, quotas, strict=True)]
        return generator.permutation(np.concatenate(drawn))

    def _draw(self, members: np.ndarray, quota: int, generator: np.random.Generator) -> np.ndarray:
        """So many of a class's images, each as often as any other, give or take one."""
        rounds = -(-quota // len(members))
        copies = [generator.permutation(members) + number * self.length for number in range(rounds)]
        return np.concatenate(copies)[:quota] if copies else members[:0]


class ShardSampler(DistributedSampler):
    """Yields `(epoch, position, shard to fetch ahead)`: this rank's part of an epoch, a function of seed and epoch.

    The shards of an epoch are permuted, their images are cut into one part for each rank, and each part is shuffled
    across `SHARDS_AT_ONCE` shards at a time. With `drop_last` the parts are equal and up to `world_size - 1` images of
    an epoch, others each time, are left out; without it no image is, and the parts differ by one at most. As in torch,
    `rank` and `world_size` are by default those of the process group. It is a `DistributedSampler` so that Lightning
    does not split it again.
    """

    def __init__(
        self,
        num_images: np.ndarray,
        *,
        shuffle: bool,
        drop_last: bool,
        batch_size: int,
        seed: int = 0,
        rank: int | None = None,
        world_size: int | None = None,
    ) -> None:
        """`num_images` says how many each shard holds."""
        everything: Any = range(int(num_images.sum()))
        super().__init__(everything, num_replicas=1, rank=0, shuffle=shuffle, seed=seed)
        self.num_images, self.batch_size, self._given = num_images, batch_size, (rank, world_size)
        self.equal_parts = drop_last
        self.first_batch = self.num_batches = 0

    @property
    def rank_and_world_size(self) -> tuple[int, int]:
        """Those given, or else those of the process group at this moment."""
        rank, world_size = self._given
        if rank is not None and world_size is not None:
            return rank, world_size
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            return torch.distributed.get_rank(), torch.distributed.get_world_size()
        return 0, 1

    def __len__(self) -> int:
        first, last = self._part()
        return last - first

    @property
    def largest_part(self) -> int:
        """Most images of any rank, when none is left out."""
        return -(-int(self.num_images.sum()) // self.rank_and_world_size[1])

    def set_epoch(self, epoch: int) -> None:
        """Another epoch begins at its beginning; the same one goes on where it is."""
        if epoch != self.epoch:
            self.seek(epoch, 0)

    def seek(self, epoch: int, batch: int) -> None:
        """The next iteration is of this epoch, from this batch on."""
        self.epoch, self.first_batch, self.num_batches = epoch, batch, batch

    def shape(self) -> dict[str, int]:
        """The settings that a saved position in an epoch depends on."""
        total = int(self.num_images.sum())
        num_ranks = self.rank_and_world_size[1]
        return {"batch_size": self.batch_size, "num_ranks": num_ranks, "seed": self.seed, "num_images": total}

    def __iter__(self) -> Iterator[tuple[int, int, int]]:
        return self.keys(self.epoch, self.first_batch * self.batch_size)

    def _part(self) -> tuple[int, int]:
        """Where this rank's images begin and end in the epoch's order."""
        total, (rank, world_size) = int(self.num_images.sum()), self.rank_and_world_size
        if self.equal_parts:
            return rank * (total // world_size), (rank + 1) * (total // world_size)
        return rank * total // world_size, (rank + 1) * total // world_size

    def _pieces(self, epoch: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The shards of this rank's part in the epoch's order, and the first and last position to read in each."""
        order = np.arange(len(self.num_images))
        if self.shuffle:
            order = np.random.default_rng((self.seed, epoch)).permutation(order)
        first, last = self._part()
        stops = np.cumsum(self.num_images[order])
        starts = stops - self.num_images[order]
        shift = (np.cumsum(self.num_images) - self.num_images)[order] - starts
        low, high = np.maximum(starts, first), np.minimum(stops, last)
        mine = low < high
        return order[mine], (low + shift)[mine], (high + shift)[mine]

    def keys(self, epoch: int, skip: int) -> Iterator[tuple[int, int, int]]:
        """This rank's keys after the first `skip`; what is skipped is not computed."""
        shards, low, high = self._pieces(epoch)
        width = SHARDS_AT_ONCE if self.shuffle else 1
        for window in range(0, len(shards), width):
            some = slice(window, window + width)
            positions = np.concatenate([np.arange(*ends) for ends in zip(low[some], high[some], strict=True)])
            if skip >= len(positions):
                skip -= len(positions)
                continue
            if self.shuffle:
                generator = np.random.default_rng((self.seed, epoch, self.rank_and_world_size[0], window))
                positions = generator.permutation(positions)
            hints = _spread(shards[window + width : window + 2 * width], len(positions), skip)
            for number in range(skip, len(positions)):
                yield epoch, int(positions[number]), hints.get(number, NO_SHARD)
            skip = 0


def _spread(shards: np.ndarray, length: int, skip: int) -> dict[int, int]:
    """Image of a window at which to prefetch each shard of the next one: evenly over the first half."""
    steps = (max(skip + number, number * length // (2 * len(shards))) for number in range(len(shards)))
    return {step: int(shard) for step, shard in zip(steps, shards, strict=True)}
