"""What `--help` says: how a program is called, its configuration groups, and its keys with what they mean."""

import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass
from typing import Any

from omegaconf import DictConfig, OmegaConf

from sightline.command.composition import compose
from sightline.command.hints import groups_of
from sightline.runs.override_text import override
from sightline.runs.project import IS_INSTALLED, PROJECT
from sightline.runs.record import package_versions

DISTRIBUTION = "sightline-vision"
MAX_WIDTH = 44
"""Of the first column of a table, in characters; a longer entry stands out."""


def version_text() -> str:
    """`sightline 1.2.3`, of the checkout or of the installed wheel."""
    if IS_INSTALLED:
        return f"sightline {package_versions((DISTRIBUTION,))[DISTRIBUTION]}"
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return f"sightline {project['version']}"


def help_text(task: str, overrides: Sequence[str] = ()) -> str:
    """The help of a Hydra program: its own groups and keys alone, with the values that these overrides lead to."""
    cfg = compose(task, overrides, with_hydra=True)
    about, chosen = cfg.hydra.help, cfg.hydra.runtime.choices
    OmegaConf.set_struct(cfg, False)
    del cfg["hydra"]
    groups = {override(group, chosen.get(group)): ", ".join(options) for group, options in groups_of(task).items()}
    listed = ["groups, as they are now and what else there is:", "", *table_lines(groups), ""] if groups else []
    keys = ["keys, as they are now and what they mean:", "", *table_lines(dict(describe_keys(cfg)))]
    return "\n".join([about.header.rstrip(), "", *listed, *keys, "", about.footer.rstrip()])


def describe_keys(cfg: DictConfig, prefix: str = "") -> Iterator[tuple[str, str]]:
    """`key=value` as composed, and what each key means."""
    schema = OmegaConf.get_type(cfg)
    meanings = {each.name: each.metadata.get("meaning", "") for each in fields(schema)} if is_dataclass(schema) else {}
    for name in cfg:
        node, key = cfg._get_node(name), f"{prefix}{name}"
        if isinstance(node, DictConfig) and not node._is_none() and not node._is_interpolation() and len(node):
            if meaning := meanings.get(str(name)):
                yield f"{key}.…", meaning
            yield from describe_keys(node, f"{key}.")
        else:
            value: Any = OmegaConf.to_container(cfg, resolve=False)
            yield _as_shown(key, value[name]), meanings.get(str(name), "")


def _as_shown(key: str, value: Any) -> str:
    """As it would be typed, but for what refers to another key or is missing, which stay as they stand."""
    is_text = isinstance(value, str) and ("${" in value or value == "???")
    return f"{key}={'…' if value == '???' else value}" if is_text else override(key, value)


def table_lines(table: Mapping[str, str]) -> list[str]:
    """Two columns, the first as wide as most of its entries need."""
    width = min(max(map(len, table)), MAX_WIDTH)
    return [f"  {name:{width}}  {text.rstrip('.')}".rstrip() for name, text in table.items()]
