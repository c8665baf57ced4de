"""A LightningDataModule of own code in place of our data, and whether its order can be made ours."""

import inspect
import logging
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from torch.utils.data import BatchSampler, DataLoader, Dataset, IterableDataset, RandomSampler, SequentialSampler

from sightline.config import TrainConfig, build, locate
from sightline.config.location import parameters_of, where_raised
from sightline.data.datamodule import ImageDataModule
from sightline.data.loader import length_of, make_loader
from sightline.data.samplers import EpochSampler
from sightline.data.transforms import normalise
from sightline.errors import BadInput
from sightline.task_spec import TaskSpec

log = logging.getLogger(__name__)
LOADERS = {"train": "train_dataloader", "val": "val_dataloader", "test": "test_dataloader"}
NUM_LOOKED_AT = 2
"""Images of a map-style data set that are looked at before training."""
ITEMS = 2
"""Separates the random numbers of a data set's items from those of a step."""


@dataclass(frozen=True, eq=False)
class OwnData:
    """The data set of a data module, of the protocol of training data."""

    target: str
    own: pl.LightningDataModule
    class_names: tuple[str, ...]
    num_images: dict[str, Any]
    """By split; None where the data set has no length."""
    channels: int
    are_normalised: bool
    """Whether its images are floats `(B, C, H, W)` as a network takes them, and not uint8 `(B, H, W, C)`."""
    labels: np.ndarray | None = None
    """Of the training images, where the data set tells them."""
    fingerprint: str | None = None

    manifest = None
    guesses, unlabelled = (), ()
    value_range, bit_depth = None, 8

    def class_counts(self) -> list[int]:
        """Nothing where the data set does not tell its labels."""
        return [] if self.labels is None else np.bincount(self.labels, minlength=len(self.class_names)).tolist()

    def describe(self) -> dict[str, Any]:
        return {"num_images": self.num_images, "sha256": self.fingerprint, "datamodule": self.target}

    def save(self, folder: Any) -> None:
        """There is nothing to keep."""

    def make_datamodule(self, cfg: TrainConfig, spec: TaskSpec) -> "OwnDataModule":
        return OwnDataModule(self, spec, cfg.seed)

    def make_loader(
        self, split: str, spec: TaskSpec, *, batch_size: int, num_workers: int | None, usual_workers: int = 2
    ) -> Any:
        """Batches of a split as the data module makes them: their size and the workers are its own."""
        return OwnBatches(self, split)

    def prepared(self, batch: Any) -> tuple[torch.Tensor, torch.Tensor]:
        """Images and labels of a batch, after the data module's hooks.

        Raises: BadInput for a batch that is none of images and labels.
        """
        batch = self.own.on_after_batch_transfer(self.own.on_before_batch_transfer(batch, 0), 0)
        is_pair = isinstance(batch, tuple | list) and len(batch) == 2
        if not is_pair or not all(isinstance(each, torch.Tensor) for each in batch):
            what = f"({', '.join(type(each).__name__ for each in batch)})" if is_pair else type(batch).__name__
            raise BadInput(
                f"{self.of}: its batches are {what}, and must be (images, labels), both tensors; change that"
            )
        images, labels = batch
        return images, labels.long()

    @property
    def of(self) -> str:
        return f"datamodule._target_={self.target}"

    def loader(self, split: str) -> Any:
        """Raises: BadInput for anything but one loader."""
        try:
            loader = getattr(self.own, LOADERS[split])()
        except Exception as error:  # whatever own code does
            raise BadInput(f"{self.of}: {LOADERS[split]} fails ({where_raised(error)}); correct it") from error
        if isinstance(loader, Sequence | Mapping) or not hasattr(loader, "__iter__"):
            raise BadInput(f"{self.of}: {LOADERS[split]} gives {type(loader).__name__}, and must give one loader")
        return loader

    def has(self, split: str) -> bool:
        return getattr(type(self.own), LOADERS[split]) is not getattr(pl.LightningDataModule, LOADERS[split])


class OwnBatches:
    """What a loader of a data module yields, as it is measured."""

    def __init__(self, data: OwnData, split: str) -> None:
        self.data, self.loader = data, data.loader(split)
        self.dataset = items_of(data, self.loader, split)

    def __len__(self) -> int:
        return len(self.loader)

    def __iter__(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        return map(self.data.prepared, self.loader)


class OwnItems:
    """The images of a map-style data set as ours are read: several at a time, and by name."""

    def __init__(self, data: OwnData, loader: Any, split: str) -> None:
        self.data, self.dataset, self.collate, self.split = data, loader.dataset, loader.collate_fn, split

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitems__(self, indices: Sequence[int]) -> tuple[torch.Tensor, torch.Tensor]:
        return self.data.prepared(self.collate([self.dataset[index] for index in indices]))

    def name(self, index: int) -> str:
        return f"{self.split}[{index}]"


@dataclass(frozen=True)
class Unshown:
    """Images that nobody can be shown; they have names alone."""

    split: str
    why_unshown: str

    def name(self, index: int) -> str:
        return f"{self.split}[{index}]"


def items_of(data: OwnData, loader: Any, split: str) -> OwnItems | Unshown:
    if data.are_normalised:
        return Unshown(split, f"{data.of} gives floats, which are no pictures any more")
    if not _is_map_style(loader):
        return Unshown(split, f"{data.of} gives its images in one order alone")
    return OwnItems(data, loader, split)


class OwnDataModule(ImageDataModule):
    """Batches of a data module of own code, normalised on the device where they are uint8.

    Where its training order is that of torch's own samplers it becomes a function of the seed and the epoch, and what
    an item draws one of its index: workers change nothing, and a stopped run goes on exactly. Elsewhere `why_inexact`
    says why not, and the batches that were trained on are read again and left out.
    """

    def __init__(self, data: OwnData, spec: TaskSpec, seed: int) -> None:
        pl.LightningDataModule.__init__(self)
        self.data, self.own, self.spec, self.seed = data, data.own, spec, seed
        self.rank, self.world_size, self.is_kept_on_device, self.batch_augmentation = 0, 1, False, None
        train, self._left_out = data.loader("train"), 0
        why = why_unordered(train)
        self.why_inexact = [] if why is None else [f"the training loader of {data.target} {why}"]
        self.batch_size = getattr(train, "batch_size", None) or 1
        self.train, self.val = items_of(data, train, "train"), items_of(data, data.loader("val"), "val")  # pyright: ignore[reportAttributeAccessIssue]
        self.test = items_of(data, data.loader("test"), "test") if data.has("test") else None  # pyright: ignore[reportAttributeAccessIssue]
        self.sampler = EpochSampler(0, seed)
        if why is None:
            kind = EpochSampler if isinstance(train.sampler, RandomSampler) else InOrder
            self.sampler = kind(len(train.dataset), seed)

    def setup(self, stage: str) -> None:
        """What the data module itself sets up has been."""
        self.own.trainer = self.trainer

    def teardown(self, stage: str) -> None:
        self.own.teardown(stage)

    def state_dict(self) -> dict[str, Any]:
        return self.own.state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.own.load_state_dict(state_dict)

    def seek(self, epoch: int, batch: int) -> None:
        self.sampler.seek(epoch, batch * self.batch_size)
        self._left_out = batch if self.why_inexact else 0

    def set_rank(self, rank: int, world_size: int) -> None:
        if world_size > 1:
            raise BadInput(
                f"trainer.devices={world_size}: {self.data.of} divides no batch among devices; set trainer.devices=1"
            )

    def train_dataloader(self) -> Any:
        loader = self.data.loader("train")
        if self.why_inexact:
            return Remaining(loader, self._take_left_out)
        made = make_loader(
            SeededItems(loader.dataset, self.seed),
            batch_size=loader.batch_size,
            num_workers=loader.num_workers,
            sampler=self.sampler,
            drop_last=loader.drop_last,
            collate_fn=loader.collate_fn,
        )
        if loader.worker_init_fn is not None:
            made.worker_init_fn = _Both(made.worker_init_fn, loader.worker_init_fn)
        return made

    def _take_left_out(self) -> int:
        """How many batches the next epoch leaves out: those that it has been trained on."""
        count, self._left_out = self._left_out, 0
        return count

    def val_dataloader(self) -> Any:
        return self.data.loader("val")

    def test_dataloader(self) -> Any:
        return self.data.loader("test")

    def measured(self, split: str) -> OwnBatches:
        return OwnBatches(self.data, split)

    def train_files(self, epoch: int, batch: int) -> list[str]:
        if self.why_inexact or not isinstance(self.train, OwnItems):
            return []
        span = slice(batch * self.batch_size, (batch + 1) * self.batch_size)
        return [self.train.name(index) for index in self._train_indices(epoch, span)]

    def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:
        return self.own.transfer_batch_to_device(batch, device, dataloader_idx)

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        images, labels = self.data.prepared(batch)
        return normalise(images, self.spec), labels


class InOrder(EpochSampler):
    """The order of the data set itself, in every epoch."""

    def order(self, epoch: int) -> np.ndarray:
        return np.arange(self.length)


class SeededItems(Dataset):
    """A data set whose items draw their random numbers by (seed, epoch, index): all generators are seeded for each."""

    def __init__(self, dataset: Any, seed: int) -> None:
        self.dataset, self.seed = dataset, seed

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, key: tuple[int, int] | int) -> Any:
        epoch, index = key if isinstance(key, tuple) else (0, key)
        drawn = int(np.random.SeedSequence((self.seed, epoch, index, ITEMS)).generate_state(1, np.uint64)[0])
        torch.default_generator.manual_seed(drawn)
        np.random.seed(drawn % 2**32)
        random.seed(drawn)
        return self.dataset[index]


class Remaining:
    """A loader without the batches of its next epoch that are to be left out."""

    def __init__(self, loader: Any, take_left_out: Callable[[], int]) -> None:
        self.loader, self.take_left_out = loader, take_left_out

    def __len__(self) -> int:
        return len(self.loader)

    def __iter__(self) -> Iterator[Any]:
        batches = iter(self.loader)
        for _ in range(self.take_left_out()):
            next(batches, None)
        yield from batches


class _Both:
    """Starts a worker in two ways."""

    def __init__(self, *starts: Callable[[int], None] | None) -> None:
        self.starts = starts

    def __call__(self, worker: int) -> None:
        for start in self.starts:
            if start is not None:
                start(worker)


def open_own_data(settings: Mapping[str, Any]) -> OwnData:
    """The data set of the data module that plain settings of a training name; its code can be imported by now.

    Raises: BadInput when there is none, or what it gives cannot be trained on.
    """
    node, seed, data = settings["datamodule"], settings["seed"], settings["data"]
    target = str(node["_target_"])
    own = _build(node, {**_offered(data), "seed": seed})
    pl.seed_everything(seed, verbose=False)  # a random split follows from the seed
    try:
        own.prepare_data()
        own.setup("fit")
        if type(own).test_dataloader is not pl.LightningDataModule.test_dataloader:
            own.setup("test")
    except Exception as error:  # whatever own code does
        raise BadInput(f"datamodule._target_={target}: cannot be set up ({where_raised(error)}); correct it") from error
    opened = OwnData(target, own, (), {}, 3, are_normalised=False)
    loaders = {split: opened.loader(split) for split in LOADERS if opened.has(split)}
    images, labels = opened.prepared(_first_batch(loaders["train"]))
    is_float = _check_images(opened.of, images, data["image_size"])
    known = _labels_of(loaders["train"])
    names = _class_names(opened, loaders["train"], known)
    _check_labels(opened.of, labels, names)
    if known is None and settings.get("model", {}).get("class_weights", "none") != "none":
        raise BadInput(f"model.class_weights: {opened.of} does not tell its labels; give its data set `targets`")
    fingerprint = getattr(own, "fingerprint", None)
    return OwnData(
        target,
        own,
        names,
        {split: _num_images(loaders[split]) if split in loaders else 0 for split in LOADERS},
        images.shape[1 if is_float else -1],
        is_float,
        known,
        str(fingerprint()) if callable(fingerprint) else None,
    )


def _offered(data: Mapping[str, Any]) -> dict[str, Any]:
    """What the constructor of a data module is given where it has arguments of these names."""
    same = {name: data[name] for name in ("batch_size", "num_workers", "image_size")}
    return {**same, "root": data["root"], "data_dir": data["root"]}


def _build(node: Mapping[str, Any], offered: Mapping[str, Any]) -> pl.LightningDataModule:
    """Raises: BadInput for what is no LightningDataModule, or has no batches for training or validation."""
    target = str(node["_target_"])
    found = locate(target, "datamodule")
    if inspect.isclass(found):
        _check_kind(found, target)
    named = parameters_of(found)
    own = build({**{name: value for name, value in offered.items() if name in named}, **node}, "datamodule")
    _check_kind(type(own), target)
    return own


def _check_kind(kind: type, target: str) -> None:
    if not issubclass(kind, pl.LightningDataModule):
        raise BadInput(f"datamodule._target_={target}: {kind.__name__} is no LightningDataModule of pytorch_lightning")
    for split in ("train", "val"):
        if getattr(kind, LOADERS[split]) is getattr(pl.LightningDataModule, LOADERS[split]):
            raise BadInput(f"datamodule._target_={target}: {kind.__name__} has no {LOADERS[split]}; add one")


def _is_map_style(loader: Any) -> bool:
    dataset = getattr(loader, "dataset", None)
    has_items = hasattr(dataset, "__getitem__") and hasattr(dataset, "__len__")
    return isinstance(loader, DataLoader) and has_items and not isinstance(dataset, IterableDataset)


def why_unordered(loader: Any) -> str | None:
    """Why the order of a training loader is its own alone; None where it can be made ours."""
    if type(loader) is not DataLoader:
        return f"is a {type(loader).__name__}, and no DataLoader of torch"
    if not _is_map_style(loader):
        return "reads an iterable data set"
    sampler = loader.sampler
    if type(loader.batch_sampler) is not BatchSampler:
        return f"has a {type(loader.batch_sampler).__name__} of its own"
    if type(sampler) is SequentialSampler:
        return None
    is_plain = type(sampler) is RandomSampler and not sampler.replacement and len(sampler) == len(loader.dataset)  # pyright: ignore[reportArgumentType]
    return None if is_plain else f"has a {type(sampler).__name__} of its own"


def _first_batch(loader: Any) -> Any:
    """One batch, of a map-style data set of two images: no worker is started."""
    if _is_map_style(loader):
        return loader.collate_fn([loader.dataset[index] for index in range(min(NUM_LOOKED_AT, len(loader.dataset)))])
    return next(iter(loader))


def _check_images(of: str, images: torch.Tensor, image_size: int) -> bool:
    """Whether images are floats as a network takes them.

    Raises: BadInput when they are neither that nor uint8, or of another size.
    """
    shape = tuple(images.shape)
    if images.ndim != 4 or not (images.is_floating_point() or images.dtype == torch.uint8):
        raise BadInput(
            f"{of}: its images are {images.dtype} {shape}, and must be uint8 (B, H, W, C), which are normalised here, "
            "or floats (B, C, H, W), which are taken as they are"
        )
    is_float = images.is_floating_point()
    height_and_width = shape[2:] if is_float else shape[1:3]
    if height_and_width != (image_size, image_size):
        order = "(B, C, H, W) of floats" if is_float else "(B, H, W, C) of uint8"
        size = f"; set data.image_size={height_and_width[0]}" if len(set(height_and_width)) == 1 else ""
        raise BadInput(f"data.image_size={image_size}: the images of {of} are {shape}, read as {order}{size}")
    return is_float


def _check_labels(of: str, labels: torch.Tensor, names: tuple[str, ...]) -> None:
    if labels.ndim != 1 or not len(labels) or int(labels.min()) < 0 or int(labels.max()) >= len(names):
        raise BadInput(
            f"{of}: its labels are {tuple(labels.shape)}, from {int(labels.min())} to {int(labels.max())}, and must be "
            f"(B,), from 0 to {len(names) - 1}: it has {len(names)} classes"
        )


def _labels_of(loader: Any) -> np.ndarray | None:
    """The labels of all training images, where the data set has them as `targets` or `labels`."""
    dataset = getattr(loader, "dataset", None)
    for name in ("targets", "labels"):
        if (found := getattr(dataset, name, None)) is not None and not callable(found):
            return np.asarray(found).astype(np.int64)
    return None


def _class_names(data: OwnData, loader: Any, labels: np.ndarray | None) -> tuple[str, ...]:
    """`class_names` or `classes` of the data module or of its data set, else `num_classes`, else by the labels.

    Raises: BadInput where nothing tells them.
    """
    for owner in (data.own, getattr(loader, "dataset", None)):
        for name in ("class_names", "classes"):
            if isinstance(found := getattr(owner, name, None), Sequence) and not isinstance(found, str):
                return tuple(str(each) for each in found)
    count = getattr(data.own, "num_classes", None)
    if count is None and labels is not None:
        count = int(labels.max()) + 1
    if not isinstance(count, int):
        raise BadInput(f"{data.of}: does not say its classes; give it `class_names`, a list, or `num_classes`")
    return tuple(str(number) for number in range(count))


def _num_images(loader: Any) -> int | None:
    dataset = getattr(loader, "dataset", None)
    return len(dataset) if _is_map_style(loader) else length_of(dataset)  # pyright: ignore[reportArgumentType]
