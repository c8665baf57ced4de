"""The request that registers a model with SageMaker, for CreateModelPackage and a pipeline's RegisterModel. Pure."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sightline.errors import BadInput

Text = str | Mapping[str, Any]
"""A text, or a pipeline's variable that becomes one, like {"Get": "Parameters.ApprovalStatus"} or {"Std:Join": …}."""
CONTENT_TYPES = ("image/jpeg", "image/png", "image/webp", "image/bmp", "application/json")
RESPONSE_TYPES = ("application/json", "text/csv")
INSTANCE_TYPES = (
    *("ml.c7i.large", "ml.c7i.xlarge", "ml.c7i.2xlarge", "ml.m7i.large", "ml.m7i.xlarge"),
    *("ml.c6i.large", "ml.c6i.xlarge", "ml.c6i.2xlarge", "ml.m6i.large", "ml.m6i.xlarge"),
)
"""Machines without a GPU whose processors compute int8 fast (VNNI)."""
PENDING, APPROVED, REJECTED = "PendingManualApproval", "Approved", "Rejected"
STATUS = {"pending": PENDING, "approved": APPROVED, "rejected": REJECTED}
"""Of a version: how we call it, and how SageMaker does."""
JSON, BINARY = "application/json", "application/octet-stream"
GROUP = re.compile(r"[a-zA-Z0-9](?:-*[a-zA-Z0-9]){0,62}")
DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
MAX_PAIRS, MAX_KEY, MAX_VALUE = 50, 128, 256
"""Of CustomerMetadataProperties: pairs, and letters."""
MAX_DESCRIPTION, MAX_CARD = 1024, 100_000
REFUSED = re.compile(r"[^\w\s.:/=+@-]")
"""What SageMaker takes in no metadata: all but letters, digits, spaces and _ . : / = + - @."""


@dataclass(frozen=True)
class Registration:
    """A version of a model package group: where its files lie, and what is known of it."""

    group: str
    image: Text
    """Address of the serving image; with its digest (…@sha256:…) the version names one image for good."""
    model: Text
    """s3://…/model.tar.gz, the package with `model/` in it."""
    quality: Text | None = None
    """Address of model_quality.json, as SageMaker's monitor of model quality writes it."""
    explanations: Text | None = None
    """Address of explanations.json."""
    baseline: Text | None = None
    """Address of baseline.npz: what the model said of its validation images, which drift is measured from."""
    metadata: Mapping[str, Text] = field(default_factory=dict)
    description: Text = ""
    card: Mapping[str, Any] | None = None
    """By SageMaker's schema of model cards; its values may be variables that become numbers."""
    status: Text = PENDING


def make_request(registration: Registration) -> dict[str, Any]:
    """Arguments of `create_model_package`, and of a step RegisterModel, whose shape is the same.

    Raises: BadInput for a name that no group can have, or more metadata than SageMaker takes.
    """
    check_group(registration.group)
    request: dict[str, Any] = {
        "ModelPackageGroupName": registration.group,
        "InferenceSpecification": _inference(registration),
        "ModelApprovalStatus": registration.status,
        "SkipModelValidation": "None",
        **_metrics(registration),
    }
    if registration.description:
        text = registration.description
        request["ModelPackageDescription"] = text[:MAX_DESCRIPTION] if isinstance(text, str) else text
    if registration.metadata:
        request["CustomerMetadataProperties"] = clean_metadata(registration.metadata)
    if registration.card is not None:
        request["ModelCard"] = {"ModelCardContent": _card_text(registration.card), "ModelCardStatus": "PendingReview"}
    return request


def check_group(name: str) -> None:
    """Raises: BadInput for a name that no model package group can have."""
    if not GROUP.fullmatch(name):
        near = re.sub(r"-+$|^-+", "", re.sub(r"[^a-zA-Z0-9]+", "-", name))[:63] or "models"
        raise BadInput(
            f"{name!r} cannot be the name of a model package group: 1 to 63 letters of a-z A-Z 0-9, and '-' between "
            f"them; like {near}"
        )


def clean_metadata(pairs: Mapping[str, Text]) -> dict[str, Any]:
    """Metadata as SageMaker takes it: other letters become spaces, what is too long is cut, what is empty left out.

    Raises: BadInput for more than 50 pairs.
    """
    found = {name: _clean(value) if isinstance(value, str) else value for name, value in pairs.items()}
    found = {REFUSED.sub("-", name)[:MAX_KEY]: value for name, value in found.items() if value}
    if len(found) > MAX_PAIRS:
        raise BadInput(
            f"{len(found)} pairs of metadata, SageMaker takes {MAX_PAIRS}: leave out {list(found)[MAX_PAIRS:]}"
        )
    return found


def _clean(text: str) -> str:
    return " ".join(REFUSED.sub(" ", text).split())[:MAX_VALUE]


def image_digest(image: Text) -> str | None:
    """`sha256:…` of an address that has one."""
    digest = image.partition("@")[2] if isinstance(image, str) else ""
    return digest if DIGEST.fullmatch(digest) else None


def _inference(registration: Registration) -> dict[str, Any]:
    container: dict[str, Any] = {"Image": registration.image, "ModelDataUrl": registration.model, "Framework": "ONNX"}
    if digest := image_digest(registration.image):
        container["ImageDigest"] = digest
    return {
        "Containers": [container],
        "SupportedContentTypes": list(CONTENT_TYPES),
        "SupportedResponseMIMETypes": list(RESPONSE_TYPES),
        "SupportedRealtimeInferenceInstanceTypes": list(INSTANCE_TYPES),
        "SupportedTransformInstanceTypes": list(INSTANCE_TYPES),
    }


def _metrics(registration: Registration) -> dict[str, Any]:
    """The documents of the version, and those that later drift is measured from."""
    metrics: dict[str, Any] = {}
    baselines: dict[str, Any] = {}
    if registration.quality is not None:
        metrics["ModelQuality"] = baselines["ModelQuality"] = {"Statistics": _document(registration.quality)}
    if registration.explanations is not None:
        metrics["Explainability"] = {"Report": _document(registration.explanations)}
    if registration.baseline is not None:
        baselines["ModelDataQuality"] = {"Statistics": _document(registration.baseline, BINARY)}
    named = {"ModelMetrics": metrics, "DriftCheckBaselines": baselines}
    return {name: value for name, value in named.items() if value}


def _document(address: Text, content_type: str = JSON) -> dict[str, Any]:
    return {"ContentType": content_type, "S3Uri": address}


def _card_text(card: Mapping[str, Any]) -> Text:
    """The card as JSON; where it has variables, a Join of the pieces around them."""
    variables: list[Mapping[str, Any]] = []
    text = json.dumps(_with_marks(card, variables), ensure_ascii=False)
    if not variables:
        if len(text) > MAX_CARD:
            raise BadInput(f"a model card of {len(text):,} letters; SageMaker takes {MAX_CARD:,}")
        return text
    pieces = re.split(r'"\\u0000(\d+)"', text)
    values = [variables[int(piece)] if number % 2 else piece for number, piece in enumerate(pieces)]
    return {"Std:Join": {"On": "", "Values": [value for value in values if value]}}


def _with_marks(value: Any, variables: list[Mapping[str, Any]]) -> Any:
    """The same with every variable replaced by a text that holds its number and that nobody types."""
    if is_variable(value):
        variables.append(value)
        return f"\x00{len(variables) - 1}"
    if isinstance(value, Mapping):
        return {key: _with_marks(each, variables) for key, each in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_with_marks(each, variables) for each in value]
    return value


def is_variable(value: Any) -> bool:
    """Whether a value is one that a pipeline fills in."""
    return isinstance(value, Mapping) and len(value) == 1 and next(iter(value)) in ("Get", "Std:Join", "Std:JsonGet")
