"""How requests reach a SageMaker endpoint or a Lambda function."""

import base64
import json
import random
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from sightline.errors import BadInput
from sightline.serving.contract import Problem
from sightline.serving.endpoint_transport import BUSY, TIMED_OUT, UNREACHABLE, Reply

MAX_WAIT = 20.0
"""Seconds between two attempts where nothing says how long to wait."""


class SageMakerTransport:
    """An endpoint's one door, `POST /invocations`; SageMaker's own credentials take the place of a token."""

    def __init__(self, name: str, token: str | None, connections: int, retries: int, timeout_seconds: float) -> None:
        self.name, self.retries = name, retries
        self._client = _make_client("sagemaker-runtime", f"sagemaker:{name}", connections, timeout_seconds)

    def send(self, method: str, path: str, body: bytes, headers: Mapping[str, str]) -> Reply:
        if path != "/invocations":
            raise Problem(501, "Not implemented", f"sagemaker:{self.name} has /invocations alone, and not {path}")
        asked = {
            "EndpointName": self.name,
            "Body": body,
            "ContentType": headers["Content-Type"],
            "Accept": headers["Accept"],
            "InferenceId": headers["X-Request-Id"],
        }

        def ask() -> Reply:
            with _explained(f"sagemaker:{self.name}"):
                try:
                    found = self._client.invoke_endpoint(**asked)
                except self._client.exceptions.ModelError as error:  # what the container said that is not 200
                    said = error.response
                    return Reply(int(said["OriginalStatusCode"]), {}, said["OriginalMessage"].encode())
                return Reply(200, {"content-type": found["ContentType"]}, found["Body"].read())

        return _with_retries(ask, self.retries)


class LambdaTransport:
    """A function, called directly with the events of an HTTP API, so that it has all doors of a server."""

    def __init__(self, name: str, token: str | None, connections: int, retries: int, timeout_seconds: float) -> None:
        self.name, self.retries = name, retries
        self._headers = {"authorization": f"Bearer {token}"} if token else {}
        self._client = _make_client("lambda", f"lambda:{name}", connections, timeout_seconds)

    def send(self, method: str, path: str, body: bytes, headers: Mapping[str, str]) -> Reply:
        event = {
            "version": "2.0",
            "rawPath": path,
            "rawQueryString": "",
            "headers": {**self._headers, **{name.lower(): text for name, text in headers.items()}},
            "requestContext": {"http": {"method": method, "path": path}, "stage": "$default"},
            "body": base64.b64encode(body).decode(),
            "isBase64Encoded": True,
        }

        def ask() -> Reply:
            with _explained(f"lambda:{self.name}"):
                found = self._client.invoke(FunctionName=self.name, Payload=json.dumps(event).encode())
                said = json.loads(found["Payload"].read() or b"null")
            if "FunctionError" in found or not isinstance(said, dict) or "statusCode" not in said:
                reason = said.get("errorMessage", said) if isinstance(said, dict) else said
                raise Problem(UNREACHABLE, "Function failed", f"lambda:{self.name}: {reason}")
            content = said.get("body", "")
            content = base64.b64decode(content) if said.get("isBase64Encoded") else content.encode()
            return Reply(said["statusCode"], said.get("headers", {}), content)

        return _with_retries(ask, self.retries)


def _with_retries(ask: Callable[[], Reply], count: int) -> Reply:
    """Ask again while the answer is that there is too much to do, after as long as it says, and a little longer."""
    for attempt in range(count + 1):
        reply = ask()
        if reply.status not in BUSY or attempt == count:
            return reply
        after = reply.headers.get("retry-after", "")
        seconds = float(after) if after.isdecimal() else min(MAX_WAIT, 0.25 * 2**attempt)
        time.sleep(seconds * (1 + random.random() / 5))
    raise AssertionError("the last attempt returns")


def _make_client(service: str, address: str, connections: int, timeout_seconds: float) -> Any:
    """boto3's client, which asks again itself where AWS is busy or cannot be reached.

    Raises: BadInput without boto3, or a region.
    """
    from sightline.aws.clients import make_client

    needs = f'endpoint={address}: AWS needs boto3; pip install "sightline-vision[aws]"'
    options = {"max_pool_connections": connections, "read_timeout": timeout_seconds}
    try:
        return make_client(service, needs=needs, **options)
    except Exception as error:
        if type(error).__name__ not in ("NoRegionError", "ProfileNotFound"):
            raise
        raise BadInput(f"endpoint={address}: {error}; set AWS_REGION, or AWS_PROFILE") from error


@contextmanager
def _explained(address: str) -> Iterator[None]:
    """Errors of AWS's client as problems."""
    from botocore.exceptions import BotoCoreError, ClientError, ReadTimeoutError

    try:
        yield
    except ReadTimeoutError as error:
        raise Problem(TIMED_OUT, "Timed out", f"{address} did not answer in time") from error
    except BotoCoreError as error:
        raise Problem(UNREACHABLE, "Unreachable", f"{address}: {error}") from error
    except ClientError as error:
        said = error.response["Error"]
        is_busy = "Throttl" in said["Code"] or said["Code"] in ("TooManyRequestsException", "ServiceUnavailable")
        text = f"{address}: {said.get('Message') or said['Code']}"
        raise Problem(429 if is_busy else UNREACHABLE, "Refused by AWS", text) from error
