"""Pictures that a request names by their address in S3: only below what the server was told it may read."""

import re
from collections.abc import Sequence
from functools import cache
from typing import Any

from sightline.serving.contract import Problem

NEEDS = "s3://… needs boto3: pip install 'sightline-vision[serve]'"
SETTINGS = {"connect_timeout": 3, "read_timeout": 10, "retries": {"mode": "standard", "max_attempts": 3}}
"""Somebody waits: it is tried for half a minute at most."""
RETRY_AFTER = 5


def read_s3_picture(address: str, field: str, prefixes: Sequence[str], max_bytes: int) -> bytes:
    """The bytes of an object below one of the prefixes.

    Raises: Problem 422 for an address that is not allowed or not there, 413 for a large object, 503 where S3 fails.
    """
    if not is_below(address, prefixes):
        allowed = ", ".join(prefixes) or "nothing (serve.s3_prefixes is empty)"
        raise Problem(422, "Not allowed", f"this server reads from S3: {allowed}", field)
    from botocore.exceptions import BotoCoreError, ClientError

    from sightline.aws.s3 import ObjectTooLarge, Storage

    try:
        return Storage(s3_client()).read(address, max_bytes)
    except ObjectTooLarge as error:
        raise Problem(413, "Too many bytes", f"the object's {error}; send a smaller file", field) from error
    except ClientError as error:
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 500)
        if status >= 500 or status == 429 or "SlowDown" in str(error):
            raise _unreachable(field) from error
        detail = "there is no such object, or this server may not read it"
        raise Problem(422, "Not found", detail, field) from error
    except BotoCoreError as error:
        raise _unreachable(field) from error


def _unreachable(field: str) -> Problem:
    return Problem(503, "Unavailable", "S3 cannot be reached now; try again", field, RETRY_AFTER)


@cache
def s3_client() -> Any:
    """One for all threads, which boto3 allows."""
    from sightline.aws.clients import make_client

    return make_client("s3", needs=NEEDS, **SETTINGS)


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
