"""Overrides as the hyperparameters of a training job, and back: plain strings by key, without an order.

The key is the text left of the first `=`, with its `+`, `++` or `~`; the value is the override's own text.
"""

import itertools
import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import PurePosixPath

from sightline.errors import BadInput
from sightline.launch.overrides import without_submitter
from sightline.runs.override_text import key_of

MAX_HYPERPARAMETERS, MAX_KEY_LETTERS, MAX_VALUE_LETTERS = 100, 256, 2500
"""What SageMaker takes."""
NOT_OVERRIDES = ("_", "sagemaker_")
"""How keys begin that are for an entry point, ours or that of AWS, and not for Hydra."""
SCRIPT = "_script"
"""The program below the project; without it `src/train.py` is run."""
TRAIN = "src/train.py"
PREFIXES = ("~", "+", "++", "")
"""In the order in which the overrides are applied: what is removed goes first, what is there already last."""


def to_hyperparameters(overrides: Iterable[str], script: str = TRAIN) -> dict[str, str]:
    """Every override but those of the submitter, by key; of the same key the last.

    A text in double quotes is quoted once more, because clients of SageMaker quote strings so, and the entry point
    takes one pair of quotes off.

    Raises: BadInput where SageMaker's limits are passed, or where the order of two overrides would matter.
    """
    found: dict[str, str] = {}
    for override in without_submitter(overrides):
        key, _, value = override.partition("=")
        found.pop(key, None)
        found[key] = _wrap(value)
    _check_order(found)
    if script != TRAIN:
        found[SCRIPT] = script
    _check_limits(found)
    return found


def to_overrides(hyperparameters: Mapping[str, str]) -> list[str]:
    """The overrides of the program's command line, in an order that does not depend on that of the keys."""
    keys = [key for key in hyperparameters if not key.startswith(NOT_OVERRIDES)]
    return [_override(key, _unwrap(hyperparameters[key])) for key in sorted(keys, key=_rank)]


def script_of(hyperparameters: Mapping[str, str]) -> str:
    """The program that a job runs, below the project.

    Raises: BadInput for a path that leads out of it.
    """
    script = _unwrap(hyperparameters.get(SCRIPT, TRAIN))
    path = PurePosixPath(script)
    if path.is_absolute() or ".." in path.parts or path.suffix != ".py":
        raise BadInput(f"{SCRIPT}={script}: must be a program below the project, like {TRAIN}")
    return script


def _override(key: str, value: str) -> str:
    return key if key.startswith("~") and not value else f"{key}={value}"


def _wrap(value: str) -> str:
    return value if _unwrap(value) == value else json.dumps(value, ensure_ascii=False)


def _unwrap(value: str) -> str:
    """The text in a JSON string, or the value itself."""
    if len(value) < 2 or not value.startswith('"'):
        return value
    try:
        inner = json.loads(value)
    except ValueError:
        return value
    return inner if isinstance(inner, str) else value


def _rank(key: str) -> tuple[int, int, str]:
    """Removals first, then parents before what lies in them, then additions before changes."""
    prefix = key[: len(key) - len(key.lstrip("+~"))]
    bare = key_of(key)
    return (0 if prefix == "~" else 1 + bare.count("."), PREFIXES.index(prefix) if prefix in PREFIXES else 0, key)


def _check_order(found: Mapping[str, str]) -> None:
    for first, second in _related(found):
        if _rank(first) > _rank(second):
            raise BadInput(
                f"{first} before {second}: both set the same thing, and a job's hyperparameters have no order; "
                f"drop one of them, or write {second} first"
            )


def _related(found: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Pairs, as they were given, in which one key is the other or lies in the dictionary that the other sets."""
    for first, second in itertools.combinations(found, 2):
        a, b = key_of(first), key_of(second)
        if a == b or _sets(a, found[first], b) or _sets(b, found[second], a):
            yield first, second


def _sets(key: str, value: str, inner: str) -> bool:
    return value.startswith("{") and inner.startswith(f"{key}.")


def _check_limits(found: Mapping[str, str]) -> None:
    for key, value in found.items():
        for what, text, most in (("key", key, MAX_KEY_LETTERS), ("value", value, MAX_VALUE_LETTERS)):
            if len(text) > most:
                raise BadInput(
                    f"{key[:80]}: its {what} has {len(text)} letters and SageMaker takes {most}; "
                    "put the setting into a file of configs/ and name that"
                )
        if "\n" in value or "\r" in value:
            raise BadInput(f"{key}: its value has several lines, and SageMaker takes one")
    if len(found) > MAX_HYPERPARAMETERS:
        last = list(found)[-1]
        raise BadInput(
            f"{last} is override number {len(found)}, and SageMaker takes {MAX_HYPERPARAMETERS}; "
            "put some of them into an experiment file"
        )
