"""Batches from shards: the folder's pixels and draws, in an order that ranks share and checkpoints can resume."""

import csv
import io
import logging
import os
from collections.abc import Iterator, Sequence
from functools import cached_property
from itertools import islice
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from sightline.data.arrays import Picture
from sightline.data.batch_augmentation import BatchAugmentation, source_of
from sightline.data.datamodule import ImageDataModule
from sightline.data.datasets import Batch, draw, dtype_of, shape_of
from sightline.data.loader import make_loader
from sightline.data.samplers import NO_SHARD, ShardSampler
from sightline.data.shards.packing import read_shards, require_litdata
from sightline.data.shards.stores import ShardCache, ShardFiles, StorageFailed, open_store
from sightline.data.transforms import Augmentation, UnreadableImage, prepare, read_picture
from sightline.errors import BadInput
from sightline.task_spec import TaskSpec

log = logging.getLogger(__name__)
Key = int | tuple[int, int, int]
"""Key of an image: its position in the shards, or the epoch, the position and a shard to prefetch (or `NO_SHARD`)."""


class ShardDataset(Dataset[Batch]):
    """Images of one split by their position in the shards; as `ImageDataset` gives them, to the last bit.

    Loaders ask for whole batches. Shards in S3 need a cache; those in a folder are read in place.
    """

    def __init__(
        self,
        location: str,
        split: str,
        spec: TaskSpec,
        *,
        augmentation: Augmentation | None = None,
        seed: int = 0,
        cache: ShardCache | None = None,
        num_draws: int = 0,
    ) -> None:
        require_litdata()
        info = read_shards(location)
        if info.class_names != tuple(spec.class_names):
            raise BadInput(
                f"{location}: its classes are {', '.join(info.class_names)} and the model's "
                f"{', '.join(spec.class_names)}; train a model for these shards, or pack the data it was trained on"
            )
        self.max_pixels = info.max_pixels
        self.files = ShardFiles(open_store(location), split, cache)
        self.spec, self.augmentation, self.seed, self.num_draws = spec, augmentation, seed, num_draws
        self.stops = np.cumsum(self.files.num_images)
        self._reader: tuple[int, Any] | None = None

    def __len__(self) -> int:
        return int(self.stops[-1])

    def __getitems__(self, keys: Sequence[Key]) -> Batch:
        pixels = torch.empty((len(keys), *shape_of(self.spec)), dtype=dtype_of(self.spec))
        labels = torch.empty(len(keys), dtype=torch.int64)
        into, drawn = pixels.numpy(), []
        for row, key in enumerate(keys):
            epoch, position, coming = key if isinstance(key, tuple) else (0, key, NO_SHARD)
            if coming != NO_SHARD:
                self.files.fetch_ahead(coming)
            item = self.read(position)
            into[row], labels[row] = self._prepare(item, epoch), item["label"]
            drawn.append((epoch, item["index"]))
        return (pixels, labels, draw(self.num_draws, self.seed, drawn)) if self.num_draws else (pixels, labels)

    def __getitem__(self, key: Key) -> Batch:
        """A batch of one, without its first dimension."""
        return tuple(column[0] for column in self.__getitems__([key]))

    def _prepare(self, item: dict[str, Any], epoch: int) -> np.ndarray:
        image = self._decode(item)
        if self.augmentation is None:
            return prepare(image, self.spec)
        return self.augmentation(image, (self.seed, epoch, item["index"]))

    def name(self, position: int) -> str:
        """The path of an image below the root of the data that was packed."""
        return self._paths[self.read(position)["row"]]

    @cached_property
    def _paths(self) -> list[str]:
        """Of every row of the manifest."""
        text = (self.files.store.read("manifest.csv") or b"").decode()
        return [row[0] for row in csv.reader(io.StringIO(text))][1:]

    def read(self, position: int) -> dict[str, Any]:
        """The file's bytes (`image`), its `label`, its `row` in the manifest and its `index` within the split."""
        from litdata.streaming.sampler import ChunkedIndex

        shard = int(np.searchsorted(self.stops, position, side="right"))
        for _ in range(5):
            try:
                self.files.require(shard)
                return self._open_reader()[ChunkedIndex(position, shard)]
            except FileNotFoundError:  # it made room for another between the two lines
                log.debug("%s: read again", self.files.names[shard])
        raise StorageFailed(
            f"{self.files.folder / self.files.names[shard]}: is not there, or keeps vanishing; allow a larger cache"
        )

    def _open_reader(self) -> Any:
        """LitData's reader of the local files, one for each process: its file handle must not be shared."""
        if self._reader is None or self._reader[0] != os.getpid():
            from litdata.streaming import Cache
            from litdata.streaming.item_loader import PyTreeLoader

            # without batch_decode=0 it would decode 256 neighbours of every image that is asked for
            loader = PyTreeLoader(batch_decode=0)
            self._reader = (os.getpid(), Cache(str(self.files.folder), chunk_bytes=1, item_loader=loader))
        return self._reader[1]

    def _decode(self, item: dict[str, Any]) -> Picture:
        try:
            return read_picture(io.BytesIO(item["image"]), self.spec, self.max_pixels)
        except Exception as error:  # as in load_rgb: Pillow's plugins raise many kinds
            row = f"{self.files.store.location}: row {item['row']} of its manifest.csv"
            raise UnreadableImage(f"{row} cannot be read as an image ({error}); repair it and pack again") from error

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_reader": None}


class ShardLoader(DataLoader):
    """A resumable loader: `state_dict()` counts the batches that it has handed out.

    A checkpoint that is written between taking a batch and training on it must say so with `seek`.
    """

    def __iter__(self) -> Iterator[Any]:  # pyright: ignore[reportIncompatibleMethodOverride]  (torch's reads at once)
        """Nothing is read before the first batch is asked for: Lightning sets the epoch after calling `iter`."""
        if not isinstance(self.sampler, ShardSampler):  # overfit_batches puts another in its place
            yield from super().__iter__()
            return
        sampler = self.shard_sampler
        sampler.num_batches = sampler.first_batch
        for batch in super().__iter__():
            sampler.first_batch = 0
            sampler.num_batches += 1
            yield batch
        sampler.first_batch = 0
        for _ in range(sampler.num_batches, len(self)):
            yield self.dataset.__getitems__([])  # pyright: ignore[reportAttributeAccessIssue]  (a ShardDataset)

    def __len__(self) -> int:
        """The same for every rank: one with fewer images gets an empty last batch."""
        if not isinstance(self.sampler, ShardSampler) or self.drop_last:
            return super().__len__()
        assert self.batch_size is not None
        return -(-self.shard_sampler.largest_part // self.batch_size)

    @property
    def shard_sampler(self) -> ShardSampler:
        assert isinstance(self.sampler, ShardSampler), self.sampler
        return self.sampler

    def set_epoch(self, epoch: int) -> None:
        self.shard_sampler.set_epoch(epoch)

    def seek(self, epoch: int, batch: int) -> None:
        """Go on with this batch of this epoch."""
        self.shard_sampler.seek(epoch, batch)

    def state_dict(self) -> dict[str, int]:
        if not isinstance(self.sampler, ShardSampler):
            return {}
        sampler = self.shard_sampler
        return {"epoch": sampler.epoch, "batch": sampler.num_batches, **sampler.shape()}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Go on after the batches that had been handed out.

        Raises: BadInput when batches are made differently now.
        """
        for name, value in self.shard_sampler.shape().items():
            if state[name] != value:
                raise BadInput(
                    f"{name}={value}: this run was stopped within an epoch with {name}={state[name]}, and its place "
                    "is counted in such batches; set it back to go on"
                )
        self.seek(state["epoch"], state["batch"])


def make_shard_loader(
    dataset: ShardDataset,
    *,
    batch_size: int,
    num_workers: int = 0,
    shuffle: bool = False,
    drop_last: bool = False,
    rank: int | None = None,
    world_size: int | None = None,
) -> ShardLoader:
    """Batches of prepared images `(B, H, W, C)` and int64 labels, `batch_size` on each rank.

    With `drop_last` every rank has equally many whole batches; without it every image is read exactly once. `rank` and
    `world_size` are by default those of the process group.
    """
    sampler = ShardSampler(
        dataset.files.num_images,
        shuffle=shuffle,
        drop_last=drop_last,
        batch_size=batch_size,
        seed=dataset.seed,
        rank=rank,
        world_size=world_size,
    )
    loader = make_loader(
        dataset, batch_size=batch_size, num_workers=num_workers, sampler=sampler, drop_last=drop_last, kind=ShardLoader
    )
    assert isinstance(loader, ShardLoader)
    return loader


class ShardDataModule(ImageDataModule):
    """The loaders of `ImageDataModule` over shards."""

    def __init__(
        self,
        location: str,
        spec: TaskSpec,
        *,
        augmentation: Augmentation | None,
        batch_size: int,
        num_workers: int = 0,
        seed: int = 0,
        cache: ShardCache | None = None,
        batch_augmentation: BatchAugmentation | None = None,
    ) -> None:
        counts = read_shards(location).num_images
        source, num_draws = source_of(spec, batch_augmentation)
        train = ShardDataset(
            location, "train", source, augmentation=augmentation, seed=seed, cache=cache, num_draws=num_draws
        )
        val = ShardDataset(location, "val", spec, cache=cache)
        test = ShardDataset(location, "test", spec, cache=cache) if counts["test"] else None
        loading: dict[str, Any] = {"batch_size": batch_size, "num_workers": num_workers}
        super().__init__(spec, train, val, test, seed=seed, batch_augmentation=batch_augmentation, **loading)
        self._divide_training()

    def _divide_training(self) -> None:
        """The loader of training is made once, because it is resumable."""
        assert isinstance(self.train, ShardDataset)
        self.train_loader = make_shard_loader(
            self.train,
            batch_size=self.batch_size // self.world_size,
            num_workers=self.num_workers,
            shuffle=True,
            drop_last=len(self.train) >= self.batch_size,
            rank=self.rank,
            world_size=self.world_size,
        )
        self.sampler = self.train_loader.shard_sampler  # pyright: ignore[reportAttributeAccessIssue]

    def _num_train_images(self) -> int:
        return len(self.train)  # pyright: ignore[reportArgumentType]

    def seek(self, epoch: int, batch: int) -> None:
        self.train_loader.seek(epoch, batch)

    def train_dataloader(self) -> ShardLoader:
        """Shuffled; the same one each time, because it is resumable."""
        return self.train_loader

    def _train_indices(self, epoch: int, span: slice) -> Sequence[int]:
        """Of this rank's part of the batch."""
        first, last = span.start // self.world_size, span.stop // self.world_size
        return [key[1] for key in islice(self.train_loader.shard_sampler.keys(epoch, first), last - first)]

    def _loader(self, dataset: Dataset) -> ShardLoader:
        assert isinstance(dataset, ShardDataset)
        size = self.batch_size // self.world_size
        return make_shard_loader(
            dataset, batch_size=size, num_workers=self.num_workers, rank=self.rank, world_size=self.world_size
        )
