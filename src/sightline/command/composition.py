"""Composing the configuration of a task."""

from collections.abc import Sequence
from pathlib import Path

import hydra
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.version import VersionBase
from omegaconf import DictConfig

from sightline.runs.override_text import key_of, override, value_of
from sightline.runs.project import CONFIGS

SEARCH_PATH = "hydra.searchpath"


def compose(task: str, overrides: Sequence[str] = (), *, with_hydra: bool = False) -> DictConfig:
    """The configuration of a task, as its program composes it; from any folder, and where Hydra runs already."""
    searched = with_search_path(overrides)
    there, base = GlobalHydra.instance().hydra, VersionBase.instance().version_base
    GlobalHydra.instance().clear()
    try:
        with initialize_config_dir(str(CONFIGS), version_base="1.3"):
            return hydra.compose(task, searched, return_hydra_config=with_hydra)
    finally:
        GlobalHydra.instance().hydra, VersionBase.instance().version_base = there, base


def with_search_path(overrides: Sequence[str]) -> list[str]:
    """The overrides with the configurations of `extensions` on Hydra's search path, if there are any.

    They lie in `configs/` of that folder, and of the packages in it.
    """
    folder = value_of(overrides, "extensions")
    if folder in (None, "", "null"):
        return list(overrides)
    top = Path(str(folder)).expanduser().absolute()
    found = [f"file://{path}" for path in (top / "configs", *sorted(top.glob("*/configs"))) if path.is_dir()]
    if not found:
        return list(overrides)
    given = value_of(overrides, SEARCH_PATH)
    named = [each.strip() for each in given.strip("[]").split(",")] if given else []
    rest = [each for each in overrides if key_of(each) != SEARCH_PATH]
    return [*rest, override(SEARCH_PATH, [*filter(None, named), *found])]
