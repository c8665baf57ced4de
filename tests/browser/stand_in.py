"""A server for what a real one does seldom: it speaks the contract, and is slow, busy or broken when told to."""

import base64
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from sightline.serving.page_files import page_response

Reply = tuple[int, dict[str, str], Any]
"""Status, headers and what becomes the JSON of the body."""

MODEL: dict[str, Any] = {
    "name": "animals",
    "version": "7",
    "sha256": "5f2c" * 16,
    "created": "2026-11-28T12:00:00+00:00",
    "precision": "fp32",
    "accuracy": {"value": 0.931, "low": 0.918, "high": 0.942, "images": 1200, "split": "test"},
    "classes": ["cat", "dog", "fox", "hen", "owl", "yak"],
    "threshold": 0.8,
    "image_size": 224,
    "channels": 3,
    "bit_depth": 8,
    "content_types": ["image/jpeg", "image/png", "image/webp", "image/bmp"],
    "max_bytes": 4_000_000,
    "max_pixels": 50_000_000,
}


def answer(own_id: str, **probabilities: float) -> dict[str, Any]:
    """An answer with these classes, the most probable first."""
    label, probability = next(iter(probabilities.items()))
    threshold = MODEL["threshold"]
    return {
        "id": own_id,
        "label": label,
        "probability": probability,
        "probabilities": probabilities,
        "unsure": probability < threshold,
        "threshold": threshold,
        "model": {key: MODEL[key] for key in ("name", "version", "sha256")},
        "timings": {"decode": 1.0, "model": 6.0, "total": 7.0},
    }


def problem(status: int, title: str, detail: str, **headers: str) -> Reply:
    body = {"type": "about:blank", "title": title, "status": status, "detail": detail, "field": None}
    return status, {"Content-Type": "application/problem+json", **headers}, body


def say_owl(server: "StandIn", asked: "Asked") -> Reply:
    return 200, {}, answer(f"id-{asked.number}", owl=0.955, hen=0.02, cat=0.01, fox=0.01, dog=0.005)


@dataclass(frozen=True)
class Asked:
    """A request, and which of its path it is, from 1."""

    path: str
    headers: dict[str, str]
    body: bytes
    number: int


@dataclass
class StandIn:
    """What it says at each path may be set; `asked` holds the requests so far."""

    address: str
    model: dict[str, Any] = field(default_factory=lambda: dict(MODEL))
    replies: dict[str, Callable[["StandIn", Asked], Reply]] = field(default_factory=dict)
    asked: list[Asked] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)
    closing: threading.Event = field(default_factory=threading.Event)

    def reply(self, path: str, headers: dict[str, str], body: bytes) -> Reply:
        with self.lock:
            asked = Asked(path, headers, body, 1 + sum(each.path == path for each in self.asked))
            self.asked.append(asked)
        return self.replies[path](self, asked)

    def bodies(self, path: str) -> list[bytes]:
        return [each.body for each in self.asked if each.path == path]


def tell_model(server: StandIn, asked: Asked) -> Reply:
    return 200, {}, server.model


def explain(server: StandIn, asked: Asked) -> Reply:
    image = "data:image/png;base64," + base64.b64encode(asked.body).decode()
    return 200, {}, {"id": "id-1", "label": "owl", "probability": 0.955, "drop": 0.31, "image": image}


def thank(server: StandIn, asked: Asked) -> Reply:
    return 201, {}, json.loads(asked.body)


@contextmanager
def stand_in() -> Iterator[StandIn]:
    """A running one, at a free port of this machine."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            name = self.path.removeprefix("/")
            try:
                body, content_type, headers = page_response(name)
            except KeyError:
                return self.do_POST()
            return self.send(200, {**headers, "Content-Type": content_type}, body)

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            if self.path not in server.replies:
                return self.send(404, {}, b"{}")
            status, headers, document = server.reply(self.path, dict(self.headers.items()), body)
            said = document if isinstance(document, bytes) else json.dumps(document).encode()
            return self.send(status, {"Content-Type": "application/json", **headers}, said)

        def send(self, status: int, headers: dict[str, str], body: bytes) -> None:
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(body))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    class Quiet(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, request: Any, client_address: Any) -> None:
            pass  # a browser that cancels is no error

    listener = Quiet(("127.0.0.1", 0), Handler)
    server = StandIn(f"http://127.0.0.1:{listener.server_port}/")
    server.replies = {"/model": tell_model, "/invocations": say_owl, "/explain": explain, "/feedback": thank}
    thread = threading.Thread(target=listener.serve_forever, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.closing.set()
        listener.shutdown()
        listener.server_close()
        thread.join()
