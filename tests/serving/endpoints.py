"""Endpoints that really answer: a server of ours, and AWS's two doors in front of the same service."""

import json
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import uvicorn

from sightline.serve_settings import ServeSettings
from sightline.serving.app import make_app
from sightline.serving.contract import Answer, Problem, Request
from sightline.serving.lambda_handler import LambdaHandler
from sightline.serving.runtime_predictor import RuntimePredictor
from sightline.serving.service import Answerer, Service

SECONDS = 30.0


class Doorkeeper(RuntimePredictor):
    """A model that lets so many pictures through and then waits for its gate, or says that there is too much to do."""

    gate: threading.Event
    before: Callable[[bytes], None]

    def answer(self, pictures: Sequence[bytes], ids: Sequence[str]) -> list[Answer | Problem]:
        try:
            for picture in pictures:
                self.before(picture)
        except Problem as problem:
            return [problem for _ in pictures]
        return super().answer(pictures, ids)


def guarded(model: Path, before: Callable[[bytes], None]) -> Doorkeeper:
    """The model of a folder, with something done before each answer."""
    opened = RuntimePredictor.open(model)
    guard = Doorkeeper(opened.exported, opened.model, opened.max_pixels)
    object.__setattr__(guard, "before", before)
    return guard


@contextmanager
def served(open_answerer: Callable[[], Answerer], token: str | None = None, **settings: Any) -> Iterator[str]:
    """The address of a server that is ready."""
    app = make_app(open_answerer, ServeSettings(**{"threads": 2, **settings}), token)
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="error", ws="none"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    wait_until(lambda: server.started)
    address = f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    import urllib3

    wait_until(lambda: urllib3.request("GET", f"{address}/ping", retries=False).status == 200)
    try:
        yield address
    finally:
        server.should_exit = True
        thread.join(SECONDS)


def wait_until(is_so: Callable[[], object]) -> None:
    end = time.monotonic() + SECONDS
    while not is_so():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.005)


@contextmanager
def aws(answerer: Answerer, token: str = "") -> Iterator[str]:
    """The address of what stands for SageMaker's runtime (endpoint `live`) and Lambda (function `live`)."""
    service = Service(answerer, ServeSettings())
    function = LambdaHandler(service, token)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.path == "/endpoints/live/invocations":
                self.answer_as_sagemaker(body)
            elif self.path == "/2015-03-31/functions/live/invocations":
                self.send(
                    200, json.dumps(function(json.loads(body), SimpleNamespace(aws_request_id="of-lambda"))).encode()
                )
            elif "/functions/" in self.path:
                error = {"Type": "User", "Message": "Function not found"}
                self.send(404, json.dumps(error).encode(), **{"x-amzn-ErrorType": "ResourceNotFoundException"})
            else:
                error = {"Message": "Endpoint dead of account 1 not found."}
                self.send(400, json.dumps(error).encode(), **{"x-amzn-ErrorType": "ValidationError"})

        def answer_as_sagemaker(self, body: bytes) -> None:
            """As SageMaker does it: what the container says that is not 200 becomes an error of status 424."""
            headers = {name.lower(): text for name, text in self.headers.items()}
            headers["x-request-id"] = headers.get("x-amzn-sagemaker-inference-id", "none")
            response = service.invoke(Request(body, headers))
            if response.status == 200:
                self.send(200, response.body, Content_Type=response.content_type)
                return
            said = {
                "OriginalStatusCode": response.status,
                "OriginalMessage": response.body.decode(),
                "Message": "from model",
            }
            self.send(424, json.dumps(said).encode(), **{"x-amzn-ErrorType": "ModelError"})

        def send(self, status: int, body: bytes, **headers: str) -> None:
            self.send_response(status)
            for name, text in {"Content_Type": "application/json", **headers}.items():
                self.send_header(name.replace("_", "-"), text)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            """Nothing is printed."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


def aws_environment(address: str) -> dict[str, str]:
    """What makes boto3 ask a stand-in, and no other credentials than made-up ones."""
    return {
        "AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME": address,
        "AWS_ENDPOINT_URL_LAMBDA": address,
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing",
        "AWS_DEFAULT_REGION": "us-east-1",
        "no_proxy": "127.0.0.1",
    }
