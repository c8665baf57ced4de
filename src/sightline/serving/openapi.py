"""The OpenAPI document of a service, made from the classes of the contract."""

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from sightline.serving.contract import (
    CSV,
    JSON,
    MAX_COMMENT,
    MAX_PICTURES,
    MULTIPART,
    PICTURE_TYPES,
    PNG,
    PROBLEM,
    Answer,
    Feedback,
    OnePicture,
    SeveralPictures,
)
from sightline.serving.open_inference import OUTPUTS
from sightline.serving.request_reading import ID

Schema = dict[str, Any]
TINY_PNG = "iVBORw0KGgoAAAANSUhEUgAAAAgAAAAICAIAAABLbSncAAAAFElEQVR4nGNsaGhgwAaYsIoOWgkAMBcBkGHHl6YAAAAASUVORK5CYII="
"""A grey picture of 8 x 8 pixels, base64."""
NOT_SENT = ("features", "picture_sha256")
TEXT: Schema = {"type": "string"}
OWN_ID: Schema = {**TEXT, "minLength": 1, "maxLength": 128, "pattern": f"^{ID.pattern}$"}
NUMBER: Schema = {"type": "number"}
PROBLEMS = {
    400: "Not a picture, truncated, not base64, not JSON, or not a form.",
    401: "The token is missing or wrong.",
    404: "No such model or version.",
    406: "`Accept` names nothing that can be sent.",
    408: "The body did not come in time.",
    409: "Nothing is kept here: `serve.output` is not set.",
    413: "Too many bytes; or too many pixels, by the picture's header.",
    415: "The content type, or the picture's format, is not taken.",
    422: "The fields do not fit: `field` names the one.",
    429: "Too many requests wait: again after `Retry-After` seconds.",
    501: "What answers here cannot do that.",
    503: "The model is loading, the server is stopping, or the request waited too long.",
}


def openapi_document(described: Mapping[str, Any] | None = None, *, needs_token: bool = False) -> Schema:
    """OpenAPI 3.1 of every route; `described` is what `Answerer.describe` says, None while there is no model yet."""
    described = described or {}
    types = described.get("content_types") or PICTURE_TYPES
    named = f"{described.get('name', 'A model')} {described.get('version', '')}".strip()
    document: Schema = {
        "openapi": "3.1.0",
        "info": {
            "title": "Sightline",
            "version": str(described.get("version") or "0"),
            "description": f"{named}: pictures in, classes with calibrated probabilities out.",
        },
        "paths": {**_pictures(types), **_facts(), **_open_inference()},
        "components": {"schemas": _schemas(described)},
    }
    if needs_token:
        document["components"]["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
        for path, operations in document["paths"].items():
            for operation in operations.values():
                if path != "/ping":
                    operation["security"] = [{"token": []}]
                    operation["responses"]["401"] = _problem(401)
    return document


def _schemas(described: Mapping[str, Any]) -> Schema:
    from pydantic import TypeAdapter

    schemas: Schema = {}
    for kind in (OnePicture, SeveralPictures, Feedback, Answer):
        schema = TypeAdapter(kind).json_schema(mode="serialization", ref_template="#/components/schemas/{model}")
        schemas |= schema.pop("$defs", {})
        schemas[kind.__name__] = schema
    answer = schemas["Answer"]
    for name in NOT_SENT:
        del answer["properties"][name]
    answer["required"] = [each.name for each in fields(Answer) if each.name not in NOT_SENT]
    for name in ("OnePicture", "SeveralPictures", "Feedback"):
        if "id" in schemas[name]["properties"]:
            schemas[name]["properties"]["id"] = OWN_ID
    image = {**TEXT, "contentEncoding": "base64", "minLength": 1}
    schemas["OnePicture"]["properties"]["image"] |= {**image, "examples": [TINY_PNG]}
    schemas["SeveralPictures"]["properties"]["images"] |= {"items": image, "minItems": 1, "maxItems": MAX_PICTURES}
    schemas["Feedback"]["properties"]["comment"] = {"type": ["string", "null"], "maxLength": MAX_COMMENT}
    if classes := described.get("classes"):
        schemas["Feedback"]["properties"]["label"]["enum"] = classes
    problem = {
        "type": {**TEXT, "format": "uri"},
        "title": TEXT,
        "status": {"type": "integer"},
        "detail": TEXT,
        "field": {"type": ["string", "null"], "description": "The part of the request that is to blame."},
    }
    schemas["Problem"] = _object(problem, description="Problem details, RFC 9457.")
    in_place = _object({"id": TEXT, **problem}, description="Why a picture among several has no answer.")
    schemas["PictureProblem"] = in_place
    either = {"anyOf": [_ref("Answer"), _ref("PictureProblem")]}
    schemas["Predictions"] = _object({"predictions": {"type": "array", "items": either}})
    return schemas


def _object(properties: Schema, **further: Any) -> Schema:
    return {"type": "object", "properties": properties, "required": list(properties), **further}


def _ref(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}"}


def _problem(status: int) -> Schema:
    response: Schema = {"description": PROBLEMS[status], "content": {PROBLEM: {"schema": _ref("Problem")}}}
    if status in (429, 503):
        response["headers"] = {"Retry-After": {"schema": {"type": "integer"}, "description": "Seconds."}}
    return response


def _operation(summary: str, responses: Schema, *problems: int, **further: Any) -> Schema:
    return {
        "summary": summary,
        **further,
        "responses": {**responses, **{str(status): _problem(status) for status in problems}},
    }


def _answered(description: str, content: Schema, status: str = "200") -> Schema:
    return {status: {"description": description, "content": content}}


def _picture_body(types: tuple[str, ...] | list[str]) -> Schema:
    content: Schema = {kind: {"schema": {}} for kind in types}
    example = {"one": {"value": {"image": TINY_PNG}}, "several": {"value": {"images": [TINY_PNG, TINY_PNG]}}}
    either = {"oneOf": [_ref("OnePicture"), _ref("SeveralPictures")]}
    content[JSON] = {"schema": either, "examples": example}
    file = {**TEXT, "contentMediaType": "application/octet-stream"}
    form = {"image": file, "images": {"type": "array", "items": file, "maxItems": MAX_PICTURES}, "id": OWN_ID}
    content[MULTIPART] = {"schema": {"type": "object", "properties": form, "additionalProperties": False}}
    return {"required": True, "content": content}


def _pictures(types: tuple[str, ...] | list[str]) -> Schema:
    request_id = {
        "name": "X-Request-Id",
        "in": "header",
        "description": "What the answer's `id` is to be; else one is made.",
        "schema": OWN_ID,
    }
    body = {"requestBody": _picture_body(types), "parameters": [request_id]}
    found = {JSON: {"schema": {"anyOf": [_ref("Answer"), _ref("Predictions")]}}, CSV: {"schema": TEXT}}
    heat_map = {"id": TEXT, "label": TEXT, "probability": NUMBER, "drop": NUMBER, "image": TEXT}
    mapped = {PNG: {"schema": {}}, JSON: {"schema": _object(heat_map)}}
    told = {"required": True, "content": {JSON: {"schema": _ref("Feedback")}}}
    kept = _answered("Kept.", {JSON: {"schema": _object({"id": TEXT, "label": TEXT})}}, "201")
    refused = (400, 406, 408, 413, 415, 422, 429, 503)
    invoke = _operation("Classify pictures", _answered("The answers.", found), *refused, **body)
    explain = _operation("Show where it looked", _answered("The map.", mapped), *refused, 501, **body)
    feedback = _operation("Say the right class", kept, *(400, 408, 409, 413, 415, 422, 429, 503), requestBody=told)
    return {"/invocations": {"post": invoke}, "/explain": {"post": explain}, "/feedback": {"post": feedback}}


def _facts() -> Schema:
    def get(summary: str, kind: str = JSON, *problems: int) -> Schema:
        schema = TEXT if kind.startswith("text/") else {"type": "object"}
        return {"get": _operation(summary, _answered(summary, {kind: {"schema": schema}}), *problems)}

    return {
        "/ping": get("Whether it can answer, and if not, why", JSON, 503),
        "/model": get("Which model answers, and what it takes", JSON, 503),
        "/execution-parameters": get("What a batch transform asks"),
        "/metrics": get("Counters for Prometheus", "text/plain"),
        "/v2": get("The server, in the Open Inference Protocol", JSON, 503),
        "/v2/health/live": get("Whether the process lives"),
        "/v2/health/ready": get("Whether the model can answer", JSON, 503),
    }


def _open_inference() -> Schema:
    tensor = _object(
        {
            "name": {"const": "image"},
            "datatype": {"const": "BYTES"},
            "shape": {"type": "array", "items": {"type": "integer", "minimum": 1}, "minItems": 1, "maxItems": 1},
            "data": {"type": "array", "items": TEXT, "minItems": 1, "maxItems": MAX_PICTURES},
        },
        description="`data`: base64 of each picture's file.",
    )
    wanted = {"type": "object", "properties": {"name": {"enum": list(OUTPUTS)}}, "required": ["name"]}
    asked = {
        "id": OWN_ID,
        "inputs": {"type": "array", "items": tensor, "minItems": 1, "maxItems": 1},
        "outputs": {"type": "array", "items": wanted},
    }
    example = {"name": "image", "datatype": "BYTES", "shape": [1], "data": [TINY_PNG]}
    content = {
        JSON: {
            "schema": {"type": "object", "properties": asked, "required": ["inputs"]},
            "example": {"inputs": [example]},
        }
    }
    outputs = {"type": "array", "items": {"type": "object"}}
    answer = _object({"model_name": TEXT, "model_version": TEXT, "id": TEXT, "outputs": outputs})
    infer = _operation(
        "Classify a tensor of pictures",
        _answered("A tensor for each output.", {JSON: {"schema": answer}, "application/octet-stream": {"schema": {}}}),
        *(400, 404, 408, 413, 415, 422, 429, 503),
        requestBody={"required": True, "content": content},
    )
    paths: Schema = {}
    for path, names in (("/v2/models/{name}", ["name"]), ("/v2/models/{name}/versions/{version}", ["name", "version"])):
        parameters = [{"name": each, "in": "path", "required": True, "schema": TEXT} for each in names]
        facts = _answered("Facts of the model.", {JSON: {"schema": {"type": "object"}}})
        paths[path] = {"get": _operation("Inputs and outputs", facts, 404, 503, parameters=parameters)}
        paths[f"{path}/ready"] = {"get": _operation("Whether it can answer", facts, 404, 503, parameters=parameters)}
        paths[f"{path}/infer"] = {"post": {**infer, "parameters": parameters}}
    return paths
