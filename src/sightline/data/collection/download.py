"""Resumable download of one file over HTTP; at the end it is there whole and verified, or not at all."""

import errno
import hashlib
import http.client
import json
import logging
import re
import shutil
import ssl
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from email.message import Message
from pathlib import Path
from typing import Any

from sightline.errors import BadInput
from sightline.runs.archives import in_units
from sightline.runs.files import write_json

log = logging.getLogger(__name__)

LOG_SECONDS = 10.0
CHUNK_BYTES = 1 << 18
PASSING = frozenset((408, 425, 429, 500, 502, 503, 504))
"""HTTP status codes that are worth another try."""


class DownloadFailed(RuntimeError):
    """A file could not be fetched: the message says which, why and what to do."""


class _Cut(Exception):
    """The transfer ended early; another try goes on from the bytes that have arrived."""


def download(
    url: str,
    target: Path,
    *,
    checksum: str | None = None,
    num_retries: int = 4,
    wait_seconds: float = 1.0,
    timeout_seconds: float = 60.0,
) -> Path:
    """The file of a URL at `target`; bytes that an earlier call left in `target.part` are not fetched again.

    `checksum` is "sha256:…" or "md5:…"; without it, a file that is there is taken as it is. `num_retries` counts the
    failures in a row that bring no byte, and the wait before each is twice the last one.

    Raises: DownloadFailed, after which the same call goes on from the byte reached.
    """
    from filelock import FileLock

    if not url.startswith(("http://", "https://")):
        raise BadInput(f"url={url}: only http:// and https:// can be fetched; put the file on this disk instead")
    _check_form(checksum)
    target.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(target.with_name(f".{target.name}.lock")):
        if target.exists():
            if checksum is None or _digest(target, checksum) == checksum.lower():
                return target
            log.warning("%s: is not the file that was asked for; moved to %s", target, _move_aside(target).name)
        part = _Part(url, target.with_name(f"{target.name}.part"), is_checked=checksum is not None)
        _fetch(part, num_retries, wait_seconds, timeout_seconds)
        _check(part, checksum, target)
        part.path.replace(target)
        part.note.unlink(missing_ok=True)
    return target


@contextmanager
def show_progress(what: str, total: int | None, start: int = 0) -> Iterator[Callable[[int], None]]:
    """A function to call, from any thread, with each number of bytes done: it moves a bar or, off a terminal, logs."""
    if not sys.stderr.isatty():
        yield _log_progress(what, total, start)
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    columns = (TextColumn("{task.description}", markup=False), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, TimeRemainingColumn(), console=Console(stderr=True)) as bar:
        task = bar.add_task(what, total=total, completed=start)
        yield lambda count: bar.advance(task, count)


def _log_progress(what: str, total: int | None, start: int) -> Callable[[int], None]:
    done, last, lock = start, time.monotonic(), threading.Lock()

    def advance(count: int) -> None:
        nonlocal done, last
        with lock:
            done += count
            if time.monotonic() - last < LOG_SECONDS:
                return
            last = time.monotonic()
            share = f" of {in_units(total)} ({done / total:.0%})" if total else ""
            log.info("%s: %s%s", what, in_units(done), share)

    return advance


@dataclass
class _Part:
    """The bytes that have arrived, with a note beside them that says which version of the file they are from."""

    url: str
    path: Path
    is_checked: bool

    @property
    def note(self) -> Path:
        return self.path.with_name(f"{self.path.name}.json")

    @property
    def size(self) -> int:
        return self.path.stat().st_size if self.path.exists() else 0

    @property
    def is_complete(self) -> bool:
        return self.path.exists() and self._read_note().get("length") == self.size

    def continue_headers(self) -> dict[str, str]:
        """The headers that ask for the missing bytes of the same file; none where that cannot be known."""
        note, size = self._read_note(), self.size
        validator = note.get("validator")
        if not size or not note or not (validator or self.is_checked):
            return {}
        return {"Range": f"bytes={size}-", **({"If-Range": validator} if validator else {})}

    def begin(self, headers: Message, length: int | None) -> None:
        """Discard what has arrived: the server has a new version of the file."""
        etag = headers.get("ETag") or ""
        validator = etag if etag.startswith('"') else headers.get("Last-Modified")  # a weak ETag cannot vouch for bytes
        self.discard()
        write_json(self.note, {"url": self.url, "validator": validator, "length": length})

    def discard(self) -> None:
        self.path.unlink(missing_ok=True)
        self.note.unlink(missing_ok=True)

    def _read_note(self) -> dict[str, Any]:
        try:
            note = json.loads(self.note.read_text(encoding="utf-8"))
        except (FileNotFoundError, json.JSONDecodeError):
            return {}
        return note if isinstance(note, dict) and note.get("url") == self.url else {}


def _fetch(part: _Part, num_retries: int, wait_seconds: float, timeout_seconds: float) -> None:
    failures, furthest = 0, part.size
    while not part.is_complete:
        try:
            _fetch_rest(part, timeout_seconds)
            break
        except _Cut as cut:
            failures = 1 if part.size > furthest else failures + 1
            furthest = max(furthest, part.size)
            if failures > num_retries:
                raise _failed(part, f"{cut} (tries: {failures})") from cut
            wait = wait_seconds * 2 ** (failures - 1)
            log.warning("%s: %s; going on from byte %d in %.1f s", part.url, cut, part.size, wait)
            time.sleep(wait)


def _fetch_rest(part: _Part, timeout_seconds: float) -> None:
    request = urllib.request.Request(part.url, headers={"User-Agent": "sightline", **part.continue_headers()})
    try:
        with urllib.request.urlopen(request, timeout=timeout_seconds) as response:
            total = _agree(part, response)
            _check_space(part, total)
            _receive(response, part, total)
    except urllib.error.HTTPError as error:
        if error.code == 416:
            part.discard()
        elif error.code not in PASSING:
            raise _failed(part, f"the server says {error.code} {error.reason}") from error
        raise _Cut(f"the server says {error.code} {error.reason}") from error
    except (OSError, http.client.HTTPException) as error:
        reason = error.reason if isinstance(error, urllib.error.URLError) else error
        if isinstance(reason, ssl.SSLCertVerificationError):
            raise _failed(part, f"its certificate is not trusted ({reason.verify_message})") from error
        raise _Cut(str(reason) or type(reason).__name__) from error


def _agree(part: _Part, response: http.client.HTTPResponse) -> int | None:
    """The length of the whole file, after making the part fit what the server is about to send."""
    if response.status != 206:
        length = int(response.headers["Content-Length"]) if "Content-Length" in response.headers else None
        part.begin(response.headers, length)
        return length
    found = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", response.headers.get("Content-Range", "").strip())
    if not found or int(found[1]) != part.size:
        part.discard()
        raise _Cut("the server sent other bytes than were asked for")
    return None if found[2] == "*" else int(found[2])


def _check_space(part: _Part, total: int | None) -> None:
    missing = 0 if total is None else total - part.size
    free = shutil.disk_usage(part.path.parent).free
    if missing > free:
        raise _failed(
            part, f"{in_units(missing)} are to come and {part.path.parent} has {in_units(free)} free; make room there"
        )


def _receive(response: http.client.HTTPResponse, part: _Part, total: int | None) -> None:
    size = part.size
    with part.path.open("ab", buffering=0) as file, show_progress(part.path.stem, total, size) as advance:
        while total is None or size < total:
            chunk = response.read1(CHUNK_BYTES)
            if not chunk:
                break
            _write(file, chunk, part)
            size += len(chunk)
            advance(len(chunk))
    if total is not None and size < total:
        raise _Cut(f"the connection ended at byte {size} of {total}")


def _write(file: Any, chunk: bytes, part: _Part) -> None:
    rest = memoryview(chunk)
    try:
        while rest:
            rest = rest[file.write(rest) :]
    except OSError as error:
        full = f"no space is left in {part.path.parent}; make room there"
        reason = full if error.errno in (errno.ENOSPC, errno.EDQUOT) else f"cannot write {part.path} ({error.strerror})"
        raise _failed(part, reason) from error


def _failed(part: _Part, reason: str) -> DownloadFailed:
    start = f" to go on from byte {part.size}" if part.size else ""
    return DownloadFailed(
        f"{part.url}: {reason}; run the same command again{start}, or fetch the file by hand and set data.root=FILE"
    )


def _check_form(checksum: str | None) -> None:
    if checksum is not None and not re.fullmatch(r"sha256:[0-9a-fA-F]{64}|md5:[0-9a-fA-F]{32}", checksum):
        raise BadInput(f"checksum={checksum}: must be sha256: and 64 digits, or md5: and 32 digits, from 0 to f")


def _check(part: _Part, checksum: str | None, target: Path) -> None:
    if checksum is None or (found := _digest(part.path, checksum)) == checksum.lower():
        return
    part.note.unlink(missing_ok=True)
    bad = part.path.replace(target.with_name(f"{target.name}.bad"))
    raise DownloadFailed(
        f"{part.url}: the file is {found} and not {checksum}, so it was damaged on its way or is another one by now "
        f"(kept as {bad}); run the same command again to fetch it anew, or fetch it by hand and set data.root=FILE"
    )


def _digest(path: Path, like: str) -> str:
    """The file's hash in the form and by the method of another one."""
    method = like.partition(":")[0]

    def start() -> Any:
        return hashlib.new(method, usedforsecurity=False)

    with path.open("rb") as file:
        return f"{method}:{hashlib.file_digest(file, start).hexdigest()}"


def _move_aside(target: Path) -> Path:
    return target.replace(target.with_name(f"{target.name}.bad"))
