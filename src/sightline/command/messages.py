"""Errors as exit codes and short messages: what went wrong and what to change."""

import re
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from hydra.errors import HydraException, MissingConfigException
from omegaconf.errors import ConfigAttributeError, ConfigKeyError, OmegaConfBaseException

from sightline.command.hints import groups_of, hint_for_key, hint_for_option, keys_of
from sightline.config import UnknownKey, did_you_mean, explain_key, unknown_key
from sightline.errors import BAD_INPUT, FAILED, GATE_NOT_MET, BadInput, Damaged, GateNotMet, Interrupted
from sightline.runs.override_text import key_of
from sightline.runs.record import reason


def exit_code(error: BaseException) -> int | None:
    """The exit code of an error, or None for one that is not ours to translate (`SystemExit`)."""
    if isinstance(error, Interrupted):
        return error.exit_code
    if isinstance(error, KeyboardInterrupt):
        return 128 + signal.SIGINT
    if isinstance(error, BadInput | HydraException | OmegaConfBaseException):
        return BAD_INPUT
    if isinstance(error, GateNotMet):
        return GATE_NOT_MET
    return None if isinstance(error, SystemExit) else FAILED


def explain(error: BaseException) -> str:
    """What went wrong and what to change, in a line or two."""
    if isinstance(error, UnknownKey):
        return _explain_unknown(error.key, error.siblings) or str(error)
    if isinstance(error, BadInput | Interrupted | GateNotMet | Damaged):
        return str(error)
    cause = error if isinstance(error, OmegaConfBaseException) else error.__cause__
    if isinstance(cause, ConfigKeyError | ConfigAttributeError):
        key, siblings = unknown_key(cause)
        return _explain_unknown(key, siblings) or explain_key(cause)
    if isinstance(cause, OmegaConfBaseException) and cause.full_key:
        return explain_key(cause)
    if isinstance(error, HydraException):
        return _explain_composition(error)
    if isinstance(error, KeyboardInterrupt):
        return "stopped by SIGINT"
    return f"{type(error).__name__}: {reason(error)}"


def _explain_unknown(key: str, siblings: Sequence[str]) -> str | None:
    """What to type instead of a key that there is not; None without an idea, or where the key counts elsewhere."""
    if key.startswith(("launch.", "hydra.")):
        return None
    typed = [arg for arg in sys.argv[1:] if key_of(arg) == key or key_of(arg).startswith(f"{key}.")]
    name, equals, value = typed[-1].lstrip("+").partition("=") if typed else (key, "", "")
    hint = hint_for_key(_task(), name, value or "…", siblings if name == key else ())
    return None if hint is None else f"{name}{equals}{value}: no such key{hint}"


def _explain_composition(error: HydraException) -> str:
    if isinstance(error, MissingConfigException) and error.options and error.missing_cfg_file:
        groups = [group for group in groups_of(_task()) if error.missing_cfg_file.startswith(f"{group}/")]
        group = max(groups, key=len, default=error.missing_cfg_file.rpartition("/")[0])
        option = error.missing_cfg_file[len(group) + 1 :]
        hint = hint_for_option(_task(), group, option, sorted(set(error.options)))
        return f"{group}={option}: no such option{hint}"
    message = " ".join(line.strip() for line in str(error).splitlines() if line.strip())
    if there := re.match(r"Could not append to config. An item is already at '(.+?)'", message):
        return f"+{there[1]}: has a value already; leave the + out"
    if absent := re.match(r"Could not delete (?:from config. )?'(.+?)'", message):
        known = (*groups_of(_task()), *keys_of(_task()))
        return f"~{absent[1]}: no such group or key{did_you_mean(absent[1], known, '~')}; leave it out"
    if not_here := re.match(r"Could not override '(.+?)'. No match in the defaults list", message):
        return _explain_unknown(not_here[1], ()) or f"{not_here[1]}: no such group or key; --help lists them"
    if no_group := re.match(r"Override (.+?) looks like a config group override", message):
        return f"{no_group[1]}: no such group; there are {', '.join(groups_of(_task()))}"
    return message


def _task() -> str:
    return Path(sys.argv[0]).stem
