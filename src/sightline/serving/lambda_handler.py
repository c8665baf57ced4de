"""The image's second door: `handle(event, context)` for AWS Lambda, the same contract as the server's.

Takes events of an HTTP API or a function URL (payload 2.0), direct calls (`{"image": …}` or `{"images": […]}`) and
events of S3, which it answers into `serve.output`. The model is opened when `handle` is asked for, in Lambda's init.
"""

import base64
import hmac
import json
import logging
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sightline.serve_settings import PREFIX, ServeSettings, from_environment
from sightline.serving.contract import Problem, Request, Response
from sightline.serving.model_source import OPT_ML_MODEL, SHA256, SOURCE, open_model
from sightline.serving.service import Service, to_response

log = logging.getLogger(__name__)
PAGE = Path(__file__).parent / "page"
PAGE_TYPES = {".html": "text/html; charset=utf-8", ".js": "text/javascript; charset=utf-8", ".css": "text/css"}
MEGABYTES_PER_CORE = 1769
"""Of a function's memory: so much has one core."""
Event = dict[str, Any]


class LambdaHandler:
    """Events to answers; may be called from several threads at once."""

    def __init__(self, service: Service, token: str = "", page: Path = PAGE) -> None:
        self.service, self.token, self.page = service, token, page

    def __call__(self, event: Event, context: Any) -> Event:
        """Raises: BadInput for an event that is none of those, which a caller sees as the function's error."""
        if "http" in event.get("requestContext", {}):
            return to_http(self._answer_http(event, context))
        return self._answer_direct(event, context)

    def _answer_direct(self, event: Event, context: Any) -> Event:
        """The answer as a dictionary, or the problem."""
        headers = {"content-type": "application/json", "x-request-id": context.aws_request_id}
        return json.loads(self.service.invoke(Request(json.dumps(event).encode(), headers)).body)

    def _answer_http(self, event: Event, context: Any) -> Response:
        try:
            request = read_http(event, context.aws_request_id, self.service.settings.max_bytes)
            method, path = event["requestContext"]["http"]["method"], path_of(event)
            if method in ("GET", "HEAD") and (found := self._static(path)) is not None:
                return found
            doors = {
                "/ping": ("GET", lambda: Response(200, b'{"status": "ready"}')),
                "/model": ("GET", self.service.describe_model),
                "/invocations": ("POST", lambda: self.service.invoke(request)),
                "/explain": ("POST", lambda: self.service.explain(request)),
                "/feedback": ("POST", lambda: self.service.feedback(request)),
            }
            if path not in doors:
                raise Problem(404, "Not found", f"{path}: there is {', '.join(('/', *doors))}", "path")
            allowed, answer = doors[path]
            if method != allowed:
                raise Problem(405, "Method not allowed", f"{path} takes {allowed}, not {method}", "method")
            if path != "/ping":
                self._check_token(request)
            return answer()
        except Problem as problem:
            return to_response(problem)

    def _check_token(self, request: Request) -> None:
        given = request.headers.get("authorization", "")
        if self.token and not hmac.compare_digest(given.encode(), f"Bearer {self.token}".encode()):
            raise Problem(401, "Unauthorized", "give the token as Authorization: Bearer TOKEN", "authorization")

    def _static(self, path: str) -> Response | None:
        """A file of the page, by its name alone."""
        name = "index.html" if path == "/" else path.removeprefix("/")
        if "/" in name or Path(name).suffix not in PAGE_TYPES or not (self.page / name).is_file():
            return None
        return Response(200, (self.page / name).read_bytes(), PAGE_TYPES[Path(name).suffix])


def read_http(event: Event, own_id: str, max_bytes: int) -> Request:
    """The request of an event of payload 2.0; its id is the function's where the sender gave none.

    Raises: Problem for a body that is too large, or not what its flag says.
    """
    headers = {name.lower(): str(value) for name, value in (event.get("headers") or {}).items()}
    headers.setdefault("x-request-id", own_id)
    body = event.get("body") or ""
    try:
        body = base64.b64decode(body, validate=True) if event.get("isBase64Encoded") else body.encode()
    except ValueError as error:
        raise Problem(400, "Not base64", "the body's base64 is damaged", "body") from error
    if len(body) > max_bytes:
        raise Problem(413, "Too large", f"the body has {len(body)} bytes; at most {max_bytes} are taken", "body")
    return Request(body, headers)


def path_of(event: Event) -> str:
    """The path below the API's stage."""
    path, stage = event.get("rawPath") or "/", event["requestContext"].get("stage", "$default")
    inside = path.removeprefix(f"/{stage}")
    is_below = stage != "$default" and inside != path and inside[:1] in ("", "/")
    return ((inside if is_below else path).rstrip("/")) or "/"


def to_http(response: Response) -> Event:
    """As payload 2.0 wants it: text as it is, everything else in base64."""
    kind = response.content_type.split(";")[0]
    is_text = kind.startswith("text/") or kind.endswith("json")
    body = response.body.decode() if is_text else base64.b64encode(response.body).decode()
    headers = {"content-type": response.content_type, **{k.lower(): v for k, v in response.headers.items()}}
    return {"statusCode": response.status, "headers": headers, "body": body, "isBase64Encoded": not is_text}


def num_threads(environment: Mapping[str, str], settings: ServeSettings) -> int:
    """Threads for one call: the cores of the function's memory, since it answers one event after the other."""
    if settings.threads != "auto":
        return int(settings.threads)
    megabytes = int(environment.get("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", MEGABYTES_PER_CORE))
    return max(1, min(math.ceil(megabytes / MEGABYTES_PER_CORE), len(os.sched_getaffinity(0))))


def open_handler(environment: Mapping[str, str]) -> LambdaHandler:
    """Open the model of the environment.

    Raises: BadInput that names the variable to change; Lambda reports it as the error of its init.
    """
    settings = from_environment(environment)
    source, sha256 = environment.get(SOURCE, OPT_ML_MODEL), environment.get(SHA256, "")
    model = open_model(settings, source, sha256, num_threads(environment, settings))
    return LambdaHandler(Service(model, settings), environment.get(f"{PREFIX}TOKEN", ""))


def __getattr__(name: str) -> Any:
    """`handle` is made when Lambda's client asks for it, so that importing this file opens nothing."""
    if name != "handle":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()["handle"] = handler = open_handler(os.environ)
    return handler
