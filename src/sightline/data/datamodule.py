"""Batches of images and labels for training, validation and test."""

from collections.abc import Iterator, Sequence

import numpy as np
import pytorch_lightning as pl
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset, Sampler

from sightline.data.batch_augmentation import BatchAugmentation
from sightline.data.cache import ImageStore
from sightline.data.loader import make_loader
from sightline.data.manifest import Selection
from sightline.data.transforms import Augmentation, load_rgb, normalise, prepare
from sightline.errors import BadInput
from sightline.task_spec import TaskSpec

Key = int | tuple[int, int]
"""Of an image: its index, or the epoch and its index."""
Batch = tuple[torch.Tensor, ...]
"""Images and labels, and the draws of a batch augmentation where there is one."""
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


def draw(num_draws: int, seed: int, places: Sequence[tuple[int, int]]) -> torch.Tensor:
    """Numbers in 0..1, float32 `(B, num_draws)`: those of the seed and of each place (epoch, index)."""
    bits = np.random.Philox(key=seed)
    generator, state = np.random.Generator(bits), bits.state
    numbers = np.empty((len(places), num_draws), np.float32)
    for row, (epoch, index) in zip(numbers, places, strict=True):
        state["state"]["counter"][:] = (0, index, epoch, 0)  # 2 us; a generator for each image would take 10
        bits.state = state
        generator.random(dtype=np.float32, out=row)
    return torch.from_numpy(numbers)


class ImageDataset(Dataset[Batch]):
    """Images and their labels, from their files or from a store of decoded pixels.

    Loaders ask for whole batches: uint8 `(B, image_size, image_size, 3)`, int64 labels `(B,)` and, where a batch
    augmentation wants them, its draws `(B, num_draws)`. An index beyond the last image begins again at the
    first, for another copy of it with an augmentation of its own.
    """

    def __init__(
        self,
        images: Selection,
        spec: TaskSpec,
        augmentation: Augmentation | None = None,
        seed: int = 0,
        store: ImageStore | None = None,
        places: np.ndarray | None = None,
        num_draws: int = 0,
    ) -> None:
        """`places` says where in the store each image lies; by default in the same order."""
        self.images, self.spec, self.seed, self.num_draws = images, spec, seed, num_draws
        self.augmentation = None if augmentation is None or augmentation.changes_nothing else augmentation
        self.store, self.places = store, places

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
            places = indices if self.places is None else self.places[indices]
            return torch.from_numpy(self.store.read(places))
        size = self.spec.image_size
        pixels = torch.empty((len(pairs), size, size, 3), dtype=torch.uint8)
        into = pixels.numpy()
        for row, pair in enumerate(pairs):
            into[row] = self._prepare(*pair)
        return pixels

    def _prepare(self, epoch: int, index: int) -> np.ndarray:
        row = index % len(self)
        if self.store is None:
            image = load_rgb(self.images.path(row))
            return prepare(image, self.spec) if self.augmentation is None else self._augment(image, epoch, index)
        return self._augment(self.store[row if self.places is None else int(self.places[row])], epoch, index)

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

    `batch_size` is that of all processes together; this one loads its `share`, by default all.
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
        batch_augmentation: BatchAugmentation | None = None,
    ) -> None:
        """`train` gives as many draws with each image as the `batch_augmentation` takes."""
        super().__init__()
        self.batch_augmentation = batch_augmentation
        self.spec, self.train, self.val, self.test = spec, train, val, test
        self.batch_size, self.num_workers, self.share = batch_size, num_workers, ALONE
        self.is_kept_on_device = False
        self.sampler = EpochSampler(len(train), seed)  # pyright: ignore[reportArgumentType]  (torch's Dataset has no length)

    def seek(self, epoch: int, batch: int) -> None:
        """Training goes on with this batch of this epoch."""
        self.sampler.seek(epoch, batch * self.batch_size)

    def take_share(self, share: Share) -> None:
        """Load a process's part of every batch from now on.

        Raises: BadInput when there is no whole batch.
        """
        if share != ALONE and self._num_train_images() < self.batch_size:
            raise BadInput(
                f"data.batch_size={self.batch_size}: there are {self._num_train_images()} training images, and several "
                "devices need a whole batch; make it smaller"
            )
        self.share = share
        self._share_training()

    def _share_training(self) -> None:
        self.sampler.batch_size, self.sampler.share = self.batch_size, self.share

    def keep_on_device(self) -> None:
        """Move the images of training and validation to the trainer's device, all of them, at their first use."""
        self.is_kept_on_device = True

    def train_dataloader(self) -> DataLoader:
        """Shuffled, without the last incomplete batch unless it is the only one."""
        self.train = self._at_hand(self.train)
        return make_loader(
            self.train,
            batch_size=self.batch_size // self.share[1],
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

    def train_files(self, epoch: int, batch: int) -> list[str]:
        """The images of a training batch by name; nothing where the data set has no names."""
        if not hasattr(self.train, "name"):
            return []
        place = slice(batch * self.batch_size, (batch + 1) * self.batch_size)
        is_overfit = getattr(self.trainer, "overfit_batches", 0)  # Lightning then reads in order
        indices = range(self._num_train_images())[place] if is_overfit else self._train_indices(epoch, place)
        return [self.train.name(int(index)) for index in indices]  # pyright: ignore[reportAttributeAccessIssue]

    def on_after_batch_transfer(self, batch: Batch, dataloader_idx: int) -> Batch:
        images, labels, *draws = batch
        if draws:
            assert self.batch_augmentation is not None, "draws, but nothing that takes them"
            return self.batch_augmentation(images, labels, draws[0])
        return normalise(images, self.spec), labels

    def _train_indices(self, epoch: int, place: slice) -> Sequence[int]:
        return self.sampler.order(epoch)[place].tolist()

    def _at_hand(self, dataset: Dataset) -> Dataset:
        """The data set on the device, if that is wanted and there is a trainer that says which one."""
        if not self.is_kept_on_device or self.trainer is None or not isinstance(dataset, ImageDataset):
            return dataset
        from sightline.data.device_cache import DeviceDataset

        return DeviceDataset(dataset, self.trainer.strategy.root_device, num_workers=self.num_workers)

    def _num_train_images(self) -> int:
        """Of an epoch, for all processes."""
        return self.sampler.length

    def _num_workers(self, dataset: Dataset) -> int:
        return 0 if getattr(dataset, "is_on_device", False) else self.num_workers

    def _loader(self, dataset: Dataset) -> DataLoader:
        """In the data set's order, whole."""
        length = len(dataset)  # pyright: ignore[reportArgumentType]
        shared = None if self.share == ALONE else SharedBatches(length, self.batch_size, self.share)
        workers = self._num_workers(dataset)
        return make_loader(dataset, batch_size=self.batch_size, num_workers=workers, batch_sampler=shared)
