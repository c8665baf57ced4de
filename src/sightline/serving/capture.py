"""What was asked and answered, written beside the service in the format of SageMaker's data capture.

Nothing here delays or fails an answer: a thread writes, and what it cannot keep up with is dropped and counted.
"""

import base64
import hashlib
import json
import logging
import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sightline.serving.contract import Answer

log = logging.getLogger(__name__)
MOST_RECORDS, MOST_BYTES = 10_000, 64_000_000
"""That wait to be written."""
SECONDS_BETWEEN_OBJECTS, MOST_IN_OBJECT = 60.0, 1000
"""S3 appends nothing: so many records become an object, or those of so many seconds."""
SECONDS_BETWEEN_WARNINGS = 60.0
S3_SETTINGS = {"connect_timeout": 3, "read_timeout": 10, "retries": {"mode": "standard", "max_attempts": 2}}
Count = Callable[[str, int], None]
"""Gets `written`, `dropped` or `failed` and a number of records."""


@dataclass(frozen=True)
class Captured:
    """An answer that waits to be written."""

    answer: Answer
    num_bytes: int
    """Of the picture."""
    picture: bytes | None
    """Where it is captured, too."""
    time: datetime = field(default_factory=lambda: datetime.now(UTC))

    @property
    def hour(self) -> str:
        return f"{self.time:%Y/%m/%d/%H}"


def to_record(captured: Captured) -> dict[str, Any]:
    """A line of SageMaker's capture files. Features are float16, little endian, in base64."""
    answer, picture = captured.answer, captured.picture
    said = {
        "id": answer.id,
        "class": answer.label,
        "confidence": answer.probability,
        "unsure": answer.unsure,
        "threshold": answer.threshold,
        "features": None if answer.features is None else base64.b64encode(answer.features).decode(),
        "sha256": answer.picture_sha256,
        "model": asdict(answer.model),
    }
    if picture is None:
        about = {"sha256": answer.picture_sha256, "bytes": captured.num_bytes}
        asked = _data("application/json", "INPUT", json.dumps(about), "JSON")
    else:
        asked = _data(content_type(picture), "INPUT", base64.b64encode(picture).decode(), "BASE64")
    answered = _data("application/json", "OUTPUT", json.dumps(said, ensure_ascii=False), "JSON")
    when = captured.time.strftime("%Y-%m-%dT%H:%M:%SZ")
    return {
        "captureData": {"endpointInput": asked, "endpointOutput": answered},
        "eventMetadata": {"eventId": str(uuid.uuid4()), "inferenceId": answer.id, "inferenceTime": when},
        "eventVersion": "0",
    }


def _data(kind: str, mode: str, data: str, encoding: str) -> dict[str, str]:
    return {"observedContentType": kind, "mode": mode, "data": data, "encoding": encoding}


def content_type(picture: bytes) -> str:
    """Of a picture, by how its bytes begin."""
    if picture[:4] == b"RIFF" and picture[8:12] == b"WEBP":
        return "image/webp"
    begins = {b"\xff\xd8": "jpeg", b"\x89PNG": "png", b"BM": "bmp", b"II": "tiff", b"MM": "tiff"}
    named = (f"image/{name}" for start, name in begins.items() if picture.startswith(start))
    return next(named, "application/x-npy" if picture.startswith(b"\x93NUMPY") else "application/octet-stream")


def is_sampled(own_id: str, percent: float) -> bool:
    """Whether an answer is among so many percent; the same id always is, or never."""
    drawn = int.from_bytes(hashlib.sha256(own_id.encode("utf-8", "replace")).digest()[:8], "big")
    return 100 * drawn < percent * 2**64


class Capture:
    """Writes to `target`, a folder or `s3://bucket/prefix`, below which lie `yyyy/mm/dd/hh/*.jsonl` (UTC)."""

    def __init__(self, target: str, count: Count, *, percent: float = 100.0, has_pictures: bool = False) -> None:
        self.count, self.percent, self.has_pictures = count, percent, has_pictures
        self._waiting: list[Captured] = []
        self._num_bytes, self._is_closed, self._warned = 0, False, -SECONDS_BETWEEN_WARNINGS
        self._changed = threading.Condition()
        is_s3 = target.startswith("s3://")
        self._write = S3Writer(target).write if is_s3 else FolderWriter(Path(target)).write
        self._delay = SECONDS_BETWEEN_OBJECTS if is_s3 else 0.0
        self._thread = threading.Thread(target=self._work, name="capture", daemon=True)
        self._thread.start()

    def take(self, picture: bytes, answer: Answer) -> None:
        """Note an answer; returns at once."""
        if not is_sampled(answer.id, self.percent):
            return
        captured = Captured(answer, len(picture), picture if self.has_pictures else None)
        size = len(picture) if self.has_pictures else 0
        with self._changed:
            is_full = len(self._waiting) >= MOST_RECORDS or self._num_bytes + size > MOST_BYTES
            if not (is_full or self._is_closed):
                self._waiting.append(captured)
                self._num_bytes += size
                self._changed.notify()
                return
        self.count("dropped", 1)

    def close(self, seconds: float = 3.0) -> None:
        """Write what waits, as far as the time allows; the rest is dropped."""
        with self._changed:
            self._is_closed = True
            self._changed.notify()
        self._thread.join(seconds)
        with self._changed:
            left, self._waiting = len(self._waiting), []
        if left:
            self.count("dropped", left)
            log.warning("capture: %d answers were not written before the end", left)

    def _work(self) -> None:
        while records := self._next():
            by_hour: dict[str, list[Captured]] = {}
            for each in records:
                by_hour.setdefault(each.hour, []).append(each)
            for hour, part in by_hour.items():
                try:
                    lines = [json.dumps(to_record(each), ensure_ascii=False) for each in part]
                    self._write(hour, "".join(f"{line}\n" for line in lines).encode("utf-8", "backslashreplace"))
                except Exception as error:  # noqa: BLE001 - full disk, S3: never the asker's fault
                    self.count("failed", len(part))
                    self._warn(error)
                else:
                    self.count("written", len(part))

    def _next(self) -> list[Captured]:
        """The records that are written together; none at the end."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._is_closed)
            if self._delay:
                self._changed.wait_for(lambda: len(self._waiting) >= MOST_IN_OBJECT or self._is_closed, self._delay)
            taken, self._waiting = self._waiting[:MOST_IN_OBJECT], self._waiting[MOST_IN_OBJECT:]
            self._num_bytes -= sum(len(each.picture or b"") for each in taken)
        return taken

    def _warn(self, error: Exception) -> None:
        if time.monotonic() - self._warned >= SECONDS_BETWEEN_WARNINGS:
            self._warned = time.monotonic()
            log.warning("capture: answers are not written (%s); /metrics counts them as failed", error)


class FolderWriter:
    """Appends whole lines to a file an hour, of this process alone."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.name = folder, f"{uuid.uuid4().hex[:12]}.jsonl"

    def write(self, hour: str, lines: bytes) -> None:
        """Raises: OSError, after which the file is as it was before."""
        from sightline.serving.feedback import append_line

        file = self.folder / hour / self.name
        file.parent.mkdir(parents=True, exist_ok=True)
        append_line(file, lines)


class S3Writer:
    """Puts an object each time."""

    def __init__(self, address: str) -> None:
        self.address = address.rstrip("/")
        self._storage: Any = None

    def write(self, hour: str, lines: bytes) -> None:
        """Raises: botocore's errors."""
        if self._storage is None:
            from sightline.aws.clients import make_client
            from sightline.aws.s3 import Storage

            self._storage = Storage(make_client("s3", needs="serve.capture=s3://… needs boto3", **S3_SETTINGS))
        name = f"{datetime.now(UTC):%M-%S-%f}-{uuid.uuid4().hex[:12]}.jsonl"
        self._storage.write(f"{self.address}/{hour}/{name}", lines)
