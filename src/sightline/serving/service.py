"""The contract around a model, without transport: a request's bytes in, a response's bytes out."""

import json
import uuid
from collections.abc import Sequence
from typing import Any, Protocol
from urllib.parse import quote

from sightline.serve_settings import ServeSettings
from sightline.serving.contract import Answer, HeatMap, ModelIdentity, Problem, Request, Response
from sightline.task_spec import TaskSpec


class Answerer(Protocol):
    """What answers for pictures: a model here, or an endpoint elsewhere."""

    @property
    def spec(self) -> TaskSpec: ...
    @property
    def model(self) -> ModelIdentity: ...

    def answer(self, pictures: Sequence[bytes], ids: Sequence[str]) -> list[Answer | Problem]: ...

    def explain(self, picture: bytes) -> HeatMap:
        """Raises: Problem 501 where it cannot."""
        ...

    def describe(self) -> dict[str, Any]:
        """name, version, sha256, created, precision, accuracy, classes, threshold, image_size, channels, bit_depth and
        content_types."""
        ...


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

    def explain(self, request: Request) -> Response:
        """A heat map of one picture: as PNG, or as JSON by `Accept`."""
        try:
            heat_map = self.answerer.explain(request.body)
        except Problem as problem:
            return to_response(problem)
        headers = {
            "X-Sightline-Label": quote(heat_map.label),
            "X-Sightline-Probability": f"{heat_map.probability:.6f}",
            "X-Sightline-Drop": f"{heat_map.drop:.6f}",
        }
        return Response(200, heat_map.png, "image/png", headers)

    def feedback(self, request: Request) -> Response:
        """What a person says is right: `{id, label, comment?}`."""
        return to_response(Problem(501, "Not implemented", "no feedback is kept yet"))

    def infer(self, request: Request, model_name: str, version: str | None = None) -> Response:
        """The Open Inference Protocol's `infer`, with one tensor of BYTES."""
        return to_response(Problem(501, "Not implemented", "not yet"))

    def describe_model(self) -> Response:
        """`GET /model`: which model answers, and what it takes."""
        limits = {"max_bytes": self.settings.max_bytes, "max_pixels": self.settings.max_pixels}
        return Response(200, json.dumps({**self.answerer.describe(), **limits}).encode())

    def server_metadata(self) -> Response:
        """`GET /v2`."""
        return to_response(Problem(501, "Not implemented", "not yet"))

    def model_metadata(self, model_name: str, version: str | None = None) -> Response:
        """`GET /v2/models/NAME[/versions/VERSION]`."""
        return to_response(Problem(501, "Not implemented", "not yet"))

    def model_ready(self, model_name: str, version: str | None = None) -> Response:
        """`GET /v2/models/NAME[/versions/VERSION]/ready`."""
        return to_response(Problem(501, "Not implemented", "not yet"))


def to_response(problem: Problem) -> Response:
    headers = {} if problem.retry_after is None else {"Retry-After": str(problem.retry_after)}
    body = json.dumps(problem.to_dict()).encode()
    return Response(problem.status, body, "application/problem+json", headers, (problem,))
