"""Real servers on free ports, and an answerer whose work a test can hold up."""

import hashlib
import http.client
import json
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from sightline.serve_settings import ServeSettings
from sightline.serving.app import make_server
from sightline.serving.contract import Answer, HeatMap, ModelIdentity, Problem
from sightline.serving.http_server import HttpServer
from sightline.serving.service import Answerer
from sightline.task_spec import Calibration, TaskSpec

SECONDS = 30.0
"""After which a test gives up waiting."""
SPEC = TaskSpec(("a", "b"), 8, (0.5,) * 3, (0.2,) * 3, calibration=Calibration(1.0, 0.6, 0.95, 100))
FIRST = "first"
"""The id of the picture that a server asks itself about."""


def wait_until(is_so: Callable[[], object], what: str = "it") -> None:
    end = time.monotonic() + SECONDS
    while not is_so():
        assert time.monotonic() < end, f"{what} did not happen"
        time.sleep(0.005)


class HeldUp:
    """Answers with a class that follows from the bytes, once its gate is open; notes what it was asked."""

    def __init__(self, *, is_open: bool = True) -> None:
        self.gate = threading.Event()
        self.asked: list[str] = []
        self.error: Exception | None = None
        if is_open:
            self.gate.set()

    spec, model = SPEC, ModelIdentity("held-up", "7", "c0ffee")

    def answer(self, pictures: Sequence[bytes], ids: Sequence[str]) -> list[Answer | Problem]:
        if list(ids) == [FIRST]:
            return [self._answer(pictures[0], FIRST)]
        self.asked += ids
        assert self.gate.wait(SECONDS)
        if self.error is not None:
            raise self.error
        return [self._answer(picture, own_id) for picture, own_id in zip(pictures, ids, strict=True)]

    def _answer(self, picture: bytes, own_id: str) -> Answer:
        digest = hashlib.sha256(picture)
        label, other = ("a", "b") if digest.digest()[0] % 2 else ("b", "a")
        sure = 0.55 if digest.digest()[1] % 2 else 0.9
        shares = {label: sure, other: 1 - sure}
        answer = Answer(own_id, label, sure, shares, sure < 0.6, 0.6, self.model)
        return replace(answer, features=b"\0\x3c\0\x40", picture_sha256=digest.hexdigest())

    def explain(self, picture: bytes) -> HeatMap:
        return HeatMap(b"\x89PNG", "a", 0.9, 0.25)

    def describe(self) -> dict[str, Any]:
        named = {"name": self.model.name, "version": self.model.version, "sha256": self.model.sha256}
        return {**named, "precision": "fp32", "classes": list(SPEC.class_names), "content_types": []}


@dataclass
class Served:
    """A server in a thread."""

    server: HttpServer
    thread: threading.Thread = field(repr=False)

    @property
    def host(self) -> str:
        return self.server.address.removeprefix("http://")

    def connect(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection(self.host, timeout=SECONDS)

    def ask(self, method: str, path: str, body: Any = None, **headers: str) -> "Reply":
        """One request on a connection of its own; `_` in the names of headers is `-`."""
        connection = self.connect()
        try:
            connection.request(method, path, body, {name.replace("_", "-"): text for name, text in headers.items()})
            return Reply.of(connection.getresponse())
        finally:
            connection.close()

    def stop(self) -> None:
        self.server.handle_exit(15, None)


@dataclass(frozen=True)
class Reply:
    status: int
    headers: dict[str, str]
    """By name in lower case."""
    body: bytes

    @classmethod
    def of(cls, response: http.client.HTTPResponse) -> "Reply":
        headers = {name.lower(): value for name, value in response.getheaders()}
        return cls(response.status, headers, response.read())

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@contextmanager
def serving(
    open_answerer: Callable[[], Answerer], token: str | None = None, *, waits: bool = True, **settings: Any
) -> Iterator[Served]:
    """A server of ours on a free port, and that it ends when told to."""
    server = make_server(open_answerer, ServeSettings(**{"port": 0, "threads": 1, **settings}), token)
    thread = threading.Thread(target=server.serve_until_stopped, daemon=True)
    thread.start()
    served = Served(server, thread)
    try:
        wait_until(lambda: not waits or served.ask("GET", "/ping").status == 200, "readiness")
        yield served
    finally:
        served.stop()
        thread.join(SECONDS)
        assert not thread.is_alive()
