"""The service over HTTP: `make_app` for an ASGI server of one's own, `run_server` for ours."""

import logging
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial

from fastapi import FastAPI
from starlette.requests import Request as HttpRequest
from starlette.responses import Response as HttpResponse

from sightline.serve_settings import ServeSettings
from sightline.serving.contract import Problem, Response
from sightline.serving.doors import Doors, to_http
from sightline.serving.service import Answerer, to_response

log = logging.getLogger(__name__)


def make_app(open_answerer: Callable[[], Answerer], settings: ServeSettings, token: str | None = None) -> FastAPI:
    """The application; what answers is opened in a thread once it starts."""
    doors = Doors(settings, token or None)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        threading.Thread(target=doors.readiness.load, args=(open_answerer,), name="loading", daemon=True).start()
        yield
        doors.close()

    app = FastAPI(lifespan=lifespan, docs_url=None, redoc_url=None, openapi_url=None)
    app.state.doors = doors
    for path, pool, work in (
        ("/invocations", doors.pool, lambda service, asked, _: service.invoke(asked)),
        ("/explain", doors.pool, lambda service, asked, _: service.explain(asked)),
        ("/feedback", doors.notes, lambda service, asked, _: service.feedback(asked)),
    ):
        app.add_route(path, partial(doors.compute, pool, work), ["POST"])

    def tell(path: str, what: Callable[[HttpRequest], Response], *, needs_token: bool = True) -> None:
        async def answer(request: HttpRequest) -> HttpResponse:
            try:
                if needs_token:
                    doors.check_token(request)
                return to_http(what(request))
            except Problem as problem:
                return to_http(to_response(problem))

        app.add_route(path, answer, ["GET"])

    tell("/ping", lambda _: doors.ping(), needs_token=False)
    tell("/model", lambda _: doors.readiness.ready_service().describe_model())
    tell("/execution-parameters", lambda _: doors.execution_parameters())
    return app


def run_server(
    open_answerer: Callable[[], Answerer],
    settings: ServeSettings,
    token: str | None = None,
    *,
    ends_with_error: bool = False,
    stopped: Callable[[int], None] = lambda number: None,
) -> int:
    """Serve until SIGTERM or SIGINT; 0 once what was taken is answered. `stopped` gets the signal's number.

    A model that does not open leaves a server whose `/ping` says why, or, with `ends_with_error`, is raised.

    Raises: BadInput for an address that is taken, or that others reach without a token.
    """
    import uvicorn

    from sightline.serving.http_server import CLOSE_SECONDS, HttpServer, address_of, check_who_may_ask, listen

    token = token or None
    check_who_may_ask(settings, token)
    opened = listen(settings)
    app = make_app(open_answerer, settings, token)
    doors: Doors = app.state.doors
    config = uvicorn.Config(
        app, log_config=None, log_level="warning", access_log=False, ws="none", timeout_graceful_shutdown=CLOSE_SECONDS
    )
    server = HttpServer(config, doors, ends_with_error=ends_with_error)
    guard = "with a token" if token else "without a token"
    log.info("%s, %d threads, %s", address_of(opened), doors.pool.threads, guard)
    server.run([opened])
    if ends_with_error and doors.readiness.error is not None:
        raise doors.readiness.error
    if server.stopped_by is not None:
        stopped(server.stopped_by)
    return 0
