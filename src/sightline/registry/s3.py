"""Versions in S3: a number is claimed, its files are sent, and version.json, which comes last, makes them a version.

S3's conditional writes decide between writers: no lock is needed, and none can be left behind.
"""

import json
import re
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from sightline.aws.clients import make_client
from sightline.aws.s3 import NUM_TRANSFERS, Storage, split_address
from sightline.errors import BadInput
from sightline.registry.local import check_files
from sightline.registry.package import Package, find_differences, hash_file
from sightline.registry.version import FILES_FILE, NAME, VERSION_FILE, Version, broken
from sightline.runs.files import whole_folder, write_json

CLAIMS = ".claims"
"""Beside the versions of a name: an object for each number that was ever taken, so that none is taken twice."""
STALE = timedelta(hours=6)
"""After which the files of an addition that never ended are removed by the next."""
TAKEN = ("PreconditionFailed", "ConditionalRequestConflict", "412", "409")
ADDRESS = re.compile(r"s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](/[^\s?#]*)?")
NEEDS_BOTO3 = "a registry in S3 needs boto3: pip install boto3"


@dataclass
class _Seen:
    """What there is of a name."""

    numbers: list[int] = field(default_factory=list)
    """Of complete versions."""
    keys: dict[int, list[str]] = field(default_factory=dict)
    """Of every object, by number."""
    claims: dict[int, datetime] = field(default_factory=dict)
    """When a number was taken."""


class S3Store:
    """A prefix of a bucket."""

    def __init__(self, place: str, cache: Path, *, stale: timedelta = STALE) -> None:
        if not ADDRESS.fullmatch(place):
            raise BadInput(f"paths.registry={place}: must be s3://bucket/prefix, the bucket as AWS allows it")
        self.place = place.rstrip("/")
        self.cache, self.stale = cache / "registry", stale
        self.bucket, prefix = split_address(self.place)
        self.prefix = f"{prefix}/" if prefix else ""
        with self._saying():
            self.client = make_client("s3", needs=NEEDS_BOTO3)
        self.storage = Storage(self.client)

    def check_writable(self, version: Version | None = None) -> None:
        del version  # all lie in one place
        from botocore.exceptions import ClientError

        with self._saying():
            try:  # a condition that cannot hold: S3 looks at the permission first, and writes nothing
                self._put(f"{self.prefix}.writable", b"", IfMatch='"never"')
            except ClientError as error:
                if error.response["Error"]["Code"] not in (*TAKEN, "NoSuchKey", "404"):
                    raise

    def names(self) -> list[str]:
        with self._saying():
            pages = self.client.get_paginator("list_objects_v2").paginate(
                Bucket=self.bucket, Prefix=self.prefix, Delimiter="/"
            )
            found = [each["Prefix"][len(self.prefix) : -1] for page in pages for each in page.get("CommonPrefixes", ())]
        return sorted(name for name in found if NAME.fullmatch(name) and self.numbers(name))

    def numbers(self, name: str) -> list[int]:
        return self._look(name).numbers

    def _look(self, name: str) -> _Seen:
        start, seen = f"{self.prefix}{name}/", _Seen()
        with self._saying():
            for page in self.client.get_paginator("list_objects_v2").paginate(Bucket=self.bucket, Prefix=start):
                for each in page.get("Contents", ()):
                    first, _, rest = each["Key"][len(start) :].partition("/")
                    if first == CLAIMS and rest.isdigit():
                        seen.claims[int(rest)] = each["LastModified"]
                    elif first.isascii() and first.isdigit():
                        seen.keys.setdefault(int(first), []).append(each["Key"])
                        if rest == VERSION_FILE:
                            seen.numbers.append(int(first))
        seen.numbers.sort()
        return seen

    def read(self, name: str, number: int) -> tuple[Version, str]:
        address = f"{self.place}/{name}/{number}/{VERSION_FILE}"
        with self._saying():
            found = self.client.get_object(Bucket=self.bucket, Key=self._key(name, number, VERSION_FILE))
            content = found["Body"].read()
        try:
            values = json.loads(content)
        except ValueError as error:
            raise broken(address, str(error)) from error
        version = Version.from_dict(values if isinstance(values, Mapping) else {}, address)
        if (version.name, version.number) != (name, number):
            raise broken(address, f"it is of {version.spelled()}")
        return version, found["ETag"]

    def write(self, version: Version, mark: str) -> bool:
        return self._put_if(self._key(version.name, version.number, VERSION_FILE), _as_json(version), IfMatch=mark)

    @contextmanager
    def changing(self, name: str) -> Iterator[None]:
        del name  # S3 decides between writers object by object
        yield

    def put(self, package: Package, name: str, make: Callable[[int], Version]) -> Version | None:
        seen = self._look(name)
        self._clean(seen)
        number = self._claim(package, name, seen)
        if number is None:
            return None
        version = make(number)
        with self._saying():
            self._send(package, name, number)
        is_first = self._put_if(self._key(name, number, VERSION_FILE), _as_json(version), IfNoneMatch="*")
        return version if is_first else None

    def _claim(self, package: Package, name: str, seen: _Seen) -> int | None:
        """A number that is ours, or of the same files: who was killed, or does the same, sends the same bytes there."""
        newest = max(seen.numbers, default=0)
        for number in sorted(each for each in seen.claims if each > newest):
            with self._saying():
                known = self.client.get_object(Bucket=self.bucket, Key=self._claim_key(name, number))["Body"].read()
            if known.decode() == package.files_sha256:
                return number
        number = max([newest, *seen.claims, *seen.keys]) + 1
        is_mine = self._put_if(self._claim_key(name, number), package.files_sha256.encode(), IfNoneMatch="*")
        return number if is_mine else None

    def _clean(self, seen: _Seen) -> None:
        """Remove the files of additions that never ended; their numbers stay taken."""
        before = datetime.now(UTC) - self.stale
        for number, keys in seen.keys.items():
            if number not in seen.numbers and seen.claims.get(number, before) <= before:
                self._delete(keys)

    def _send(self, package: Package, name: str, number: int) -> None:
        """Raises: BadInput for a file that changes meanwhile."""

        def send(file: str) -> str:
            path = package.folder / file
            self.storage.send(path, self.bucket, self._key(name, number, file))
            return hash_file(path)

        with ThreadPoolExecutor(NUM_TRANSFERS) as pool:
            sent = dict(zip(package.files, pool.map(send, package.files), strict=True))
        if changed := [file for file, sha256 in package.files.items() if sent[file] != sha256]:
            raise BadInput(
                f"{package.folder / changed[0]}: changed while it was registered; do it again when it is finished"
            )
        self._put(self._key(name, number, FILES_FILE), package.files_json)

    def fetch(self, version: Version) -> Path:
        folder = self.cache / version.name / f"{version.number}-{version.files_sha256[:16]}"
        if folder.is_dir() and find_differences(folder, version.sha256, version.files_sha256):
            shutil.rmtree(folder)
        if not folder.is_dir():
            with whole_folder(folder) as partial, self._saying():
                self.storage.download(f"{self.place}/{version.name}/{version.number}", partial)
                check_files(partial, version, f"{self.place}/{version.spelled()}")
        write_json(folder / VERSION_FILE, version.to_dict())
        return folder

    def differences(self, version: Version) -> list[str]:
        with TemporaryDirectory(prefix="sightline-registry-") as scratch, self._saying():
            folder = Path(scratch)
            self.storage.download(f"{self.place}/{version.name}/{version.number}", folder)
            return find_differences(folder, version.sha256, version.files_sha256)

    def remove(self, version: Version) -> None:
        last = self._key(version.name, version.number, VERSION_FILE)
        with self._saying():
            self._delete([last])  # out of sight at once
            self._delete(self._look(version.name).keys.get(version.number, []))

    def _key(self, name: str, number: int, file: str) -> str:
        return f"{self.prefix}{name}/{number}/{file}"

    def _claim_key(self, name: str, number: int) -> str:
        return f"{self.prefix}{name}/{CLAIMS}/{number}"

    def _put(self, key: str, content: bytes, **condition: str) -> None:
        self.client.put_object(Bucket=self.bucket, Key=key, Body=content, ServerSideEncryption="AES256", **condition)

    def _put_if(self, key: str, content: bytes, **condition: str) -> bool:
        """Whether the condition held, and the object was written."""
        from botocore.exceptions import ClientError

        with self._saying():
            try:
                self._put(key, content, **condition)
            except ClientError as error:
                if error.response["Error"]["Code"] in TAKEN:
                    return False
                raise
        return True

    def _delete(self, keys: Iterable[str]) -> None:
        waiting = [{"Key": key} for key in keys]
        with self._saying():
            for start in range(0, len(waiting), 1000):
                self.client.delete_objects(Bucket=self.bucket, Delete={"Objects": waiting[start : start + 1000]})

    @contextmanager
    def _saying(self) -> Iterator[None]:
        """What S3 refuses, in our words."""
        try:
            from boto3.exceptions import Boto3Error
            from botocore.exceptions import BotoCoreError, ClientError
        except ImportError as error:
            raise BadInput(f"paths.registry={self.place}: {NEEDS_BOTO3}") from error
        try:
            yield
        except ClientError as error:
            said: Any = error.response["Error"]
            raise BadInput(f"paths.registry={self.place}: {_describe(said)}") from error
        except (BotoCoreError, Boto3Error) as error:
            raise BadInput(f"paths.registry={self.place}: S3 cannot be asked ({error}){_hint(error)}") from error


def _as_json(version: Version) -> bytes:
    return (json.dumps(version.to_dict(), indent=2, ensure_ascii=False) + "\n").encode()


def _describe(said: Mapping[str, str]) -> str:
    code, message = said.get("Code", ""), said.get("Message", "")
    if code == "NoSuchBucket":
        return "there is no such bucket; make it, or name another"
    if code in ("AccessDenied", "403", "InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken"):
        return f"these credentials may not ({code}: {message}); docs/registry.md has the policy that is needed"
    return f"S3 says {code}: {message}"


def _hint(error: Exception) -> str:
    is_of_credentials = "credentials" in str(error).lower()
    return "; `aws configure` sets credentials, `aws sts get-caller-identity` shows them" if is_of_credentials else ""
