"""Composing the configuration of a task, and a faster listing of configuration groups for `--help`."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import hydra
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.object_type import ObjectType
from hydra.version import VersionBase
from omegaconf import DictConfig

from sightline.runs.project import CONFIGS

HYDRA_SHORTENED = "1.3."
"""Versions of Hydra whose listing of groups `groups_listed_in_place` shortens."""


def compose(task: str, overrides: Sequence[str] = (), *, with_hydra: bool = False) -> DictConfig:
    """The configuration of a task, as its program composes it; from any folder, and where Hydra runs already."""
    there, base = GlobalHydra.instance().hydra, VersionBase.instance().version_base
    GlobalHydra.instance().clear()
    try:
        with initialize_config_dir(str(CONFIGS), version_base="1.3"):
            return hydra.compose(task, list(overrides), return_hydra_config=with_hydra)
    finally:
        GlobalHydra.instance().hydra, VersionBase.instance().version_base = there, base


@contextmanager
def groups_listed_in_place() -> Iterator[None]:
    """Within it Hydra lists configuration groups, as for `--help`, without a copy of its whole repository each time.

    The copy protects the original from search paths among the overrides; the help has none.
    """
    from hydra._internal.config_loader_impl import ConfigLoaderImpl

    original = ConfigLoaderImpl.get_group_options

    def get_group_options(
        self: ConfigLoaderImpl, group_name: str, results_filter: ObjectType | None = ObjectType.CONFIG, **others: Any
    ) -> list[str]:
        if others:
            return original(self, group_name, results_filter, **others)
        return self.repository.get_group_options(group_name, results_filter)

    ConfigLoaderImpl.get_group_options = get_group_options  # pyright: ignore[reportAttributeAccessIssue]
    try:
        yield
    finally:
        ConfigLoaderImpl.get_group_options = original
