"""The Open Inference Protocol v2 (KServe, Triton), with one input: a tensor of BYTES whose elements are pictures.

JSON and the binary extension: https://github.com/kserve/open-inference-protocol
"""

import json
import math
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from sightline.serving.contract import (
    JSON,
    MAX_PICTURES,
    PROBLEM,
    TOP,
    Answer,
    ModelIdentity,
    Problem,
    Request,
    Response,
)
from sightline.serving.request_reading import (
    SentPicture,
    check_id,
    check_number,
    picture_of_text,
    read_json_object,
)
from sightline.serving.s3_pictures import S3Pictures
from sightline.task_spec import TaskSpec

SERVER = {"name": "sightline", "version": "2", "extensions": ["binary_tensor_data"]}
INPUT = "image"
JSON_LENGTH = "inference-header-content-length"
"""The header that says where a binary body's JSON ends."""
OUTPUTS = {
    "label": "BYTES",
    "probability": "FP32",
    "classes": "BYTES",
    "probabilities": "FP32",
    "unsure": "BOOL",
    "error": "BYTES",
}
"""Outputs by name: an element for each picture, or in `classes` and `probabilities` a row, the most probable first."""


@dataclass(frozen=True)
class InferRequest:
    """What is asked, and how it is to be answered."""

    id: str | None
    pictures: list[SentPicture]
    outputs: dict[str, bool]
    """The wanted ones, and whether each is sent as binary data."""


def check_model(model: ModelIdentity, name: str, version: str | None) -> None:
    """Raises: Problem 404 for another model than ours."""
    if name != model.name or version not in (None, model.version):
        detail = f"there is no such model here; {model.name} in version {model.version} is"
        raise Problem(404, "Unknown model", detail, "name" if name != model.name else "version")


def describe_model(model: ModelIdentity, spec: TaskSpec) -> dict[str, Any]:
    """The protocol's metadata of a model."""
    ranks = min(TOP, spec.num_classes)
    return {
        "name": model.name,
        "versions": [model.version],
        "platform": "onnxruntime_onnx",
        "inputs": [{"name": INPUT, "datatype": "BYTES", "shape": [-1]}],
        "outputs": [
            {"name": name, "datatype": kind, "shape": [-1, ranks] if name in ("classes", "probabilities") else [-1]}
            for name, kind in OUTPUTS.items()
        ],
    }


def read_request(request: Request, s3: S3Pictures) -> InferRequest:
    """Raises: Problem for what is no request of the protocol, or has not one input of BYTES."""
    length = request.headers.get(JSON_LENGTH)
    head, rest = request.body, b""
    if length is not None:
        if not length.isdecimal() or not length.isascii() or int(length) > len(request.body):
            raise Problem(400, "Not a request", "must be the number of bytes of the body's JSON", JSON_LENGTH)
        head, rest = request.body[: int(length)], request.body[int(length) :]
    values = read_json_object(head)
    inputs = values.get("inputs")
    if not isinstance(inputs, list) or len(inputs) != 1 or not isinstance(inputs[0], dict):
        raise Problem(422, "Wrong inputs", f"must be one tensor, of the name {INPUT}", "inputs")
    tensor = inputs[0]
    if tensor.get("name") != INPUT:
        raise Problem(422, "Wrong inputs", f"the input's name is {INPUT}", "inputs[0].name")
    if tensor.get("datatype") != "BYTES":
        raise Problem(422, "Wrong type", "must be BYTES: each element is a picture's file", "inputs[0].datatype")
    pictures = _binary_pictures(tensor, rest) if _binary_size(tensor) is not None else _pictures(tensor, s3)
    _check_shape(tensor.get("shape"), len(pictures))
    own_id = values.get("id")
    if own_id is not None:
        own_id = check_id(own_id, "id") if isinstance(own_id, str) and own_id else None
    return InferRequest(own_id, pictures, _wanted(values))


def _binary_size(tensor: dict[str, Any]) -> int | None:
    return _parameters(tensor, "inputs[0]").get("binary_data_size")


def _parameters(of: dict[str, Any], field: str) -> dict[str, Any]:
    found = of.get("parameters") or {}
    if not isinstance(found, dict):
        raise Problem(422, "Wrong type", "must be an object", f"{field}.parameters")
    return found


def _pictures(tensor: dict[str, Any], s3: S3Pictures) -> list[SentPicture]:
    """Elements as text: what `image` may be in JSON."""
    texts = tensor.get("data")
    while isinstance(texts, list) and len(texts) == 1 and isinstance(texts[0], list):
        texts = texts[0]
    if isinstance(texts, list) and all(isinstance(each, list) and len(each) == 1 for each in texts):
        texts = [each[0] for each in texts]
    if not isinstance(texts, list) or not all(isinstance(each, str) for each in texts):
        raise Problem(422, "Wrong type", "must be a list of texts: base64 of each picture's file", "inputs[0].data")
    check_number(len(texts), "inputs[0].data")
    return [
        SentPicture(field, lambda text=text, field=field: picture_of_text(text, field, s3))
        for field, text in ((f"inputs[0].data[{number}]", text) for number, text in enumerate(texts))
    ]


def _binary_pictures(tensor: dict[str, Any], rest: bytes) -> list[SentPicture]:
    """Elements of the binary extension, the files themselves, each after its length (4 bytes, little endian)."""
    size, field = _binary_size(tensor), "inputs[0].parameters.binary_data_size"
    if size != len(rest):
        raise Problem(400, "Not a request", f"{len(rest):,} bytes follow the JSON", field)
    pictures, start = [], 0
    while start < len(rest):
        (length,) = struct.unpack_from("<I", rest, start) if start + 4 <= len(rest) else (len(rest),)
        end = start + 4 + length
        if end > len(rest):
            raise Problem(400, "Not a request", "the binary data end within an element", field)
        picture = rest[start + 4 : end]
        pictures.append(SentPicture(f"inputs[0].data[{len(pictures)}]", lambda picture=picture: picture))
        start = end
        if len(pictures) > MAX_PICTURES:
            break
    check_number(len(pictures), "inputs[0].data")
    return pictures


def _check_shape(shape: Any, number: int) -> None:
    is_shape = isinstance(shape, list) and all(type(each) is int and each >= 0 for each in shape)
    if not is_shape or len(shape) > 8 or math.prod(shape) != number:
        raise Problem(422, "Wrong shape", f"must be [{number}], as many elements as there are", "inputs[0].shape")


def _wanted(values: dict[str, Any]) -> dict[str, bool]:
    """Outputs that are asked for; all of them where none are named."""
    is_binary = _parameters(values, "request").get("binary_data_output") is True
    asked = values.get("outputs") or []
    if not isinstance(asked, list) or not all(isinstance(each, dict) for each in asked):
        raise Problem(422, "Wrong type", "must be a list of objects", "outputs")
    wanted = {}
    for number, each in enumerate(asked):
        name = each.get("name")
        if not isinstance(name, str) or name not in OUTPUTS:
            detail = f"there is no such output; known are {', '.join(OUTPUTS)}"
            raise Problem(422, "Unknown output", detail, f"outputs[{number}].name")
        wanted[name] = _parameters(each, f"outputs[{number}]").get("binary_data", is_binary) is True
    return wanted or dict.fromkeys(OUTPUTS, is_binary)


def answer_response(
    asked: InferRequest, own_id: str, found: Sequence[Answer | Problem], spec: TaskSpec, model: ModelIdentity
) -> Response:
    """The tensors as JSON, or behind it as binary data."""
    ranks = min(TOP, spec.num_classes)
    outputs, binary = [], []
    for name, is_binary in asked.outputs.items():
        values = [value for each in found for value in _values(name, each, ranks)]
        shape = [len(found), ranks] if name in ("classes", "probabilities") else [len(found)]
        output: dict[str, Any] = {"name": name, "datatype": OUTPUTS[name], "shape": shape}
        if is_binary:
            data = b"".join(_to_bytes(OUTPUTS[name], values))
            output["parameters"] = {"binary_data_size": len(data)}
            binary.append(data)
        else:
            output["data"] = values
        outputs.append(output)
    value = {"model_name": model.name, "model_version": model.version, "id": own_id, "outputs": outputs}
    head, headers = json.dumps(value).encode(), {"X-Request-Id": own_id}
    if not binary:
        return Response(200, head, JSON, headers, tuple(found))
    headers["Inference-Header-Content-Length"] = str(len(head))
    return Response(200, b"".join([head, *binary]), "application/octet-stream", headers, tuple(found))


def _values(name: str, found: Answer | Problem, ranks: int) -> list[Any]:
    """Of one picture, flat; nothing but the error of one that is broken."""
    if isinstance(found, Problem):
        nothing = {"label": [""], "probability": [0.0], "unsure": [True], "error": [found.detail]}
        return nothing.get(name) or [("" if name == "classes" else 0.0)] * ranks
    ranked = list(found.probabilities.items())[:ranks]
    return {
        "label": [found.label],
        "probability": [found.probability],
        "classes": [name for name, _ in ranked],
        "probabilities": [probability for _, probability in ranked],
        "unsure": [found.unsure],
        "error": [""],
    }[name]


def _to_bytes(kind: str, values: Sequence[Any]) -> Iterator[bytes]:
    for value in values:
        if kind == "BYTES":
            text = value.encode("utf-8", "backslashreplace")
            yield struct.pack("<I", len(text)) + text
        else:
            yield struct.pack("<f" if kind == "FP32" else "<?", value)


def to_response(problem: Problem, own_id: str | None = None) -> Response:
    """Problem details with the protocol's own `error` beside them."""
    headers = {} if own_id is None else {"X-Request-Id": own_id}
    if problem.retry_after is not None:
        headers["Retry-After"] = str(problem.retry_after)
    where = "" if problem.field is None else f"{problem.field}: "
    body = json.dumps({"error": f"{where}{problem.detail}", **problem.to_dict()}).encode()
    return Response(problem.status, body, PROBLEM, headers, (problem,))
