"""How a request over HTTP is taken: who may ask, what is read, what waits, and that `/ping` always answers."""

import asyncio
import hmac
import json
import logging
import time
from collections.abc import Awaitable, Callable
from functools import partial

from starlette.requests import ClientDisconnect
from starlette.requests import Request as HttpRequest
from starlette.responses import Response as HttpResponse

from sightline.serve_settings import ServeSettings
from sightline.serving.body import BodyReader, LastResponse, wait_until_left
from sightline.serving.capture import Capture
from sightline.serving.contract import Problem, Request, Response
from sightline.serving.pool import ClientLeft, Pool, count_cores
from sightline.serving.readiness import Readiness
from sightline.serving.server_metrics import ServerMetrics
from sightline.serving.service import Answerer, Service, to_response
from sightline.serving.watched import Watched, Watcher

log = logging.getLogger(__name__)
Say = Callable[[Problem], Response]
Work = Callable[[Service, Request], Response]
"""What a service does with the body and the headers of a request."""
NOT_READ = 499
"""The status of a request whose client left, by the custom of nginx; nobody reads it."""
RETRY_AFTER = 2
NOTE_THREADS = 2
MAX_MEGABYTES = 1_000_000


class Doors:
    """What the routes of one server share: its pool, its model, its numbers."""

    def __init__(self, settings: ServeSettings, token: str | None) -> None:
        self.settings, self.token = settings, token
        threads = count_cores() if settings.threads == "auto" else settings.threads
        self.pool = Pool(threads, settings.queue, settings.deadline_seconds)
        self.notes = Pool(NOTE_THREADS, settings.queue, settings.deadline_seconds)
        """For what waits for a disk or a network, not for a core."""
        self.metrics = ServerMetrics(lambda: self.pool.num_waiting, lambda: self.pool.num_running)
        self.bodies = BodyReader(settings.max_bytes)
        self.readiness = Readiness(settings, self._watch)
        self.num_taken = 0
        """Requests with a body that are being read, wait or are computed."""
        self._capture = None
        if settings.capture is not None:
            how = {"percent": settings.capture_percent, "has_pictures": settings.capture_images}
            self._capture = Capture(settings.capture, self.metrics.count_captured, **how)

    def _watch(self, answerer: Answerer) -> Answerer:
        self.metrics.name_model(answerer)
        watchers: list[Watcher] = [self.metrics.count_answer]
        if self._capture is not None:
            watchers.append(self._capture.take)
        return Watched(answerer, tuple(watchers))

    async def handle(
        self,
        request: HttpRequest,
        route: str,
        respond: Callable[[HttpRequest], Awaitable[HttpResponse]],
        say: Say = to_response,
        *,
        is_open: bool = False,
    ) -> HttpResponse:
        """The response to a request, whatever happens; `is_open` needs no token, `say` gives problems their form."""
        start = time.perf_counter()
        try:
            if not is_open:
                self._check_token(request)
            response = await respond(request)
        except Problem as problem:
            response = self._refuse(request, say(problem))
        except asyncio.CancelledError:
            if not self.readiness.is_stopping:
                raise
            detail = "the server ended before the answer was there; ask another one"  # uvicorn's patience is over
            response = self._refuse(request, say(Problem(503, "Stopping", detail, retry_after=RETRY_AFTER)))
        except (ClientDisconnect, ClientLeft):
            response = HttpResponse(status_code=NOT_READ)
        except Exception:
            own_id = request.headers.get("x-request-id", "none")[:100]
            log.exception("%s %s failed, request id %r", request.method, route, own_id)
            detail = "the server failed; its log has the reason"
            response = self._refuse(request, say(Problem(500, "Internal error", detail)))
        self.metrics.count_request(route, response.status_code, time.perf_counter() - start)
        return response

    async def compute(self, pool: Pool, work: Work, request: HttpRequest) -> HttpResponse:
        """Read a body and let a pool answer.

        Raises: Problem, ClientDisconnect or ClientLeft.
        """
        service = self.readiness.ready_service()
        pool.check_room()
        self.num_taken += 1
        try:
            body = await self.bodies.read(request)
            asked = Request(body, dict(request.headers))
            left = asyncio.ensure_future(wait_until_left(request.receive))
            try:
                return to_http(await pool.run(partial(work, service, asked), left))
            finally:
                left.cancel()
        finally:
            self.num_taken -= 1

    def _check_token(self, request: HttpRequest) -> None:
        """Raises: Problem 401."""
        if self.token is None:
            return
        kind, _, given = request.headers.get("authorization", "").partition(" ")
        is_right = hmac.compare_digest(given.strip().encode("latin-1", "replace"), self.token.encode())
        if kind.lower() != "bearer" or not is_right:
            raise Problem(401, "Unauthorized", "the header Authorization must be Bearer and the token of this server")

    def _refuse(self, request: HttpRequest, response: Response) -> HttpResponse:
        """A refusal. A connection on which more comes than is worth throwing away ends with it."""
        headers = dict(response.headers)
        if response.status == 401:
            headers["WWW-Authenticate"] = "Bearer"
        told = request.headers.get("content-length", "")
        is_small = told.isdecimal() and int(told) <= self.bodies.max_bytes and "expect" not in request.headers
        is_read = request.method != "POST" or getattr(request.state, "is_read", False)
        goes_on = is_read or (is_small and response.status != 408)
        kind = HttpResponse if goes_on else LastResponse
        return kind(response.body, response.status, headers, response.content_type)

    def ping(self) -> Response:
        """200 once the model has answered, else 503 with the reason."""
        if self.readiness.reason:
            return to_response(Problem(503, "Not ready", self.readiness.reason, retry_after=RETRY_AFTER))
        return Response(200, b'{"status": "ready"}')

    def execution_parameters(self) -> Response:
        """What SageMaker's batch transform asks."""
        facts = {
            "MaxConcurrentTransforms": 2 * self.pool.threads,
            "BatchStrategy": "SINGLE_RECORD",
            "MaxPayloadInMB": max(1, self.settings.max_bytes // MAX_MEGABYTES),
        }
        return Response(200, json.dumps(facts).encode())

    def close(self) -> None:
        """For the end of the process: what is captured is written, threads end."""
        self.pool.close()
        self.notes.close()
        if self._capture is not None:
            self._capture.close()


def to_http(response: Response) -> HttpResponse:
    return HttpResponse(response.body, response.status, response.headers, response.content_type)
