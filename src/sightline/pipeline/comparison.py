"""What an upsert would change: two definitions compared, in words and as a difference of JSON. Pure."""

import difflib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

IDENTIFIERS = ("Name", "Key", "ChannelName", "InputName", "OutputName", "PropertyFileName")
"""What tells the entries of a list apart."""
MAX_LETTERS = 100
ABSENT = "(absent)"


@dataclass(frozen=True)
class Change:
    """One value that differs; `before` or `after` is null where there is none."""

    where: str
    before: Any
    after: Any

    def __str__(self) -> str:
        return f"{self.where}: {_short(self.before)} → {_short(self.after)}"


@dataclass(frozen=True)
class Difference:
    """`text` is a unified difference of both as JSON."""

    pipeline: str
    exists: bool
    changes: tuple[Change, ...]
    text: str

    def lines(self) -> Iterator[str]:
        if not self.exists:
            yield f"{self.pipeline}: SageMaker has no such pipeline; upsert makes it"
        elif not self.changes:
            yield f"{self.pipeline}: nothing would change"
        else:
            yield from map(str, self.changes)
            yield f"{self.pipeline}: upsert changes {len(self.changes)} value(s)"


def compare(pipeline: str, before: Mapping[str, Any] | None, after: Mapping[str, Any]) -> Difference:
    """`before` is the definition that SageMaker has, if it has one."""
    one, two = dict(_leaves(before or {})), dict(_leaves(after))
    names = dict.fromkeys([*two, *one])
    changes = [Change(name, one.get(name), two.get(name)) for name in names if one.get(name) != two.get(name)]
    text = difflib.unified_diff(_text(before or {}), _text(after), "SageMaker's", "this one's", lineterm="")
    return Difference(pipeline, before is not None, tuple(changes), "\n".join(text))


def _text(document: Mapping[str, Any]) -> list[str]:
    return json.dumps(document, indent=2, ensure_ascii=False).splitlines()


def _leaves(value: Any, where: str = "") -> Iterator[tuple[str, Any]]:
    """Every value by where it stands, like `train.HyperParameters.seed`; what a variable is made of stays together."""
    if isinstance(value, Mapping) and value and not _is_variable(value):
        for key, inner in value.items():
            yield from _leaves(inner, f"{where}.{key}" if where else str(key))
    elif isinstance(value, list) and value and all(isinstance(each, Mapping) and _identity(each) for each in value):
        for each in value:
            yield from _leaves(each, f"{where}.{_identity(each)}" if where else str(_identity(each)))
    else:
        yield _readable(where), value


def _readable(where: str) -> str:
    """`train.HyperParameters.seed`, or `parameter Epochs.DefaultValue`."""
    kind, _, rest = where.partition(".")
    return f"parameter {rest}" if kind == "Parameters" else where.removeprefix("Steps.").replace(".Arguments.", ".")


def _identity(value: Mapping[str, Any]) -> str | None:
    return next((str(value[key]) for key in IDENTIFIERS if key in value), None)


def _is_variable(value: Mapping[str, Any]) -> bool:
    return len(value) == 1 and next(iter(value)) in ("Get", "Std:Join", "Std:JsonGet")


def _short(value: Any) -> str:
    text = ABSENT if value is None else value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= MAX_LETTERS else f"{text[: MAX_LETTERS - 1]}…"
