"""The schemas where Hydra finds them, and what follows from all of them together."""

import os
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

from hydra.core.config_store import ConfigStore
from omegaconf import OmegaConf

from sightline.config.schema.tables import PARQUET_SUFFIX, TABLE_SUFFIXES
from sightline.config.schema.tasks import TASKS
from sightline.runs.archives import ARCHIVE_SUFFIXES
from sightline.runs.file_names import as_file_name
from sightline.runs.project import home


def register() -> None:
    """Store each task's schema as `<task>_schema`.

    In configurations `${project_root:}` is the folder of the project, `${name_of:…}` what `name_of` says.
    """
    store = ConfigStore.instance()
    for name, schema in TASKS.items():
        node = OmegaConf.structured(schema)
        for section, _ in open_sections(schema):
            OmegaConf.set_struct(node[section], False)
        for key, each in all_keys(schema):
            if each.metadata.get("open"):
                OmegaConf.set_struct(OmegaConf.select(node, key), False)
        store.store(name=f"{name}_schema", node=node)
    OmegaConf.register_new_resolver("project_root", lambda: str(home()), replace=True)
    OmegaConf.register_new_resolver("name_of", name_of, replace=True)


def name_of(root: str) -> str:
    """The name of a data set by where it lies: of its folder, of its archive or parquet file, of a table's folder.

    As `as_file_name` says, so that it names a folder itself; `data` where nothing of it is left.
    """
    path = Path(root) if "://" in root else Path(os.path.abspath(Path(root).expanduser()))  # noqa: PTH100 (also of `..`)
    is_text_table = path.suffix.lower() in TABLE_SUFFIXES and path.suffix.lower() != PARQUET_SUFFIX
    name = path.parent.name if is_text_table else path.name
    suffix = next((each for each in (*ARCHIVE_SUFFIXES, PARQUET_SUFFIX) if name.lower().endswith(each)), "")
    return as_file_name(name[: len(name) - len(suffix)]) or "data"


def path_keys() -> dict[str, str]:
    """Every key whose value names a place, over all tasks, and its kind, as `key` in constraints says."""
    return {
        name: each.metadata["path"]
        for schema in TASKS.values()
        for name, each in all_keys(schema)
        if "path" in each.metadata
    }


def with_absolute_paths(plain: dict[str, Any], folder: Path) -> dict[str, Any]:
    """A plain configuration in which relative paths of what lies in `folder` are absolute."""

    def absolute(node: Any, name: str) -> Any:
        if isinstance(node, dict):
            return {key: absolute(each, f"{name}.{key}" if name else str(key)) for key, each in node.items()}
        is_path = name in keys or name.startswith("model.weights_for.")
        is_here = is_path and isinstance(node, str) and node and (folder / node).exists()
        return str(folder / node) if is_here else node

    keys = {name for name, kind in path_keys().items() if kind in ("path", "run")}
    return absolute(plain, "")


def open_sections(schema: type) -> Iterator[tuple[str, str]]:
    """The sections of a task that take any key, and the key of each that holds what is not its own."""
    for name, each in all_keys(schema):
        section, _, rest = name.rpartition(".")
        if each.metadata.get("rest"):
            yield section, rest


def all_keys(section: type, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """The dotted name and the field of every key of a section, and of the sections in it."""
    for each in fields(section):
        if isinstance(each.type, type) and is_dataclass(each.type):
            yield from all_keys(each.type, f"{prefix}{each.name}.")
        else:
            yield f"{prefix}{each.name}", each
