"""What goes into a service and what comes out: the same for server, endpoint, Lambda, batch and page.

The OpenAPI document is made from these classes, and requests are checked by their fields.
"""

from dataclasses import dataclass, field
from typing import Any

from sightline.task_spec import TaskSpec

PICTURE_TYPES = (
    "image/jpeg",
    "image/png",
    "image/webp",
    "image/bmp",
    "application/x-image",
    "application/octet-stream",
)
"""Content types of a request that is the bytes of one picture …"""
DEEP_TYPES = ("image/tiff", "application/x-npy")
"""… and those that are allowed besides where the TaskSpec is not 3 channels of 8 bits."""
DOCUMENTED = {"use_attribute_docstrings": True, "extra": "forbid"}
"""For pydantic, which makes the OpenAPI document's schemas of these classes: the text below a field describes it."""
JSON, MULTIPART, CSV, PNG, PROBLEM = (
    "application/json",
    "multipart/form-data",
    "text/csv",
    "image/png",
    "application/problem+json",
)
MAX_BYTES = 4_000_000
"""Of a request: fits every door (a Lambda's 6 MB of JSON hold 4.5 MB)."""
MAX_PICTURES = 64
"""Of one request."""
MAX_COMMENT = 2000
"""Characters of what a person says beside the right class."""
TOP = 5
"""Classes of an answer's `probabilities`, the most probable first."""


def picture_types(spec: TaskSpec) -> tuple[str, ...]:
    """Content types of the pictures that a model takes."""
    is_usual = (spec.channels, spec.bit_depth) == (3, 8)
    return PICTURE_TYPES if is_usual else (*PICTURE_TYPES, *DEEP_TYPES)


@dataclass(frozen=True)
class OnePicture:
    """A request as JSON: one picture, one answer."""

    __pydantic_config__ = DOCUMENTED

    image: str
    """Base64 of the file, a data URL, or `s3://bucket/key` below what the server may read."""
    id: str | None = None
    """The answer's id, where no header says it."""


@dataclass(frozen=True)
class SeveralPictures:
    """A request as JSON: as many answers as pictures, in their order."""

    __pydantic_config__ = DOCUMENTED

    images: list[str]
    """Each like `image` of one picture."""
    id: str | None = None
    """The answers' ids begin with it: `<id>-0`, `<id>-1`, …"""


@dataclass(frozen=True)
class Feedback:
    """What a person says is right."""

    __pydantic_config__ = DOCUMENTED

    id: str
    """Of the answer."""
    label: str
    """The right class: one of the model's."""
    comment: str | None = None


@dataclass(frozen=True)
class ModelIdentity:
    """Which model answered."""

    __pydantic_config__ = DOCUMENTED

    name: str
    version: str
    sha256: str
    """Of the weights that it was exported from."""


@dataclass(frozen=True)
class Timings:
    """Milliseconds of an answer's parts."""

    __pydantic_config__ = DOCUMENTED

    decode: float = 0.0
    """From the bytes of the picture to prepared pixels."""
    model: float = 0.0
    total: float = 0.0


@dataclass(frozen=True)
class Answer:
    """What a model says of one picture."""

    __pydantic_config__ = DOCUMENTED

    id: str
    label: str
    """The most probable class."""
    probability: float
    probabilities: dict[str, float]
    """Of the most probable classes, in that order."""
    unsure: bool
    """Whether the probability lies below the threshold, where the model has one."""
    threshold: float | None
    model: ModelIdentity
    timings: Timings = field(default_factory=Timings)
    features: bytes | None = None
    """What the network made of the picture before its head, float16, little endian; for capture, not sent."""
    picture_sha256: str = ""
    """Of the bytes that were asked about; for capture, not sent."""

    def to_dict(self) -> dict[str, Any]:
        """What is sent, fit for JSON."""
        return {
            "id": self.id,
            "label": self.label,
            "probability": self.probability,
            "probabilities": self.probabilities,
            "unsure": self.unsure,
            "threshold": self.threshold,
            "model": vars(self.model),
            "timings": vars(self.timings),
        }


@dataclass(frozen=True)
class HeatMap:
    """Where a picture's most probable class is seen."""

    png: bytes
    """The picture with the map drawn over it."""
    label: str
    probability: float
    drop: float
    """By how much the probability falls when the most important region is hidden."""


class Problem(Exception):
    """Why there is no answer, as problem details (RFC 9457).

    `field` names the part of the request that is to blame, like `image` or `images[3]`; never a path of the server.
    """

    def __init__(self, status: int, title: str, detail: str, field: str | None = None, retry_after: int | None = None):
        super().__init__(detail)
        self.status, self.title, self.detail, self.field = status, title, detail, field
        self.retry_after = retry_after
        """Seconds, for 429 and 503."""

    def to_dict(self) -> dict[str, Any]:
        kind = self.title.lower().replace(" ", "-")
        return {
            "type": f"urn:sightline:{kind}",
            "title": self.title,
            "status": self.status,
            "detail": self.detail,
            "field": self.field,
        }


@dataclass(frozen=True)
class Request:
    """A request without its transport: header names in lower case."""

    body: bytes
    headers: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Response:
    """An answer without its transport."""

    status: int
    body: bytes
    content_type: str = "application/json"
    headers: dict[str, str] = field(default_factory=dict)
    answers: "tuple[Answer | Problem, ...]" = ()
    """What the body says, for metrics and capture."""
