"""The contract around a model, without transport: a request's bytes in, a response's bytes out."""

import json
import uuid
from collections.abc import Sequence
from typing import Protocol

from sightline.serve_settings import ServeSettings
from sightline.serving.contract import Answer, ModelIdentity, Problem, Request, Response
from sightline.task_spec import TaskSpec


class Answerer(Protocol):
    """What answers for pictures: a model here, or an endpoint elsewhere."""

    @property
    def spec(self) -> TaskSpec: ...
    @property
    def model(self) -> ModelIdentity: ...

    def answer(self, pictures: Sequence[bytes], ids: Sequence[str]) -> list[Answer | Problem]: ...


class Service:
    """Doors of the contract; each may be called from several threads at once."""

    def __init__(self, answerer: Answerer, settings: ServeSettings) -> None:
        self.answerer, self.settings = answerer, settings

    def invoke(self, request: Request) -> Response:
        """The answer to one picture, or to several; a Problem becomes the response that says it."""
        try:
            own_id = request.headers.get("x-request-id") or uuid.uuid4().hex
            (found,) = self.answerer.answer([request.body], [own_id])
            if isinstance(found, Problem):
                raise found
        except Problem as problem:
            return to_response(problem)
        return Response(200, json.dumps(found.to_dict()).encode(), answers=(found,))


def to_response(problem: Problem) -> Response:
    headers = {} if problem.retry_after is None else {"Retry-After": str(problem.retry_after)}
    body = json.dumps(problem.to_dict()).encode()
    return Response(problem.status, body, "application/problem+json", headers, (problem,))
