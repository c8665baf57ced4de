"""The settings of a run that is gone on with: those of its record, and what is typed beside `resume=RUN`."""

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from hydra.errors import HydraException
from omegaconf import MISSING, DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from sightline.command.composition import compose
from sightline.command.messages import explain
from sightline.config import TrainConfig, all_keys, check_place, escaped, path_keys, to_plain, with_absolute_paths
from sightline.errors import BadInput
from sightline.runs.files import read_json
from sightline.runs.folder import find_resumed
from sightline.runs.invocation import Invocation
from sightline.runs.override_text import key_of, quoted, value_of

OF_THIS_PROCESS = ("output", "resume", "launch", "hparams_search", "hydra", "trust_code")
"""What of an earlier command says nothing about the run."""


def with_settings_of_run(cfg: DictConfig, invocation: Invocation) -> tuple[DictConfig, Invocation]:
    """The configuration and the overrides of a training that goes on: with `resume=RUN` those of the run's record.

    A value is the run's own unless it is typed, or follows from what is typed (a group, `${model.lr}`). Without
    `resume=RUN`, or a record, all is as it was.

    Raises: BadInput when there is no such run, or its settings no longer compose.
    """
    if cfg.resume in (None, "auto"):
        return cfg, invocation
    folder = find_resumed(cfg.resume, Path(cfg.paths.runs))
    record = read_json(folder / "run.json")
    if record.get("task") != "train" or "config" not in record:
        return cfg, invocation
    typed = list(invocation.overrides)
    try:
        before = to_plain(compose("train", stored_overrides(record, ())))
    except (HydraException, OmegaConfBaseException) as error:
        raise BadInput(
            f"resume={cfg.resume}: the settings of this run no longer compose here ({explain(error)}); go on with the "
            f"code that it began with (commit {str(record.get('commit'))[:12]}), or begin a new run from its weights"
        ) from error
    forced = [re.sub(r"^\+(?=\w+\.)", "++", each) for each in typed]  # the run may have that key already
    overrides = [*stored_overrides(record, typed), *forced]
    after = compose("train", overrides)
    _restore(after, before, typed, record)
    after.trust_code = cfg.trust_code  # as it was typed, whatever a file says that the record names
    if after.extensions is not None and value_of(typed, "extensions") is None:
        check_place(Path(after.extensions), folder, trusts=after.trust_code)
    return after, replace(invocation, overrides=tuple(overrides))


def stored_overrides(record: dict[str, Any], typed: Sequence[str]) -> list[str]:
    """The overrides that a run was begun with, without those that are typed again or were of the process alone.

    Paths are absolute, and of a job that was fetched those of this machine: as the run's configuration has them.
    """
    overrides, again = record["overrides"], {each.partition("=")[0] for each in typed}
    left_out = {*OF_THIS_PROCESS, *(["paths"] if "paths=container" in overrides else [])}  # those of another machine
    kept = [each for each in overrides if each.partition("=")[0] not in again and _section(each) not in left_out]
    own, places = _own_settings(record), {key for key, kind in path_keys().items() if kind in ("path", "run")}
    values = [_get(own, key_of(each)) if key_of(each) in places else None for each in kept]
    return [
        f"{each.partition('=')[0]}={quoted(value)}" if isinstance(value, str) and value != MISSING else each
        for each, value in zip(kept, values, strict=True)
    ]


def with_overrides_of_run(overrides: Sequence[str], runs: Path) -> list[str]:
    """The overrides of a job: with `resume=RUN` those of the run, and then the given ones.

    Raises: BadInput when there is no such run.
    """
    resume = value_of(overrides, "resume")
    if resume in (None, "auto", "null"):
        return list(overrides)
    record = read_json(find_resumed(resume, runs) / "run.json")
    return [*(stored_overrides(record, overrides) if record.get("task") == "train" else []), *overrides]


def _own_settings(record: dict[str, Any]) -> dict[str, Any]:
    return with_absolute_paths(record["config"], Path(record.get("cwd", Path.cwd())))


def _section(override: str) -> str:
    return re.split(r"[./]", key_of(override), maxsplit=1)[0]


def _restore(after: DictConfig, before: dict[str, Any], typed: Sequence[str], record: dict[str, Any]) -> None:
    """Give `after` the run's own value of every key that was composed alike `before` the typed overrides."""
    own = _own_settings(record)
    now, given = to_plain(after), [key_of(each) for each in typed]
    for name, _ in all_keys(TrainConfig):
        was, stands, is_own = (_get(plain, name) for plain in (before, now, own))
        is_typed = any(f"{key}.".startswith(f"{name}.") for key in given)
        of_the_run = name.split(".")[0] not in (*OF_THIS_PROCESS, "paths") and is_own is not MISSING
        if of_the_run and not is_typed and was == stands != is_own:
            OmegaConf.update(after, name, escaped(is_own), merge=False)


def _get(plain: dict[str, Any], name: str) -> Any:
    for part in name.split("."):
        plain = plain.get(part, MISSING) if isinstance(plain, dict) else MISSING
    return plain
