"""Files to S3 and back: uploaded once by content hash, encrypted, and never written outside the target folder."""

from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

from sightline.errors import BadInput
from sightline.runs.content_hash import files_of
from sightline.runs.files import whole_file

NUM_TRANSFERS = 16
MISSING = ("404", "NoSuchKey", "NotFound")
NOT_CHANGED = ("304", "NotModified")


class ObjectTooLarge(ValueError):
    """An object of more bytes than are wanted; the message says both."""


def split_address(address: str) -> tuple[str, str]:
    """Bucket and key of s3://bucket/key."""
    bucket, _, key = address.removeprefix("s3://").partition("/")
    return bucket, key


def _mark(prefix: str) -> str:
    """Key of the marker object that says that an upload is complete."""
    return f"{prefix.rstrip('/')}.complete"


class Stored(NamedTuple):
    """An object: its key and its number of bytes."""

    key: str
    size: int


class Storage:
    """One S3 client; `kms_key` encrypts what is written, otherwise S3's own key does."""

    def __init__(self, client: Any, kms_key: str | None = None) -> None:
        self.client = client
        self._encryption: Mapping[str, str] = (
            {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": kms_key}
            if kms_key
            else {"ServerSideEncryption": "AES256"}
        )

    def upload(self, path: Path, address: str) -> int:
        """Put a file or a folder's files below an address that names their content; return how many were sent.

        A marker object beside them says that all are there; an interrupted upload goes on with the missing files.
        """
        bucket, prefix = split_address(address)
        if self.is_complete(address):
            return 0
        there = dict(self._list(bucket, prefix))
        waiting = [
            (file, f"{prefix}{name}")
            for name, file in files_of(path)
            if there.get(f"{prefix}{name}") != file.stat().st_size
        ]
        with ThreadPoolExecutor(NUM_TRANSFERS) as pool:
            list(pool.map(lambda pair: self.send(pair[0], bucket, pair[1]), waiting))
        self.client.put_object(Bucket=bucket, Key=_mark(prefix), Body=b"", **self._encryption)
        return len(waiting)

    def is_complete(self, address: str) -> bool:
        """Whether an upload is complete, by its marker."""
        bucket, prefix = split_address(address)
        return self._has(bucket, _mark(prefix))

    def send(self, file: Path, bucket: str, key: str) -> None:
        """Put one file."""
        self.client.upload_file(str(file), bucket, key, ExtraArgs=dict(self._encryption))

    def _has(self, bucket: str, key: str) -> bool:
        from botocore.exceptions import ClientError

        try:
            self.client.head_object(Bucket=bucket, Key=key)
        except ClientError as error:
            code = error.response["Error"]["Code"]
            if code == "NoSuchBucket" or code in MISSING:
                return False
            raise BadInput(
                f"launch.bucket={bucket}: {error.response['Error'].get('Message', code)} ({code})"
            ) from error
        return True

    def find(self, bucket: str, prefix: str) -> Iterator[Stored]:
        """The objects whose keys begin with a prefix, in the order of their keys, as the pages of the list come.

        Raises: BadInput where there is no such bucket, or these credentials may not list it.
        """
        from botocore.exceptions import ClientError

        try:
            for page in self.client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix):
                for each in page.get("Contents", ()):
                    yield Stored(each["Key"], each["Size"])
        except ClientError as error:
            said = error.response["Error"]
            raise BadInput(
                f"s3://{bucket}/{prefix}: cannot be listed ({said.get('Message', said['Code'])}); correct it, or ask "
                "its owner"
            ) from error

    def _list(self, bucket: str, prefix: str) -> Iterator[tuple[str, int]]:
        from botocore.exceptions import ClientError

        try:
            for page in self.client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix):
                yield from ((each["Key"], each["Size"]) for each in page.get("Contents", ()))
        except ClientError as error:
            code = error.response["Error"]["Code"]
            if code == "NoSuchBucket":
                raise BadInput(
                    f"launch.bucket={bucket}: there is no such bucket; `aws s3 mb s3://{bucket}` makes it"
                ) from error
            raise

    def download(self, address: str, into: Path) -> int:
        """Get every object below an address; return how many came. Names that lead out of the folder are left."""
        bucket, prefix = split_address(address)
        prefix = f"{prefix.rstrip('/')}/"
        wanted = []
        for key, _ in self._list(bucket, prefix):
            target = into / key[len(prefix) :]
            if not key.endswith("/") and target.resolve().is_relative_to(into.resolve()):
                target.parent.mkdir(parents=True, exist_ok=True)
                wanted.append((key, target))
        with ThreadPoolExecutor(NUM_TRANSFERS) as pool:
            list(pool.map(lambda pair: self.client.download_file(bucket, pair[0], str(pair[1])), wanted))
        return len(wanted)

    def download_file(self, address: str, file: Path) -> bool:
        """Get one object, if it is there; the file gets the time of its last change."""
        import os

        from botocore.exceptions import ClientError

        bucket, key = split_address(address)
        try:
            found = self.client.get_object(Bucket=bucket, Key=key)
        except ClientError as error:
            if error.response["Error"]["Code"] in (*MISSING, "NoSuchBucket"):
                return False
            raise
        file.parent.mkdir(parents=True, exist_ok=True)
        with file.open("wb") as target:
            for chunk in found["Body"].iter_chunks(1 << 20):
                target.write(chunk)
        os.utime(file, (found["LastModified"].timestamp(),) * 2)
        return True

    def read(self, address: str, max_bytes: int) -> bytes:
        """An object's bytes; a larger one is not downloaded.

        Raises: ObjectTooLarge, or botocore's ClientError for what is not there or not allowed.
        """
        bucket, key = split_address(address)
        found = self.client.get_object(Bucket=bucket, Key=key)
        body, size = found["Body"], found["ContentLength"]
        try:
            if size > max_bytes:
                raise ObjectTooLarge(f"{size:,} bytes are more than {max_bytes:,}")
            return body.read()
        finally:
            body.close()

    def write(self, address: str, content: bytes) -> None:
        """Put one object."""
        bucket, key = split_address(address)
        self.client.put_object(Bucket=bucket, Key=key, Body=content, **self._encryption)

    def refresh_file(self, address: str, file: Path) -> bool:
        """Get one object, whole or not at all, if it is there and was changed since the file was got so."""
        import os
        from datetime import UTC, datetime

        from botocore.exceptions import ClientError

        bucket, key = split_address(address)
        known = {"IfModifiedSince": datetime.fromtimestamp(file.stat().st_mtime, UTC)} if file.is_file() else {}
        try:
            found = self.client.get_object(Bucket=bucket, Key=key, **known)
        except ClientError as error:
            code = error.response["Error"]["Code"]
            if code in NOT_CHANGED:
                return True
            if code in (*MISSING, "NoSuchBucket"):
                return False
            raise
        file.parent.mkdir(parents=True, exist_ok=True)
        with whole_file(file) as partial:
            with partial.open("wb") as target:
                for chunk in found["Body"].iter_chunks(1 << 20):
                    target.write(chunk)
            os.utime(partial, (found["LastModified"].timestamp(),) * 2)
        return True
