"""Batches of images and labels for training, validation and test."""

from collections.abc import Sequence
from typing import Any

import pytorch_lightning as pl
from torch.utils.data import DataLoader, Dataset

from sightline.data.batch_augmentation import BatchAugmentation
from sightline.data.datasets import Batch, ImageDataset
from sightline.data.loader import make_loader
from sightline.data.samplers import EpochSampler, SequentialBatches
from sightline.data.transforms import normalise
from sightline.errors import BadInput
from sightline.task_spec import TaskSpec


class ImageDataModule(pl.LightningDataModule):
    """Loaders over three data sets; batches travel as uint8 `(B, H, W, 3)` and are normalised on the device.

    `batch_size` is the global one, of all ranks together; this process loads the part of its `rank`.
    """

    why_inexact: Sequence[str] = ()
    """Why a stopped run may get other batches than one that was not."""

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
        batch_augmentation: BatchAugmentation | None = None,
    ) -> None:
        """`train` gives as many draws with each image as the `batch_augmentation` takes."""
        super().__init__()
        self.batch_augmentation = batch_augmentation
        self.spec, self.train, self.val, self.test = spec, train, val, test
        self.batch_size, self.num_workers = batch_size, num_workers
        self.rank, self.world_size = 0, 1
        self.is_kept_on_device = False
        self.sampler = EpochSampler(len(train), seed)  # pyright: ignore[reportArgumentType]  (torch's Dataset has no length)

    def seek(self, epoch: int, batch: int) -> None:
        """Resume training at this batch of this epoch."""
        self.sampler.seek(epoch, batch * self.batch_size)

    def set_rank(self, rank: int, world_size: int) -> None:
        """Load that rank's part of every global batch from now on.

        Raises: BadInput when there is no whole batch.
        """
        if world_size > 1 and self._num_train_images() < self.batch_size:
            raise BadInput(
                f"data.batch_size={self.batch_size}: there are {self._num_train_images()} training images, and several "
                "devices need a whole batch; make it smaller"
            )
        self.rank, self.world_size = rank, world_size
        self._divide_training()

    def _divide_training(self) -> None:
        self.sampler.batch_size, self.sampler.rank, self.sampler.world_size = (
            self.batch_size,
            self.rank,
            self.world_size,
        )

    def keep_on_device(self) -> None:
        """Move the images of training and validation to the trainer's device, all of them, at their first use."""
        self.is_kept_on_device = True

    def train_dataloader(self) -> DataLoader:
        """Shuffled, without the last incomplete batch unless it is the only one."""
        self.train = self._at_hand(self.train)
        return make_loader(
            self.train,
            batch_size=self.batch_size // self.world_size,
            num_workers=self._num_workers(self.train),
            sampler=self.sampler,
            drop_last=self._num_train_images() >= self.batch_size,
        )

    def val_dataloader(self) -> DataLoader:
        self.val = self._at_hand(self.val)
        return self._loader(self.val)

    def test_dataloader(self) -> DataLoader:
        assert self.test is not None, "there is no test split"
        return self._loader(self.test)

    def measured(self, split: str) -> Any:
        """Prepared images and labels of validation or test, as the network is measured on them."""
        return self.val_dataloader() if split == "val" else self.test_dataloader()

    def train_files(self, epoch: int, batch: int) -> list[str]:
        """The images of a training batch by name; nothing where the data set has no names."""
        if not hasattr(self.train, "name"):
            return []
        span = slice(batch * self.batch_size, (batch + 1) * self.batch_size)
        is_overfit = getattr(self.trainer, "overfit_batches", 0)  # Lightning then reads in order
        indices = range(self._num_train_images())[span] if is_overfit else self._train_indices(epoch, span)
        return [self.train.name(int(index)) for index in indices]  # pyright: ignore[reportAttributeAccessIssue]

    def on_after_batch_transfer(self, batch: Batch, dataloader_idx: int) -> Batch:
        images, labels, *draws = batch
        if draws:
            assert self.batch_augmentation is not None, "draws, but nothing that takes them"
            return self.batch_augmentation(images, labels, draws[0])
        return normalise(images, self.spec), labels

    def _train_indices(self, epoch: int, span: slice) -> Sequence[int]:
        return self.sampler.order(epoch)[span].tolist()

    def _at_hand(self, dataset: Dataset) -> Dataset:
        """The data set on the trainer's device if it is to be kept there, else as it is."""
        if not self.is_kept_on_device or self.trainer is None or not isinstance(dataset, ImageDataset):
            return dataset
        from sightline.data.device_cache import DeviceDataset

        return DeviceDataset(dataset, self.trainer.strategy.root_device, num_workers=self.num_workers)

    def _num_train_images(self) -> int:
        """Training images of an epoch, over all ranks."""
        return self.sampler.length

    def _num_workers(self, dataset: Dataset) -> int:
        return 0 if getattr(dataset, "is_on_device", False) else self.num_workers

    def _loader(self, dataset: Dataset) -> DataLoader:
        """A loader in the data set's order, with the last incomplete batch."""
        length = len(dataset)  # pyright: ignore[reportArgumentType]
        batches = None
        if self.world_size > 1:
            batches = SequentialBatches(length, self.batch_size, self.rank, self.world_size)
        workers = self._num_workers(dataset)
        return make_loader(dataset, batch_size=self.batch_size, num_workers=workers, batch_sampler=batches)
