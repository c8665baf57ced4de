"""The configuration of data_versions.py."""

from dataclasses import dataclass, field
from typing import Any

from sightline.config.constraints import key
from sightline.config.schema.data import DataConfig, PathsConfig


@dataclass
class DataVersionsConfig:
    """Data sets by name and version."""

    data: DataConfig = field(default_factory=DataConfig)
    paths: PathsConfig = field(default_factory=PathsConfig)
    launch: dict[str, Any] = key({}, "where the task is started; empty where it runs")
