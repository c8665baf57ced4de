"""Downloads: cut off, they go on where they stopped, and a wrong or half file never takes the name of the right one."""

import errno
import hashlib
import json
import logging
import shutil
import threading
from collections.abc import Iterator
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from sightline.data.collection import download as downloads
from sightline.data.collection.download import DownloadFailed, download, in_units, show_progress
from sightline.errors import BadInput

BODY = bytes(range(256)) * 4000
SHA256 = f"sha256:{hashlib.sha256(BODY).hexdigest()}"
MD5 = f"md5:{hashlib.md5(BODY).hexdigest()}"


class Server(ThreadingHTTPServer):
    """Files in memory, with the faults of real servers."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files: dict[str, bytes] = {"/data.zip": BODY}
        self.etag: str | None = '"first"'
        self.takes_ranges = True
        self.says_length = True
        self.cut_after: int | None = None
        self.num_cuts = 0
        self.statuses: list[int] = []
        self.ranges: list[str | None] = []

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that hang up are part of the tests."""

    def url(self, name: str = "/data.zip") -> str:
        return f"http://127.0.0.1:{self.server_address[1]}{name}"


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        server = cast(Server, self.server)
        wanted = self.headers["Range"]
        server.ranges.append(wanted)
        if server.statuses:
            self.send_error(server.statuses.pop(0))
        elif self.path not in server.files:
            self.send_error(404)
        elif wanted and server.takes_ranges and self.headers["If-Range"] in (None, server.etag):
            start = int(wanted.removeprefix("bytes=").removesuffix("-"))
            self._send(206, start)
        else:
            self._send(200, 0)

    def _send(self, status: int, start: int) -> None:
        server = cast(Server, self.server)
        body = server.files[self.path]
        if start >= len(body):
            self.send_error(416)
            return
        self.send_response(status)
        if server.says_length:
            self.send_header("Content-Length", str(len(body) - start))
        if server.etag:
            self.send_header("ETag", server.etag)
        if status == 206:
            self.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
        self.end_headers()
        rest = body[start:]
        if server.num_cuts and server.cut_after is not None:
            server.num_cuts -= 1
            rest = rest[: server.cut_after]
        self.wfile.write(rest)

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with Server() as server:
        thread = threading.Thread(target=partial(server.serve_forever, poll_interval=0.01))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "cache" / "data.zip"


def visible(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))


def leave_half(server: Server, target: Path) -> None:
    server.cut_after, server.num_cuts = 1000, 1
    with pytest.raises(DownloadFailed):
        download(server.url(), target, num_retries=0)
    assert visible(target.parent) == ["data.zip.part", "data.zip.part.json"]
    server.ranges.clear()


@pytest.mark.parametrize("checksum", [None, SHA256, MD5, SHA256.upper().replace("SHA", "sha")])
def test_a_file_arrives_whole(checksum: str | None, server: Server, target: Path) -> None:
    assert download(server.url(), target, checksum=checksum) == target
    assert target.read_bytes() == BODY
    assert visible(target.parent) == ["data.zip"]
    download(server.url(), target, checksum=checksum)
    assert len(server.ranges) == 1, "what is there is not fetched again"


def test_a_length_that_is_not_said(server: Server, target: Path) -> None:
    server.says_length = False
    assert download(server.url(), target).read_bytes() == BODY


def test_a_connection_that_is_cut_again_and_again_goes_on(server: Server, target: Path) -> None:
    server.cut_after, server.num_cuts = 300_000, 3
    download(server.url(), target, num_retries=1, wait_seconds=0)
    assert target.read_bytes() == BODY
    assert server.ranges == [None, "bytes=300000-", "bytes=600000-", "bytes=900000-"]


def test_a_later_call_goes_on_from_the_bytes_that_are_there(server: Server, target: Path) -> None:
    leave_half(server, target)
    download(server.url(), target)
    assert target.read_bytes() == BODY
    assert server.ranges == ["bytes=1000-"]


def test_the_error_says_from_which_byte_the_next_call_goes_on(server: Server, target: Path) -> None:
    server.cut_after, server.num_cuts = 1000, 1
    with pytest.raises(DownloadFailed) as failed:
        download(server.url(), target, num_retries=0)
    assert str(failed.value) == (
        f"{server.url()}: the connection ended at byte 1000 of {len(BODY)} (tries: 1); run the same command again "
        "to go on from byte 1000, or fetch the file by hand and set data.root=FILE"
    )


def test_a_server_that_gives_no_byte_is_given_up(server: Server, target: Path) -> None:
    server.cut_after, server.num_cuts = 0, 99
    with pytest.raises(DownloadFailed, match="tries: 3"):
        download(server.url(), target, num_retries=2, wait_seconds=0)
    assert len(server.ranges) == 3


def test_a_server_without_ranges_starts_again(server: Server, target: Path) -> None:
    leave_half(server, target)
    server.takes_ranges = False
    assert download(server.url(), target).read_bytes() == BODY


def test_a_file_that_changed_starts_again(server: Server, target: Path) -> None:
    leave_half(server, target)
    server.files["/data.zip"], server.etag = BODY[::-1], '"second"'
    assert download(server.url(), target).read_bytes() == BODY[::-1]


@pytest.mark.parametrize("etag", [None, 'W/"weak"'])
def test_a_file_whose_version_is_not_named_starts_again_unless_a_checksum_will_tell(
    etag: str | None, server: Server, target: Path
) -> None:
    server.etag = etag
    leave_half(server, target)
    download(server.url(), target)
    assert server.ranges == [None]
    target.unlink()
    leave_half(server, target)
    download(server.url(), target, checksum=MD5)
    assert server.ranges == ["bytes=1000-"]


def test_the_part_of_another_file_is_not_gone_on_with(server: Server, target: Path) -> None:
    leave_half(server, target)
    server.files["/other.zip"] = BODY[::-1]
    assert download(server.url("/other.zip"), target).read_bytes() == BODY[::-1]
    assert server.ranges == [None]


def test_a_part_that_lacks_only_its_name_needs_no_server(server: Server, target: Path) -> None:
    leave_half(server, target)
    target.with_name("data.zip.part").write_bytes(BODY)
    assert download(server.url(), target, checksum=SHA256).read_bytes() == BODY
    assert server.ranges == []


def test_a_part_that_is_too_long_starts_again(server: Server, target: Path) -> None:
    leave_half(server, target)
    target.with_name("data.zip.part").write_bytes(BODY + b"more")
    assert download(server.url(), target, wait_seconds=0).read_bytes() == BODY


def test_a_wrong_checksum_names_both_and_the_next_call_starts_anew(server: Server, target: Path) -> None:
    server.files["/data.zip"] = b"something else"
    found = hashlib.sha256(b"something else").hexdigest()
    with pytest.raises(DownloadFailed, match=f"the file is sha256:{found} and not {SHA256}"):
        download(server.url(), target, checksum=SHA256)
    assert visible(target.parent) == ["data.zip.bad"]
    server.files["/data.zip"] = BODY
    assert download(server.url(), target, checksum=SHA256).read_bytes() == BODY
    assert server.ranges == [None, None]


def test_a_file_that_is_there_but_wrong_is_moved_aside(server: Server, target: Path) -> None:
    target.parent.mkdir()
    target.write_bytes(b"mine")
    download(server.url(), target, checksum=MD5)
    assert target.read_bytes() == BODY
    assert target.with_name("data.zip.bad").read_bytes() == b"mine"


def test_too_little_space_is_refused_before_the_first_byte(
    server: Server, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=1000))
    with pytest.raises(DownloadFailed, match=r"1.0 MB are to come and .*cache has 1.0 kB free; make room there"):
        download(server.url(), target)
    assert not target.with_name("data.zip.part").exists()


def test_a_disk_that_fills_up_keeps_the_part(server: Server, target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    leave_half(server, target)

    def fail(file: Any, chunk: bytes, part: Any) -> None:
        full = SimpleNamespace(write=lambda rest: (_ for _ in ()).throw(OSError(errno.ENOSPC, "full")))
        write(full, chunk, part)

    write = downloads._write
    with monkeypatch.context() as patch:
        patch.setattr(downloads, "_write", fail)
        with pytest.raises(DownloadFailed, match=r"no space is left in .*from byte 1000"):
            download(server.url(), target)
    assert target.with_name("data.zip.part").read_bytes() == BODY[:1000]
    assert download(server.url(), target).read_bytes() == BODY


def test_a_missing_file_is_not_tried_again(server: Server, target: Path) -> None:
    with pytest.raises(DownloadFailed, match=r"/no.zip: the server says 404 Not Found; run the same command again, or"):
        download(server.url("/no.zip"), target)
    assert len(server.ranges) == 1
    assert visible(target.parent) == []


def test_a_busy_server_is_tried_again(server: Server, target: Path) -> None:
    server.statuses = [503, 429]
    assert download(server.url(), target, wait_seconds=0).read_bytes() == BODY


def test_no_server(server: Server, target: Path) -> None:
    url = server.url()
    server.server_close()
    with pytest.raises(DownloadFailed, match=f"{url}: .*refused"):
        download(url, target, num_retries=1, wait_seconds=0)


@pytest.mark.parametrize(
    ("url", "checksum", "message"),
    [
        ("file:///etc/passwd", None, "url=file:///etc/passwd: only http"),
        ("http://x/", "sha1:00", "checksum=sha1:00: must be sha256:"),
        ("http://x/", "md5:xyz", "checksum=md5:xyz: must be sha256:"),
    ],
)
def test_what_cannot_be_meant_is_bad_input(url: str, checksum: str | None, message: str, target: Path) -> None:
    with pytest.raises(BadInput, match=message):
        download(url, target, checksum=checksum)


def test_two_at_once_fetch_once(server: Server, target: Path) -> None:
    threads = [threading.Thread(target=download, args=(server.url(), target)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert target.read_bytes() == BODY
    assert len(server.ranges) == 1


def test_the_note_is_plain_json(server: Server, target: Path) -> None:
    leave_half(server, target)
    note = json.loads(target.with_name("data.zip.part.json").read_text())
    assert note == {"url": server.url(), "validator": '"first"', "length": len(BODY)}


def test_progress_goes_to_the_log_where_there_is_no_terminal(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(downloads, "LOG_SECONDS", 0)
    with caplog.at_level(logging.INFO), show_progress("data.zip", total=4_000_000, start=1_000_000) as advance:
        advance(1_000_000)
    assert caplog.messages == ["data.zip: 2.0 MB of 4.0 MB (50%)"]


def test_progress_is_a_bar_on_a_terminal(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    with show_progress("data.zip", total=2_000_000) as advance:
        advance(2_000_000)
    assert "data.zip" in (shown := capsys.readouterr().err)
    assert "2.0/2.0 MB" in shown


@pytest.mark.parametrize(("count", "text"), [(999, "999 bytes"), (12_345_678, "12.3 MB"), (2_000_000_000, "2.0 GB")])
def test_sizes_read_well(count: int, text: str) -> None:
    assert in_units(count) == text
