"""Data sets that are read in whole batches of images and labels: from files, decoded pixels or random numbers."""

from collections.abc import Sequence

import numpy as np
import torch
from torch.utils.data import Dataset

from sightline.data.arrays import Picture
from sightline.data.cache import ImageStore
from sightline.data.manifest import Selection
from sightline.data.transforms import Augmentation, load, prepare
from sightline.task_spec import MAX_PIXELS, TaskSpec

Key = int | tuple[int, int]
"""Key of an image: its index, or the epoch and its index."""
Batch = tuple[torch.Tensor, ...]
"""Images and labels, and the draws of a batch augmentation where there is one."""


def shape_of(spec: TaskSpec) -> tuple[int, int, int]:
    """Of a prepared image."""
    return spec.image_size, spec.image_size, spec.channels


def dtype_of(spec: TaskSpec) -> torch.dtype:
    """Of a prepared image."""
    return torch.uint8 if spec.bit_depth == 8 else torch.uint16


def draw(num_draws: int, seed: int, keys: Sequence[tuple[int, int]]) -> torch.Tensor:
    """Numbers in 0..1, float32 `(B, num_draws)`: a function of the seed and each key (epoch, index)."""
    bits = np.random.Philox(key=seed)
    generator, state = np.random.Generator(bits), bits.state
    numbers = np.empty((len(keys), num_draws), np.float32)
    for row, (epoch, index) in zip(numbers, keys, strict=True):
        state["state"]["counter"][:] = (0, index, epoch, 0)  # 2 us; a generator for each image would take 10
        bits.state = state
        generator.random(dtype=np.float32, out=row)
    return torch.from_numpy(numbers)


class ImageDataset(Dataset[Batch]):
    """Images and their labels, from their files or from a store of decoded pixels.

    Loaders ask for whole batches: `(B, image_size, image_size, C)` of the spec's type, int64 labels `(B,)` and, where a
    batch augmentation wants them, its draws `(B, num_draws)`. An index beyond the last image begins again at the
    first, for another copy of it with an augmentation of its own.
    """

    def __init__(
        self,
        images: Selection,
        spec: TaskSpec,
        augmentation: Augmentation | None = None,
        seed: int = 0,
        store: ImageStore | None = None,
        store_indices: np.ndarray | None = None,
        num_draws: int = 0,
        max_pixels: int = MAX_PIXELS,
    ) -> None:
        """`store_indices` int `(N,)`: the index in the store of each image; by default its own."""
        self.images, self.spec, self.seed, self.num_draws = images, spec, seed, num_draws
        self.augmentation = None if augmentation is None or augmentation.changes_nothing else augmentation
        self.store, self.store_indices, self.max_pixels = store, store_indices, max_pixels

    def __len__(self) -> int:
        return len(self.images)

    def name(self, index: int) -> str:
        """The path of an image below the data's root."""
        return str(self.images.manifest.paths[self.images.rows[index % len(self)]])

    def __getitems__(self, keys: Sequence[Key]) -> Batch:
        pairs = [key if isinstance(key, tuple) else (0, key) for key in keys]
        indices = np.array([index for _, index in pairs], np.int64) % len(self)
        labels = torch.from_numpy(self.images.labels[indices].astype(np.int64))
        pixels = self._read(pairs, indices)
        if not self.num_draws:
            return pixels, labels
        return pixels, labels, draw(self.num_draws, self.seed, pairs)

    def __getitem__(self, key: Key) -> Batch:
        """A batch of one, without its first dimension."""
        return tuple(column[0] for column in self.__getitems__([key]))

    def _read(self, pairs: Sequence[tuple[int, int]], indices: np.ndarray) -> torch.Tensor:
        if self.store is not None and self.augmentation is None:
            chosen = indices if self.store_indices is None else self.store_indices[indices]
            return torch.from_numpy(self.store.read(chosen))
        pixels = torch.empty((len(pairs), *shape_of(self.spec)), dtype=dtype_of(self.spec))
        into = pixels.numpy()
        for row, pair in enumerate(pairs):
            into[row] = self._prepare(*pair)
        return pixels

    def _prepare(self, epoch: int, index: int) -> np.ndarray:
        row = index % len(self)
        if self.store is None:
            image = load(self.images.path(row), self.spec, self.max_pixels)
            return prepare(image, self.spec) if self.augmentation is None else self._augment(image, epoch, index)
        position = row if self.store_indices is None else int(self.store_indices[row])
        return self._augment(self.store[position], epoch, index)

    def _augment(self, image: Picture, epoch: int, index: int) -> np.ndarray:
        assert self.augmentation is not None
        return self.augmentation(image, (self.seed, epoch, index))


class SyntheticDataset(Dataset[Batch]):
    """The same random pixels in every batch: for timing, not for learning."""

    def __init__(self, length: int, spec: TaskSpec, distinct: int = 256) -> None:
        generator = np.random.default_rng(0)
        self.length, self.num_classes = length, spec.num_classes
        shape = (min(length, distinct), *shape_of(spec))
        self.images = torch.from_numpy(generator.integers(0, spec.max_level + 1, shape, np.dtype(spec.dtype)))

    def __len__(self) -> int:
        return self.length

    def name(self, index: int) -> str:
        return f"random image {index}"

    def __getitems__(self, keys: Sequence[Key]) -> Batch:
        indices = torch.tensor([key[1] if isinstance(key, tuple) else key for key in keys], dtype=torch.int64)
        return self.images[indices % len(self.images)], indices % self.num_classes
