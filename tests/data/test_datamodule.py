"""Batches: the order and every draw are functions of seed, epoch and index, whatever the workers."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from tests.conftest import PROJECT, TINY, compose_train

from sightline.data.datamodule import ImageDataModule
from sightline.data.datasets import ImageDataset
from sightline.data.opening import open_data
from sightline.data.samplers import EpochSampler, SequentialBatches
from sightline.data.splitting import make_manifest
from sightline.data.training_data import FolderData
from sightline.data.transforms import Augmentation, load_rgb, prepare
from sightline.task_spec import TaskSpec

SPEC = TaskSpec(("blue", "green", "red"), 32, (0.5,) * 3, (0.25,) * 3)


def datamodule_of(root: Path, num_workers: int = 0, seed: int = 0, batch_size: int = 8) -> ImageDataModule:
    manifest = make_manifest(root)
    augmentation = Augmentation(SPEC, crop_scale=(0.2, 1.0), horizontal_flip=0.5)
    train = ImageDataset(manifest.select("train"), SPEC, augmentation, seed)
    val, test = (ImageDataset(manifest.select(split), SPEC) for split in ("val", "test"))
    return ImageDataModule(SPEC, train, val, test, batch_size=batch_size, num_workers=num_workers, seed=seed)


def epoch_of(datamodule: ImageDataModule, epoch: int) -> torch.Tensor:
    datamodule.sampler.set_epoch(epoch)
    return torch.cat([images for images, _ in datamodule.train_dataloader()])


@pytest.mark.parametrize("num_workers", [1, 2])
def test_workers_change_nothing(num_workers: int, colors: Path) -> None:
    alone, together = datamodule_of(colors), datamodule_of(colors, num_workers)
    for epoch in (0, 1):
        assert torch.equal(epoch_of(alone, epoch), epoch_of(together, epoch))


def test_every_draw_of_every_epoch_is_another(colors: Path) -> None:
    datamodule = datamodule_of(colors, num_workers=2)
    images = torch.cat([epoch_of(datamodule, epoch) for epoch in range(3)])
    assert len({image.numpy().tobytes() for image in images}) == len(images) == 3 * 48


@pytest.mark.parametrize("split", ["val", "test"])
def test_validation_and_test_are_never_augmented(split: str, colors: Path) -> None:
    """As training.py builds them, under the strongest augmentation: the pixels are those of the files."""
    cfg = compose_train("data=folder", f"data.root={colors}", "augmentation=albumentations", *TINY)
    manifest = make_manifest(colors)
    datamodule = FolderData(manifest).make_datamodule(cfg, SPEC)
    loader = datamodule.val_dataloader() if split == "val" else datamodule.test_dataloader()
    images = manifest.select(split)
    pixels, labels = (torch.cat(column) for column in zip(*loader, strict=True))
    assert labels.tolist() == images.labels.tolist()
    for image, path in zip(pixels.numpy(), images.paths, strict=True):
        assert (image == prepare(load_rgb(path), SPEC)).all()


def test_the_order_is_a_permutation_of_seed_and_epoch() -> None:
    def order(seed: int, epoch: int) -> list[tuple[int, int]]:
        sampler = EpochSampler(50, seed)
        sampler.set_epoch(epoch)
        return list(sampler)

    assert order(0, 3) == order(0, 3)
    assert order(0, 3) != order(0, 4) != order(1, 4)
    assert sorted(index for _, index in order(0, 3)) == list(range(50))
    assert {epoch for epoch, _ in order(0, 3)} == {3}


@pytest.mark.parametrize("ranks", [2, 4])
def test_processes_share_the_batches_of_one(ranks: int) -> None:
    """Together they have the same images in every batch of training; of validation each image once."""
    whole = EpochSampler(50, 3, batch_size=8)
    parts = [EpochSampler(50, 3, 8, rank, ranks) for rank in range(ranks)]
    for sampler in (whole, *parts):
        sampler.seek(1, 16)  # the third batch
    expected = [index for _, index in whole][:32]
    together = [[index for _, index in part] for part in parts]
    share = 8 // ranks
    assert {len(part) for part in parts} == {6 * share}
    for batch in range(4):
        place = slice(batch * share, (batch + 1) * share)
        assert [index for part in together for index in part[place]] == expected[batch * 8 : (batch + 1) * 8]
    validated = [list(SequentialBatches(33, 8, rank, ranks)) for rank in range(ranks)]
    assert {len(part) for part in validated} == {5}
    assert sorted(index for part in validated for batch in part for index in batch) == list(range(33))
    assert [part[4] for part in validated] == [[32], *[[]] * (ranks - 1)]


def test_a_share_without_images_is_an_empty_batch(colors: Path) -> None:
    cfg = compose_train("data=folder", f"data.root={colors}", "data.batch_size=8", *TINY)
    module = FolderData(make_manifest(colors)).make_datamodule(cfg, SPEC)
    module.set_rank(1, 2)
    last, labels = list(module.test_dataloader())[-1]
    assert last.shape == (0, SPEC.image_size, SPEC.image_size, 3)
    assert labels.shape == (0,)


def test_a_place_in_an_epoch_is_kept_until_the_next(colors: Path) -> None:
    module = datamodule_of(colors, batch_size=8)
    module.sampler.set_epoch(2)
    whole = list(module.sampler)
    module.seek(2, 3)
    module.sampler.set_epoch(2)
    assert list(module.sampler) == whole[24:]
    assert len(module.sampler) == len(whole)
    module.sampler.set_epoch(3)
    assert len(list(module.sampler)) == len(whole)


def test_every_batch_knows_its_files(colors: Path) -> None:
    datamodule = datamodule_of(colors, batch_size=20)
    datamodule.train = ImageDataset(make_manifest(colors).select("train"), SPEC)
    for epoch in (0, 3):
        datamodule.sampler.set_epoch(epoch)
        for number, (images, _) in enumerate(datamodule.train_dataloader()):
            names = datamodule.train_files(epoch, number)
            assert len(names) == len(images)
            for image, name in zip(images.numpy(), names, strict=True):
                assert (image == prepare(load_rgb(colors / name), SPEC)).all()


def test_the_last_incomplete_batch_is_left_out_unless_it_is_the_only_one(colors: Path) -> None:
    assert len(datamodule_of(colors, batch_size=20).train_dataloader()) == 2
    assert len(datamodule_of(colors, batch_size=100).train_dataloader()) == 1


def test_batches_travel_as_bytes_and_are_normalised_afterwards(colors: Path) -> None:
    datamodule = datamodule_of(colors)
    images, labels = next(iter(datamodule.val_dataloader()))
    assert images.dtype == torch.uint8
    assert images.shape == (8, 32, 32, 3)
    moved, same = datamodule.on_after_batch_transfer((images, labels), 0)
    assert moved.shape == (8, 3, 32, 32)
    assert moved.dtype == torch.float32
    assert same is labels


def test_random_pixels_are_there_before_the_batch_size_is_found() -> None:
    data = open_data(compose_train("data=synthetic", "data.batch_size=auto", "data.num_synthetic=32"))
    cfg = compose_train("data=synthetic", "data.batch_size=8", "data.num_workers=0")
    datamodule = data.make_datamodule(cfg, TaskSpec(data.class_names, 32, (0.5,) * 3, (0.25,) * 3))
    for loader, split in ((datamodule.train_dataloader(), "train"), (datamodule.val_dataloader(), "val")):
        assert sum(len(labels) for _, labels in loader) == data.num_images[split] > 0
    assert sum(data.class_counts()) == 32


EXIT = """
import sys
sys.path.insert(0, sys.argv[1])
import torch
from sightline.data.datasets import SyntheticDataset
from sightline.data.loader import make_loader
from sightline.task_spec import TaskSpec

images = SyntheticDataset(64, TaskSpec(("a", "b"), 16, (0.5,) * 3, (0.25,) * 3))
loader = make_loader(images, batch_size=8, num_workers=1)
next(iter(loader))
"""


def test_a_program_that_still_holds_a_loader_ends(tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(EXIT)
    command = [sys.executable, str(tmp_path / "program.py"), str(PROJECT / "src")]
    assert subprocess.run(command, timeout=60, check=False).returncode == 0
