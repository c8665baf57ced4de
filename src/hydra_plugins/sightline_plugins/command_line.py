"""The overrides of a sweep's command line: those that span the search space, and those that every trial has."""

from collections.abc import Sequence
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ChoiceSweep, IntervalSweep, Override, QuotedString, RangeSweep
from omegaconf import OmegaConf

from sightline.errors import BadInput


def split_overrides(overrides: list[str]) -> tuple[dict[str, Any], list[str]]:
    """Parameters of a space from overrides like `model.lr=interval(1e-4,1e-2)`, and the other overrides."""
    searched: dict[str, Any] = {}
    others = []
    for override in OverridesParser.create().parse_overrides(overrides):
        if override.is_sweep_override():
            searched[override.get_key_element()] = _parameter(override)
        else:
            others.append(str(override.input_line))
    return searched, others


def typed_keys(overrides: Sequence[str]) -> dict[str, str]:
    """Every key that overrides give one value, and the override that does.

    `a={b: 1}` sets `a.b`, and a model that is chosen by its file sets `model.name`.
    """
    keys: dict[str, str] = {}
    for override in OverridesParser.create().parse_overrides([*overrides]):
        key, value = override.key_or_group, override.value()
        names = [key, *(f"{key}.{name}" for name in _leaves(value) if isinstance(value, dict))]
        if not override.is_delete():
            keys |= dict.fromkeys(names, str(override.input_line))
    if "model" in keys:
        keys.setdefault("model.name", keys["model"])
    return keys


def _leaves(node: Any) -> list[str]:
    """The dotted names of all values in nested dictionaries; of what is none, an empty one."""
    if not isinstance(node, dict):
        return [""]
    return [f"{name}.{inner}".rstrip(".") for name, value in node.items() for inner in _leaves(value)]


def whole_nodes(overrides: Sequence[str], keys: Sequence[str]) -> dict[str, Any]:
    """The dictionaries of `hydra.sweeper.<key>={…}` by key: they replace those of files; Hydra would merge them."""
    found = {}
    for override in OverridesParser.create().parse_overrides(list(overrides)):
        key = override.get_key_element().lstrip("+").removeprefix("hydra.sweeper.")
        value = override.value()
        if key in keys and isinstance(value, dict):
            found[key] = OmegaConf.to_container(OmegaConf.create(value))
    return found


def _parameter(override: Override) -> dict[str, Any]:
    value = override.value()
    log = {"log": True} if "log" in getattr(value, "tags", ()) else {}
    if isinstance(value, IntervalSweep):
        return {"interval": [value.start, value.end], **log}
    if isinstance(value, RangeSweep):
        return {"range": [value.start, value.stop], "step": value.step, **log}
    if isinstance(value, ChoiceSweep):
        return {"choice": [_plain(each) for each in value.list]}
    raise BadInput(f"{override.input_line}: write interval(low,high), range(low,high) or choice(a,b)")


def _plain(value: Any) -> Any:
    return value.text if isinstance(value, QuotedString) else value
