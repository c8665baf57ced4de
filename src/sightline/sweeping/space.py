"""The search space: which keys vary, between what, and under which condition."""

import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from sightline.errors import BadInput

if TYPE_CHECKING:
    import optuna

KINDS = ("interval", "range", "choice")
KEYWORDS = (*KINDS, "log", "step", "when")
PLAIN = re.compile(r"[A-Za-z_/][\w./-]*")
NOT_STRINGS = ("true", "false", "null", "nan", "inf", "yes", "no", "on", "off")


@dataclass(frozen=True)
class Parameter:
    """One key that varies: a choice of values, or numbers from `low` to `high`, both included."""

    key: str
    values: tuple[Any, ...] = ()
    low: float = 0.0
    high: float = 0.0
    step: float | None = None
    log: bool = False
    is_integer: bool = False
    when: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    """Other keys and the values of theirs under which this one exists."""

    def suggest(self, trial: "optuna.Trial") -> Any:
        if self.values:
            return _decode(trial.suggest_categorical(self.key, [_encode(value) for value in self.values]), self.values)
        if self.is_integer:
            step = int(self.step or 1)
            return trial.suggest_int(self.key, int(self.low), int(self.high), step=step, log=self.log)
        return trial.suggest_float(self.key, self.low, self.high, step=self.step, log=self.log)

    def distribution(self) -> "optuna.distributions.BaseDistribution":
        """The parameter as Optuna keeps it."""
        from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

        if self.values:
            return CategoricalDistribution([_encode(value) for value in self.values])
        if self.is_integer:
            return IntDistribution(int(self.low), int(self.high), log=self.log, step=int(self.step or 1))
        return FloatDistribution(self.low, self.high, log=self.log, step=self.step)

    def applies(self, point: Mapping[str, Any]) -> bool:
        return all(key in point and point[key] in allowed for key, allowed in self.when.items())

    def extremes(self) -> tuple[Any, ...]:
        """Every choice, or both ends."""
        if self.values:
            return self.values
        return (int(self.low), int(self.high)) if self.is_integer else (self.low, self.high)

    def holds(self, value: Any) -> bool:
        """Whether a value lies in the space."""
        if self.values:
            return any(value == each and type(value) is type(each) for each in self.values)
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        return is_number and self.low <= value <= self.high and (not self.is_integer or value == int(value))

    def grid(self) -> list[Any]:
        """All values of the parameter, for a grid.

        Raises: BadInput for an interval, which has no end of them.
        """
        if self.values:
            return [_encode(value) for value in self.values]
        if not self.is_integer and self.step is None:
            raise BadInput(f"{self.key}: a grid needs choice or range, an interval has no end of values")
        step = self.step or 1
        count = math.floor((self.high - self.low) / step + 1e-9) + 1
        values = [self.low + number * step for number in range(count)]
        return [int(value) for value in values] if self.is_integer else values

    def describe(self) -> dict[str, Any]:
        """The parameter as in YAML."""
        if self.values:
            node: dict[str, Any] = {"choice": list(self.values)}
        elif self.is_integer or self.step is not None:
            node = {"range": list(self.extremes()), "step": self.step or 1}
        else:
            node = {"interval": [self.low, self.high]}
        if self.log:
            node["log"] = True
        if self.when:
            node["when"] = {key: list(allowed) for key, allowed in self.when.items()}
        return node


@dataclass(frozen=True)
class Space:
    """Parameters, each after those that its conditions name."""

    parameters: tuple[Parameter, ...]

    def suggest(self, trial: "optuna.Trial") -> dict[str, Any]:
        """A point; parameters whose condition does not hold are not in it."""
        point: dict[str, Any] = {}
        for parameter in self.parameters:
            if parameter.applies(point):
                point[parameter.key] = parameter.suggest(trial)
        return point

    def corners(self) -> Iterator[dict[str, Any]]:
        """Points that show every choice and both ends of every parameter at least once."""
        for parameter in self.parameters:
            for value in parameter.extremes():
                yield self._around({**self._conditions_of(parameter), parameter.key: value})

    def _conditions_of(self, parameter: Parameter) -> dict[str, Any]:
        wanted: dict[str, Any] = {}
        for key, allowed in parameter.when.items():
            wanted |= {**self._conditions_of(self[key]), key: allowed[0]}
        return wanted

    def _around(self, fixed: Mapping[str, Any]) -> dict[str, Any]:
        point: dict[str, Any] = {}
        for parameter in self.parameters:
            if parameter.applies(point):
                point[parameter.key] = fixed.get(parameter.key, parameter.extremes()[0])
        return point

    def __getitem__(self, key: str) -> Parameter:
        return next(parameter for parameter in self.parameters if parameter.key == key)

    @property
    def keys(self) -> list[str]:
        return [parameter.key for parameter in self.parameters]

    def check(self, point: Mapping[str, Any], where: str) -> None:
        """Raises: BadInput when a point that somebody gave is not of this space."""
        for key, value in point.items():
            if key not in self.keys:
                raise BadInput(f"{where}: {key} is not searched; searched are {', '.join(self.keys)}")
            if not self[key].holds(value):
                raise BadInput(
                    f"{where}: {key}={value} lies outside {self[key].describe()}; change the value or the space"
                )

    def describe(self) -> dict[str, Any]:
        return {parameter.key: parameter.describe() for parameter in self.parameters}

    def decode(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """A point from what a study has stored of it."""
        return {key: _decode(value, self[key].values) if key in self.keys else value for key, value in params.items()}

    def encode(self, point: Mapping[str, Any]) -> dict[str, Any]:
        """A point as a study stores it."""
        return {key: _encode(value) if self[key].values else value for key, value in point.items()}


def parse_space(params: Mapping[str, Any], fixed: Mapping[str, Any] | None = None) -> Space:
    """A space from its YAML; keys in `fixed` have one value by order of the command line and are not searched.

    Raises: BadInput with the key, the value and the change to make.
    """
    fixed = fixed or {}
    parsed = [_parse(key, node) for key, node in params.items() if key not in fixed]
    known = {parameter.key for parameter in parsed}
    kept = []
    for parameter in parsed:
        if unknown := [key for key in parameter.when if key not in known and key not in fixed]:
            raise BadInput(
                f"hydra.sweeper.params.{parameter.key}: when names {unknown[0]}, which is neither searched nor set; "
                f"searched are {', '.join(sorted(known))}"
            )
        outside = {key: allowed for key, allowed in parameter.when.items() if key in fixed}
        if all(str(fixed[key]) in map(str, allowed) for key, allowed in outside.items()):
            inside = {key: allowed for key, allowed in parameter.when.items() if key not in fixed}
            kept.append(Parameter(**{**vars(parameter), "when": inside}))
    if not kept:
        typed = ", ".join(key for key in params if key in fixed)
        why = f"nothing is left to search, {typed} typed with one value; leave one of them out" if typed else ""
        raise BadInput(
            f"hydra.sweeper.params: {why or 'nothing to search; name keys there'}, or write key=interval(low,high)"
        )
    return Space(tuple(_sorted(kept)))


def _sorted(parameters: Sequence[Parameter]) -> list[Parameter]:
    """The same, each after those that its conditions name."""
    done: list[Parameter] = []
    left = list(parameters)
    while left:
        keys = {parameter.key for parameter in done}
        ready = [parameter for parameter in left if set(parameter.when) <= keys]
        if not ready:
            raise BadInput(
                f"hydra.sweeper.params: the conditions of {', '.join(p.key for p in left)} wait for each other"
            )
        done += ready
        left = [parameter for parameter in left if parameter not in ready]
    for parameter in done:
        for key, allowed in parameter.when.items():
            asked = next(other for other in done if other.key == key)
            if not any(asked.holds(value) for value in allowed):
                raise BadInput(
                    f"hydra.sweeper.params.{parameter.key}: when: {key}={list(allowed)} never holds, "
                    f"{key} is searched in {asked.describe()}"
                )
    return done


def _parse(key: str, node: Any) -> Parameter:
    where = f"hydra.sweeper.params.{key}"
    if not isinstance(node, Mapping):
        raise BadInput(f"{where}={node}: write {{interval: [low, high]}}, {{range: [low, high]}} or {{choice: [a, b]}}")
    if unknown := [each for each in node if each not in KEYWORDS]:
        raise BadInput(f"{where}: no such word {unknown[0]}; known are {', '.join(KEYWORDS)}")
    kinds = [kind for kind in KINDS if kind in node]
    if len(kinds) != 1:
        raise BadInput(f"{where}: write one of {', '.join(KINDS)}, not {' and '.join(kinds) or 'none'}")
    when = {name: tuple(each) if isinstance(each, list) else (each,) for name, each in node.get("when", {}).items()}
    content = node[kinds[0]]
    if kinds[0] == "choice":
        return _parse_choice(where, key, content, when)
    return _parse_numbers(where, key, node, kinds[0], when)


def _parse_choice(where: str, key: str, content: Any, when: dict[str, tuple[Any, ...]]) -> Parameter:
    if not isinstance(content, list) or not content:
        raise BadInput(f"{where}: choice={content} is empty; list the values, like [16, 32]")
    if len({_encode(value) for value in content}) < len(content):
        raise BadInput(f"{where}: choice={content} names a value twice; remove one")
    return Parameter(key, values=tuple(content), when=when)


def _parse_numbers(
    where: str, key: str, node: Mapping[str, Any], kind: str, when: dict[str, tuple[Any, ...]]
) -> Parameter:
    content, step, log = node[kind], node.get("step"), bool(node.get("log", False))
    are_numbers = isinstance(content, list) and all(type(each) in (int, float) for each in content)
    if not are_numbers or len(content) != 2:
        raise BadInput(f"{where}: {kind}={content}: give two numbers, like [1, 8]")
    low, high = content
    if not low < high or not all(map(math.isfinite, content)):
        raise BadInput(f"{where}: {kind}={content} is empty; the first number must be below the second")
    if log and low <= 0:
        raise BadInput(f"{where}: {kind}={content}: a log scale needs numbers above 0")
    if step is not None and (kind == "interval" or step <= 0):
        raise BadInput(f"{where}: step={step}: only range has steps, and they are above 0")
    if step is not None and log and step != 1:
        raise BadInput(f"{where}: step={step}: a log scale has no steps; remove one of the two")
    is_integer = kind == "range" and all(isinstance(each, int) for each in (low, high, step or 1))
    if log and kind == "range" and not is_integer:
        raise BadInput(f"{where}: range={content}: with log it needs whole numbers; use interval for others")
    if kind == "range" and not is_integer and step is None:
        step = 1.0
    return Parameter(key, (), float(low), float(high), None if log else step, log, is_integer, when)


def _encode(value: Any) -> Any:
    """The form of a choice that Optuna can store: plain values as they are, others as JSON."""
    return value if value is None or isinstance(value, str | int | float | bool) else json.dumps(value)


def _decode(stored: Any, values: Sequence[Any]) -> Any:
    """The choice that was stored; numbers come back as their own type."""
    for value in values:
        encoded = _encode(value)
        if encoded == stored and isinstance(encoded, bool) == isinstance(stored, bool):
            return value
    return stored


def to_overrides(point: Mapping[str, Any]) -> list[str]:
    """A point as Hydra overrides."""
    return [f"{key}={to_text(value)}" for key, value in point.items()]


def to_text(value: Any) -> str:
    """The text of an override's value that Hydra reads back as this value."""
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, list):
        return "[" + ",".join(map(to_text, value)) + "]"
    if isinstance(value, dict):
        return "{" + ",".join(f"{key}:{to_text(each)}" for key, each in value.items()) + "}"
    text = str(value)
    if PLAIN.fullmatch(text) and text.lower() not in NOT_STRINGS:
        return text
    escaped = re.sub(r'(\\*)"', r'\1\1\\"', text)
    return f'"{escaped}"'


def describe_difference(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """The differences of two descriptions, a line for each key."""
    lines = []
    for key in sorted(before.keys() | now.keys()):
        if key not in now:
            lines.append(f"{key} is gone (was {before[key]})")
        elif key not in before:
            lines.append(f"{key} is new ({now[key]})")
        elif before[key] != now[key]:
            lines.append(f"{key} is {now[key]} (was {before[key]})")
    return lines
