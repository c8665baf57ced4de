"""Composing the configuration of a task."""

from collections.abc import Sequence

import hydra
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.version import VersionBase
from omegaconf import DictConfig

from sightline.runs.project import CONFIGS


def compose(task: str, overrides: Sequence[str] = (), *, with_hydra: bool = False) -> DictConfig:
    """The configuration of a task, as its program composes it; from any folder, and where Hydra runs already."""
    there, base = GlobalHydra.instance().hydra, VersionBase.instance().version_base
    GlobalHydra.instance().clear()
    try:
        with initialize_config_dir(str(CONFIGS), version_base="1.3"):
            return hydra.compose(task, list(overrides), return_hydra_config=with_hydra)
    finally:
        GlobalHydra.instance().hydra, VersionBase.instance().version_base = there, base
