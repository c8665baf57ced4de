"""The data of a training or an evaluation: image files, shards or random pixels, of one protocol. No torch here."""

import csv
import io
import logging
import os
import shutil
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from sightline.config import TrainConfig
from sightline.data.augmentation import make_augmentations
from sightline.data.manifest import TEST, Manifest, Selection
from sightline.runs.files import write_bytes
from sightline.runs.guesses import Guess
from sightline.task_spec import MAX_PIXELS, TaskSpec, ValueRange

if TYPE_CHECKING:
    from torch.utils.data import DataLoader

    from sightline.data.cache import ImageCache
    from sightline.data.datamodule import ImageDataModule
    from sightline.data.datasets import ImageDataset
    from sightline.data.shards.packing import ShardInfo
    from sightline.data.shards.stores import ShardCache
    from sightline.data.transforms import Augmentation

log = logging.getLogger(__name__)
AUDIT_FILES = ("audit.json", "audit.html")
NUM_SYNTHETIC_CLASSES = 10


class TrainingData(Protocol):
    """The protocol of data sets that are fit to train on."""

    @property
    def class_names(self) -> tuple[str, ...]: ...

    @property
    def num_images(self) -> dict[str, int]:
        """Number of images by split."""
        ...

    @property
    def manifest(self) -> Manifest | None:
        """The manifest of its files, where there are any."""
        ...

    @property
    def guesses(self) -> tuple[Guess, ...]:
        """What was understood that nobody said."""
        ...

    @property
    def unlabelled(self) -> Sequence[str]:
        """POSIX paths below the root of test images whose class nobody tells."""
        ...

    @property
    def value_range(self) -> ValueRange | None:
        """The values of images of more than 8 bits that become black and white; None where there are no such images."""
        ...

    @property
    def channels(self) -> int: ...

    @property
    def are_normalised(self) -> bool:
        """Whether its batches are floats as a network takes them, and not prepared images."""
        ...

    @property
    def bit_depth(self) -> int:
        """Of prepared images: 8 or 16."""
        ...

    def class_counts(self) -> list[int]:
        """Number of training images by class."""
        ...

    def describe(self) -> dict[str, Any]:
        """For run.json: `num_images`, `sha256` and, of what lies somewhere, its `root`."""
        ...

    def save(self, folder: Path) -> None:
        """Put the manifest and the audit, where there are any, into a run's folder."""
        ...

    def make_datamodule(self, cfg: TrainConfig, spec: TaskSpec) -> "ImageDataModule":
        """Batches for training with the configuration's augmentation, and for validation and test without."""
        ...

    def make_loader(
        self, split: str, spec: TaskSpec, *, batch_size: int, num_workers: int | None, usual_workers: int = 2
    ) -> "DataLoader":
        """Batches of a split in its order, without augmentation.

        Where `num_workers` is None, there are the usual ones to decode files, and none to read what is decoded.
        """
        ...


@dataclass(frozen=True)
class FolderData:
    """Image files with a manifest."""

    manifest: Manifest
    """The images that are used, without the bad files that were skipped."""
    skipped: dict[str, str] = field(default_factory=dict)
    """Path and defect of each bad file left out."""
    report: Path | None = None
    """The folder of audit.json and audit.html, unless the audit was skipped."""
    num_findings: dict[str, int] = field(default_factory=dict)
    """Number of findings of the audit by kind."""
    cache: "ImageCache | None" = None
    """Where decoded images are kept."""
    guesses: tuple[Guess, ...] = ()
    layout: str = ""
    """How the files lie, as `Listing` says."""
    passed_over: dict[str, int] = field(default_factory=dict)
    """By suffix: files of class folders that are no images."""
    unlabelled: Sequence[str] = ()
    small_classes: dict[str, str] = field(default_factory=dict)
    """`train_only` or `left_out` by class that is too small to be split."""
    value_range: ValueRange | None = None
    version: dict[str, Any] | None = None
    """`name`, `version` and `sha256` of the version that it is, where it is one."""
    max_pixels: int = MAX_PIXELS
    """Of an image that is opened."""
    channels: int = 3
    bit_depth: int = 8

    are_normalised = False

    @property
    def class_names(self) -> tuple[str, ...]:
        return self.manifest.class_names

    @property
    def num_images(self) -> dict[str, int]:
        return self.manifest.num_images

    def class_counts(self) -> list[int]:
        labels = self.manifest.select("train").labels
        return np.bincount(labels, minlength=len(self.class_names)).tolist()

    def describe(self) -> dict[str, Any]:
        manifest = self.manifest
        facts = {"num_images": manifest.num_images, "sha256": manifest.sha256, "root": str(manifest.root)}
        facts |= {} if self.version is None else {"version": self.version}
        facts["skipped"] = {"num_images": len(self.skipped), "files": self.skipped}
        facts |= {"layout": self.layout, "passed_over": self.passed_over, "num_unlabelled": len(self.unlabelled)}
        facts["small_classes"] = self.small_classes
        return {**facts, "findings": self.num_findings if self.report else None}

    def save(self, folder: Path) -> None:
        self.manifest.save(folder / "manifest.csv")
        if self.report is not None:
            for name in AUDIT_FILES:
                shutil.copyfile(self.report / name, folder / name)

    def make_datamodule(self, cfg: TrainConfig, spec: TaskSpec) -> "ImageDataModule":
        from sightline.data.datamodule import ImageDataModule
        from sightline.data.samplers import BalancedSampler

        source, num_draws, of_images, of_batches = make_augmentations(cfg, spec)
        train = self._make_dataset(cfg, "train", source, of_images, num_draws)
        val = self._make_dataset(cfg, "val", spec)
        test = self._make_dataset(cfg, "test", spec) if self.num_images["test"] else None
        datamodule = ImageDataModule(spec, train, val, test, **_loading(cfg), batch_augmentation=of_batches)
        if cfg.data.device_cache:
            datamodule.keep_on_device()
        if isinstance(cfg.data.sampler, dict):
            from sightline.data.own_sampler import OwnSampler

            labels, num_classes = train.images.labels, len(self.class_names)
            datamodule.sampler = OwnSampler(cfg.data.sampler, labels, num_classes, datamodule.batch_size, cfg.seed)
        elif cfg.data.sampler == "balanced":
            datamodule.sampler = BalancedSampler(train.images.labels, cfg.seed)
        return datamodule

    def _make_dataset(
        self,
        cfg: TrainConfig,
        split: str,
        spec: TaskSpec,
        augmentation: "Augmentation | None" = None,
        num_draws: int = 0,
    ) -> "ImageDataset":
        """A split over the cache that all runs share; all folds of a cross-validation have one store."""
        from sightline.data.cache import Pixels
        from sightline.data.datasets import ImageDataset

        images, not_test = self.manifest.select(split), Selection(self.manifest, self._rows_before_test())
        if split == "train" and cfg.data.with_validation:
            images = not_test
        pixels = Pixels(spec, None, self.max_pixels)
        if augmentation is not None and augmentation.crop_scale is not None:
            pixels = Pixels.for_crops(spec, augmentation.crop_scale, augmentation.crop_ratio, self.max_pixels)
        store, store_indices = None, None
        if self.cache is not None and cfg.data.num_folds and split != "test":
            store, store_indices = self.cache.store(not_test, pixels), np.searchsorted(not_test.rows, images.rows)
        elif self.cache is not None:
            store = self.cache.store(images, pixels)
        return ImageDataset(images, spec, augmentation, cfg.seed, store, store_indices, num_draws, self.max_pixels)

    def _rows_before_test(self) -> np.ndarray:
        return np.flatnonzero(self.manifest.splits != TEST)

    def make_loader(
        self, split: str, spec: TaskSpec, *, batch_size: int, num_workers: int | None, usual_workers: int = 2
    ) -> "DataLoader":
        """Decoded images are read where training has kept them: for one reading none are kept."""
        from sightline.data.cache import Pixels
        from sightline.data.datasets import ImageDataset
        from sightline.data.loader import make_loader

        images = self.manifest.select(split)
        store = None if self.cache is None else self.cache.find(images, Pixels(spec))
        if num_workers is None:
            num_workers = usual_workers if store is None else 0  # reading them is less than handing them over
        dataset = ImageDataset(images, spec, store=store, max_pixels=self.max_pixels)
        return make_loader(dataset, batch_size=batch_size, num_workers=num_workers)


@dataclass(frozen=True)
class ShardData:
    """A data set in shards, which were packed from an audited one; its manifest lies beside them."""

    location: str
    info: "ShardInfo"
    cache: "ShardCache | None" = None
    """Where shards that stream are kept."""
    value_range: ValueRange | None = None
    channels: int = 3
    bit_depth: int = 8

    manifest = None
    guesses, unlabelled, are_normalised = (), (), False

    @property
    def class_names(self) -> tuple[str, ...]:
        return self.info.class_names

    @property
    def num_images(self) -> dict[str, int]:
        return self.info.num_images

    def class_counts(self) -> list[int]:
        rows = csv.DictReader(io.StringIO(self._read_manifest().decode()))
        counts = Counter(row["label"] for row in rows if row["split"] == "train")
        return [counts[name] for name in self.class_names]

    def describe(self) -> dict[str, Any]:
        return {"num_images": self.info.num_images, "sha256": self.info.sha256, "root": self.location}

    def save(self, folder: Path) -> None:
        write_bytes(folder / "manifest.csv", self._read_manifest())

    def _read_manifest(self) -> bytes:
        from sightline.data.shards.stores import open_store

        return open_store(self.location).read("manifest.csv") or b""

    def make_datamodule(self, cfg: TrainConfig, spec: TaskSpec) -> "ImageDataModule":
        from sightline.data.shards.loading import ShardDataModule

        _, _, of_images, of_batches = make_augmentations(cfg, spec)
        augmentations: dict[str, Any] = {"augmentation": of_images, "batch_augmentation": of_batches}
        return ShardDataModule(self.location, spec, cache=self.cache, **augmentations, **_loading(cfg))

    def make_loader(
        self, split: str, spec: TaskSpec, *, batch_size: int, num_workers: int | None, usual_workers: int = 2
    ) -> "DataLoader":
        from sightline.data.shards.loading import ShardDataset, make_shard_loader

        workers = usual_workers if num_workers is None else num_workers
        shards = ShardDataset(self.location, split, spec, cache=self.cache)
        return make_shard_loader(shards, batch_size=batch_size, num_workers=workers)


@dataclass(frozen=True)
class SyntheticData:
    """Random pixels: for timing, not for learning."""

    num_images: dict[str, int]
    channels: int = 3

    manifest = None
    guesses, unlabelled, are_normalised = (), (), False
    value_range, bit_depth = None, 8
    class_names = tuple(str(number) for number in range(NUM_SYNTHETIC_CLASSES))

    @classmethod
    def of(cls, num_images: int, batch_size: int | str) -> "SyntheticData":
        """So many images for training and a batch for validation, of the usual size where its own is not found yet."""
        return cls({"train": num_images, "val": batch_size if isinstance(batch_size, int) else 64, "test": 0})

    def class_counts(self) -> list[int]:
        labels = np.arange(self.num_images["train"]) % NUM_SYNTHETIC_CLASSES
        return np.bincount(labels, minlength=NUM_SYNTHETIC_CLASSES).tolist()

    def describe(self) -> dict[str, Any]:
        return {"num_images": self.num_images, "sha256": None}

    def save(self, folder: Path) -> None:
        """There is nothing to keep."""

    def make_datamodule(self, cfg: TrainConfig, spec: TaskSpec) -> "ImageDataModule":
        from sightline.data.datamodule import ImageDataModule
        from sightline.data.datasets import SyntheticDataset

        train, val = (SyntheticDataset(self.num_images[split], spec) for split in ("train", "val"))
        return ImageDataModule(spec, train, val, None, **_loading(cfg))

    def make_loader(
        self, split: str, spec: TaskSpec, *, batch_size: int, num_workers: int | None, usual_workers: int = 2
    ) -> "DataLoader":
        from sightline.data.datasets import SyntheticDataset
        from sightline.data.loader import make_loader

        images = SyntheticDataset(self.num_images[split], spec)
        return make_loader(images, batch_size=batch_size, num_workers=num_workers or 0)


def _loading(cfg: TrainConfig) -> dict[str, Any]:
    data = cfg.data
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if data.num_workers > cores:
        log.warning(
            "data.num_workers=%d: only %d core(s) are lent to this process; fewer may be faster",
            data.num_workers,
            cores,
        )
    return {"batch_size": data.batch_size, "num_workers": data.num_workers, "seed": cfg.seed}
