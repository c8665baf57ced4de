"""The contract around a model, without transport: a request's bytes in, a response's bytes out."""

import uuid
from collections.abc import Sequence
from typing import Any, Protocol

from sightline.serve_settings import ServeSettings
from sightline.serving import open_inference
from sightline.serving.content_negotiation import choose
from sightline.serving.contract import (
    CSV,
    JSON,
    PNG,
    Answer,
    HeatMap,
    ModelIdentity,
    Problem,
    Request,
    Response,
    picture_types,
)
from sightline.serving.feedback import open_output, read_feedback, to_record
from sightline.serving.request_reading import SentPicture, check_body, header_id, read_pictures
from sightline.serving.responses import answers_response, heat_map_response, json_response, to_response
from sightline.serving.s3_pictures import S3Pictures
from sightline.task_spec import TaskSpec

__all__ = ["Answerer", "Service", "to_response"]
AT_ONCE = 8
"""Pictures of one request that are in memory together, where S3 holds them."""


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
    """Doors of the contract; each may be called from several threads at once, and none raises for what was sent."""

    def __init__(self, answerer: Answerer, settings: ServeSettings) -> None:
        self.answerer, self.settings = answerer, settings
        self.s3 = S3Pictures(settings.s3_prefixes, settings.max_bytes)
        self.output = open_output(settings.output)
        """Where feedback and the answers to events go; None where nothing is kept."""

    def invoke(self, request: Request) -> Response:
        """The answer to one picture, or to several; a Problem becomes the response that says it."""
        own_id = uuid.uuid4().hex
        try:
            given = header_id(request)
            own_id = given or own_id
            kind = choose(request.headers.get("accept"), (JSON, CSV))
            asked = read_pictures(request, picture_types(self.answerer.spec), self.s3)
            own_id = given or asked.id or own_id
            ids = [f"{own_id}-{number}" for number in range(len(asked.pictures))] if asked.are_several else [own_id]
            found = self.answer(asked.pictures, ids)
            if not asked.are_several and isinstance(found[0], Problem):
                raise found[0]
        except Problem as problem:
            return to_response(problem, own_id)
        return answers_response(found, ids, kind, self.answerer.spec.num_classes, own_id if asked.are_several else None)

    def answer(self, pictures: Sequence[SentPicture], ids: Sequence[str]) -> list[Answer | Problem]:
        """An answer to each picture in order, or the problem in its place, with the field that holds the picture.

        Raises: Problem where the whole request is to be sent again (429, 503).
        """
        found: list[Answer | Problem] = []
        for start in range(0, len(pictures), AT_ONCE):
            some = pictures[start : start + AT_ONCE]
            contents = [self._read(picture) for picture in some]
            sent = [number for number, content in enumerate(contents) if isinstance(content, bytes)]
            asked = [content for content in contents if isinstance(content, bytes)]
            answers = self.answerer.answer(asked, [ids[start + number] for number in sent]) if asked else []
            answer_of = dict(zip(sent, answers, strict=True))
            for number, (picture, content) in enumerate(zip(some, contents, strict=True)):
                each = content if isinstance(content, Problem) else answer_of[number]
                if isinstance(each, Problem):
                    each.field = picture.field
                found.append(each)
        return found

    def _read(self, picture: SentPicture) -> bytes | Problem:
        """Raises: Problem where it is not the picture's fault."""
        try:
            return picture.read()
        except Problem as problem:
            if problem.retry_after is not None:
                raise
            return problem

    def explain(self, request: Request) -> Response:
        """A heat map of one picture: as PNG, or as JSON by `Accept`."""
        own_id = uuid.uuid4().hex
        try:
            given = header_id(request)
            own_id = given or own_id
            kind, _ = choose(request.headers.get("accept"), (PNG, JSON))
            asked = read_pictures(request, picture_types(self.answerer.spec), self.s3)
            own_id = given or asked.id or own_id
            if len(asked.pictures) != 1:
                raise Problem(422, "Too many pictures", "one picture is explained at a time", "images")
            heat_map = self.answerer.explain(asked.pictures[0].read())
        except Problem as problem:
            return to_response(problem, own_id)
        return heat_map_response(heat_map, own_id, kind)

    def feedback(self, request: Request) -> Response:
        """What a person says is right, `{id, label, comment?}`: kept in `serve.output`, 201."""
        try:
            check_body(request, self.settings.max_bytes)
            said = read_feedback(request, self.answerer.spec.class_names)
            if self.output is None:
                detail = "this server keeps no feedback: its operator sets serve.output to a folder or s3://…"
                raise Problem(409, "Not kept", detail)
            self.output.write("feedback", to_record(said, self.answerer.model))
        except Problem as problem:
            return to_response(problem)
        return json_response(201, {"id": said.id, "label": said.label})

    def describe_model(self) -> Response:
        """`GET /model`: which model answers, and what it takes."""
        limits = {"max_bytes": self.settings.max_bytes, "max_pixels": self.settings.max_pixels}
        return json_response(200, {**self.answerer.describe(), **limits})

    def infer(self, request: Request, model_name: str, version: str | None = None) -> Response:
        """The Open Inference Protocol's `infer`: the pictures of one tensor of BYTES."""
        own_id = None
        try:
            open_inference.check_model(self.answerer.model, model_name, version)
            check_body(request, self.settings.max_bytes)
            asked = open_inference.read_request(request, self.s3)
            own_id = header_id(request) or asked.id or uuid.uuid4().hex
            found = self.answer(asked.pictures, [f"{own_id}-{number}" for number in range(len(asked.pictures))])
            if len(found) == 1 and isinstance(found[0], Problem):
                raise found[0]
        except Problem as problem:
            return open_inference.to_response(problem, own_id)
        return open_inference.answer_response(asked, own_id, found, self.answerer.spec, self.answerer.model)

    def server_metadata(self) -> Response:
        """`GET /v2`."""
        return json_response(200, open_inference.SERVER)

    def model_metadata(self, model_name: str, version: str | None = None) -> Response:
        """`GET /v2/models/NAME[/versions/VERSION]`."""
        try:
            open_inference.check_model(self.answerer.model, model_name, version)
        except Problem as problem:
            return open_inference.to_response(problem)
        return json_response(200, open_inference.describe_model(self.answerer.model, self.answerer.spec))

    def model_ready(self, model_name: str, version: str | None = None) -> Response:
        """`GET /v2/models/NAME[/versions/VERSION]/ready`."""
        try:
            open_inference.check_model(self.answerer.model, model_name, version)
        except Problem as problem:
            return open_inference.to_response(problem)
        return json_response(200, {"name": model_name, "ready": True})
