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
import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any
from urllib.parse import unquote, unquote_plus

from sightline.errors import BadInput
from sightline.serve_settings import PREFIX, ServeSettings, from_environment
from sightline.serving.contract import Problem, Request, Response
from sightline.serving.lambda_deadline import TimedModel
from sightline.serving.model_source import OPT_ML_MODEL, SHA256, SOURCE, open_model
from sightline.serving.page_files import page_response
from sightline.serving.readiness import Readiness
from sightline.serving.service import Service, to_response

log = logging.getLogger(__name__)
MEGABYTES_PER_CORE = 1769
"""Of a function's memory: so much has one core."""
V2_MODEL = re.compile(r"/v2/models/(?P<name>[^/]+)(/versions/(?P<version>[^/]+))?(?P<what>/ready|/infer|)")
READY = b'{"status": "ready"}'
Event = dict[str, Any]


class LambdaHandler:
    """Events to answers; may be called from several threads at once."""

    def __init__(self, service: Service, token: str = "") -> None:
        self.service, self.token = service, token

    def __call__(self, event: Event, context: Any) -> Event:
        """Raises: RuntimeError where an event of S3 is to be sent again, and BadInput for one of another kind."""
        if isinstance(self.service.answerer, TimedModel):
            self.service.answerer.begin(context)
        if not isinstance(event, dict):
            raise BadInput(f'an event that is a {type(event).__name__}: give an object, like {{"image": "s3://…"}}')
        if "http" in (event.get("requestContext") or {}):
            return to_http(self._answer_http(event))
        if (objects := objects_of(event)) is not None:
            return self._answer_objects(objects)
        if "image" in event or "images" in event:
            request = Request(json.dumps(event).encode(), {"content-type": "application/json"})
            return json.loads(self.service.invoke(request).body)
        raise BadInput(
            f"an event with {', '.join(sorted(map(str, event))) or 'nothing in it'}: give one of an HTTP API (payload "
            'version 2.0), one of S3, or {"image": base64 or "s3://…"}'
        )

    def _answer_http(self, event: Event) -> Response:
        try:
            request = read_http(event, self.service.settings.max_bytes)
            method, path = event["requestContext"]["http"]["method"], path_of(event)
            allowed, needs_token, answer = self._door(path, request)
            if method != allowed and (method, allowed) != ("HEAD", "GET"):
                raise Problem(405, "Method not allowed", f"{path} takes {allowed}, not {method}", "method")
            if needs_token:
                self._check_token(request)
            return answer()
        except Problem as problem:
            return to_response(problem)

    def _door(self, path: str, request: Request) -> tuple[str, bool, Callable[[], Response]]:
        """What a path takes, whether only with a token, and what answers there.

        Raises: Problem 404.
        """
        service = self.service
        doors = {
            "/ping": ("GET", False, lambda: Response(200, READY)),
            "/model": ("GET", True, service.describe_model),
            "/invocations": ("POST", True, lambda: service.invoke(request)),
            "/explain": ("POST", True, lambda: service.explain(request)),
            "/feedback": ("POST", True, lambda: service.feedback(request)),
            "/v2": ("GET", True, service.server_metadata),
            "/v2/health/live": ("GET", True, lambda: Response(200, b'{"live": true}')),
            "/v2/health/ready": ("GET", True, lambda: Response(200, b'{"ready": true}')),
        }
        if path in doors:
            return doors[path]
        if found := V2_MODEL.fullmatch(path):
            named = (unquote(found["name"]), found["version"])
            if found["what"] == "/infer":
                return "POST", True, lambda: service.infer(request, *named)
            ask = service.model_ready if found["what"] else service.model_metadata
            return "GET", True, lambda: ask(*named)
        try:
            content, kind, headers = page_response(path.removeprefix("/"))
        except KeyError:
            raise Problem(404, "Not found", f"{path}: there is {', '.join(('/', *doors))}", "path") from None
        return "GET", False, lambda: Response(200, content, kind, dict(headers))

    def _check_token(self, request: Request) -> None:
        kind, _, given = request.headers.get("authorization", "").partition(" ")
        is_right = kind.lower() == "bearer" and hmac.compare_digest(given.strip().encode(), self.token.encode())
        if self.token and not is_right:
            raise Problem(401, "Unauthorized", "the header Authorization must be Bearer and the token of this function")

    def _answer_objects(self, objects: list[tuple[str, str]]) -> Event:
        """Answer objects of S3 into `serve.output`; what cannot be answered is kept as a problem.

        Raises: BadInput without an output; RuntimeError where S3 or the output fails, so that the event is sent again.
        """
        if self.service.output is None and objects:
            raise BadInput(f"{PREFIX}OUTPUT: is not set; give a folder or s3://… where answers to events of S3 go")
        count = {"answered": 0, "problems": 0}
        for address, own_id in objects:
            body = json.dumps({"image": address}).encode()
            found = self.service.invoke(Request(body, {"content-type": "application/json", "x-request-id": own_id}))
            said = json.loads(found.body)
            if found.status == 429 or found.status >= 500:
                raise RuntimeError(f"{address}: {said['detail']}")
            count["answered" if found.status == 200 else "problems"] += 1
            assert self.service.output is not None
            now = datetime.now(UTC).isoformat(timespec="milliseconds")
            try:
                self.service.output.write("answers", {"object": address, **said, "id": own_id, "time": now})
            except Problem as problem:
                raise RuntimeError(f"{PREFIX}OUTPUT={self.service.settings.output}: {problem.detail}") from problem
        return count


def objects_of(event: Event) -> list[tuple[str, str]] | None:
    """Addresses of new objects and an id for each, the same when the event comes twice; None: no event of S3."""
    if event.get("source") == "aws.s3":  # by EventBridge
        detail = event.get("detail", {})
        is_new = event.get("detail-type") == "Object Created"
        return [_object(detail["bucket"], detail["object"], detail["object"]["key"])] if is_new else []
    if event.get("Event") == "s3:TestEvent":
        return []
    records = event.get("Records")
    if not records or any(each.get("eventSource") != "aws:s3" for each in records):
        return None
    new = [each["s3"] for each in records if each["eventName"].startswith("ObjectCreated:")]
    return [_object(each["bucket"], each["object"], unquote_plus(each["object"]["key"])) for each in new]


def _object(bucket: Event, found: Event, key: str) -> tuple[str, str]:
    marks = (found.get("sequencer"), found.get("versionId") or found.get("version-id"))
    own_id = "-".join(each for each in marks if each) or found.get("eTag") or found.get("etag") or "event"
    return f"s3://{bucket['name']}/{key}", own_id[:128]


def read_http(event: Event, max_bytes: int) -> Request:
    """The request of an event of payload 2.0.

    Raises: Problem for a body that is too large, or not what its flag says.
    """
    headers = {name.lower(): str(value) for name, value in (event.get("headers") or {}).items()}
    body = event.get("body") or ""
    try:
        body = base64.b64decode(body, validate=True) if event.get("isBase64Encoded") else body.encode()
    except ValueError as error:
        raise Problem(400, "Not base64", "the body's base64 is damaged", "body") from error
    if len(body) > max_bytes:
        raise Problem(
            413, "Too many bytes", f"{len(body):,} bytes are more than the {max_bytes:,} that are taken", "body"
        )
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
    if response.status == 401:
        headers["www-authenticate"] = "Bearer"
    return {"statusCode": response.status, "headers": headers, "body": body, "isBase64Encoded": not is_text}


def num_threads(environment: Mapping[str, str], settings: ServeSettings) -> int:
    """Threads for one call: the cores of the function's memory, since it answers one event after the other."""
    if settings.threads != "auto":
        return int(settings.threads)
    megabytes = int(environment.get("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", MEGABYTES_PER_CORE))
    return max(1, min(math.ceil(megabytes / MEGABYTES_PER_CORE), os.cpu_count() or 1))


def open_handler(environment: Mapping[str, str]) -> LambdaHandler:
    """Open the model of the environment, and let it answer once.

    Raises: BadInput that names the variable to change; Lambda reports it as the error of its init.
    """
    settings = from_environment(environment)
    check_output(settings)
    if settings.capture:
        raise BadInput(
            f"{PREFIX}CAPTURE: is not for Lambda, where nothing runs between two events to write it; unset it"
        )
    source, sha256 = environment.get(SOURCE) or OPT_ML_MODEL, environment.get(SHA256, "")
    readiness = Readiness(settings)
    readiness.load(lambda: TimedModel(open_model(settings, source, sha256, num_threads(environment, settings))))
    if readiness.service is None:
        raise readiness.error or BadInput(readiness.reason)
    token = environment.get(f"{PREFIX}TOKEN", "")
    if not (token or settings.open):
        log.warning("%sTOKEN is not set: who may ask over HTTP is for the API or the function URL to decide", PREFIX)
    return LambdaHandler(readiness.service, token)


def check_output(settings: ServeSettings) -> None:
    """Raises: BadInput for an output whose objects would be answered again, and again."""
    from sightline.serving.s3_pictures import is_below

    output = settings.output or ""
    if output.startswith("s3://") and is_below(f"{output.rstrip('/')}/answers", settings.s3_prefixes):
        raise BadInput(
            f"{PREFIX}OUTPUT={output}: lies below one of {PREFIX}S3_PREFIXES={json.dumps(settings.s3_prefixes)}, so "
            "each answer could be an event that is answered again; give a place outside"
        )


def __getattr__(name: str) -> Any:
    """`handle` is made when Lambda's client asks for it, so that importing this file opens nothing."""
    if name != "handle":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()["handle"] = handler = open_handler(os.environ)
    return handler
