"""What both plugins need of Hydra: a run's configuration composed here and checked, and the command that was typed."""

import logging
import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hydra.types import HydraContext
from omegaconf import DictConfig, OmegaConf

log = logging.getLogger(__name__)


def check(context: HydraContext, config: DictConfig, words: list[str]) -> DictConfig:
    """The configuration that a run with these words will have.

    Raises: what is wrong with it, here and for free.
    """
    from sightline import config as rules

    cfg = context.config_loader.load_sweep_config(config, words)
    OmegaConf.set_struct(cfg, False)
    cfg.pop("hydra")
    OmegaConf.set_struct(cfg, True)
    rules.refuse_unknown_keys(cfg)
    validate = {
        rules.TrainConfig: rules.validate,
        rules.EvaluateConfig: rules.validate_loading,
        rules.ExplainConfig: rules.validate_explain,
        rules.PrepareConfig: rules.validate_preparation,
    }.get(OmegaConf.get_type(cfg) or object)
    if validate is not None:
        validate(cfg)
    return cfg


def script() -> str:
    """The program that was started, below the project where it lies there."""
    from sightline.runs import record as run_record
    from sightline.runs.project import PROJECT

    path = Path(run_record.command_line[0]).absolute()
    return path.relative_to(PROJECT).as_posix() if path.is_relative_to(PROJECT) else str(path)


@contextmanager
def command_to_go_on() -> Iterator[None]:
    """Say how to go on when a signal ends the work."""
    from sightline.errors import Interrupted
    from sightline.runs import record as run_record

    try:
        yield
    except Interrupted:
        log.warning("go on with: %s", shlex.join([sys.executable, *run_record.command_line]))
        raise
