"""Batches of images and labels for training, validation and test."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from sightline.data.loader import make_loader
from sightline.data.transforms import Augmentation, load_rgb, normalise, prepare
from sightline.task_spec import TaskSpec

Key = int | tuple[int, int]


class EpochSampler(Sampler[tuple[int, int]]):
    """Yields `(epoch, index)` in an order that is a function of the seed and the epoch alone."""

    def __init__(self, length: int, seed: int) -> None:
        self.length, self.seed, self.epoch = length, seed, 0

    def set_epoch(self, epoch: int) -> None:
        """Lightning calls this before each epoch."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.length

    def __iter__(self) -> Iterator[tuple[int, int]]:
        order = np.random.default_rng((self.seed, self.epoch)).permutation(self.length)
        return ((self.epoch, int(index)) for index in order)


class ImageDataset(Dataset[tuple[torch.Tensor, int]]):
    """Files and labels; an item is a uint8 image `(image_size, image_size, 3)` and the index of its class."""

    def __init__(
        self,
        paths: Sequence[Path],
        labels: Sequence[int],
        spec: TaskSpec,
        augmentation: Augmentation | None = None,
        seed: int = 0,
    ) -> None:
        self.paths, self.labels, self.spec, self.augmentation, self.seed = paths, labels, spec, augmentation, seed

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, key: Key) -> tuple[torch.Tensor, int]:
        epoch, index = key if isinstance(key, tuple) else (0, key)
        image = load_rgb(self.paths[index])
        if self.augmentation is None:
            pixels = prepare(image, self.spec)
        else:
            pixels = self.augmentation(image, (self.seed, epoch, index))
        return torch.from_numpy(np.ascontiguousarray(pixels)), self.labels[index]


class SyntheticDataset(Dataset[tuple[torch.Tensor, int]]):
    """Random pixels made once and handed out again and again: for timing, not for learning."""

    def __init__(self, length: int, spec: TaskSpec, distinct: int = 256) -> None:
        generator = np.random.default_rng(0)
        size = spec.image_size
        self.length, self.num_classes = length, spec.num_classes
        self.images = torch.from_numpy(generator.integers(0, 256, (min(length, distinct), size, size, 3), np.uint8))

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, key: Key) -> tuple[torch.Tensor, int]:
        index = key[1] if isinstance(key, tuple) else key
        return self.images[index % len(self.images)], index % self.num_classes


class ImageDataModule(pl.LightningDataModule):
    """Loaders over three data sets; batches travel as uint8 `(B, H, W, 3)` and are normalised on the device."""

    def __init__(
        self,
        spec: TaskSpec,
        train: Dataset,
        val: Dataset,
        test: Dataset | None,
        *,
        batch_size: int,
        num_workers: int = 0,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.spec, self.train, self.val, self.test = spec, train, val, test
        self.batch_size, self.num_workers = batch_size, num_workers
        self.sampler = EpochSampler(len(train), seed)  # pyright: ignore[reportArgumentType]  (torch's Dataset has no length)

    def train_dataloader(self) -> DataLoader:
        """Shuffled, without the last incomplete batch unless it is the only one."""
        full = len(self.sampler) >= self.batch_size
        return self._loader(self.train, sampler=self.sampler, drop_last=full)

    def val_dataloader(self) -> DataLoader:
        return self._loader(self.val)

    def test_dataloader(self) -> DataLoader:
        assert self.test is not None, "there is no test split"
        return self._loader(self.test)

    def on_after_batch_transfer(
        self, batch: tuple[torch.Tensor, torch.Tensor], dataloader_idx: int
    ) -> tuple[torch.Tensor, torch.Tensor]:
        return normalise(batch[0], self.spec), batch[1]

    def _loader(self, dataset: Dataset, sampler: Sampler | None = None, drop_last: bool = False) -> DataLoader:
        return make_loader(
            dataset, batch_size=self.batch_size, num_workers=self.num_workers, sampler=sampler, drop_last=drop_last
        )
