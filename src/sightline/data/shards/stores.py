"""Storage of shards, a folder or S3, and the cache of bounded size on this machine."""

import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Thread
from typing import Any, BinaryIO, Protocol

import numpy as np

from sightline.aws.clients import make_client
from sightline.errors import BadInput
from sightline.runs.files import whole_file, write_bytes

SHARDS_AT_ONCE = 4
"""Images are shuffled across this many shards, and as many are fetched ahead."""


class StorageFailed(RuntimeError):
    """A shard cannot be fetched, though its data set was there; the message names it."""


class Store(Protocol):
    """The protocol of storage: files by their names relative to it."""

    location: str

    def is_empty(self) -> bool: ...
    def read(self, name: str) -> bytes | None: ...
    def write(self, name: str, source: Path) -> None: ...
    def fetch(self, name: str, target: BinaryIO) -> None: ...


def open_store(location: str) -> Store:
    """The store at a folder's path or an `s3://bucket/prefix`."""
    if location.startswith("s3://"):
        return BucketStore(location)
    if "://" in location:
        raise BadInput(f"{location}: shards are kept in a folder or in s3://bucket/prefix; give one of these")
    return FolderStore(location)


class FolderStore:
    """Shards in a folder that every reader sees."""

    def __init__(self, location: str) -> None:
        self.location = location
        self.folder = Path(location).expanduser().absolute()

    def is_empty(self) -> bool:
        return not self.folder.exists() or not any(self.folder.iterdir())

    def read(self, name: str) -> bytes | None:
        path = self.folder / name
        return path.read_bytes() if path.is_file() else None

    def write(self, name: str, source: Path) -> None:
        """A file is there whole or not at all."""
        path = self.folder / name
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with whole_file(path) as partial:
                shutil.copyfile(source, partial)
        except OSError as error:
            raise BadInput(f"{path}: cannot be written ({error.strerror}); choose another location") from error

    def fetch(self, name: str, target: BinaryIO) -> None:
        target.write((self.folder / name).read_bytes())


NEEDS_BOTO3 = 's3:// locations need boto3; install it with pip install "sightline-vision[shards]"'


class BucketStore:
    """Shards in S3; credentials, region and `AWS_ENDPOINT_URL` are found as boto3 finds them."""

    def __init__(self, location: str) -> None:
        self.location = location.rstrip("/")
        self.bucket, _, self.prefix = self.location.removeprefix("s3://").partition("/")
        self._client: tuple[int, Any] | None = None
        if not self.bucket:
            raise BadInput(f"{location}: names no bucket; write it as s3://bucket/prefix")

    def is_empty(self) -> bool:
        with _explained(self.location, BadInput):
            found = self.client.list_objects_v2(Bucket=self.bucket, Prefix=self._key(""), MaxKeys=1)
        return found["KeyCount"] == 0

    def read(self, name: str) -> bytes | None:
        with _explained(self.location, BadInput):
            try:
                return self.client.get_object(Bucket=self.bucket, Key=self._key(name))["Body"].read()
            except self.client.exceptions.NoSuchKey:
                return None

    def write(self, name: str, source: Path) -> None:
        with _explained(f"{self.location}/{name}", BadInput):
            self.client.upload_file(str(source), self.bucket, self._key(name))

    def fetch(self, name: str, target: BinaryIO) -> None:
        with _explained(f"{self.location}/{name}", StorageFailed):
            self.client.download_fileobj(self.bucket, self._key(name), target)

    @property
    def client(self) -> Any:
        """Made anew in each process: connections do not survive a fork."""
        if self._client is None or self._client[0] != os.getpid():
            self._client = (os.getpid(), make_client("s3", needs=NEEDS_BOTO3))
        return self._client[1]

    def _key(self, name: str) -> str:
        return f"{self.prefix}/{name}" if self.prefix else name

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_client": None}


@contextmanager
def _explained(location: str, kind: type[Exception]) -> Iterator[None]:
    try:
        from boto3.exceptions import Boto3Error
        from botocore.exceptions import BotoCoreError, ClientError
    except ImportError as error:
        raise BadInput(NEEDS_BOTO3) from error

    try:
        yield
    except (Boto3Error, BotoCoreError, ClientError) as error:
        raise kind(f"{location}: {error}; check the bucket's name, its region and your credentials") from error


@dataclass(frozen=True)
class ShardCache:
    """Where shards from S3 are kept, and how much of the disk they may take, of all data sets together.

    The shards that were not read for the longest time make room for new ones. Every rank on a machine needs room for
    `2 * SHARDS_AT_ONCE + 1` shards.
    """

    folder: Path
    gigabytes: float = 50.0

    @property
    def num_bytes(self) -> int:
        return int(self.gigabytes * 1e9)


class ShardFiles:
    """The shards of one split as files on this machine: in place, or fetched into a cache, which S3 needs."""

    def __init__(self, store: Store, split: str, cache: ShardCache | None = None) -> None:
        index = store.read(f"{split}/index.json")
        if index is None:
            raise BadInput(f"{store.location}: there are no {split} images in it; pack a manifest that has some")
        chunks = json.loads(index)["chunks"]
        self.store, self.split = store, split
        self.names: list[str] = [chunk["filename"] for chunk in chunks]
        self.num_bytes: list[int] = [chunk["chunk_bytes"] for chunk in chunks]
        self.num_images = np.array([chunk["chunk_size"] for chunk in chunks])
        if isinstance(store, FolderStore):
            self.folder = store.folder / split
            return
        if cache is None:
            raise BadInput(f"{store.location}: shards from S3 are read from copies on this disk; give a ShardCache")
        self.root, self.most_bytes = cache.folder.expanduser().absolute(), cache.num_bytes
        self.folder = self.root / hashlib.sha256(store.location.encode() + index).hexdigest()[:16] / split
        self._check_room()
        self.folder.mkdir(parents=True, exist_ok=True)
        write_bytes(self.folder / "index.json", index)

    def _check_room(self) -> None:
        needed = (2 * SHARDS_AT_ONCE + 1) * max(self.num_bytes)
        if self.most_bytes < needed:
            raise BadInput(
                f"a cache of {self.most_bytes / 1e9:g} GB is too small for {self.store.location}/{self.split}: reading "
                f"it takes {needed / 1e9:.2g} GB; allow that much, or pack it into smaller shards"
            )

    def require(self, shard: int) -> None:
        """Have a shard's file in `folder`, fetched if it is not there."""
        if isinstance(self.store, FolderStore):
            return
        path = self.folder / self.names[shard]
        try:
            os.utime(path)  # the cache drops what was not read for the longest time
        except FileNotFoundError:
            self._fetch(shard, path)

    def fetch_ahead(self, shard: int) -> None:
        """Fetch a shard in the background; if that fails, reading it will try again and say why."""

        def fetch() -> None:
            with suppress(StorageFailed, OSError):
                self.require(shard)

        if not isinstance(self.store, FolderStore):
            Thread(target=fetch, daemon=True).start()

    def _fetch(self, shard: int, path: Path) -> None:
        from filelock import FileLock

        size = self.num_bytes[shard]
        with FileLock(f"{path}.lock"):
            if path.exists():
                return
            partial = path.with_suffix(".partial")
            with FileLock(self.root / "room.lock"):
                self._make_room(size)
                with partial.open("wb") as file:
                    file.truncate(size)  # counts from now on when room is made
            with partial.open("r+b") as file:
                self.store.fetch(f"{self.split}/{path.name}", file)
            if partial.stat().st_size != size:
                raise StorageFailed(f"{self.store.location}/{self.split}/{path.name}: changed; pack the data set again")
            partial.replace(path)

    def _make_room(self, size: int) -> None:
        """Remove the shards that were read longest ago, until another fits."""
        files = [(path.stat(), path) for path in self.root.glob("*/*/chunk-*") if path.suffix in (".bin", ".partial")]
        excess = sum(status.st_size for status, _ in files) + size - self.most_bytes
        for status, path in sorted(files, key=lambda file: file[0].st_mtime):
            if excess <= 0:
                return
            path.unlink(missing_ok=True)  # who has it open reads on
            excess -= status.st_size
