"""What both plugins need of Hydra: a run's configuration composed and checked."""

from collections.abc import Iterable, Sequence
from typing import Any

from hydra.types import HydraContext
from omegaconf import DictConfig, OmegaConf


def check(context: HydraContext, config: DictConfig, overrides: list[str]) -> DictConfig:
    """The configuration that a run with these overrides will have.

    Raises: BadInput, or Hydra's own error for a key that there is not.
    """
    from sightline import config as rules

    cfg = context.config_loader.load_sweep_config(config, overrides)
    OmegaConf.set_struct(cfg, False)
    cfg.pop("hydra")
    OmegaConf.set_struct(cfg, True)
    rules.refuse_unknown_keys(cfg)
    schema = OmegaConf.get_type(cfg)
    if schema is not None and schema in rules.TASKS.values():
        rules.validate_task(cfg, schema)
    return cfg


def refuse_idle(runs: Iterable[tuple[DictConfig, Sequence[str]]]) -> None:
    """Look for overrides that have an effect in none of several composed runs.

    Raises: BadInput with the first.
    """
    from sightline import config as rules

    tasks = ((cfg, OmegaConf.get_type(cfg), overrides) for cfg, overrides in runs)
    rules.refuse_idle(
        (rules.validate_task(cfg, schema), overrides)
        for cfg, schema, overrides in tasks
        if schema is not None and schema in rules.TASKS.values()
    )


def composed_values(cfg: DictConfig) -> dict[str, Any]:
    """The values of a configuration that submitting depends on, by key."""
    from sightline.config import targets_of, to_plain
    from sightline.launch.submission import TARGETS, composed_keys

    found = {key: OmegaConf.select(cfg, key) for key in composed_keys()}
    values = {key: OmegaConf.to_container(each) if OmegaConf.is_config(each) else each for key, each in found.items()}
    own = OmegaConf.masked_copy(cfg, [str(key) for key in cfg if key != "hydra"])
    return {**values, TARGETS: targets_of(to_plain(own))}


def check_prerequisites(cfg: DictConfig, submission: Any) -> None:
    """Look whether what a training reads is there, where it would read it from this machine.

    Raises: BadInput as the training would.
    """
    from sightline.config import TrainConfig, validate

    is_training = issubclass(OmegaConf.get_type(cfg) or object, TrainConfig)
    if is_training and submission.backend.sees_files and not submission.settings.dry_run:
        from sightline.training.prerequisites import check_prerequisites

        check_prerequisites(validate(cfg))


def own_modes(cfg: Any) -> dict[str, Any]:
    """Whether the least or the greatest value is the best, of the metrics that a task adds to ours."""
    nodes = OmegaConf.select(cfg, "evaluation.metrics") or {}
    return {str(name): node.get("mode", "max") for name, node in nodes.items() if node is not None}
