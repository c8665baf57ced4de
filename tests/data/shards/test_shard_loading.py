"""Loading: the folder's pixels, labels and draws, whatever the workers, ranks and interruptions."""

import json
import multiprocessing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import ModelCheckpoint
from tests.data.packed import (
    COUNTS,
    SEED,
    SPEC,
    augment,
    both,
    epoch_of,
    images_of,
    make_loader,
    make_table,
    pack_table,
    rows_of,
    same,
)
from torch.utils.data import Dataset

from sightline.data.datamodule import ImageDataModule
from sightline.data.manifest import Manifest
from sightline.data.shards.loading import ShardDataModule, ShardLoader
from sightline.data.shards.stores import BucketStore, ShardCache, ShardFiles
from sightline.data.transforms import Augmentation, UnreadableImage, load_rgb, prepare
from sightline.errors import BadInput

# --- Order and draws ---


@both
@pytest.mark.parametrize("num_workers", [0, 2])
def test_augmented_pixels_are_those_of_the_folder(
    location: str, num_workers: int, table: Manifest, tmp_path: Path
) -> None:
    """The same key, the index within the split, gives the same draws as `ImageDataset`."""
    loader = make_loader(location, tmp_path, drop_last=False, num_workers=num_workers)
    augmentation, rows = augment(), rows_of(table, "train")
    for epoch in (0, 2):
        expected = {
            augmentation(load_rgb(table.root / table.paths[row]), (SEED, epoch, index)).tobytes(): table.labels[row]
            for index, row in enumerate(rows)
        }
        batches = epoch_of(loader, epoch)
        assert batches[0][0].dtype == torch.uint8
        assert batches[0][0].shape == (8, 16, 16, 3)
        assert batches[0][1].dtype == torch.int64
        labels = [int(label) for _, labels in batches for label in labels]
        assert dict(zip(images_of(batches), labels, strict=True)) == expected


def places(loader: ShardLoader, epoch: int) -> list[int]:
    loader.set_epoch(epoch)
    return [position for _, position, _ in loader.shard_sampler]


def test_the_order_is_a_function_of_seed_and_epoch(folder: str, tmp_path: Path) -> None:
    loader = make_loader(folder, tmp_path, drop_last=False)
    orders = [places(loader, epoch) for epoch in range(3)]
    assert [sorted(order) for order in orders] == [list(range(101))] * 3
    assert orders[0] != orders[1] != orders[2]
    assert [places(make_loader(folder, tmp_path, drop_last=False), epoch) for epoch in range(3)] == orders


def test_workers_change_nothing(folder: str, tmp_path: Path) -> None:
    alone, together = make_loader(folder, tmp_path), make_loader(folder, tmp_path, num_workers=2)
    for epoch in (0, 1):
        assert same(epoch_of(alone, epoch), epoch_of(together, epoch))


def test_validation_gives_the_folders_batches(folder: str, table: Manifest, tmp_path: Path) -> None:
    batches = epoch_of(make_loader(folder, tmp_path, "val"))
    assert [len(labels) for _, labels in batches] == [8, 6]
    paths = [table.root / table.paths[row] for row in rows_of(table, "val")]
    assert images_of(batches) == [prepare(load_rgb(path), SPEC).tobytes() for path in paths]


# --- Ranks ---


@pytest.mark.parametrize("ranks", [2, 3])
def test_ranks_cover_an_epoch_without_overlap(ranks: int, folder: str, tmp_path: Path) -> None:
    for split, drop_last in (("train", False), ("val", False), ("train", True)):
        loaders = [
            make_loader(folder, tmp_path, split, rank=rank, world_size=ranks, drop_last=drop_last)
            for rank in range(ranks)
        ]
        for epoch in range(3):
            parts = [places(loader, epoch) for loader in loaders]
            lengths = [len(part) for part in parts]
            assert lengths == [len(loader.shard_sampler) for loader in loaders]
            assert len(set().union(*parts)) == sum(lengths), "an image was given twice"
            assert sum(lengths) == (COUNTS[split] // ranks * ranks if drop_last else COUNTS[split])
            assert max(lengths) - min(lengths) <= (0 if drop_last else 1)


def test_a_rank_fetches_its_part_alone(packed_bucket: str, tmp_path: Path) -> None:
    fetched = []
    for rank in range(2):
        loader = make_loader(packed_bucket, tmp_path / str(rank), rank=rank, world_size=2, drop_last=False)
        list(loader)
        fetched.append({path.name for path in (tmp_path / str(rank)).rglob("chunk-*.bin")})
    files = ShardFiles(BucketStore(packed_bucket), "train", ShardCache(tmp_path, 1.0))
    assert fetched[0] | fetched[1] == set(files.names)
    assert len(fetched[0] & fetched[1]) <= 1  # the shard in which the cut lies


def test_two_processes_of_a_group_share_the_set(folder: str, tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    port, results = _free_port(), context.SimpleQueue()
    processes = [context.Process(target=_be_a_rank, args=(rank, port, folder, tmp_path, results)) for rank in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0, 0]
    (first, first_batches), (second, second_batches) = sorted(results.get() for _ in range(2))[0][1]
    assert sorted(first + second) == list(range(101))
    assert sum(first_batches) == len(first) == 50
    assert sum(second_batches) == len(second) == 51


def _be_a_rank(rank: int, port: int, location: str, cache: Path, results: Any) -> None:
    from torch import distributed

    distributed.init_process_group("gloo", f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
    loader = make_loader(location, cache, drop_last=False, num_workers=1)
    loader.set_epoch(1)
    sizes = [len(labels) for _, labels in loader]
    everybody: list[Any] = [None, None]
    distributed.all_gather_object(everybody, ([position for _, position, _ in loader.shard_sampler], sizes))
    results.put((rank, everybody))
    distributed.destroy_process_group()


def _free_port() -> int:
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


# --- Resume ---


@both
@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_stop_after_any_batch_goes_on_with_the_next(location: str, num_workers: int, tmp_path: Path) -> None:
    whole = [epoch_of(make_loader(location, tmp_path), epoch) for epoch in range(3)]
    first = make_loader(location, tmp_path, num_workers=num_workers)
    resumed = make_loader(location, tmp_path, num_workers=num_workers)
    for stop in (1, 5, 11, 12):
        first.set_epoch(1)
        batches = iter(first)
        taken = [next(batches) for _ in range(stop)]
        state = json.loads(json.dumps(first.state_dict()))
        assert (state["epoch"], state["batch"]) == (1, stop)
        resumed.load_state_dict(state)
        assert len(resumed) == 12
        assert same(taken + list(resumed), whole[1])
        assert same(epoch_of(resumed, 2), whole[2])
        first.set_epoch(0)


def test_a_chain_of_stops_is_exact(folder: str, tmp_path: Path) -> None:
    whole = epoch_of(make_loader(folder, tmp_path), 4)
    state, taken = make_loader(folder, tmp_path).state_dict() | {"epoch": 4}, []
    while len(taken) < len(whole):
        loader = make_loader(folder, tmp_path)
        loader.load_state_dict(state)
        taken.append(next(iter(loader)))
        state = loader.state_dict()
    assert same(taken, whole)


def test_a_place_counted_in_other_batches_is_refused(folder: str, tmp_path: Path) -> None:
    state = make_loader(folder, tmp_path).state_dict()
    with pytest.raises(BadInput, match="batch_size=4: .* with batch_size=8"):
        make_loader(folder, tmp_path, batch_size=4).load_state_dict(state)
    with pytest.raises(BadInput, match="num_ranks=2: .* with num_ranks=1"):
        make_loader(folder, tmp_path, rank=0, world_size=2).load_state_dict(state)


def test_an_image_that_cannot_be_decoded_is_named(tmp_path: Path) -> None:
    table = make_table(tmp_path / "images")
    (table.root / table.paths[int(rows_of(table, "val")[3])]).write_bytes(b"not an image")
    pack_table(replace(table), str(tmp_path / "packed"))  # with hashes made anew
    with pytest.raises(UnreadableImage, match=f"row {COUNTS['train'] + 3} of its manifest.csv"):
        list(make_loader(str(tmp_path / "packed"), tmp_path, "val"))


# --- Training ---


class Files(Dataset):
    """The folder's reader in three lines."""

    def __init__(self, table: Manifest, split: str, augmentation: Augmentation | None = None) -> None:
        self.table, self.rows, self.augmentation = table, rows_of(table, split), augmentation

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, key: int | tuple[int, int]) -> tuple[torch.Tensor, int]:
        epoch, index = key if isinstance(key, tuple) else (0, key)
        image = load_rgb(self.table.root / self.table.paths[self.rows[index]])
        pixels = self.augmentation(image, (SEED, epoch, index)) if self.augmentation else prepare(image, SPEC)
        return torch.from_numpy(pixels), int(self.table.labels[self.rows[index]])


class Linear(pl.LightningModule):
    """The smallest classifier; it keeps its losses."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layer = torch.nn.Linear(16 * 16 * 3, 3)
        self.losses: list[float] = []
        self.val_losses: list[float] = []

    def training_step(self, batch: tuple[torch.Tensor, torch.Tensor], batch_idx: int) -> torch.Tensor:
        loss = self._loss(batch)
        self.losses.append(loss.item())
        return loss

    def validation_step(self, batch: tuple[torch.Tensor, torch.Tensor], batch_idx: int) -> None:
        self.val_losses.append(self._loss(batch).item())

    def _loss(self, batch: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
        return torch.nn.functional.cross_entropy(self.layer(batch[0].contiguous().flatten(1)), batch[1])

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), 0.001)


def make_trainer(folder: Path, **changes: Any) -> pl.Trainer:
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "accelerator": "cpu"}
    return pl.Trainer(
        default_root_dir=folder, num_sanity_val_steps=0, **{**quiet, "enable_checkpointing": False, **changes}
    )


def make_datamodule(location: str, cache: Path) -> ShardDataModule:
    kept = ShardCache(cache, 1.0)
    return ShardDataModule(location, SPEC, augmentation=augment(), batch_size=8, seed=SEED, cache=kept)


@both
def test_every_batch_knows_its_files(location: str, table: Manifest, tmp_path: Path) -> None:
    datamodule = make_datamodule(location, tmp_path)
    augmentation, indices = augment(), {str(path): n for n, path in enumerate(table.paths[rows_of(table, "train")])}
    for epoch in (0, 2):
        for number, (images, _) in enumerate(epoch_of(datamodule.train_dataloader(), epoch)):
            names = datamodule.train_files(epoch, number)
            expected = [augmentation(load_rgb(table.root / name), (SEED, epoch, indices[name])) for name in names]
            assert np.array_equal(images.numpy(), np.stack(expected))


def test_ranks_have_equally_many_batches_of_validation(folder: str, tmp_path: Path) -> None:
    """101 images in batches of 5: the last of four ranks has 26 of them, and the others an empty batch."""
    parts = [
        list(make_loader(folder, tmp_path, drop_last=False, rank=rank, world_size=4, batch_size=5)) for rank in range(4)
    ]
    assert [len(part) for part in parts] == [6] * 4
    assert [len(part[-1][1]) for part in parts] == [0, 0, 0, 1]
    assert sum(len(labels) for part in parts for _, labels in part) == 101


@both
def test_training_on_shards_is_training_on_the_folder(location: str, table: Manifest, tmp_path: Path) -> None:
    sets = [Files(table, "train", augment()), Files(table, "val"), Files(table, "test")]
    datamodules = [
        ImageDataModule(SPEC, *sets, batch_size=8, seed=SEED),
        make_datamodule(location, tmp_path),
    ]
    models = [Linear(), Linear()]
    for model, datamodule in zip(models, datamodules, strict=True):
        trainer = make_trainer(tmp_path, max_epochs=2)
        trainer.fit(model, datamodule)
        assert trainer.global_step == len(model.losses) == 24
        assert len(datamodule.test_dataloader()) == 2
    assert np.isfinite(models[1].losses).all()
    assert len(models[0].val_losses) == len(models[1].val_losses) == 4


@pytest.mark.filterwarnings(
    "ignore:Be aware that when using `ckpt_path`"
)  # pytorch_lightning: a callback less, on purpose
def test_lightning_goes_on_where_its_checkpoint_was_written(folder: str, tmp_path: Path) -> None:
    """In the middle of an epoch, at its end and in a later one: the losses are those of an undisturbed run."""
    saving = ModelCheckpoint(tmp_path / "saved", "{step}", every_n_train_steps=1, save_top_k=-1)
    whole = Linear()
    trainer = make_trainer(tmp_path, max_epochs=2, callbacks=[saving], enable_checkpointing=True)
    trainer.fit(whole, make_datamodule(folder, tmp_path))
    for step in (1, 7, 12, 17):
        resumed = Linear()
        trainer = make_trainer(tmp_path, max_epochs=2)
        trainer.fit(resumed, make_datamodule(folder, tmp_path), ckpt_path=tmp_path / "saved" / f"step={step}.ckpt")
        assert resumed.losses == whole.losses[step:]
        assert torch.equal(resumed.layer.weight, whole.layer.weight)


def test_overfitting_one_batch_runs(folder: str, tmp_path: Path) -> None:
    model = Linear()
    make_trainer(tmp_path, max_epochs=3, overfit_batches=1).fit(model, make_datamodule(folder, tmp_path))
    assert len(model.losses) == 3
