"""The own code of a task: opened before anything of it is built, and held to what a request or a record states."""

from pathlib import Path
from typing import Any, TypeVar

from sightline.config.conversion import to_plain, with_value
from sightline.config.own_code import OwnCode, open_code, targets_of
from sightline.runs.folder import find_resumed
from sightline.runs.invocation import UNTOLD, Invocation

Task = TypeVar("Task", bound=Any)


def with_own_code(cfg: Task, invocation: Invocation = UNTOLD) -> tuple[Task, OwnCode]:
    """The configuration with the hashes of the own code that it names, which can be imported from now on.

    What was typed here is trusted. A job, and a run that goes on with the settings of its record, take what their
    request or record states, or what `trust_code` lets in.

    Raises: BadInput for code that is not there, or not to be trusted.
    """
    resumed = getattr(cfg, "resume", None)
    record = None if resumed in (None, "auto") else find_resumed(resumed, Path(cfg.paths.runs))
    is_stated = bool(cfg.code_sha256) or invocation.is_job or record is not None
    known = cfg.code_sha256 if is_stated else None
    of = None if invocation.is_job else record  # a job's request was made where the record was looked at
    code = open_code(targets_of(to_plain(cfg)), cfg.extensions, known=known, record=of, trusts=cfg.trust_code)
    return (with_value(cfg, "code_sha256", dict(code.sha256)) if code.sha256 else cfg), code
