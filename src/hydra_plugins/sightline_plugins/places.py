"""Where runs are started: the settings of the launch group, its backend, and what leaves with a run."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

log = logging.getLogger(__name__)
REMOTE = ("local_container", "sagemaker")
"""Backends whose jobs see none of this machine's files."""
MADE_ANYWHERE = ("digits", "synthetic")
"""Data that need no files to begin with."""


def launch_settings(config: DictConfig) -> dict[str, Any]:
    """The keys of `launch`, typed where they have a schema.

    Raises: what is wrong with them, by key.
    """
    from sightline.launch.sagemaker.settings import SageMakerSettings

    schemas = {"sagemaker": SageMakerSettings}
    launch = OmegaConf.to_container(config.launch, resolve=True)
    assert isinstance(launch, dict)
    schema = schemas.get(str(launch.get("backend")))
    if schema is None:
        return {str(key): value for key, value in launch.items()}
    typed = OmegaConf.merge({"launch": OmegaConf.structured(schema)}, {"launch": launch}).launch
    return {str(key): value for key, value in OmegaConf.to_container(typed).items()}  # pyright: ignore


def check_launch(settings: dict[str, Any]) -> dict[str, Any]:
    """Ask for what is missing, before anything is made, and say what a job can cost at the most.

    Returns the settings with what AWS's own configuration says.

    Raises: BadInput that names all of it.
    """
    if settings.get("backend") != "sagemaker":
        return settings
    from sightline.aws.clients import check_region, find_region, has_credentials
    from sightline.aws.prices import check_bound, describe_bound
    from sightline.launch.sagemaker.settings import SageMakerSettings, check_settings

    settings = {**settings, "region": settings["region"] or find_region()}
    typed = SageMakerSettings(**settings)
    check_settings(typed, has_credentials=typed.dry_run or has_credentials())
    check_region(str(typed.region))
    bound = typed.instance_type, typed.instance_count, typed.max_run_minutes
    check_bound(*bound, typed.max_cost_usd)
    if not typed.dry_run:
        log.info("each job: %s", describe_bound(*bound, typed.spot))
    return settings


def changes_of_source(settings: dict[str, Any]) -> str | None:
    """What an image of this tree holds and no commit has.

    Raises: BadInput when there is some and it was not allowed.
    """
    from sightline.launch.source_changes import check_source, source_changes

    if "allow_dirty" not in settings:
        return None
    changes = source_changes()
    check_source(changes, settings["allow_dirty"])
    return changes


def check_hosts(cfg: DictConfig, settings: dict[str, Any]) -> None:
    """Raises: BadInput for a run that cannot be shared by several machines, each of which has a folder of its own."""
    from sightline.errors import BadInput

    count = settings.get("instance_count", 1)
    if count > 1 and OmegaConf.select(cfg, "divergence.action") == "rollback":
        raise BadInput(
            f"launch.instance_count={count} divergence.action=rollback: only the first machine has the checkpoint to "
            "go back to; set divergence.action=stop, or launch.instance_count=1"
        )


def check_places(words: Sequence[str], cfg: DictConfig) -> None:
    """Raises: BadInput for a place that the words name and that is not on this machine."""
    from sightline.launch.channels import PATH_KEYS, resolve_paths, split_channels

    composed = {key: OmegaConf.select(cfg, key) for key in PATH_KEYS}
    split_channels(resolve_paths(words, composed, Path(cfg.paths.runs), Path.cwd()), Path.cwd())


def remote_overrides(words: Sequence[str], cfg: DictConfig, settings: dict[str, Any]) -> list[str]:
    """The overrides with every place that the configuration names, for a backend that sees none of our files.

    Raises: BadInput when data are needed and are nowhere.
    """
    from sightline.errors import BadInput
    from sightline.launch.channels import PATH_KEYS, find_own_data, quoted, resolve_paths, unquoted

    composed = {key: OmegaConf.select(cfg, key) for key in PATH_KEYS if OmegaConf.select(cfg, key) is not None}
    named = resolve_paths(words, composed, Path(cfg.paths.runs), Path.cwd())
    values = {word.partition("=")[0]: unquoted(word.partition("=")[2]) for word in named}
    if "run" in values and not values.keys() & {"data.root", "data.own_root", "images"}:
        own = find_own_data(values["run"])
        named += [] if own is None else [f"data.own_root={quoted(own)}"]
    source = OmegaConf.select(cfg, "data.source")
    has_data = settings.get("data_s3") or any(word.startswith("data.root=") for word in named)
    if not has_data and source is not None and source not in MADE_ANYWHERE and not settings.get("dry_run"):
        raise BadInput(
            f"data.root={cfg.data.root}: no such folder, and the job could not make it; name one with data.root=FOLDER "
            "or an address with launch.data_s3=s3://bucket/folder"
        )
    return named
