"""Packing: every file comes back whole, and what is unfinished, changed or foreign is refused."""

import logging
import multiprocessing
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.conftest import PROJECT
from tests.data.packed import CLASSES, COUNTS, SHARD_MEGABYTES, SPEC, both, make_table, pack_table, rows_of

from sightline.data import parallel
from sightline.data.manifest import SPLITS, Manifest
from sightline.data.shards import packing as shard_packing
from sightline.data.shards.loading import ShardDataset
from sightline.data.shards.packing import read_shards
from sightline.data.shards.stores import ShardCache, open_store
from sightline.data.transforms import load_rgb, prepare
from sightline.errors import BadInput
from sightline.task_spec import TaskSpec


def test_what_was_packed_is_written_beside_the_shards(folder: str, table: Manifest) -> None:
    info = read_shards(folder)
    assert (info.class_names, info.num_images, info.sha256) == (CLASSES, COUNTS, table.sha256)
    assert Manifest.load(Path(folder, "manifest.csv"), table.root) == table
    shards = sorted(Path(folder, "train").glob("chunk-*"))
    assert len(shards) > 10
    assert max(path.stat().st_size for path in shards) < 2 * SHARD_MEGABYTES * 1e6


@both
@pytest.mark.parametrize("split", SPLITS)
def test_every_file_comes_back_whole(location: str, split: str, table: Manifest, tmp_path: Path) -> None:
    dataset = ShardDataset(location, split, SPEC, cache=ShardCache(tmp_path, 1.0))
    items = [dataset.read(place) for place in range(len(dataset))]
    assert sorted(item["row"] for item in items) == list(rows_of(table, split))
    for place, item in enumerate(items):
        path = table.root / table.paths[item["row"]]
        assert item["image"] == path.read_bytes()
        assert item["label"] == table.labels[item["row"]]
        assert rows_of(table, split)[item["index"]] == item["row"]
        pixels, label = dataset[place]
        assert (pixels.numpy() == prepare(load_rgb(path), SPEC)).all()
        assert label == item["label"]


def test_training_shards_hold_all_classes_and_other_splits_keep_their_order(folder: str, table: Manifest) -> None:
    train = ShardDataset(folder, "train", SPEC)
    labels = [train.read(place)["label"] for place in range(len(train))]
    assert np.abs(np.diff(labels)).sum() > 30  # sorted by class it would be 2
    val = ShardDataset(folder, "val", SPEC)
    assert [val.read(place)["row"] for place in range(len(val))] == list(rows_of(table, "val"))


def test_litdata_reads_the_shards_by_itself(folder: str) -> None:
    from litdata.streaming import Cache

    cache = Cache(str(Path(folder, "val")), chunk_bytes=1)
    assert [cache[place]["index"] for place in range(COUNTS["val"])] == list(range(COUNTS["val"]))


@both
def test_finished_shards_are_not_overwritten(location: str, table: Manifest) -> None:
    with pytest.raises(BadInput, match="finished shards already; choose another location"):
        pack_table(table, location)


@pytest.mark.parametrize("kind", ["folder", "bucket"])
def test_packing_that_was_killed_does_not_look_finished(
    kind: str, table: Manifest, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    location = str(tmp_path / "killed") if kind == "folder" else f"{request.getfixturevalue('bucket')}/killed"
    packing = multiprocessing.get_context("fork").Process(target=_pack_and_die, args=(table, location))
    packing.start()
    packing.join(60)
    assert packing.exitcode == -signal.SIGKILL
    with pytest.raises(BadInput, match="no shards.json in it; pack"):
        read_shards(location)
    with pytest.raises(BadInput, match="was not finished; choose another location or remove"):
        pack_table(table, location)


def _pack_and_die(table: Manifest, location: str) -> None:
    store = type(open_store(location))
    write = store.write

    def write_or_die(self: Any, name: str, source: Path) -> None:
        if name == "val/index.json":
            os.kill(os.getpid(), signal.SIGKILL)
        write(self, name, source)

    store.write = write_or_die
    pack_table(table, location)


def test_a_file_that_is_gone_is_named(tmp_path: Path) -> None:
    table = make_table(tmp_path / "images")
    (tmp_path / "images" / "train" / "004.jpg").unlink()
    with pytest.raises(BadInput, match="train/004.jpg: cannot be read"):
        pack_table(table, str(tmp_path / "packed"))


@pytest.mark.parametrize("megabytes", [0, 4096])
def test_a_shard_has_a_size_that_its_format_can_hold(megabytes: int, table: Manifest, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="shard_megabytes=.*at most 2048"):
        pack_table(table, str(tmp_path / "packed"), megabytes)


def test_other_versions_and_places_are_refused(folder: str, tmp_path: Path) -> None:
    for text, complaint in (('{"format": 99}', "format 99 and this version reads 1"), ("{", "cannot be read")):
        (tmp_path / "shards.json").write_text(text, encoding="utf-8")
        with pytest.raises(BadInput, match=complaint):
            read_shards(str(tmp_path))
    with pytest.raises(BadInput, match="folder or in s3://bucket/prefix"):
        read_shards("gs://somewhere/else")
    with pytest.raises(BadInput, match="classes are blue, green, red and the model's cat, dog"):
        ShardDataset(folder, "train", TaskSpec(("cat", "dog"), 16, (0.5,) * 3, (0.25,) * 3))


def test_a_file_that_changed_is_named(tmp_path: Path) -> None:
    table = make_table(tmp_path / "images")
    (tmp_path / "images" / "val" / "003.png").write_bytes(b"another picture")
    with pytest.raises(BadInput, match="val/003.png: is not the file .*make the manifest anew"):
        pack_table(table, str(tmp_path / "packed"))
    with pytest.raises(BadInput, match="no shards.json in it"):
        read_shards(str(tmp_path / "packed"))


def test_a_file_that_is_gone_is_named_without_its_hash_too(tmp_path: Path) -> None:
    table = replace(make_table(tmp_path / "images"))  # a copy has none yet
    (tmp_path / "images" / "train" / "004.jpg").unlink()
    with pytest.raises(BadInput, match="train/004.jpg: cannot be read"):
        pack_table(table, str(tmp_path / "packed"))


def test_packing_counts_its_images(
    table: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: Any
) -> None:
    monkeypatch.setattr(parallel, "SECONDS_BETWEEN_LINES", 0.0)
    monkeypatch.setattr(shard_packing, "FILES_AT_ONCE", 40)
    monkeypatch.setattr("sys.stderr.isatty", lambda: False)
    with caplog.at_level(logging.INFO):
        pack_table(table, str(tmp_path / "packed"))
    lines = [record.getMessage() for record in caplog.records]
    assert lines[:3] == ["packing train: 40 of 101", "packing train: 80 of 101", lines[2]]
    assert lines[2].startswith("train: 101 images in ")


def test_packing_loads_no_torch_before_it_starts() -> None:
    program = "import sys, sightline.data.shards.packing; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], cwd=PROJECT / "src", timeout=60).returncode == 0
