"""A small data set packed into shards of a few images each, and its readers."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.dtypes import StringDType
from PIL import Image

from sightline.data.manifest import Manifest
from sightline.data.shards.loading import ShardDataset, ShardLoader, make_shard_loader
from sightline.data.shards.packing import pack
from sightline.data.shards.stores import ShardCache
from sightline.data.transforms import Augmentation
from sightline.task_spec import TaskSpec

CLASSES = ("blue", "green", "red")
SPEC = TaskSpec(CLASSES, 16, (0.5,) * 3, (0.25,) * 3)
COUNTS = {"train": 101, "val": 14, "test": 9}
SHARD_MEGABYTES = 0.004
"""A few images in each shard."""
SEED = 7


def make_table(root: Path) -> Manifest:
    paths, labels, splits = [], [], []
    for number, (split, count) in enumerate(COUNTS.items()):
        for index in range(count):
            generator = np.random.default_rng((number, index))
            name = f"{split}/{index:03d}.{('png', 'jpg', 'bmp')[index % 3]}"
            path = root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            pixels = generator.integers(0, 256, (14, 18, 3)).astype(np.uint8)
            pixels[..., 2 - 3 * index // count] |= 128  # sorted by class, as folders are
            Image.fromarray(pixels).save(path)
            paths.append(name)
            labels.append(3 * index // count)
            splits.append(number)
    columns = np.array(paths, StringDType()), np.array(labels, np.int32), np.array(splits, np.int8)
    manifest = Manifest(root, CLASSES, *columns)
    assert len(manifest.digests) == len(paths)  # known before a test changes a file
    return manifest


def rows_of(table: Manifest, split: str) -> np.ndarray:
    return table.select(split).rows


def pack_table(table: Manifest, location: str, shard_megabytes: float = SHARD_MEGABYTES) -> None:
    pack(table, location, shard_megabytes=shard_megabytes, num_workers=2)


both = pytest.mark.parametrize("location", ["folder", "packed_bucket"], indirect=True)


def augment() -> Augmentation:
    return Augmentation(SPEC, crop_scale=(0.2, 1.0), horizontal_flip=0.5)


def make_loader(location: str, cache: Path, split: str = "train", **changes: Any) -> ShardLoader:
    augmentation = augment() if split == "train" else None
    kept = ShardCache(cache, gigabytes=changes.pop("gigabytes", 1.0))
    dataset = ShardDataset(location, split, SPEC, augmentation=augmentation, seed=SEED, cache=kept)
    return make_shard_loader(
        dataset, **{"batch_size": 8, "shuffle": split == "train", "drop_last": split == "train", **changes}
    )


def epoch_of(loader: ShardLoader, epoch: int = 0) -> list[tuple[torch.Tensor, torch.Tensor]]:
    loader.set_epoch(epoch)
    return list(loader)


def images_of(batches: list[tuple[torch.Tensor, torch.Tensor]]) -> list[bytes]:
    return [image.numpy().tobytes() for images, _ in batches for image in images]


def same(some: list[tuple[torch.Tensor, torch.Tensor]], others: list[tuple[torch.Tensor, torch.Tensor]]) -> bool:
    pairs = zip(some, others, strict=True)
    return all(torch.equal(a, c) and torch.equal(b, d) for (a, b), (c, d) in pairs)
