"""Where a service keeps what it is told: one JSON line each, in a folder or in S3."""

import fcntl
import json
import os
import uuid
from dataclasses import asdict
from datetime import UTC, datetime
from difflib import get_close_matches
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from sightline.serving.content_negotiation import media_type
from sightline.serving.contract import JSON, MAX_COMMENT, Feedback, ModelIdentity, Problem, Request
from sightline.serving.request_reading import check_id, read_json_object, read_shape
from sightline.serving.s3_pictures import open_storage

if TYPE_CHECKING:
    from sightline.aws.s3 import Storage

RETRY_AFTER = 5


class Output(Protocol):
    """A place for records; calls may come from several threads and processes at once."""

    def write(self, kind: str, record: dict[str, Any]) -> str:
        """Keep one record, whole or not at all; return where.

        Raises: Problem 503 where that fails.
        """
        ...


def open_output(address: str | None) -> Output | None:
    """A folder or `s3://bucket/prefix`; nothing is written yet."""
    if not address:
        return None
    return S3Output(address) if address.startswith("s3://") else FolderOutput(Path(address))


class FolderOutput:
    """`FOLDER/<kind>/<yyyy>-<mm>-<dd>.jsonl`, lines appended."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def write(self, kind: str, record: dict[str, Any]) -> str:
        file = self.folder / kind / f"{datetime.now(UTC):%Y-%m-%d}.jsonl"
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            append_line(file, json_line(record))
        except OSError as error:
            raise _not_kept() from error
        return f"{kind}/{file.name}"


class S3Output:
    """`PREFIX/<kind>/<yyyy>/<mm>/<dd>/<time>-<random>.json`, an object each: S3 appends nothing."""

    def __init__(self, address: str) -> None:
        self.address = address.rstrip("/")

    @cached_property
    def storage(self) -> "Storage":
        return open_storage()

    def write(self, kind: str, record: dict[str, Any]) -> str:
        from botocore.exceptions import BotoCoreError, ClientError

        name = f"{kind}/{datetime.now(UTC):%Y/%m/%d/%H%M%S}-{uuid.uuid4().hex[:12]}.json"
        try:
            self.storage.write(f"{self.address}/{name}", json_line(record))
        except (BotoCoreError, ClientError) as error:
            raise _not_kept() from error
        return name


def json_line(record: dict[str, Any]) -> bytes:
    return json.dumps(record, ensure_ascii=False).encode("utf-8", "backslashreplace") + b"\n"


def append_line(file: Path, line: bytes) -> None:
    """Append a line to a file that others append to; where the disk is full, the file is as it was before.

    A half line that somebody's end left is closed first.
    """
    descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        size = os.fstat(descriptor).st_size
        if size and os.pread(descriptor, 1, size - 1) != b"\n":
            line = b"\n" + line
        try:
            if os.write(descriptor, line) < len(line):
                raise OSError("the disk is full")
        except OSError:
            os.ftruncate(descriptor, size)
            raise
    finally:
        os.close(descriptor)


def _not_kept() -> Problem:
    return Problem(503, "Not kept", "what was sent cannot be kept now; try again", retry_after=RETRY_AFTER)


def read_feedback(request: Request, class_names: tuple[str, ...]) -> Feedback:
    """Raises: Problem 422 for another class than the model's, or too long a comment, or what is no such JSON."""
    kind, _ = media_type(request.headers.get("content-type") or JSON)
    if kind != JSON:
        raise Problem(415, "Unsupported media type", f"{kind[:100]!r} is not taken; send {JSON}", "Content-Type")
    said = read_shape(read_json_object(request.body), Feedback)
    check_id(said.id, "id")
    if said.label not in class_names:
        near = get_close_matches(said.label, class_names, n=1, cutoff=0.5)
        some = ", ".join(class_names[:10]) + (", …" if len(class_names) > 10 else "")
        hint = f"did you mean {near[0]}?" if near else f"known are {some}"
        raise Problem(422, "Unknown class", f"the model has no such class; {hint}", "label")
    if len(said.comment or "") > MAX_COMMENT:
        raise Problem(422, "Too long", f"must have at most {MAX_COMMENT:,} characters", "comment")
    return said


def to_record(said: Feedback, model: ModelIdentity) -> dict[str, Any]:
    """What is kept of it: with the model that answers now, and the time (UTC)."""
    return {**asdict(said), "model": asdict(model), "time": datetime.now(UTC).isoformat(timespec="milliseconds")}
