"""Every class equally often, however many images it has."""

import numpy as np

from sightline.data.datamodule import EpochSampler


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
