"""Errors as exit codes and short messages: what went wrong and what to change."""

import signal
import sys

from hydra.errors import HydraException, MissingConfigException
from omegaconf.errors import ConfigAttributeError, ConfigKeyError, OmegaConfBaseException

from sightline.config import did_you_mean, explain_key
from sightline.errors import BAD_INPUT, FAILED, GATE_NOT_MET, BadInput, GateNotMet, Interrupted
from sightline.runs.record import reason

NULL_GROUP = "Config group override must be a string or a list"
"""Hydra's message for `group=null`, which should be `~group`."""


def exit_code(error: BaseException) -> int | None:
    """The exit code of an error, or None for one that is not ours to translate (`SystemExit`)."""
    if isinstance(error, Interrupted):
        return error.exit_code
    if isinstance(error, KeyboardInterrupt):
        return 128 + signal.SIGINT
    if isinstance(error, BadInput | HydraException | OmegaConfBaseException) or NULL_GROUP in str(error):
        return BAD_INPUT
    if isinstance(error, GateNotMet):
        return GATE_NOT_MET
    return None if isinstance(error, SystemExit) else FAILED


def explain(error: BaseException) -> str:
    """What went wrong and what to change, in a line or two."""
    if isinstance(error, BadInput | Interrupted | GateNotMet):
        return str(error)
    if NULL_GROUP in str(error):
        groups = [arg.removesuffix("=null") for arg in sys.argv[1:] if arg.endswith("=null") and "." not in arg]
        return f"{' '.join(f'{group}=null' for group in groups)}: to leave a group out write ~{' ~'.join(groups)}"
    cause = error if isinstance(error, OmegaConfBaseException) else error.__cause__
    if isinstance(cause, ConfigKeyError | ConfigAttributeError) or (
        isinstance(cause, OmegaConfBaseException) and cause.full_key
    ):
        return explain_key(cause)
    if isinstance(error, HydraException):
        return _explain_composition(error)
    if isinstance(error, KeyboardInterrupt):
        return "stopped by SIGINT"
    return f"{type(error).__name__}: {reason(error)}"


def _explain_composition(error: HydraException) -> str:
    if isinstance(error, MissingConfigException) and error.options and error.missing_cfg_file:
        options = sorted(set(error.options))
        hint = did_you_mean(error.missing_cfg_file.rpartition("/")[2], options)
        return f"Could not find '{error.missing_cfg_file}'{hint}; there are: {', '.join(options)}"
    return "\n".join(line.rstrip() for line in str(error).splitlines() if line.strip())
