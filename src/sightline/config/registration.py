"""The schemas where Hydra finds them, and what follows from all of them together."""

from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from typing import Any

from hydra.core.config_store import ConfigStore
from omegaconf import OmegaConf

from sightline.config.schema.tasks import TASKS
from sightline.runs.project import home


def register() -> None:
    """Store each task's schema as `<task>_schema`, and name the folder of the project `${project_root:}`."""
    store = ConfigStore.instance()
    for name, schema in TASKS.items():
        store.store(name=f"{name}_schema", node=schema)
    OmegaConf.register_new_resolver("project_root", lambda: str(home()), replace=True)


def path_keys() -> dict[str, str]:
    """Every key whose value names a place, over all tasks, and its kind, as `key` in constraints says."""
    return {
        name: each.metadata["path"]
        for schema in TASKS.values()
        for name, each in all_keys(schema)
        if "path" in each.metadata
    }


def all_keys(section: type, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """The dotted name and the field of every key of a section, and of the sections in it."""
    for each in fields(section):
        if isinstance(each.type, type) and is_dataclass(each.type):
            yield from all_keys(each.type, f"{prefix}{each.name}.")
        else:
            yield f"{prefix}{each.name}", each
