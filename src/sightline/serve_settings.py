"""What a server is told: by `serve.…` on the command line, by `SIGHTLINE_SERVE_…` in the image.

Standard library alone: the image has no Hydra.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from sightline.errors import BadInput

PREFIX = "SIGHTLINE_SERVE_"


def _key(default: Any, meaning: str, **rules: Any) -> Any:
    """A field with its meaning and rules, as `sightline.config.key` makes them."""
    metadata = {"meaning": meaning, **rules}
    if isinstance(default, list):
        return field(default_factory=lambda: list(default), metadata=metadata)
    return field(default=default, metadata=metadata)


@dataclass
class ServeSettings:
    """The section `serve` of serve.py."""

    host: str = _key("127.0.0.1", "the address to listen at; others than this machine's own need a token or serve.open")
    port: int = _key(8080, "0: any that is free", minimum=0, maximum=65535)
    threads: Any = _key("auto", "threads that compute, each on a core of its own", words=("auto",), minimum=1)
    precision: str = _key("fp32", "of the exported model", choices=("fp32", "int8"))
    queue: int = _key(64, "requests that wait at most; further ones are answered 429", minimum=1)
    deadline_seconds: float = _key(30.0, "a request that waited longer is not computed any more", above=0)
    max_bytes: int = _key(4_000_000, "of a request", minimum=1)
    max_pixels: int = _key(50_000_000, "of a picture, by its header", minimum=1)
    s3_prefixes: list[str] = _key([], "below which `s3://…` in a request is read")
    open: bool = _key(False, "listen beyond this machine without a token")
    output: str | None = _key(None, "a folder or s3://… for feedback and answers to S3 events", path="target")
    capture: str | None = _key(None, "a folder or s3://… for what was asked and answered", path="target")
    capture_percent: float = _key(100.0, "of the answers that are captured", minimum=0, maximum=100)
    capture_images: bool = _key(False, "also capture the pictures themselves")
    label_studio: bool = _key(False, "also answer Label Studio's machine-learning backend protocol")


def from_environment(environment: Mapping[str, str]) -> ServeSettings:
    """Settings from `SIGHTLINE_SERVE_<KEY>`; lists and other values as JSON, or as plain text.

    Raises: BadInput with the variable for one that is not known or does not fit.
    """
    known = {f"{PREFIX}{each.name.upper()}": each for each in fields(ServeSettings)}
    chosen = {}
    for name, text in environment.items():
        if not name.startswith(PREFIX) or name == f"{PREFIX}TOKEN":
            continue
        if name not in known:
            raise BadInput(f"{name}: no such setting; known: {', '.join(known)}")
        chosen[known[name].name] = _value(name, text, known[name])
    return ServeSettings(**chosen)


def _value(name: str, text: str, of: Any) -> Any:
    try:
        return text if of.type in (str, str | None) else json.loads(text)
    except ValueError as error:
        raise BadInput(f'{name}={text}: must be JSON, like 8 or true or ["s3://bucket/prefix"]') from error
