"""What tests of the serving image share: a model that needs no torch, pictures, and the image's first process."""

import base64
import io
import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from PIL import Image

COLOURS = {"red": (200, 30, 30), "green": (30, 200, 30), "blue": (30, 30, 200)}
"""The classes of the made model, with pictures that are theirs."""


def picture(name: str = "red", kind: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (48, 40), COLOURS[name]).save(buffer, kind)
    return buffer.getvalue()


def in_base64(name: str = "red") -> str:
    return base64.b64encode(picture(name)).decode()


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


@dataclass
class Served:
    """The image's entry point that serves: a process of its own, or something in a container."""

    process: subprocess.Popen[str] | None
    address: str

    def ask(
        self, path: str, body: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> tuple[int, dict[str, Any]]:
        """Status and JSON of an answer."""
        request = urllib.request.Request(f"{self.address}{path}", body, dict(headers or {}))
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as error:
            with error:
                return error.code, json.load(error)

    def wait_until(self, status: int) -> dict[str, Any]:
        """What /ping says once it has that status and does not load any more."""
        until = time.monotonic() + 60
        while True:
            assert self.process is None or self.process.poll() is None, self.process.communicate()[0]
            assert time.monotonic() < until
            try:
                found, said = self.ask("/ping")
            except OSError:
                found, said = 0, {}
            if found == status and "being loaded" not in said.get("detail", ""):
                return said
            time.sleep(0.02)


@contextmanager
def served(environment: Mapping[str, str], *, host: str = "127.0.0.1") -> Iterator[Served]:
    port = free_port()
    told = {"SIGHTLINE_SERVE_HOST": host, "SIGHTLINE_SERVE_PORT": str(port), **environment}
    process = subprocess.Popen(
        [sys.executable, "-m", "sightline.serving.entrypoint", "serve"],
        env={**os.environ, **told},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        yield Served(process, f"http://127.0.0.1:{port}")
    finally:
        process.kill()
        process.communicate()
