"""The service over HTTP: its routes, and the server that answers them."""

import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

from fastapi import FastAPI
from starlette.exceptions import HTTPException
from starlette.requests import Request as HttpRequest
from starlette.responses import Response as HttpResponse

from sightline.serve_settings import ServeSettings
from sightline.serving import open_inference
from sightline.serving.api_page import HEADERS, api_page
from sightline.serving.contract import Problem, Request, Response
from sightline.serving.doors import Doors, Say, Work, to_http
from sightline.serving.openapi import openapi_document
from sightline.serving.page_files import page_names, page_response
from sightline.serving.pool import Pool
from sightline.serving.responses import json_response
from sightline.serving.service import Answerer, Service, to_response

if TYPE_CHECKING:
    from sightline.serving.http_server import HttpServer

MODEL = "/v2/models/{name}", "/v2/models/{name}/versions/{version}"


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
    routes = Routes(app, doors)
    routes.compute("/invocations", doors.pool, lambda service, asked: service.invoke(asked))
    routes.compute("/explain", doors.pool, lambda service, asked: service.explain(asked))
    routes.compute("/feedback", doors.notes, lambda service, asked: service.feedback(asked))
    routes.tell("/ping", lambda _: doors.ping(), is_open=True)
    routes.tell("/model", lambda _: doors.readiness.ready_service().describe_model())
    routes.tell("/execution-parameters", lambda _: doors.execution_parameters())
    routes.tell("/openapi.json", lambda _: json_response(200, _document(doors)))
    routes.tell("/docs", lambda _: Response(200, api_page(_document(doors)), "text/html; charset=utf-8", HEADERS))
    routes.tell("/metrics", lambda _: doors.metrics.respond())
    for name in ("", *page_names()):
        routes.tell(f"/{name}", partial(_page, name), is_open=True)
    _add_open_inference(routes, doors)

    async def no_route(request: HttpRequest, error: Exception) -> HttpResponse:
        assert isinstance(error, HTTPException)
        problem = Problem(error.status_code, error.detail, f"there is no {request.method} {request.url.path} here")
        response = to_response(problem)
        doors.metrics.count_request("other", error.status_code, 0.0)
        return to_http(Response(response.status, response.body, response.content_type, dict(error.headers or {})))

    app.add_exception_handler(HTTPException, no_route)
    return app


class Routes:
    """Adds routes to an application, all of them through the same doors."""

    def __init__(self, app: FastAPI, doors: Doors) -> None:
        self.app, self.doors = app, doors

    def compute(self, path: str, pool: Pool, work: Work) -> None:
        """A POST whose body is read and whose answer is computed by a pool."""

        async def respond(request: HttpRequest) -> HttpResponse:
            return await self.doors.handle(request, path, partial(self.doors.compute, pool, work))

        self.app.add_route(path, respond, ["POST"])

    def infer(self, path: str) -> None:
        """The same for a model of the Open Inference Protocol, whose problems have a form of their own."""

        async def respond(request: HttpRequest) -> HttpResponse:
            name, version = request.path_params["name"], request.path_params.get("version")

            def work(service: Service, asked: Request) -> Response:
                return service.infer(asked, name, version)

            computed = partial(self.doors.compute, self.doors.pool, work)
            return await self.doors.handle(request, path, computed, open_inference.to_response)

        self.app.add_route(path, respond, ["POST"])

    def tell(
        self,
        path: str,
        what: Callable[[HttpRequest], Response],
        say: Say = to_response,
        *,
        is_open: bool = False,
    ) -> None:
        """A GET that is answered at once."""

        async def told(request: HttpRequest) -> HttpResponse:
            return to_http(what(request))

        async def respond(request: HttpRequest) -> HttpResponse:
            return await self.doors.handle(request, path, told, say, is_open=is_open)

        self.app.add_route(path, respond, ["GET"])


def _document(doors: Doors) -> dict[str, Any]:
    service = doors.readiness.service
    described = None if service is None else service.answerer.describe()
    return openapi_document(described, needs_token=doors.token is not None)


def _page(name: str, request: HttpRequest) -> Response:
    body, content_type, headers = page_response(name)
    return Response(200, body, content_type, headers)


def _add_open_inference(routes: Routes, doors: Doors) -> None:
    ready = doors.readiness.ready_service

    def tell(path: str, what: Callable[[Service, str, str | None], Response]) -> None:
        def told(request: HttpRequest) -> Response:
            return what(ready(), request.path_params["name"], request.path_params.get("version"))

        routes.tell(path, told, open_inference.to_response)

    routes.tell("/v2/health/live", lambda _: Response(200, b'{"live": true}'), is_open=True)
    routes.tell("/v2/health/ready", lambda _: doors.ping(), is_open=True)
    routes.tell("/v2", lambda _: ready().server_metadata(), open_inference.to_response)
    for path in MODEL:
        tell(path, lambda service, name, version: service.model_metadata(name, version))
        tell(f"{path}/ready", lambda service, name, version: service.model_ready(name, version))
        routes.infer(f"{path}/infer")


def make_server(
    open_answerer: Callable[[], Answerer],
    settings: ServeSettings,
    token: str | None = None,
    *,
    ends_with_error: bool = False,
) -> "HttpServer":
    """A server that listens already; its `serve_until_stopped` answers.

    Raises: BadInput for an address that is taken, or that others reach without a token.
    """
    from sightline.serving.http_server import HttpServer, check_who_may_ask, listen

    check_who_may_ask(settings, token)
    opened = listen(settings)
    app = make_app(open_answerer, settings, token)
    return HttpServer(app, app.state.doors, opened, ends_with_error=ends_with_error)


def run_server(open_answerer: Callable[[], Answerer], settings: ServeSettings, token: str | None = None) -> int:
    """Serve until SIGTERM or SIGINT; 0 once what was taken is answered.

    A model that does not open leaves a server whose `/ping` says why.

    Raises: BadInput for an address that is taken, or that others reach without a token.
    """
    make_server(open_answerer, settings, token).serve_until_stopped()
    return 0
