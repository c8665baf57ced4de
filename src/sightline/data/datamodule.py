"""Batches of images and labels for training, validation and test."""

from collections.abc import Iterator, Sequence

import numpy as np
import pytorch_lightning as pl
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset, Sampler

from sightline.data.cache import ImageStore
from sightline.data.loader import make_loader
from sightline.data.splits import Selection
from sightline.data.transforms import Augmentation, load_rgb, normalise, prepare
from sightline.errors import BadInput
from sightline.task_spec import TaskSpec

Key = int | tuple[int, int]
"""Of an image: its index, or the epoch and its index."""
Batch = tuple[torch.Tensor, torch.Tensor]
Share = tuple[int, int]
"""The rank of a process, and how many there are."""
ALONE: Share = (0, 1)


class EpochSampler(Sampler[tuple[int, int]]):
    """Yields `(epoch, index)` in an order that is a function of the seed and the epoch alone.

    With several processes each gets its share of every batch of `batch_size` images, and the incomplete last is left
    out: together they take the batches that one process would.
    """

    def __init__(self, length: int, seed: int, batch_size: int = 1, share: Share = ALONE) -> None:
        self.length, self.seed, self.epoch, self.first = length, seed, 0, 0
        self.batch_size, self.share = batch_size, share

    def set_epoch(self, epoch: int) -> None:
        """Lightning calls this before each epoch: another one begins at its beginning, the same one keeps its place."""
        if epoch != self.epoch:
            self.seek(epoch, 0)

    def seek(self, epoch: int, first: int) -> None:
        """The next iteration is of this epoch, without so many images at its beginning."""
        self.epoch, self.first = epoch, first

    def __len__(self) -> int:
        """Of a whole epoch: Lightning adds the batches that it has had to those that come."""
        if self.share == ALONE:
            return self.length
        return self.length // self.batch_size * (self.batch_size // self.share[1])

    def __iter__(self) -> Iterator[tuple[int, int]]:
        epoch = self.epoch
        order = self.order(epoch)[self.first :]
        if self.share != ALONE:
            rank, ranks = self.share
            whole = order[: len(order) // self.batch_size * self.batch_size].reshape(
                -1, ranks, self.batch_size // ranks
            )
            order = whole[:, rank].ravel()
        return ((epoch, int(index)) for index in order)

    def order(self, epoch: int) -> np.ndarray:
        """The indices of an epoch."""
        return np.random.default_rng((self.seed, epoch)).permutation(self.length)


class SharedBatches(Sampler[list[int]]):
    """One process's part of every batch of a data set in its order: of the last one some may get nothing.

    All processes have equally many batches, and every image is in one of one process.
    """

    def __init__(self, length: int, batch_size: int, share: Share) -> None:
        self.length, self.batch_size, self.share = length, batch_size, share

    def __len__(self) -> int:
        return -(-self.length // self.batch_size)

    def __iter__(self) -> Iterator[list[int]]:
        rank, ranks = self.share
        size = self.batch_size // ranks
        for start in range(rank * size, len(self) * self.batch_size, self.batch_size):
            yield list(range(start, min(start + size, self.length)))


class ImageDataset(Dataset[Batch]):
    """Images and their labels, from their files or from a store of decoded pixels.

    Loaders ask for whole batches: uint8 `(B, image_size, image_size, 3)` and int64 labels `(B,)`.
    """

    def __init__(
        self,
        images: Selection,
        spec: TaskSpec,
        augmentation: Augmentation | None = None,
        seed: int = 0,
        store: ImageStore | None = None,
        places: np.ndarray | None = None,
    ) -> None:
        """`places` says where in the store each image lies; by default in the same order."""
        self.images, self.spec, self.seed = images, spec, seed
        self.augmentation = None if augmentation is None or augmentation.changes_nothing else augmentation
        self.store, self.places = store, places

    def __len__(self) -> int:
        return len(self.images)

    def name(self, index: int) -> str:
        """The path of an image below the data's root."""
        return str(self.images.manifest.paths[self.images.rows[index]])

    def __getitems__(self, keys: Sequence[Key]) -> Batch:
        indices = np.array([key[1] if isinstance(key, tuple) else key for key in keys], np.int64)
        labels = torch.from_numpy(self.images.labels[indices].astype(np.int64))
        if self.store is not None and self.augmentation is None:
            places = indices if self.places is None else self.places[indices]
            return torch.from_numpy(self.store.read(places)), labels
        size = self.spec.image_size
        pixels = torch.empty((len(keys), size, size, 3), dtype=torch.uint8)
        into = pixels.numpy()
        for row, key in enumerate(keys):
            into[row] = self._prepare(*key) if isinstance(key, tuple) else self._prepare(0, key)
        return pixels, labels

    def __getitem__(self, key: Key) -> Batch:
        """A batch of one, without its first dimension."""
        pixels, labels = self.__getitems__([key])
        return pixels[0], labels[0]

    def _prepare(self, epoch: int, index: int) -> np.ndarray:
        if self.store is None:
            image = load_rgb(self.images.path(index))
            return prepare(image, self.spec) if self.augmentation is None else self._augment(image, epoch, index)
        return self._augment(self.store[index if self.places is None else int(self.places[index])], epoch, index)

    def _augment(self, image: Image.Image | np.ndarray, epoch: int, index: int) -> np.ndarray:
        assert self.augmentation is not None
        return self.augmentation(image, (self.seed, epoch, index))


class SyntheticDataset(Dataset[Batch]):
    """Random pixels made once and handed out again and again: for timing, not for learning."""

    def __init__(self, length: int, spec: TaskSpec, distinct: int = 256) -> None:
        generator = np.random.default_rng(0)
        size = spec.image_size
        self.length, self.num_classes = length, spec.num_classes
        self.images = torch.from_numpy(generator.integers(0, 256, (min(length, distinct), size, size, 3), np.uint8))

    def __len__(self) -> int:
        return self.length

    def name(self, index: int) -> str:
        return f"random image {index}"

    def __getitems__(self, keys: Sequence[Key]) -> Batch:
        indices = torch.tensor([key[1] if isinstance(key, tuple) else key for key in keys], dtype=torch.int64)
        return self.images[indices % len(self.images)], indices % self.num_classes


class ImageDataModule(pl.LightningDataModule):
    """Loaders over three data sets; batches travel as uint8 `(B, H, W, 3)` and are normalised on the device.

    `batch_size` is that of all processes together; this one loads its `share`.
    """

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
        share: Share = ALONE,
    ) -> None:
        super().__init__()
        self.spec, self.train, self.val, self.test = spec, train, val, test
        self.batch_size, self.num_workers, self.share = batch_size, num_workers, share
        length = len(train)  # pyright: ignore[reportArgumentType]  (torch's Dataset has no length)
        if share != ALONE and length < batch_size:
            raise BadInput(
                f"data.batch_size={batch_size}: there are {length} training images, and several devices need a whole "
                "batch; make it smaller"
            )
        self.sampler = EpochSampler(length, seed, batch_size, share)

    def seek(self, epoch: int, batch: int) -> None:
        """Training goes on with this batch of this epoch."""
        self.sampler.seek(epoch, batch * self.batch_size)

    def train_dataloader(self) -> DataLoader:
        """Shuffled, without the last incomplete batch unless it is the only one."""
        full = self.sampler.length >= self.batch_size
        return make_loader(
            self.train,
            batch_size=self.batch_size // self.share[1],
            num_workers=self.num_workers,
            sampler=self.sampler,
            drop_last=full,
        )

    def val_dataloader(self) -> DataLoader:
        return self._loader(self.val)

    def test_dataloader(self) -> DataLoader:
        assert self.test is not None, "there is no test split"
        return self._loader(self.test)

    def train_files(self, epoch: int, batch: int) -> list[str]:
        """The images of a training batch by name; nothing where the data set has no names."""
        if not hasattr(self.train, "name"):
            return []
        place = slice(batch * self.batch_size, (batch + 1) * self.batch_size)
        is_overfit = getattr(self.trainer, "overfit_batches", 0)  # Lightning then reads in order
        indices = range(self.sampler.length)[place] if is_overfit else self._train_indices(epoch, place)
        return [self.train.name(int(index)) for index in indices]  # pyright: ignore[reportAttributeAccessIssue]

    def on_after_batch_transfer(self, batch: Batch, dataloader_idx: int) -> Batch:
        return normalise(batch[0], self.spec), batch[1]

    def _train_indices(self, epoch: int, place: slice) -> Sequence[int]:
        return self.sampler.order(epoch)[place].tolist()

    def _loader(self, dataset: Dataset) -> DataLoader:
        """In the data set's order, whole."""
        length = len(dataset)  # pyright: ignore[reportArgumentType]
        shared = None if self.share == ALONE else SharedBatches(length, self.batch_size, self.share)
        return make_loader(dataset, batch_size=self.batch_size, num_workers=self.num_workers, batch_sampler=shared)
