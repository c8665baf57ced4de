"""Rules of single keys, held as metadata beside them, and the walkers that check them."""

import copy
import difflib
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass
from operator import attrgetter
from typing import Any

from sightline.errors import BadInput
from sightline.runs.override_text import key_of


@dataclass(frozen=True)
class Needs:
    """What a key counts only with."""

    what: str
    """As one would type it, like `model.loss=focal`."""
    holds: Callable[[Any], bool]
    """Whether the configuration of a task has it."""
    may_stay: bool = False
    """Whether a key that is typed without it may stay, with a line about it, and is not refused."""
    of_group: bool = False
    """Whether it is the whole group that counts only with it."""
    besides: tuple[str, ...] = ()
    """The keys of a section that count without it, too."""


def only_with(key: str, *values: Any, may_stay: bool = False) -> Needs:
    """That another key has one of these values; without values, one that turns it on."""

    def holds(cfg: Any) -> bool:
        value = attrgetter(key)(cfg)
        return value in values if values else bool(value)

    words = {True: "true", False: "false", None: "null"}
    named = (words[value] if isinstance(value, bool | None) else str(value) for value in values)
    shown = " or ".join(named) or "…"
    return Needs(f"{key}={shown}", holds, may_stay)


def key(default: Any, meaning: str = "", **rules: Any) -> Any:
    """A field of a section: its default, what it means, and its rules, which None always passes.

    `choices`: allowed values, of a list each item's · `minimum`, `maximum` (inclusive), `above`, `below` (exclusive) ·
    `words`: texts that may stand for a number · `pattern`: regular expression of the whole text ·
    `noun`: what it is, for the message · `hint`: the message's end ·
    `chooses`: a metric that something is chosen by, and so none of the test set ·
    `path`: the value names a place: `path` (a file or folder, or an address), `run` (of a run, also by its name below
    the folder of runs), `target` (a folder or an address that is written) or `stays` (where this machine reads and
    writes) ·
    `several`: the value is a text, or a list of texts ·
    `rest`: takes what is set beside the keys of its section, which is open ·
    `needs`: what it counts only with, a `Needs` or several ·
    `open`: its keys are not known beforehand, and are typed without a plus.
    """
    metadata = {"meaning": meaning, **rules}
    if isinstance(default, dict | list):
        return field(default_factory=lambda: copy.copy(default), metadata=metadata)
    return field(default=default, metadata=metadata)


def check(section: Any, prefix: str = "") -> None:
    """Check every key of a configuration by its rules, then what each section's own `check()` knows.

    Raises: BadInput with the key, the value and the change to make.
    """
    for each in fields(section):
        value, name = getattr(section, each.name), f"{prefix}{each.name}"
        if is_dataclass(value):
            check(value, f"{name}.")
        elif value is not None and each.metadata:
            _check_value(name, value, each.metadata)
    if hasattr(section, "check"):
        section.check()


@dataclass(frozen=True)
class Idle:
    """An override that has no effect."""

    override: str
    needs: Needs

    def __str__(self) -> str:
        key = key_of(self.override)
        return (
            f"{self.override}: has no effect here, it counts only with {self.needs.what}; set that, or leave {key} out"
        )


def find_idle(cfg: Any, overrides: Sequence[str]) -> list[Idle]:
    """The overrides that have no effect beside the other settings of a task; but for what is typed to be off."""
    return [
        Idle(override, needs)
        for name, needs in keys_that_need(type(cfg))
        if attrgetter(name)(cfg) and not needs.holds(cfg)
        for override in overrides
        if _touches(key_of(override), name, needs)
    ]


def keys_that_need(section: type, prefix: str = "") -> Iterator[tuple[str, Needs]]:
    """The dotted name of every key of a section, and of the sections in it, that needs something, and what."""
    for each in fields(section):
        for needs in needs_of(each.metadata):
            yield f"{prefix}{each.name}", needs
        if isinstance(each.type, type) and is_dataclass(each.type):
            yield from keys_that_need(each.type, f"{prefix}{each.name}.")


def needs_of(rules: Mapping[str, Any]) -> tuple[Needs, ...]:
    """What a key with these rules counts only with."""
    needs = rules.get("needs", ())
    return (needs,) if isinstance(needs, Needs) else needs


def _touches(typed: str, name: str, needs: Needs) -> bool:
    """Whether an override sets a key or a part of it, or chooses the group that the key stands for."""
    if any(f"{typed}.".startswith(f"{each}.") for each in needs.besides):
        return False
    return f"{typed}.".startswith(f"{name}.") or (needs.of_group and name.startswith(f"{typed}."))


def refuse_idle(runs: Iterable[tuple[Any, Sequence[str]]]) -> None:
    """Look for overrides that have an effect in none of several runs, each a configuration and its overrides.

    Raises: BadInput with the first that may not stay.
    """
    idle: dict[str, Idle] = {}
    effective: set[str] = set()
    for cfg, overrides in runs:
        found = {each.override: each for each in find_idle(cfg, overrides)}
        effective |= {*overrides} - found.keys()
        idle |= {override: each for override, each in found.items() if not each.needs.may_stay}
    for override, each in idle.items():
        if override not in effective:
            raise BadInput(str(each))


def _check_value(name: str, value: Any, rules: Mapping[str, Any]) -> None:
    if rules.get("chooses") and value.startswith("test/"):
        raise BadInput(f"{name}={value}: nothing may be chosen on the test set; name the metric of val/ instead")
    if rules.get("several") and not (value and all(isinstance(each, str) for each in _as_list(value))):
        raise BadInput(f"{name}={value}: must be a text, or several in brackets, like {name}=[a,b]")
    if choices := rules.get("choices"):
        if value == []:
            raise BadInput(f"{name}=[]: nothing to do; name some of {', '.join(choices)}")
        for each in _as_list(value):
            validate_choice(name, each, choices)
    if (pattern := rules.get("pattern")) and not re.fullmatch(pattern, str(value)):
        raise BadInput(f"{name}={value}: {rules['hint']}")
    if (bounds := describe_bounds(rules)) and not _is_within(value, rules):
        raise BadInput(f"{name}={value}: must be {bounds}{rules.get('hint', '')}")


def _as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _is_within(value: Any, rules: Mapping[str, Any]) -> bool:
    if isinstance(value, str):
        return value in rules.get("words", ())
    return (
        ("minimum" not in rules or value >= rules["minimum"])
        and ("maximum" not in rules or value <= rules["maximum"])
        and ("above" not in rules or value > rules["above"])
        and ("below" not in rules or value < rules["below"])
    )


def describe_bounds(rules: Mapping[str, Any]) -> str:
    """Like `a number, 1 or more, or auto`; nothing without bounds."""
    low, high = rules.get("minimum"), rules.get("maximum")
    above, below = rules.get("above"), rules.get("below")
    if low is not None and (high is not None or below is not None):
        text = f"from {low} to {high}" if high is not None else f"from {low} to below {below}"
    elif above is not None and below is not None:
        text = f"between {above} and {below}"
    elif low is not None:
        text = f"{low} or more"
    elif above is not None:
        text = f"above {above}"
    else:
        return ""
    if noun := rules.get("noun"):
        text = f"{noun}, {text}" if text[0].isdigit() else f"{noun} {text}"
    return ", or ".join((text, *rules.get("words", ())))


def validate_choice(key: str, value: str, allowed: Iterable[str]) -> None:
    """Raises: BadInput that names the choices, and the near ones."""
    allowed = list(allowed)
    if value not in allowed:
        raise BadInput(f"{key}={value}: must be one of {', '.join(allowed)}{did_you_mean(value, allowed)}")


def did_you_mean(word: str, known: Iterable[str], prefix: str = "") -> str:
    """` (did you mean X?)` for the nearest known words, or nothing when none is near."""
    near = difflib.get_close_matches(word, list(known), n=3, cutoff=0.6)
    return f" (did you mean {' or '.join(prefix + match for match in near)}?)" if near else ""


class UnknownKey(BadInput):
    """A key that no typed section knows; `siblings` are the keys beside it."""

    def __init__(self, key: str, siblings: Sequence[str]) -> None:
        self.key, self.siblings = key, siblings
        section, dot, name = key.rpartition(".")
        super().__init__(f"{key}: no such key{did_you_mean(name, siblings, f'{section}{dot}')}; leave it out")
