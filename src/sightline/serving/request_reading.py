"""A request's pictures: its bytes, JSON or a form, whatever its content type says."""

import base64
import binascii
import json
import logging
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import MISSING, dataclass, fields
from difflib import get_close_matches
from typing import Any, TypeVar

from sightline.serving.content_negotiation import media_type
from sightline.serving.contract import (
    JSON,
    MAX_PICTURES,
    MULTIPART,
    OnePicture,
    Problem,
    Request,
    SeveralPictures,
)
from sightline.serving.s3_pictures import S3Pictures

OTHER_NAMES = {
    "image/jpg": "image/jpeg",
    "image/pjpeg": "image/jpeg",
    "image/x-png": "image/png",
    "image/x-ms-bmp": "image/bmp",
}
"""Content types that are often sent, and what they mean."""
ID = re.compile(r"[!-~]([ -~]{0,126}[!-~])?")
"""Of a request: up to 128 visible characters of ASCII."""
ID_HEADERS = ("x-request-id", "x-amzn-sagemaker-inference-id")
Shape = TypeVar("Shape")
logging.getLogger("python_multipart").setLevel(logging.CRITICAL)  # it warns of each damaged form that is answered 400


@dataclass(frozen=True)
class SentPicture:
    """One picture of a request."""

    field: str
    """Where the request holds it, like `images[3]`."""
    read: Callable[[], bytes]
    """Its bytes. Raises Problem where there are none."""


@dataclass(frozen=True)
class PictureRequest:
    """What is asked."""

    id: str | None
    """What its body calls it."""
    pictures: list[SentPicture]
    are_several: bool
    """Whether a list is answered, of however many."""


def read_pictures(request: Request, types: tuple[str, ...], s3: S3Pictures) -> PictureRequest:
    """The pictures of a request, whose bytes may be pictures of these content types.

    Raises: Problem for what is no such request; a single picture that is broken says so when it is read.
    """
    check_body(request, s3.max_bytes)
    kind, parameters = media_type(request.headers.get("content-type") or "application/octet-stream")
    kind = OTHER_NAMES.get(kind, kind)
    if kind in types:
        return PictureRequest(None, [SentPicture("image", lambda: request.body)], are_several=False)
    if kind == JSON:
        return _of_json(request, s3)
    if kind == MULTIPART:
        return _of_form(request, parameters.get("boundary", ""))
    hint = "; curl says so unless told otherwise: add -H 'Content-Type: image/jpeg'" if "urlencoded" in kind else ""
    detail = f"{kind[:100]!r} is not taken{hint}; taken are {', '.join((*types, JSON, MULTIPART))}"
    raise Problem(415, "Unsupported media type", detail, "Content-Type")


def check_body(request: Request, max_bytes: int) -> None:
    """Raises: Problem for more bytes than allowed, or compressed ones."""
    if len(request.body) > max_bytes:
        raise too_many_bytes(len(request.body), max_bytes)
    if request.headers.get("content-encoding", "identity").strip().lower() not in ("", "identity"):
        raise Problem(415, "Unsupported media type", "the body is compressed; send it as it is", "Content-Encoding")


def too_many_bytes(num_bytes: int, max_bytes: int, field: str = "body") -> Problem:
    detail = f"{num_bytes:,} bytes are more than the {max_bytes:,} that are taken; send a smaller file"
    return Problem(413, "Too many bytes", detail, field)


def header_id(request: Request) -> str | None:
    """What the sender's headers call the request.

    Raises: Problem for one that is too long, or of other characters than visible ASCII.
    """
    for header in ID_HEADERS:
        if given := request.headers.get(header, "").strip():
            return check_id(given, header)
    attributes = request.headers.get("x-amzn-sagemaker-custom-attributes", "")
    found = re.search(r"(?:^|[;,\s])id=([^;,\s]+)", attributes)
    return check_id(found[1], "x-amzn-sagemaker-custom-attributes") if found else None


def check_id(given: str, field: str) -> str:
    if not ID.fullmatch(given):
        raise Problem(422, "Not a valid id", "must be 1 to 128 visible characters of ASCII", field)
    return given


def _said_id(said: str | None) -> str | None:
    return None if said is None else check_id(said, "id")


# JSON


def read_json_object(body: bytes) -> dict[str, Any]:
    """Raises: Problem 400 for what is no JSON, 422 for what is no object."""
    try:
        found = json.loads(body)
    except (ValueError, RecursionError) as error:
        where = f" (line {error.lineno}, column {error.colno})" if isinstance(error, json.JSONDecodeError) else ""
        raise Problem(400, "Not JSON", f"the body cannot be read as JSON{where}", "body") from error
    if not isinstance(found, dict):
        raise Problem(422, "Not an object", 'the body must be an object, like {"image": "…"}', "body")
    return found


def read_shape(values: Mapping[str, Any], shape: type[Shape]) -> Shape:
    """A dataclass of texts and lists of texts from JSON.

    Raises: Problem 422 for a field that is unknown, missing or of another type.
    """
    known = {each.name: each for each in fields(shape)}  # pyright: ignore[reportArgumentType]
    for name in values:
        if name not in known:
            near = get_close_matches(name, known, n=1)
            hint = f"did you mean {near[0]}?" if near else f"known are {', '.join(known)}"
            raise Problem(422, "Unknown field", f"there is no such field; {hint}", name[:100])
    for name, of in known.items():
        if name not in values and of.default is MISSING:
            raise Problem(422, "Missing field", f"{name} is missing", name)
        given = values.get(name)
        is_list = of.type == list[str]
        if given is None and of.default is None:
            continue
        if not isinstance(given, list if is_list else str):
            raise Problem(422, "Wrong type", f"must be {'a list' if is_list else 'a text'}", name)
    return shape(**values)


def _of_json(request: Request, s3: S3Pictures) -> PictureRequest:
    values = read_json_object(request.body)
    if "image" in values and "images" in values:
        raise Problem(422, "Unknown field", "image and images: give one of the two", "images")
    if "images" not in values:
        one = read_shape(values, OnePicture)
        pictures = [_of_text(one.image, "image", s3)]
        return PictureRequest(_said_id(one.id), pictures, are_several=False)
    several = read_shape(values, SeveralPictures)
    check_number(len(several.images), "images")
    pictures = []
    for number, text in enumerate(several.images):
        if not isinstance(text, str):
            raise Problem(422, "Wrong type", "must be a text", f"images[{number}]")
        pictures.append(_of_text(text, f"images[{number}]", s3))
    return PictureRequest(_said_id(several.id), pictures, are_several=True)


def check_number(number: int, field: str) -> None:
    if not 1 <= number <= MAX_PICTURES:
        detail = f"{number} pictures; a request has 1 to {MAX_PICTURES}: send them in several"
        raise Problem(422, "Too many pictures" if number else "No pictures", detail, field)


def _of_text(text: str, field: str, s3: S3Pictures) -> SentPicture:
    return SentPicture(field, lambda: picture_of_text(text, field, s3))


def picture_of_text(text: str, field: str, s3: S3Pictures) -> bytes:
    """The bytes that base64, a data URL or an address of S3 stands for.

    Raises: Problem with the field.
    """
    if text.startswith("s3://"):
        return s3.read(text, field)
    if re.match(r"(https?|file|ftp)://", text[:10], re.IGNORECASE):
        raise Problem(422, "Not fetched", "addresses are not fetched; send the picture itself as base64", field)
    if text[:5].lower() == "data:":
        head, comma, text = text.partition(",")
        if not comma or not head.lower().endswith(";base64"):
            raise Problem(400, "Not base64", "a data URL must say ;base64, like data:image/png;base64,iVBOR…", field)
    try:
        return base64.b64decode("".join(text.split()), validate=True)
    except (binascii.Error, ValueError) as error:
        raise Problem(400, "Not base64", f"is neither base64 nor a data URL ({error})", field) from error


# forms


def _of_form(request: Request, boundary: str) -> PictureRequest:
    """Each file of the form is a picture, and a field `id` the request's; nothing is written to a disk."""
    pictures, said, are_several = [], None, False
    for name, has_file_name, content in _parts(request.body, boundary):
        if name == "id" and not has_file_name:
            said = content.decode("latin-1")
        elif has_file_name or name in ("image", "images", "file", "files"):
            field = f"{name[:100]}[{len(pictures)}]"
            pictures.append(SentPicture(field, lambda content=content: content))
            are_several |= name in ("images", "files")
        else:
            detail = "there is no such field; known are image, images and id"
            raise Problem(422, "Unknown field", detail, name[:100])
    check_number(len(pictures), "images")
    if len(pictures) == 1 and not are_several:
        pictures = [SentPicture("image", pictures[0].read)]
        return PictureRequest(_said_id(said), pictures, are_several=False)
    return PictureRequest(_said_id(said), pictures, are_several=True)


def _parts(body: bytes, boundary: str) -> Iterator[tuple[str, bool, bytes]]:
    """Name, whether it has a file's name, and content of each part of a form."""
    from python_multipart.exceptions import FormParserError
    from python_multipart.multipart import MultipartParser, parse_options_header

    if not boundary:
        raise Problem(400, "Not a form", "multipart/form-data needs its boundary", "Content-Type")
    parts: list[tuple[dict[str, str], bytearray]] = []
    header, value, is_whole = bytearray(), bytearray(), []

    def begin() -> None:
        if len(parts) > MAX_PICTURES + 1:
            raise Problem(422, "Too many pictures", f"a request has 1 to {MAX_PICTURES}", "images")
        parts.append(({}, bytearray()))

    def end_header() -> None:
        parts[-1][0][bytes(header).decode("latin-1").lower()] = bytes(value).decode("latin-1")
        header.clear()
        value.clear()

    parser = None
    try:
        parser = MultipartParser(
            boundary.encode("latin-1"),
            {
                "on_part_begin": begin,
                "on_header_field": lambda data, start, end: header.extend(data[start:end]),
                "on_header_value": lambda data, start, end: value.extend(data[start:end]),
                "on_header_end": end_header,
                "on_part_data": lambda data, start, end: parts[-1][1].extend(data[start:end]),
                "on_end": lambda: is_whole.append(True),
            },
        )
        parser.write(body)
        parser.finalize()
    except (FormParserError, UnicodeError) as error:
        raise Problem(400, "Not a form", "the body is no multipart/form-data of its boundary", "body") from error
    if not is_whole:
        raise Problem(400, "Not a form", "the form is truncated: its last boundary is missing", "body")
    for headers, content in parts:
        _, options = parse_options_header(headers.get("content-disposition", ""))
        name = options.get(b"name", b"").decode("utf-8", "replace")
        yield name, b"filename" in options, bytes(content)
