"""The class or function that a dotted name means, and where code of one's own went wrong."""

import importlib
import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from sightline.config.constraints import did_you_mean
from sightline.errors import BadInput
from sightline.runs.project import PACKAGE


def locate(target: str, key: str) -> Callable[..., Any]:
    """The class or function that a `_target_` names; `key` names its node in errors.

    Raises: BadInput when there is none, or its module cannot be imported.
    """
    module, _, name = target.rpartition(".")
    try:
        found = _import_longest(target)
    except BadInput:
        raise
    except (Exception, SystemExit) as error:  # whatever the code of a module does when it is imported
        raise BadInput(f"{key}._target_={target}: its module cannot be imported ({where_raised(error)})") from error
    if isinstance(found, _Missing):
        hint = did_you_mean(found.name, found.known, f"{found.module}.") if found.known else ""
        what = f"{found.module} has no {found.name}" if found.module else f"there is no module {found.name}"
        raise BadInput(f"{key}._target_={target}: {what}{hint}; correct it")
    if not callable(found):
        raise BadInput(
            f"{key}._target_={target}: {name} of {module} is of type {type(found).__name__}, and no class or function"
        )
    return found


def parameters_of(target: Callable[..., Any]) -> Mapping[str, inspect.Parameter]:
    """The parameters of a class or a function by name; none of one that is written in C."""
    try:
        return inspect.signature(target).parameters
    except (TypeError, ValueError):
        return {}


class _Missing:
    """What a module does not have, and what it has."""

    def __init__(self, module: str, name: str, known: list[str]) -> None:
        self.module, self.name, self.known = module, name, known


def _import_longest(target: str) -> Any:
    """The object of a dotted name: modules are imported as far as they go, the rest are attributes."""
    parts = target.split(".")
    found: Any = None
    for number, part in enumerate(parts):
        path = ".".join(parts[: number + 1])
        if found is not None and hasattr(found, part):
            found = getattr(found, part)
            continue
        if found is not None and not inspect.ismodule(found):
            return _Missing(".".join(parts[:number]), part, [each for each in dir(found) if not each.startswith("_")])
        try:
            found = importlib.import_module(path)
        except ModuleNotFoundError as error:
            if error.name is None or not f"{path}.".startswith(f"{error.name}."):
                raise  # of what it imports itself
            known = [] if found is None else [each for each in dir(found) if not each.startswith("_")]
            return _Missing(".".join(parts[:number]), part, known)
    return found


def where_raised(error: BaseException) -> str:
    """An error in one line; of own code with the line that raised it."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    if isinstance(error, SyntaxError):
        return f"{error.filename} line {error.lineno}: {error.msg}"
    file = "" if trace is None else trace.tb_frame.f_code.co_filename
    if trace is None or Path(file).is_relative_to(PACKAGE) or "site-packages" in file or file.startswith("<"):
        return _in_one_line(error) or type(error).__name__
    return f"{file} line {trace.tb_lineno}: {type(error).__name__}: {_in_one_line(error)}"


def _in_one_line(error: BaseException) -> str:
    return " ".join(str(error).split())
