"""Where versions lie: a folder or a bucket of S3, with files by key and objects by the hash of their bytes."""

import errno
import hashlib
import os
import re
import secrets
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from sightline.data.parallel import map_chunks, track
from sightline.errors import BadInput
from sightline.runs.file_names import readable

if TYPE_CHECKING:
    from sightline.aws.s3 import Storage

OBJECTS = "objects"
KEY = "paths.data_versions"
FICLONE = 0x40049409
"""The request of Linux for a copy that shares its blocks with the original until one of them is written."""
NUM_TRANSFERS = 16
FEW = 200
"""Up to so many objects of a bucket are asked for one by one; beyond, all of them are listed."""
NO_BUCKET, NOT_THERE, IS_THERE = ("NoSuchBucket",), ("404", "NoSuchKey", "NotFound"), ("412", "PreconditionFailed")
IS_BEING_WRITTEN = ("409", "ConditionalRequestConflict")

Item = tuple[str, Path]
"""An object's hash in hex, and the file that it is made of or becomes."""


class Place(Protocol):
    """Files by key, like `signs/3.csv`, and objects by hash. A file is written whole or not at all."""

    @property
    def address(self) -> str: ...

    def read(self, key: str) -> bytes | None:
        """A file's bytes; None where there is none."""
        ...

    def write(self, key: str, content: bytes) -> None: ...

    def write_new(self, key: str, content: bytes) -> bool:
        """Write a file that is not there yet; False where there is one, also one that came in this moment."""
        ...

    def names(self, folder: str = "") -> list[str]:
        """Names of what lies directly below a folder, sorted."""
        ...

    def missing(self, digests: Sequence[str]) -> list[str]:
        """Those hashes of which there is no object."""
        ...

    def put(self, items: Sequence[Item], *, link: bool = False) -> None:
        """Store files as objects; the bytes that were stored are held to the hash.

        Raises: BadInput for a file that has changed since it was hashed.
        """
        ...

    def get(self, items: Sequence[Item], *, link: bool = False) -> None:
        """Bring objects into files, whose folders are there; the bytes are held to the hash.

        Raises: BadInput for an object that is gone or damaged.
        """
        ...


def open_place(address: str) -> Place:
    """The place that `paths.data_versions` names; nothing is made there.

    Raises: BadInput for an address that is neither a folder nor s3://bucket/prefix.
    """
    if not address.startswith("s3://"):
        if "://" in address:
            raise BadInput(f"{KEY}={address}: must be a folder, or s3://bucket/prefix")
        return Folder(Path(address).expanduser().absolute())
    if re.fullmatch(r"s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](/.*)?", address) is None:
        raise BadInput(f"{KEY}={address}: must be s3://bucket/prefix, the bucket as AWS allows it")
    return Bucket(address)


class Folder:
    """A place on a disk."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @property
    def address(self) -> str:
        return str(self.folder)

    def read(self, key: str) -> bytes | None:
        try:
            return (self.folder / key).read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            return None

    def write(self, key: str, content: bytes) -> None:
        with self._explained(), self._whole(key, content) as partial_file:
            partial_file.replace(self.folder / key)

    def write_new(self, key: str, content: bytes) -> bool:
        from filelock import FileLock

        target = self.folder / key
        with self._explained(), self._whole(key, content) as partial_file:
            try:
                os.link(partial_file, target)
            except FileExistsError:
                return False
            except OSError:  # a file system without hard links
                with FileLock(self.folder / f".{target.name}.lock"):
                    if target.exists():
                        return False
                    partial_file.replace(target)
        return True

    @contextmanager
    def _whole(self, key: str, content: bytes) -> Iterator[Path]:
        """A hidden file with this content beside the one that it is to become."""
        target = self.folder / key
        target.parent.mkdir(parents=True, exist_ok=True)
        partial_file = target.with_name(f".{target.name}.{secrets.token_hex(4)}.partial")
        try:
            partial_file.write_bytes(content)
            yield partial_file
        finally:
            partial_file.unlink(missing_ok=True)

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            reason = error.strerror or str(error)
            raise BadInput(f"{KEY}={self.folder}: cannot be written ({reason}); name another folder") from error

    def names(self, folder: str = "") -> list[str]:
        try:
            return sorted(each.name for each in (self.folder / folder).iterdir() if not each.name.startswith("."))
        except (FileNotFoundError, NotADirectoryError):
            return []

    def missing(self, digests: Sequence[str]) -> list[str]:
        folder = self.folder / OBJECTS
        return [digest for digest in digests if not os.path.exists(f"{folder}/{digest}")]  # noqa: PTH110 (of millions)

    def put(self, items: Sequence[Item], *, link: bool = False) -> None:
        with self._explained():
            (self.folder / OBJECTS).mkdir(parents=True, exist_ok=True)
            pairs = [(str(file), f"{self.folder / OBJECTS}/{digest}", digest) for digest, file in items]
            changed = _copy_all(pairs, link=link, title="storing images")
        if changed:
            raise BadInput(f"{readable(changed)}: it changed while it was read; run the same command again")

    def get(self, items: Sequence[Item], *, link: bool = False) -> None:
        pairs = [(f"{self.folder / OBJECTS}/{digest}", str(file), digest) for digest, file in items]
        if wrong := _copy_all(pairs, link=link, title="checking out images"):
            raise _damaged(self.address, Path(wrong).name)


def _copy_all(pairs: Sequence[tuple[str, str, str]], *, link: bool, title: str) -> str:
    """Copy files (from, to, sha256), each whole or not at all; return the first that is gone or has another hash."""
    for wrong in map_chunks(partial(_copy_some, link=link), pairs, title=title):
        if wrong:
            return wrong
    return ""


def _copy_some(pairs: Sequence[tuple[str, str, str]], link: bool) -> str:
    for source, target, digest in pairs:
        hidden = f"{os.path.dirname(target)}/.{digest}.{os.getpid()}"  # noqa: PTH120 (Path takes longer than the copy)
        try:
            is_right = _copy(source, hidden, link=link) == digest
            if is_right:
                os.replace(hidden, target)  # noqa: PTH105
        except FileNotFoundError:
            is_right = False
        finally:
            if os.path.lexists(hidden):
                os.unlink(hidden)  # noqa: PTH108
        if not is_right:
            return source
    return ""


def _copy(source: str, target: str, *, link: bool) -> str:
    """A hard link, a copy that shares its blocks where the file system has those, or a plain one; its sha256 in hex."""
    if link:
        os.link(source, target)
    with open(source, "rb") as file:  # noqa: PTH123
        if not link:
            with open(target, "wb") as copy:  # noqa: PTH123
                if not _share_blocks(file.fileno(), copy.fileno()):
                    data = file.read()
                    copy.write(data)
                    return hashlib.sha256(data).hexdigest()
        return hashlib.file_digest(file, "sha256").hexdigest()


_shares_blocks = hasattr(os, "uname") and os.uname().sysname == "Linux"


def _share_blocks(source: int, target: int) -> bool:
    global _shares_blocks
    if not _shares_blocks:
        return False
    import fcntl

    try:
        fcntl.ioctl(target, FICLONE, source)
    except OSError as error:
        _shares_blocks = error.errno in (errno.EINVAL, errno.EXDEV)  # of these two files alone
        return False
    return True


def _damaged(address: str, digest: str) -> BadInput:
    return BadInput(
        f"{KEY}={address}: the object {digest} is gone or damaged; copy it from a backup to "
        f"{address}/{OBJECTS}/{digest}, or create the version anew from its images"
    )


class Bucket:
    """A place in S3."""

    def __init__(self, address: str) -> None:
        from sightline.aws.s3 import split_address

        self.address = address.rstrip("/")
        self.bucket, prefix = split_address(self.address)
        self.prefix = f"{prefix}/" if prefix else ""
        self._storage: Storage | None = None

    @property
    def storage(self) -> "Storage":
        """Raises: BadInput where boto3 is not installed."""
        from sightline.aws.clients import make_client
        from sightline.aws.s3 import Storage

        if self._storage is None:
            self._storage = Storage(
                make_client("s3", needs=f'{KEY}={self.address}: pip install "sightline-vision[s3]"')
            )
        return self._storage

    def read(self, key: str) -> bytes | None:
        def get() -> bytes:
            return self.storage.client.get_object(Bucket=self.bucket, Key=self.prefix + key)["Body"].read()

        return self._ask(get, NOT_THERE)

    def write(self, key: str, content: bytes) -> None:
        self._ask(lambda: self.storage.write(f"{self.address}/{key}", content))

    def write_new(self, key: str, content: bytes) -> bool:
        def put() -> bool:
            self.storage.client.put_object(Bucket=self.bucket, Key=self.prefix + key, Body=content, IfNoneMatch="*")
            return True

        return bool(self._ask(put, (*IS_THERE, *IS_BEING_WRITTEN)))

    def names(self, folder: str = "") -> list[str]:
        prefix = self.prefix + (f"{folder}/" if folder else "")

        def find() -> list[str]:
            pages = self.storage.client.get_paginator("list_objects_v2").paginate(
                Bucket=self.bucket, Prefix=prefix, Delimiter="/"
            )
            keys: list[str] = []
            for page in pages:
                keys += [each["Key"] for each in page.get("Contents", ())]
                keys += [each["Prefix"] for each in page.get("CommonPrefixes", ())]
            return sorted(name for key in keys if (name := key[len(prefix) :].rstrip("/")))

        return self._ask(find) or []

    def missing(self, digests: Sequence[str]) -> list[str]:
        prefix = f"{self.prefix}{OBJECTS}/"
        if len(digests) > FEW:
            there = self._ask(lambda: {each.key[len(prefix) :] for each in self.storage.find(self.bucket, prefix)})
            return [digest for digest in digests if digest not in (there or ())]

        def is_there(digest: str) -> bool:
            return self._ask(lambda: self._head(prefix + digest), NOT_THERE) is not None

        with ThreadPoolExecutor(NUM_TRANSFERS) as pool:
            found = list(pool.map(is_there, digests))
        return [digest for digest, known in zip(digests, found, strict=True) if not known]

    def _head(self, key: str) -> Any:
        return self.storage.client.head_object(Bucket=self.bucket, Key=key)

    def put(self, items: Sequence[Item], *, link: bool = False) -> None:
        def send(item: Item) -> None:
            digest, file = item
            try:
                data = file.read_bytes()
            except FileNotFoundError:
                data = b""
            if hashlib.sha256(data).hexdigest() != digest:
                raise BadInput(f"{readable(str(file))}: it changed while it was read; run the same command again")
            self._ask(lambda: self.storage.write(f"{self.address}/{OBJECTS}/{digest}", data))

        self._transfer(send, items, f"sending images to {self.address}")

    def get(self, items: Sequence[Item], *, link: bool = False) -> None:
        def fetch(item: Item) -> None:
            digest, file = item
            data = self.read(f"{OBJECTS}/{digest}")
            if data is None or hashlib.sha256(data).hexdigest() != digest:
                raise _damaged(self.address, digest)
            hidden = file.with_name(f".{digest}.{os.getpid()}")
            hidden.write_bytes(data)
            hidden.replace(file)

        self._transfer(fetch, items, f"fetching images from {self.address}")

    def _transfer(self, one: Callable[[Item], None], items: Sequence[Item], title: str) -> None:
        with ThreadPoolExecutor(NUM_TRANSFERS) as pool:
            waiting = [pool.submit(one, item) for item in items]
            try:
                for _ in track((each.result() for each in waiting), [1] * len(waiting), title):
                    pass
            finally:
                for each in waiting:
                    each.cancel()

    def _ask(self, function: Callable[[], Any], usual: Sequence[str] = ()) -> Any:
        """What a call returns; None where S3 answers with one of the usual codes.

        Raises: BadInput for a bucket that is not there, or credentials that are missing or may not.
        """
        from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError

        try:
            return function()
        except ClientError as error:
            said = error.response["Error"]
            if said["Code"] in usual:
                return None
            if said["Code"] in NO_BUCKET:
                raise BadInput(
                    f"{KEY}={self.address}: there is no such bucket; `aws s3 mb s3://{self.bucket}` makes it"
                ) from error
            raise BadInput(
                f"{KEY}={self.address}: S3 refuses it ({said.get('Message', said['Code'])}); ask the owner of the "
                "bucket, or name another place"
            ) from error
        except NoCredentialsError as error:
            raise BadInput(
                f"{KEY}={self.address}: no credentials; set AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
            ) from error
        except BotoCoreError as error:
            raise BadInput(f"{KEY}={self.address}: S3 cannot be reached ({error}); try again") from error
