"""What `registry:NAME` means where a run is named: a local folder with the files of a version, hashes verified."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from sightline.config import path_keys, with_value
from sightline.errors import BadInput
from sightline.registry.packages import open_registry
from sightline.registry.version import REGISTRY, split_name
from sightline.runs.override_text import key_of, quoted

Task = TypeVar("Task")
USING = ("run", "against", "model.teacher")
"""Keys that may name a version: what uses a finished run."""


def is_registered(run: str | Path | None) -> bool:
    """Whether a run is named by the registry."""
    return str(run).startswith(REGISTRY)


def find_registered(run: str, place: str, cache: Path, key: str = "run") -> Path:
    """The folder of `registry:NAME[/VERSION|/production|/staging]`; a NAME alone is the newest approved version.

    A version from elsewhere is fetched once, below `cache`.

    Raises: BadInput that begins with the key where there is none, or its files are not as they were registered.
    """
    short = run.removeprefix(REGISTRY)
    try:
        name, which = split_name(run)
        registry = open_registry(place, cache)
        return registry.fetch(registry.get(name, which)).resolve()
    except BadInput as error:
        problem = str(error).removeprefix(REGISTRY).removeprefix(f"{short}: ")
        raise BadInput(f"{key}={run}: {problem}") from error


def with_local_runs(cfg: Task) -> Task:
    """A task's configuration with the folders of the versions that it names: looked up once, and the same from then on.

    Raises: BadInput as `find_registered`.
    """
    for key in USING:
        value: Any = cfg
        for part in key.split("."):
            value = getattr(value, part, None)
        if is_registered(value):
            paths: Any = getattr(cfg, "paths")  # noqa: B009 (every task has them)
            cfg = with_value(cfg, key, str(find_registered(value, paths.registry, Path(paths.cache), key)))
    return cfg


def with_local_overrides(overrides: Sequence[str], composed: Mapping[str, Any]) -> tuple[list[str], dict[str, Any]]:
    """The same for overrides that are sent elsewhere, and for the values by key that they compose to.

    Raises: BadInput as `find_registered`, and for a key that takes no version.
    """
    found = {}
    for key in (key for key, kind in path_keys().items() if kind == "run"):
        value = composed.get(key)
        if not is_registered(value):
            continue
        if key not in USING:
            raise BadInput(f"{key}={value}: takes no version of the registry; name a run's folder")
        found[key] = str(find_registered(str(value), composed["paths.registry"], Path(composed["paths.cache"]), key))
    texts = [f"{key_of(each)}={quoted(found[key_of(each)])}" if key_of(each) in found else each for each in overrides]
    return texts, {**composed, **found}
