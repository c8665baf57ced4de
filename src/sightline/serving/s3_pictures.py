"""Pictures that a request names by their address in S3: only below what the server was told it may read."""

import re
from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING

from sightline.serving.contract import Problem

if TYPE_CHECKING:
    from sightline.aws.s3 import Storage

NEEDS = "s3://… needs boto3: pip install 'sightline-vision[serve]'"
SETTINGS = {"connect_timeout": 3, "read_timeout": 10, "retries": {"mode": "standard", "max_attempts": 3}}
"""Somebody waits: it is tried for half a minute at most."""
RETRY_AFTER = 5


class S3Pictures:
    """What a service may read; its client is made when an address is first read, and serves all threads."""

    def __init__(self, prefixes: Sequence[str], max_bytes: int) -> None:
        self.prefixes, self.max_bytes = prefixes, max_bytes

    @cached_property
    def storage(self) -> "Storage":
        return open_storage()

    def read(self, address: str, field: str) -> bytes:
        """The bytes of an object below one of the prefixes.

        Raises: Problem 422 for an address that is not allowed or not there, 413 for a large object, 503 where S3 fails.
        """
        if not is_below(address, self.prefixes):
            allowed = ", ".join(self.prefixes) or "nothing (serve.s3_prefixes is empty)"
            raise Problem(422, "Not allowed", f"this server reads from S3: {allowed}", field)
        from botocore.exceptions import BotoCoreError, ClientError, HTTPClientError

        from sightline.aws.s3 import ObjectTooLarge

        try:
            return self.storage.read(address, self.max_bytes)
        except ObjectTooLarge as error:
            raise Problem(413, "Too many bytes", f"the object's {error}; send a smaller file", field) from error
        except ClientError as error:
            status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 500)
            if status >= 500 or status == 429:
                raise _unreachable(field) from error
            detail = "there is no such object, or this server may not read it"
            raise Problem(422, "Not found", detail, field) from error
        except (BotoCoreError, HTTPClientError) as error:
            raise _unreachable(field) from error


def _unreachable(field: str) -> Problem:
    return Problem(503, "Unavailable", "S3 cannot be reached now; try again", field, RETRY_AFTER)


def open_storage() -> "Storage":
    """S3 with a client that gives up early enough for somebody who waits."""
    from sightline.aws.clients import make_client
    from sightline.aws.s3 import Storage

    return Storage(make_client("s3", needs=NEEDS, **SETTINGS))


def is_below(address: str, prefixes: Sequence[str]) -> bool:
    """Whether an object's address lies below a prefix by whole segments: `s3://b/in` allows `s3://b/in/x` alone.

    Segments that are empty, `.` or `..` and what is no printable text are never allowed.
    """
    segments = _segments(address)
    if len(segments) < 2 or {"", ".", ".."} & {*segments} or not address.isprintable():
        return False
    if not re.fullmatch(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]", segments[0]):
        return False
    allowed = [_segments(prefix.rstrip("/")) for prefix in prefixes]
    return any(len(segments) > len(each) and segments[: len(each)] == each for each in allowed)


def _segments(address: str) -> list[str]:
    return address.removeprefix("s3://").split("/")
