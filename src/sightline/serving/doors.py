"""How a request over HTTP is taken: who may ask, what is read, what waits, and that `/ping` always answers."""

import asyncio
import hmac
import json
import logging
from collections.abc import Callable
from functools import partial

from starlette.requests import ClientDisconnect
from starlette.requests import Request as HttpRequest
from starlette.responses import Response as HttpResponse

from sightline.serve_settings import ServeSettings
from sightline.serving.body import BodyReader, LastResponse, wait_until_left
from sightline.serving.contract import Problem, Request, Response
from sightline.serving.pool import ClientLeft, Pool, count_cores
from sightline.serving.readiness import Readiness
from sightline.serving.service import Service, to_response

log = logging.getLogger(__name__)
Handler = Callable[[HttpRequest], HttpResponse]
Work = Callable[[Service, Request, HttpRequest], Response]
"""What a service does with a request that came by a route."""
NOT_READ = 499
"""The status of a request whose client left, by the custom of nginx; nobody reads it."""


class Doors:
    """What the routes of one server share."""

    def __init__(self, settings: ServeSettings, token: str | None) -> None:
        self.settings, self.token = settings, token
        threads = count_cores() if settings.threads == "auto" else settings.threads
        self.pool = Pool(threads, settings.queue, settings.deadline_seconds)
        self.notes = Pool(2, settings.queue, settings.deadline_seconds)
        """For what waits for a disk or a network, not for a core."""
        self.bodies = BodyReader(settings.max_bytes)
        self.readiness = Readiness(settings)
        self.num_taken = 0
        """Requests with a body that are being read, wait or are computed."""

    async def compute(self, pool: Pool, work: Work, request: HttpRequest) -> HttpResponse:
        """Read a body and let the pool answer."""
        is_read = False
        try:
            self.check_token(request)
            service = self.readiness.ready_service()
            pool.check_room()
            self.num_taken += 1
            try:
                asked = Request(await self.bodies.read(request), dict(request.headers))
                is_read = True
                left = asyncio.ensure_future(wait_until_left(request.receive))
                try:
                    return to_http(await pool.run(partial(work, service, asked, request), left))
                finally:
                    left.cancel()
            finally:
                self.num_taken -= 1
        except Problem as problem:
            return to_http(to_response(problem), HttpResponse if is_read else LastResponse)
        except (ClientDisconnect, ClientLeft):
            return HttpResponse(status_code=NOT_READ)

    def check_token(self, request: HttpRequest) -> None:
        """Raises: Problem 401."""
        if self.token is None:
            return
        kind, _, given = request.headers.get("authorization", "").partition(" ")
        if kind.lower() != "bearer" or not hmac.compare_digest(given.strip().encode(), self.token.encode()):
            raise Problem(401, "Unauthorized", "the header Authorization must be Bearer and the token of this server")

    def ping(self) -> Response:
        """200 once the model has answered, else 503 with the reason."""
        if self.readiness.reason:
            return to_response(Problem(503, "Not ready", self.readiness.reason, retry_after=2))
        return Response(200, b'{"status": "ready"}')

    def execution_parameters(self) -> Response:
        """What SageMaker's batch transform asks."""
        facts = {
            "MaxConcurrentTransforms": 2 * self.pool.threads,
            "BatchStrategy": "SINGLE_RECORD",
            "MaxPayloadInMB": max(1, self.settings.max_bytes // 1_000_000),
        }
        return Response(200, json.dumps(facts).encode())

    def close(self) -> None:
        self.pool.close()
        self.notes.close()


def to_http(response: Response, kind: type[HttpResponse] = HttpResponse) -> HttpResponse:
    headers = dict(response.headers)
    if response.status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    return kind(response.body, response.status, headers, response.content_type)
