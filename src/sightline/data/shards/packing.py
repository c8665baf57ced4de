"""A data set larger than one machine's disk, packed into shards in LitData's format. Never imports torch at the top."""

import hashlib
import json
import logging
import tempfile
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sightline.data.manifest import SPLITS, Manifest
from sightline.data.parallel import track
from sightline.data.shards.stores import Store, open_store
from sightline.errors import BadInput
from sightline.task_spec import MAX_PIXELS, ValueRange

log = logging.getLogger(__name__)
FORMAT = 1
PACKING_SEED = 0
FILES_AT_ONCE = 256


@dataclass(frozen=True)
class ShardInfo:
    """The contents of packed shards; `sha256` is that of the manifest that was packed.

    `value_range`, `max_pixels` and `channels` are those of the data set: how its images are to be decoded.
    """

    class_names: tuple[str, ...]
    num_images: dict[str, int]
    sha256: str
    value_range: ValueRange | None = None
    max_pixels: int = MAX_PIXELS
    channels: int = 3


def pack(
    manifest: Manifest,
    location: str,
    *,
    value_range: ValueRange | None = None,
    max_pixels: int = MAX_PIXELS,
    channels: int = 3,
    shard_megabytes: float = 64,
    num_workers: int = 8,
) -> None:
    """Write every image's file, label and row into shards under `location/<split>/`, a folder or `s3://bucket/prefix`.

    Training images are shuffled once, so that a shard holds all classes; the others keep the manifest's order.
    `shards.json` comes last: a location without it was not finished. `num_workers` threads read the files.

    Raises: BadInput when the location is not empty or cannot be written, or a file is not the one in the manifest.
    """
    if not 0 < shard_megabytes <= 2048:
        raise BadInput(f"shard_megabytes={shard_megabytes}: must be above 0 and at most 2048; 64 suits most data")
    require_litdata()
    store = open_store(location)
    if store.read("shards.json") is not None:
        raise BadInput(f"{location}: holds finished shards already; choose another location or remove these first")
    if not store.is_empty():
        raise BadInput(
            f"{location}: is not empty and has no shards.json, so it is something else or was not finished; "
            "choose another location or remove what is there"
        )
    try:
        names = tuple(manifest.class_names)
        info = ShardInfo(names, manifest.num_images, manifest.sha256, value_range, max_pixels, channels)
    except OSError as error:  # where the manifest has no hashes yet
        raise _refuse_unreadable(error) from error
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(max(1, num_workers)) as pool:
        for split in SPLITS:
            if info.num_images[split]:
                _pack_split(manifest, split, store, pool, int(shard_megabytes * 1e6))
        table, description = Path(folder, "manifest.csv"), Path(folder, "shards.json")
        manifest.save(table)
        store.write("manifest.csv", table)
        description.write_text(json.dumps({"format": FORMAT, **asdict(info)}, indent=2) + "\n", encoding="utf-8")
        store.write("shards.json", description)
    log.info("%s: finished; %s", location, ", ".join(f"{count} {split}" for split, count in info.num_images.items()))


def read_shards(location: str) -> ShardInfo:
    """The contents of the shards that `pack` wrote there.

    Raises: BadInput when there is nothing finished, or another version wrote it.
    """
    text = open_store(location).read("shards.json")
    if text is None:
        raise BadInput(f"{location}: there is no shards.json in it; pack a data set there first, to the end")
    try:
        values = json.loads(text)
    except ValueError as error:
        raise BadInput(f"{location}: its shards.json cannot be read ({error}); pack the data set again") from error
    if (version := values.get("format")) != FORMAT:
        raise BadInput(f"{location}: its shards are of format {version} and this version reads {FORMAT}; pack it again")
    value_range = values.get("value_range")
    return ShardInfo(
        tuple(values["class_names"]),
        values["num_images"],
        values["sha256"],
        None if value_range is None else tuple(value_range),
        values.get("max_pixels", MAX_PIXELS),
        values.get("channels", 3),
    )


def require_litdata() -> None:
    """Raises: BadInput when it is not installed."""
    try:
        import litdata  # noqa: F401
    except ImportError as error:
        raise BadInput('shards need LitData; install it with pip install "sightline-vision[shards]"') from error


def _pack_split(manifest: Manifest, split: str, store: Store, pool: ThreadPoolExecutor, num_bytes: int) -> None:
    rows = manifest.select(split).rows
    order = np.arange(len(rows))
    if split == "train":
        order = np.random.default_rng(PACKING_SEED).permutation(len(rows))
    parts = [order[first : first + FILES_AT_ONCE] for first in range(0, len(order), FILES_AT_ONCE)]
    with tempfile.TemporaryDirectory() as folder:
        writer = _open_writer(folder, num_bytes)
        sent: list[Future] = []
        number = 0
        for indices in track(parts, [len(part) for part in parts], f"packing {split}"):
            for index, image in zip(indices, _read_files(manifest, rows[indices], pool), strict=True):
                row = int(rows[index])
                item = {"image": image, "label": int(manifest.labels[row]), "row": row, "index": int(index)}
                if shard := writer.add_item(number, item):
                    _send(Path(shard), split, store, pool, sent)
                number += 1
        for shard in writer.done():
            _send(Path(shard), split, store, pool, sent)
        writer.merge()
        for upload in sent:
            upload.result()
        store.write(f"{split}/index.json", Path(folder, "index.json"))
    log.info("%s: %d images in %d shards", split, len(rows), len(sent))


def _open_writer(folder: str, num_bytes: int) -> Any:
    """LitData's writer of items that are read one by one.

    Where pyarrow is installed it would write the items of a shard as a table, which opens only with pyarrow, and whole.
    """
    from litdata.streaming.writer import BinaryWriter

    class ItemWriter(BinaryWriter):
        def _create_chunk(self, on_done: bool = False) -> tuple[bytes, bool, dict[str, Any]]:
            for item in self._serialized_items.values():
                item.sample = None  # what such a table would be made of
            return super()._create_chunk(on_done)

    return ItemWriter(folder, chunk_bytes=num_bytes)


def _read_files(manifest: Manifest, rows: np.ndarray, pool: ThreadPoolExecutor) -> Iterator[bytes]:
    """The bytes of each row's file, read at once and handed out in order."""
    paths = [manifest.file(row) for row in rows]
    digests = [digest.tobytes() for digest in manifest.digests[rows]]
    return pool.map(_read_unchanged, paths, digests)


def _read_unchanged(path: Path, digest: bytes) -> bytes:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise _refuse_unreadable(error) from error
    if hashlib.sha256(content).digest() != digest:
        raise BadInput(f"{path}: is not the file that the manifest was made of; make the manifest anew")
    return content


def _refuse_unreadable(error: OSError) -> BadInput:
    return BadInput(f"{error.filename}: cannot be read ({error.strerror}); make the manifest anew")


def _send(shard: Path, split: str, store: Store, pool: ThreadPoolExecutor, sent: list[Future]) -> None:
    """Store a shard and remove it here, while the next one is filled; no more than two are under way."""

    def send() -> None:
        store.write(f"{split}/{shard.name}", shard)
        shard.unlink(missing_ok=True)

    if len(sent) > 1:
        sent[-2].result()
    sent.append(pool.submit(send))
