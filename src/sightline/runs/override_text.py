"""Hydra overrides as text: the key, the value, and the quotes that Hydra needs. Standard library alone."""

import re
import shlex
from collections.abc import Iterable, Mapping
from typing import Any

PLAIN = re.compile(r"[\w./@-]+", re.ASCII)
"""Values that need no quotes."""
SHELL_PLAIN = re.compile(r"[\w./@+~=:,%…\[\]-]+")
"""Arguments that a shell reads as they stand."""


def key_of(override: str) -> str:
    """`model.lr` of `++model.lr=0.1`."""
    return override.lstrip("+~").split("=", 1)[0].split("@", 1)[0]


def value_of(overrides: Iterable[str], key: str) -> str | None:
    """The text that the last override of a key sets; None without one."""
    given = [override.partition("=")[2] for override in overrides if key_of(override) == key and "=" in override]
    return unquoted(given[-1]) if given else None


def quoted(text: str, quote: str = "'") -> str:
    """A text as an override's value that Hydra reads as just this text."""
    return text if PLAIN.fullmatch(text) else literal(text, quote)


def literal(text: str, quote: str = "'") -> str:
    """The same in quotes, whatever it looks like: a number stays text, and nothing is looked up."""
    return in_quotes(text.replace("${", "\\${"), quote)


def in_quotes(text: str, quote: str = "'") -> str:
    """In quotes; backslashes are doubled where Hydra takes one off, before a quote."""
    doubled = re.sub(rf"(\\*){quote}", lambda found: found[1] * 2 + f"\\{quote}", text)
    trailing = len(doubled) - len(doubled.rstrip("\\"))
    return f"{quote}{doubled}{doubled[len(doubled) - trailing :]}{quote}"


def in_shell(argument: str) -> str:
    """An argument as one types it: in quotes where a shell would read something else."""
    return argument if SHELL_PLAIN.fullmatch(argument) else shlex.quote(argument)


def typed(key: str, value: Any) -> str:
    """`key=value` as one types it in a shell, with the quotes that Hydra needs in those that the shell needs."""
    is_loose = isinstance(value, str) and not PLAIN.fullmatch(value)
    text = in_quotes(value, '"') if is_loose else _value_text(value, '"')
    return in_shell(f"{key}={text}")


def unquoted(value: str) -> str:
    """The text that Hydra reads in an override's value."""
    quote = value[:1]
    if len(value) >= 2 and quote in "'\"" and value.endswith(quote):
        inner = re.sub(rf"(\\+)({quote}|$)", lambda found: found[1][: len(found[1]) // 2] + found[2], value[1:-1])
        return inner.replace("\\${", "${")
    return re.sub(r"\\([\\()\[\]{}:=, \t])", r"\1", value)


def override(key: str, value: Any) -> str:
    """`key=value` as Hydra reads it back with the same type: null, true, numbers, lists, dictionaries, quoted text."""
    return f"{key}={_value_text(value)}"


def _value_text(value: Any, quote: str = "'") -> str:
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, list | tuple):
        return f"[{','.join(_value_text(each, quote) for each in value)}]"
    if isinstance(value, Mapping):
        entries = (f"{_value_text(str(name), quote)}:{_value_text(each, quote)}" for name, each in value.items())
        return f"{{{','.join(entries)}}}"
    return quoted(value, quote) if isinstance(value, str) else str(value)


def escaped(plain: Any) -> Any:
    """Plain values whose texts refer to nothing."""
    if isinstance(plain, dict):
        return {name: escaped(each) for name, each in plain.items()}
    if isinstance(plain, list):
        return [escaped(each) for each in plain]
    return re.sub(r"(\\*)\$\{", r"\1\1\\${", plain) if isinstance(plain, str) else plain
