"""What a server is told: by `serve.…` on the command line, by `SIGHTLINE_SERVE_…` in the image.

Standard library alone: the image has no Hydra.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields
from typing import Any

from sightline.errors import BadInput

PREFIX = "SIGHTLINE_SERVE_"
TOKEN = f"{PREFIX}TOKEN"
"""What a server asks for; no setting, so that it is never written anywhere."""


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


def from_environment(environment: Mapping[str, str]) -> ServeSettings:
    """Settings from `SIGHTLINE_SERVE_<KEY>`: text, numbers, `true` or `false`, and lists as JSON.

    Raises: BadInput with the variable for one that is not known or does not fit.
    """
    known = {f"{PREFIX}{each.name.upper()}": each for each in fields(ServeSettings)}
    chosen = {}
    for name, text in environment.items():
        if not name.startswith(PREFIX) or name == TOKEN:
            continue
        if name not in known:
            raise BadInput(f"{name}: no such setting; known: {', '.join((*known, TOKEN))}")
        chosen[known[name].name] = _value(name, text, known[name])
    return ServeSettings(**chosen)


def _value(name: str, text: str, of: Any) -> Any:
    """The value of a variable, which fits the rules of its key."""
    rules = of.metadata
    if of.type in (str, str | None):
        if "choices" in rules and text not in rules["choices"]:
            raise BadInput(f"{name}={text}: must be one of {', '.join(rules['choices'])}")
        return text or of.default
    if text in rules.get("words", ()):
        return text
    kind = {bool: bool, float: float}.get(of.type, list if of.default is MISSING else int)
    try:
        value = json.loads(text)
    except ValueError:
        value = None
    is_right = isinstance(value, (int, float) if kind is float else kind) and isinstance(value, bool) == (kind is bool)
    if isinstance(value, list):
        is_right &= all(isinstance(each, str) for each in value)
    if not is_right:
        raise BadInput(f"{name}={text}: must be {_EXPECTED[kind]}")
    low, high, above = rules.get("minimum", -math.inf), rules.get("maximum", math.inf), rules.get("above", -math.inf)
    if kind in (int, float) and not (low <= value <= high and value > above):
        bounds = [f"{word} {rules[rule]:,}" for rule, word in _BOUNDS.items() if rule in rules]
        raise BadInput(f"{name}={text}: must be {' and '.join(bounds)}")
    return value


_EXPECTED = {bool: "true or false", int: "a whole number", float: "a number", list: 'like ["s3://bucket/prefix"]'}
_BOUNDS = {"minimum": "at least", "maximum": "at most", "above": "above"}
