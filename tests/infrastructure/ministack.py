"""MiniStack, which runs Lambda, EventBridge, Scheduler and CloudFormation for real, and the service that it lacks."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, TypeVar

from tests.conftest import PROJECT

from sightline.aws.request_check import check_request
from sightline.errors import BadInput

REGION, ACCOUNT = "eu-west-1", "000000000000"
KEYS = {"AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "testing", "AWS_DEFAULT_REGION": REGION}
SECONDS = 60.0
Found = TypeVar("Found")


def find_ministack() -> Path | None:
    """Where `make test-cloud` has put it."""
    path = PROJECT / ".venv-cloud" / "bin" / "ministack"
    return path if path.is_file() else None


class PipelineStarts:
    """As much of SageMaker's API as starts a pipeline: `started` has the requests, one for each token."""

    def __init__(self) -> None:
        self.started: dict[str, dict[str, Any]] = {}
        self.refused: list[str] = []
        self.num_to_refuse = 0
        """So many of the next starts are refused, as when the service is busy."""
        self._lock = threading.Lock()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.address = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def start(self, request: dict[str, Any]) -> dict[str, Any]:
        check_request("StartPipelineExecution", request)
        with self._lock:
            if self.num_to_refuse > 0:
                self.num_to_refuse -= 1
                raise BadInput("Rate exceeded")
            self.started.setdefault(request["ClientRequestToken"], request)
        name = request["PipelineName"]
        return {"PipelineExecutionArn": f"arn:aws:sagemaker:{REGION}:{ACCOUNT}:pipeline/{name}/execution/abcdefghijkl"}

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        service = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                operation = self.headers["X-Amz-Target"].split(".")[1]
                request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                try:
                    assert operation == "StartPipelineExecution", operation
                    code, answer = 200, service.start(request)
                except (BadInput, AssertionError) as refused:
                    service.refused.append(str(refused))
                    code, answer = 400, {"__type": "ValidationException", "message": str(refused)}
                body = json.dumps(answer).encode()
                self.send_response(code)
                self.send_header("Content-Type", "application/x-amz-json-1.1")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: Any) -> None:
                """Nothing: the tests say what went wrong."""

        return Handler


@contextlib.contextmanager
def running(program: Path, folder: Path, sagemaker: str) -> Iterator[Callable[[str], Any]]:
    """Clients of a MiniStack of its own, on this machine alone; its functions find SageMaker at an address."""
    import boto3

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    address = f"http://127.0.0.1:{port}"
    environment = {
        **{name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ},
        **KEYS,
        "BIND_HOST": "127.0.0.1",
        "GATEWAY_PORT": str(port),
        "MINISTACK_REGION": REGION,
        "TMPDIR": str(folder),
        "AWS_ENDPOINT_URL_SAGEMAKER": sagemaker,
    }
    log = folder / "ministack.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [str(program)], cwd=folder, env=environment, stdout=output, stderr=output, start_new_session=True
        )
    try:
        wait_for(lambda: process.poll() is not None or _answers(address), "MiniStack answers")
        assert process.poll() is None, log.read_text(encoding="utf-8")[-2000:]
        yield lambda service: boto3.client(
            service,
            region_name=REGION,
            endpoint_url=address,
            aws_access_key_id=KEYS["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=KEYS["AWS_SECRET_ACCESS_KEY"],
        )
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def wait_for(condition: Callable[[], Found], what: str, seconds: float = SECONDS) -> Found:
    """What a condition becomes, once it is anything."""
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end, f"{seconds:g} s and not yet: {what}"
        time.sleep(0.05)
    return found


def _answers(address: str) -> bool:
    try:
        with urllib.request.urlopen(f"{address}/_ministack/health", timeout=1):
            return True
    except urllib.error.HTTPError:
        return True
    except OSError:
        return False
