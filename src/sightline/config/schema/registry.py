"""The configuration of registry.py."""

from dataclasses import dataclass, field
from typing import Any

from sightline.config.constraints import key
from sightline.config.schema.data import PathsConfig


@dataclass
class RegistryConfig:
    """Trained models by name and version."""

    why: str | None = key(None, "of approve, reject, stage, unstage and rollback: kept in the history of the version")
    by: str | None = key(None, "who does it, for the history; null: user@host")
    keep: int = key(10, "of prune: so many versions of a name stay, and those that are staged or approved", minimum=1)
    dry_run: bool = key(False, "of prune: say what would be removed, and remove nothing")
    bucket: str | None = key(None, "where SageMaker's files of new versions go, unless paths.registry says it")
    serving_image: str | None = key(None, "address of the image that serves a version that SageMaker keeps")
    paths: PathsConfig = field(default_factory=PathsConfig)
    launch: dict[str, Any] = key({}, "where the task is started; empty where it runs")
