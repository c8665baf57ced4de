"""Stores: a folder or a bucket, and copies on this machine that never take more room than they may."""

import sys
from pathlib import Path

import pytest
import torch
from tests.data.packed import COUNTS, SHARD_MEGABYTES, SPEC, make_loader, pack_table

from sightline.data.manifest import Manifest
from sightline.data.shards.loading import ShardDataset
from sightline.data.shards.packing import read_shards
from sightline.data.shards.stores import BucketStore, ShardCache, ShardFiles
from sightline.errors import BadInput


def test_a_location_that_cannot_be_written_is_bad_input(table: Manifest, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way", encoding="utf-8")
    with pytest.raises(BadInput, match="cannot be written"):
        pack_table(table, str(tmp_path / "file" / "packed"))


def test_a_bucket_that_is_not_there_is_bad_input(bucket: str) -> None:
    with pytest.raises(BadInput, match="s3://nobody/at/all: .*NoSuchBucket.*check the bucket's name"):
        read_shards("s3://nobody/at/all")


def test_without_boto3_a_bucket_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "boto3", None)
    with pytest.raises(BadInput, match='pip install "sightline-vision.shards."'):
        read_shards("s3://bucket/prefix")


@pytest.mark.parametrize("num_workers", [0, 2])
def test_the_cache_is_bounded_and_nothing_is_lost(num_workers: int, packed_bucket: str, tmp_path: Path) -> None:
    gigabytes = 10 * 2 * SHARD_MEGABYTES / 1000
    loader = make_loader(packed_bucket, tmp_path, drop_last=False, num_workers=num_workers, gigabytes=gigabytes)
    whole = ShardFiles(BucketStore(packed_bucket), "train", ShardCache(tmp_path, 1.0))
    assert sum(whole.num_bytes) > gigabytes * 1e9
    largest, seen = 0, 0
    for epoch in range(2):
        loader.set_epoch(epoch)
        for _, labels in loader:
            seen += len(labels)
            files = [path for path in tmp_path.rglob("chunk-*") if path.suffix in (".bin", ".partial")]
            largest = max(largest, sum(_size(path) for path in files))
    assert seen == 2 * COUNTS["train"]
    assert 0 < largest <= gigabytes * 1e9


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:  # it was fetched to its end, or made room
        return 0


def test_a_shard_that_vanished_is_fetched_again(packed_bucket: str, tmp_path: Path) -> None:
    dataset = ShardDataset(packed_bucket, "train", SPEC, cache=ShardCache(tmp_path, 1.0))
    expected = dataset[100][0]
    dataset[0]
    for path in tmp_path.rglob("chunk-*.bin"):
        path.unlink()
    assert torch.equal(dataset[100][0], expected)


def test_a_cache_that_cannot_work_is_refused(packed_bucket: str, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="too small.*smaller shards"):
        make_loader(packed_bucket, tmp_path, gigabytes=1e-6)


def test_shards_in_a_bucket_need_a_cache(packed_bucket: str) -> None:
    with pytest.raises(BadInput, match="packed: shards from S3 .* give a ShardCache"):
        ShardDataset(packed_bucket, "train", SPEC)
