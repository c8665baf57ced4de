"""AWS Lambda's side of a function: the Runtime API for the real client, and the door through which it is called.

`RuntimeApi` is what the service is to awslambdaric; `Function` is that client in a process of its own, which runs the
image's entry point. A function that was ended takes its API with it: a waiting `next` would swallow an event.
"""

import json
import os
import queue
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

RUNTIME, CALLS = "/2018-06-01/runtime/", "/2015-03-31/functions/"
ARN = "arn:aws:lambda:eu-west-1:123456789012:function:sightline"
ENTRYPOINT = (sys.executable, "-m", "sightline.serving.entrypoint", "lambda")


@dataclass
class Call:
    """An event on its way through the function."""

    event: bytes
    id: str = field(default_factory=lambda: str(uuid.uuid4()))
    answer: bytes = b""
    is_error: bool = False
    done: threading.Event = field(default_factory=threading.Event)


class RuntimeApi(ThreadingHTTPServer):
    """Listens on a free port of this machine, or on a given one."""

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, timeout_seconds: float = 30.0, port: int = 0) -> None:
        super().__init__(("127.0.0.1", port), _Requests)
        self.timeout_seconds = timeout_seconds
        self.waiting: queue.Queue[Call] = queue.Queue()
        self.calls: dict[str, Call] = {}
        self.init_error: dict[str, Any] | None = None
        self.asked = threading.Event()
        """Set when the function has asked for its first event: its init is over."""
        self.ended = threading.Event()
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.server_address[1]}"

    def invoke(self, event: Any) -> Any:
        """The function's answer.

        Raises: RuntimeError with what the function reported as its error, or when it is over time.
        """
        call = self.send(json.dumps(event).encode())
        if call.is_error:
            raise RuntimeError(call.answer.decode())
        return json.loads(call.answer)

    def send(self, event: bytes) -> Call:
        call = Call(event)
        self.calls[call.id] = call
        self.waiting.put(call)
        if not call.done.wait(self.timeout_seconds):
            text = {
                "errorType": "Sandbox.Timedout",
                "errorMessage": f"timed out after {self.timeout_seconds:.2f} seconds",
            }
            call.answer, call.is_error = json.dumps(text).encode(), True
        return call

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A function that is ended leaves its connections; anything else is a fault of a test."""
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)

    def close(self) -> None:
        self.ended.set()
        self.shutdown()
        self.server_close()


class _Requests(BaseHTTPRequestHandler):
    server: RuntimeApi  # pyright: ignore[reportIncompatibleVariableOverride]
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # or each answer waits 40 ms for an acknowledgement
    wbufsize = -1

    def do_GET(self) -> None:
        self.server.asked.set()
        while not self.server.ended.is_set():
            try:
                call = self.server.waiting.get(timeout=0.1)
            except queue.Empty:
                continue
            deadline = int(1000 * (time.time() + self.server.timeout_seconds))
            told = {"Aws-Request-Id": call.id, "Deadline-Ms": str(deadline), "Invoked-Function-Arn": ARN}
            self.answer(200, call.event, {f"Lambda-Runtime-{name}": value for name, value in told.items()})
            return

    def do_POST(self) -> None:
        body = self.read_body()
        if self.path.startswith(CALLS):
            call = self.server.send(body)
            self.answer(200, call.answer, {"X-Amz-Function-Error": "Unhandled"} if call.is_error else {})
        elif self.path == f"{RUNTIME}init/error":
            self.server.init_error = json.loads(body)
            self.answer(202)
        else:
            own_id, kind = self.path.removeprefix(f"{RUNTIME}invocation/").split("/")
            call = self.server.calls.pop(own_id)
            call.answer, call.is_error = body, kind == "error"
            self.answer(202)
            call.done.set()

    def read_body(self) -> bytes:
        """A body of known length, or in chunks."""
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        parts = []
        while size := int(self.rfile.readline().split(b";")[0], 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)

    def answer(self, status: int, body: bytes = b"", headers: Mapping[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {
            "Content-Length": str(len(body)),
            "Content-Type": "application/json",
            **(headers or {}),
        }.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)
        self.wfile.flush()

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: a test says what it saw."""


@dataclass
class Function:
    """A running function."""

    api: RuntimeApi
    process: subprocess.Popen[str]

    def __call__(self, event: Any) -> Any:
        return self.api.invoke(event)


@contextmanager
def function(
    environment: Mapping[str, str], command: Sequence[str] = ENTRYPOINT, timeout_seconds: float = 30.0
) -> Iterator[Function]:
    """The image's second door in a process of its own, with the variables that a function has."""
    api = RuntimeApi(timeout_seconds)
    told = {"AWS_LAMBDA_RUNTIME_API": api.address, "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "1024"}
    process = subprocess.Popen(
        command, env={**os.environ, **told, **environment}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    try:
        yield Function(api, process)
    finally:
        process.kill()
        process.communicate()
        api.close()


def wait_for(is_so: Callable[[], bool], function: Function, seconds: float = 30.0) -> None:
    """Until something is so, or the function has ended."""
    until = time.monotonic() + seconds
    while not is_so() and function.process.poll() is None:
        assert time.monotonic() < until
        time.sleep(0.01)
