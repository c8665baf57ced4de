"""From what Hydra composed to checked dataclasses, and from those to plain values."""

import copy
import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, fields, is_dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from omegaconf import MISSING, DictConfig, ListConfig, OmegaConf, open_dict
from omegaconf.errors import ConfigAttributeError, ConfigKeyError, OmegaConfBaseException

from sightline.config.constraints import UnknownKey, check, did_you_mean, find_idle, refuse_idle
from sightline.config.registration import all_keys, open_sections
from sightline.config.schema.train import TrainConfig
from sightline.errors import BadInput
from sightline.runs.override_text import escaped, typed

log = logging.getLogger(__name__)
Task = TypeVar("Task")
Place = tuple[str | int, ...]
"""The names and indices that lead to a value."""
REFERENCES = "_references"
"""An attribute of a typed configuration: its interpolations, like `${model.lr}`, by where they stood."""


def validate(cfg: DictConfig | TrainConfig) -> TrainConfig:
    """The checked configuration of a training run, from what Hydra composed or from one that is typed already.

    Raises: BadInput with the key, the value and the change to make.
    """
    return validate_task(cfg, TrainConfig)


def validate_task(cfg: DictConfig | Task, schema: type[Task]) -> Task:
    """The same for any task, by its dataclass.

    Raises: BadInput with the key, the value and the change to make.
    """
    if not hasattr(cfg, REFERENCES):
        composed = _with_rest(cfg, schema) if isinstance(cfg, DictConfig) else OmegaConf.structured(cfg)
        texts = list(_texts(OmegaConf.to_container(composed, resolve=False)))
        if missing := sorted(".".join(map(str, place)) for place, text in texts if text == MISSING):
            changes = " ".join(f"{key}=…" for key in missing)
            raise BadInput(f"{', '.join(missing)}: no value is set; add {changes} to the command")
        cfg = OmegaConf.to_object(composed)  # pyright: ignore[reportAssignmentType]
        vars(cfg)[REFERENCES] = {place: text for place, text in texts if "${" in text}
    assert isinstance(cfg, schema), f"{type(cfg).__name__} is no {schema.__name__}"
    check(cfg)
    return cfg


def _with_rest(composed: Any, schema: type) -> Any:
    """A composed configuration in which what is set beside the keys of an open section lies in its key for the rest."""
    copied = None
    for section, rest in open_sections(schema):
        known = {key.rpartition(".")[2] for key, _ in all_keys(schema) if key.startswith(f"{section}.")}
        if names := [str(name) for name in composed[section] if name not in known]:
            copied = copied or copy.deepcopy(composed)
            node = copied[section]
            with open_dict(node):
                for name in names:
                    node[rest][name] = node._get_node(name)
                    del node[name]
    return copied or composed


def check_overrides(cfg: Any, overrides: Sequence[str], *, may_stay: bool = False) -> None:
    """Look for overrides that have no effect beside the other settings of a typed configuration, and warn of them.

    Raises: BadInput for those that nobody would type on purpose; not where all `may_stay`, as in one run of several.
    """
    if not may_stay:
        refuse_idle([(cfg, overrides)])
    for idle in find_idle(cfg, overrides):
        log.warning("%s", idle)


def _texts(raw: Any, place: Place = ()) -> Iterator[tuple[Place, str]]:
    """Every text in nested containers, and where it stands."""
    children = raw.items() if isinstance(raw, dict) else enumerate(raw) if isinstance(raw, list) else ()
    for name, value in children:
        yield from _texts(value, (*place, name))
    if isinstance(raw, str):
        yield place, raw


def with_value(cfg: Task, key: str, value: Any) -> Task:
    """A copy of a typed configuration in which a key has another value; what refers to it (`${model.lr}`) follows."""
    place: Place = tuple(key.split("."))
    references: dict[Place, str] = getattr(cfg, REFERENCES, {})
    before = escaped(to_plain(cfg))
    for where, text in references.items():
        before = _replaced(before, where, text)
    after = _replaced(before, place, value)
    was, now = (OmegaConf.to_container(OmegaConf.create(plain), resolve=True) for plain in (before, after))
    made: Any = _replaced(cfg, place, value)
    for where in references:
        if where != place and (follows := _get(now, where)) != _get(was, where):
            made = _replaced(made, where, follows)
    vars(made)[REFERENCES] = {where: text for where, text in references.items() if where != place}
    return made


def _get(node: Any, place: Place) -> Any:
    for name in place:
        node = node[name]
    return node


def _replaced(node: Any, place: Place, value: Any) -> Any:
    """A copy of nested dataclasses, dictionaries and lists with another value in one place."""
    if not place:
        return value
    name, *rest = place
    if isinstance(node, dict | list):
        changed: Any = node.copy()
        changed[name] = _replaced(changed[name] if rest else None, tuple(rest), value)
        return changed
    return replace(node, **{str(name): _replaced(getattr(node, str(name)), tuple(rest), value)})


def to_plain(cfg: Any) -> dict[str, Any]:
    """A configuration, resolved, as dictionaries, lists, strings and numbers."""
    if is_dataclass(cfg) and not isinstance(cfg, type):
        return asdict(cfg)
    plain = OmegaConf.to_container(cfg, resolve=True, enum_to_str=True)
    assert isinstance(plain, dict)
    return {str(key): value for key, value in plain.items()}


def save_yaml(cfg: Any, path: Path) -> None:
    """Write a typed configuration as YAML, which reads back with the same types."""
    import yaml
    from omegaconf._utils import get_omega_conf_dumper  # `to_yaml` itself would resolve texts with `${` once more

    text = yaml.dump(
        to_plain(cfg), default_flow_style=False, allow_unicode=True, sort_keys=False, Dumper=get_omega_conf_dumper()
    )
    path.write_text(text, encoding="utf-8")


def to_yaml(values: Mapping[str, Any]) -> str:
    """Plain values as YAML that Hydra reads back with the same types; interpolations stay as they are."""
    return OmegaConf.to_yaml(OmegaConf.create(dict(values)))


def refuse_unknown_keys(cfg: DictConfig, prefix: str = "") -> None:
    """Look for keys that no typed section knows: Hydra lets `+key=value` add them, and nothing would ever read them.

    Raises: UnknownKey with the first.
    """
    section = OmegaConf.get_type(cfg)
    rules = fields(section) if section and is_dataclass(section) else []
    takes_any = not rules or any(each.metadata.get("rest") for each in rules)  # the section's own check looks at them
    known = None if takes_any else [each.name for each in rules]
    for key in cfg:
        name = f"{prefix}{key}"
        if known is not None and key not in known:
            raise UnknownKey(name, known)
        node = cfg._get_node(key)  # as it is: reading `cfg[key]` would look for values that are not given yet
        if isinstance(node, DictConfig) and not (node._is_none() or node._is_missing() or node._is_interpolation()):
            refuse_unknown_keys(node, f"{name}.")


def typed_section(schema: type[Task], values: Mapping[str, Any], section: str) -> Task:
    """The dataclass of a section that stands in no task's schema, from values by key; `section` names it in errors.

    Raises: BadInput for a key that it does not have, or a value of another type.
    """
    try:
        merged: Any = OmegaConf.merge({section: OmegaConf.structured(schema)}, {section: dict(values)})
        made: Any = OmegaConf.to_object(merged[section])
    except OmegaConfBaseException as error:
        raise BadInput(explain_key(error)) from error
    return made


KINDS = {"Integer": "a whole number", "Float": "a number", "bool": "true or false"}
"""What OmegaConf calls types, and what people do."""


def explain_key(error: OmegaConfBaseException) -> str:
    """What OmegaConf refused: the key, with near or known ones, or the key whose value has another type."""
    if isinstance(error, ConfigKeyError | ConfigAttributeError):
        key, siblings = unknown_key(error)
        section, dot, name = key.rpartition(".")
        if section == "launch" and not siblings:
            return f"{key}: counts only where runs are launched; add launch=local_process, say, or leave it out"
        if section == "hydra.sweeper" and "n_trials" not in siblings:
            return f"{key}: counts only in a sweep; add hparams_search=optuna, say, or leave it out"
        hint = did_you_mean(name, siblings, f"{section}{dot}") or f"; known here: {', '.join(siblings)}"
        return f"{key}: no such key{hint}"
    problem = str(error).splitlines()[0].strip()
    if re.match(r"field '.*' is not Optional", problem):
        return f"{error.full_key}=null: must have a value"
    if converted := re.match(r"Value '(.*)' (?:of type '.*' could not be converted to|is not a valid) (\w+)", problem):
        return f"{error.full_key}={converted[1]}: must be {KINDS.get(converted[2], converted[2])}"
    if "ListConfig" in problem and "DictConfig" in problem:
        return f"{error.full_key}: a list stands for keys with a value each, or these for a list; --help shows its form"
    return _explain_shape(error) or f"{error.full_key}: {problem}; change the value"


def _explain_shape(error: OmegaConfBaseException) -> str | None:
    """For a value alone where a list, or keys with a value each, must be: what to type."""
    key, value, node = error.full_key, error.value, error.child_node
    if value is None:
        return None
    if isinstance(node, ListConfig):
        return f"{key}={value}: must be a list; type {typed(str(key), [value])}"
    if isinstance(node, DictConfig):
        like = f"{key}.{next(iter(node))}=…" if node else f"+{key}.NAME=VALUE"
        return f"{key}={value}: holds a value for each of its keys; set one of them, like {like}"
    return None


def unknown_key(error: ConfigKeyError | ConfigAttributeError) -> tuple[str, list[str]]:
    """The key that there is not, and those that are beside it."""
    parent = error.parent_node
    siblings = [str(each) for each in parent if each != "hydra"] if isinstance(parent, DictConfig) else []
    return str(error.full_key or error.key), siblings
