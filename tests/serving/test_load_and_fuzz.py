"""The programs that load and attack a server are told the truth by one that misbehaves as it is asked to."""

import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from tests.conftest import PROJECT

sys.path.insert(0, str(PROJECT / "scripts"))
import fuzz_server  # pyright: ignore[reportMissingImports]
from fuzz_cases import KINDS, MAKERS, Case, http, make_case  # pyright: ignore[reportMissingImports]
from http_load import Stream, request, run_load  # pyright: ignore[reportMissingImports]

PROBLEM = b'{"type": "urn:x", "title": "Bad", "status": 400, "detail": "no picture"}'


class Misbehaving(BaseHTTPRequestHandler):
    """`/500`, `/trace`, `/text`, `/problem`, `/cut`: what is wrong; anything else is answered with its id."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        way = self.path.strip("/")
        if way == "cut":
            self.close_connection = True
            return
        own_id = self.headers.get("x-request-id", "") if way != "other" else "another"
        told: dict[str, tuple[int, bytes]] = {
            "500": (500, PROBLEM),
            "trace": (200, b"Traceback (most recent call last)"),
            "text": (400, b"no"),
            "problem": (400, PROBLEM),
        }
        status, body = told.get(way, (200, f'{{"id": "{own_id}"}}'.encode()))
        self.send_response(status)
        self.send_header("content-length", str(len(body)))
        self.send_header("content-type", "text/plain" if way == "text" else "application/problem+json")
        if way == "last" or self.headers.get("connection") == "close":
            self.send_header("connection", "close")
            self.close_connection = True
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing."""


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Misbehaving)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    yield server.server_address[1]
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize(
    ("way", "fault"),
    [
        ("500", "status 500"),
        ("trace", "tells what only the server should know"),
        ("text", "no problem document"),
        ("cut", "no answer"),
        ("problem", None),
        ("fine", None),
    ],
)
def test_what_is_wrong_with_an_answer_is_found(way: str, fault: str | None, port: int) -> None:
    case = Case("planted", http("POST", f"/{way}", b"%s%% {}"))
    answer = fuzz_server.exchange(port, case)
    found = fuzz_server.fault_of(case, fuzz_server.status_of(answer), answer)
    assert (found is None) if fault is None else (found is not None and fault in found)


def test_cases_follow_from_their_seed_and_number() -> None:
    for number in range(60):
        assert make_case(3, number).raw == make_case(3, number).raw
    assert {make_case(0, number).kind for number in range(300)} == set(KINDS) == set(MAKERS)
    assert make_case(1, 0).raw != make_case(2, 0).raw


def test_a_load_counts_answers_lost_ones_and_those_of_others(port: int) -> None:
    body = b"100 % {s} %s"
    streams = [
        Stream(f"/{way}", request("POST", f"/{way}", body), 3, count=20) for way in ("fine", "last", "cut", "other")
    ]
    load = run_load(port, streams, 30.0)
    assert len(load.times["/fine", 200]) == len(load.times["/last", 200]) == 20
    assert load.lost == {"/cut": 20}
    assert load.wrong == 20
    assert 0 < load.percentile("/fine", 200, 0.5) <= load.percentile("/fine", 200, 0.99)


def test_what_is_due_while_all_connections_wait_is_counted(port: int) -> None:
    load = run_load(port, [Stream("/fine", request("POST", "/fine"), 1, rate=100_000.0)], 0.2)
    assert load.unsent["/fine"] > 0
    assert load.sent["/fine"] == len(load.times["/fine", 200])
