"""The words of a command line, understood: flags, overrides that Hydra reads as they were meant, and guesses."""

import os
import re
from collections import deque
from collections.abc import Container, Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException

from sightline.command.hints import (
    groups_of,
    hint_for_key,
    hint_for_option,
    is_known,
    is_there,
    keys_of,
    option_meant,
    what_is_meant,
)
from sightline.config import path_keys
from sightline.errors import BadInput
from sightline.runs.guesses import Guess
from sightline.runs.invocation import JOB
from sightline.runs.override_text import in_shell, key_of, literal, typed, value_of
from sightline.runs.project import OWN_PROJECT, extensions_of, own_project

HELP = ("--help", "-h")
VERSION = "--version"
SEVERAL = ("-m", "--multirun")
FLAGS = (*HELP, VERSION, *SEVERAL, "--hydra-help", "--resolve", "--shell-completion", "-sc", "--info", "-i")
"""Those of Hydra that take no value; but for `--run`, which is what programs do anyway."""
FLAGS_WITH_VALUE = ("--cfg", "-c", "--package", "-p", "--config-path", "-cp", "--config-name", "-cn", "--config-dir")
FLAGS_WITH_VALUE += ("-cd", "--experimental-rerun")
INFO = ("all", "config", "defaults", "defaults-tree", "plugins", "searchpath")
"""What may follow `--info`."""
ONE_RUN = {"hparams_search": "null", "launch": "here"}
"""Groups that select multirun mode unless they have this value."""
FUNCTIONS = ("choice", "range", "interval", "glob", "sort", "shuffle", "tag", "int", "float", "str", "bool", "json_str")
"""What Hydra calls in a value, like `interval(1e-4,1e-2)`."""
BRACKETS = {"[": "]", "{": "}"}
OWN_DATA = ("train", "find_lr", "prepare", "data_versions", "pipeline")
"""Tasks whose `data.root` names images to train on."""
TRAINING = ("train", "find_lr", "pipeline")
"""Those of them that have experiments."""
LISTED = "--help lists the keys"
CHECKED_OUT = "data.root=${paths.cache}/data_versions"
"""What stands beside a version of data where nobody typed a root."""


@dataclass(frozen=True)
class Arguments:
    """Hydra's flags, the overrides as Hydra reads them, and what was understood that was not typed."""

    flags: tuple[str, ...]
    overrides: tuple[str, ...]
    guesses: tuple[Guess, ...] = ()


def read_arguments(task: str, args: Sequence[str], positional: str | None = None) -> Arguments:
    """Understand what was typed after a program's name.

    Words without `=` are values of the key `positional`, where the task has one.

    Raises: BadInput with what to type, for a flag, a word or an override that cannot be meant as it stands.
    """
    if args and args[0] == "help" and not is_there("help"):
        args = [HELP[0], *args[1:]]
    flags, words, wrong = _split_flags(args)
    if wrong:
        _refuse_flags(task, wrong)
    words = _with_positional(task, words, positional)
    if not flags and _means_several_runs(words):
        flags = [SEVERAL[0]]
    several_runs = any(flag in SEVERAL for flag in flags) or value_of(words, "hydra.mode") == "MULTIRUN"
    overrides, guesses = read_overrides(task, words, several_runs=several_runs)
    return Arguments(tuple(flags), tuple(overrides), tuple(guesses))


def read_overrides(task: str, overrides: Sequence[str], *, several_runs: bool = False) -> tuple[list[str], list[Guess]]:
    """The overrides as Hydra reads them, with what follows from them, and the guesses about that.

    Paths may stand as they are, with any character. `data.root=FOLDER` alone means `data=folder`, and `data=folder`
    without an experiment is trained with `experiment=photos`; what `data.root` is to a data module, it alone knows.

    Raises: BadInput with what to type.
    """
    read = _with_nodes(task, [_read(task, each, several_runs=several_runs) for each in overrides])
    given = {key_of(each) for each in read if not each.startswith("~")}
    if JOB in read or value_of(read, "resume") not in (None, "auto", "null"):
        return read, []
    guesses = [] if "extensions" in given or "extensions" not in keys_of(task) else _own_code()
    if task not in OWN_DATA or given & {"datamodule", "datamodule._target_"}:
        return [*read, *map(Guess.override, guesses)], guesses
    named = [key for key in ("data.root", "data.version") if value_of(read, key) not in (None, "", "null")]
    if named and not given & {"data", "experiment"}:
        guesses.append(Guess("data", "folder", f"{named[0]} is given, and neither data nor experiment"))
    is_folder = value_of(read, "data") == "folder" or any(guess.key == "data" for guess in guesses)
    if task in TRAINING and "experiment" not in given and is_folder:
        guesses.append(Guess("experiment", "photos", "data=folder without an experiment"))
    if named == ["data.version"] and is_folder:
        read += _place_of_version(str(value_of(read, "data.version")), given)
    return [*read, *map(Guess.override, guesses)], guesses


def _place_of_version(version: str, given: Container[str]) -> list[str]:
    """What `data=folder` needs to compose beside a version, which lies where it is checked out."""
    name = [] if "data.name" in given else [f"data.name={literal(version.partition('/')[0])}"]
    return [*name, CHECKED_OUT]


def _own_code() -> list[Guess]:
    """The code of the project of one's own that the command is typed in."""
    if (project := own_project()) is None or (code := extensions_of(project)) is None:
        return []
    return [Guess("extensions", str(code), f"{project / OWN_PROJECT} says so")]


def _split_flags(args: Sequence[str]) -> tuple[list[str], list[str], list[tuple[str, str | None]]]:
    """Hydra's flags with their values, the other words, and the flags that there are not with theirs."""
    flags, words, wrong, rest = [], [], [], deque(args)
    while rest:
        arg = rest.popleft()
        name, equals, value = arg.partition("=")
        if not arg.startswith("-") or arg == "-":
            words.append(arg)
        elif name in FLAGS_WITH_VALUE:
            flags += [arg] if equals or not rest else [arg, rest.popleft()]
        elif name in FLAGS:
            flags += [arg, rest.popleft()] if name in ("--info", "-i") and rest and rest[0] in INFO else [arg]
        elif equals:
            wrong.append((name, value))
        else:
            is_value = bool(rest) and "=" not in rest[0] and not rest[0].startswith("-")
            wrong.append((name, rest.popleft() if is_value else None))
    return flags, words, wrong


def _refuse_flags(task: str, wrong: Sequence[tuple[str, str | None]]) -> None:
    """Raises: BadInput with the overrides that `--key value` means, or the flags that there are."""
    said = " ".join(name if value is None else f"{name} {value}" for name, value in wrong)
    answers = [
        " or ".join(_keys_meant(task, name.lstrip("-").replace("-", "_"), "true" if value is None else value))
        for name, value in wrong
    ]
    if all(answers):
        raise BadInput(f"{said}: arguments are written key=value; type {' '.join(answers)}")
    unknown = [name for (name, _), answer in zip(wrong, answers, strict=True) if not answer]
    known = ", ".join((HELP[0], VERSION, SEVERAL[1], "--cfg job", "--info defaults", "--hydra-help"))
    raise BadInput(f"{', '.join(unknown)}: no such option; there are {known}, and key=value ({LISTED})")


def _keys_meant(task: str, key: str, value: str) -> list[str]:
    """What `--key value` means as an override."""
    if key in keys_of(task) or value in groups_of(task).get(key, ()):
        return [in_shell(f"{key}={value}")]
    option = option_meant(task, key, value) if key in groups_of(task) else None
    return [option] if option else what_is_meant(task, key, value)


def _means_several_runs(words: Sequence[str]) -> bool:
    """Whether a group sets multirun mode, which Hydra takes from a flag: it would hide what is wrong."""
    chosen = {key: value_of(words, key) for key in ("hydra.mode", *ONE_RUN)}
    return chosen["hydra.mode"] is None and any(chosen[key] not in (None, one) for key, one in ONE_RUN.items())


def _with_positional(task: str, words: Sequence[str], positional: str | None) -> list[str]:
    """The overrides among the words, with the others as the value of the key `positional`.

    Raises: BadInput for a word that is neither.
    """
    loose = [word for word in words if not _is_override(word) or (positional and is_there(word))]
    overrides = [word for word in words if word not in loose]
    if not loose:
        return overrides
    if positional is None or not all(map(is_there, loose)):
        _refuse_split_words(words)
    if positional is None:
        raise BadInput(f"{loose[0]}: arguments are written key=value{_meaning_of(task, loose[0])}")
    named = [each for each in overrides if key_of(each) == positional]
    values = [value for each in named if (parsed := _parse(each)) for value in _as_list(parsed)]
    values += loose
    if len(values) > 1 and not _takes_list(task, positional):
        raise BadInput(f"{' '.join(loose)}: name one alone, like {typed(positional, loose[0])}")
    text = literal(values[0]) if len(values) == 1 else f"[{','.join(map(literal, values))}]"
    return [*(each for each in overrides if each not in named), f"{positional}={text}"]


def _is_override(word: str) -> bool:
    return "=" in word or word.startswith("~")


def _refuse_split_words(words: Sequence[str]) -> None:
    """Raises: BadInput for a path or a bracket with blanks, which a shell has made several words of."""
    for number, word in enumerate(words):
        key, _, value = word.partition("=")
        rest = list(takewhile(lambda each: not _is_override(each), words[number + 1 :]))
        if not _is_override(word) or not rest or not value:
            continue
        kind, whole = path_keys().get(key_of(key)), " ".join((value, *rest))
        is_path = kind is not None and (is_there(whole) or (kind != "run" and not is_there(value)))
        if value[0] in BRACKETS and whole[-1] == BRACKETS[value[0]] and _parse(f"{key}={whole}"):
            meant = in_shell(f"{key}={whole}")
        elif is_path:
            meant = typed(key, whole)
        else:
            continue
        raise BadInput(f"{key}={whole}: a shell splits words at blanks; type {meant}")


def _meaning_of(task: str, word: str) -> str:
    """`; type KEY=WORD` for a word that names a file, an option of a group, or a key."""
    if is_there(word):
        keys = [key for key in ("images", "data.root", "run") if key in keys_of(task)]
        if keys:
            return f"; type {typed('run' if task == 'evaluate' else keys[0], word)}"
    groups = [group for group, options in groups_of(task).items() if word in options]
    if groups:
        first = [group for group in groups if group == "experiment"] or groups
        return f"; type {' or '.join(f'{group}={word}' for group in first)}"
    if word in (*keys_of(task), *groups_of(task)):
        return f"; type {word}=VALUE"
    meant = what_is_meant(task, word, "VALUE")
    return f"; type {' or '.join(meant)}" if meant else f"; {LISTED}"


def _read(task: str, override: str, *, several_runs: bool) -> str:
    """An override as Hydra reads it as it was meant.

    Raises: BadInput with what to type.
    """
    key, equals, text = override.partition("=")
    name, parsed = key_of(override), _parse(override)
    if not name or (parsed is None and not equals):
        raise BadInput(f"{override}: arguments are written key=value, like seed=3; {LISTED}")
    if equals and not override.startswith("~"):
        if name in path_keys():
            _check_named(task, name, text)
            override = _read_path(task, key, text, parsed, several_runs=several_runs)
            parsed = _parse(override)
        elif parsed is not None and _is_text(task, name) and _is_number(parsed):
            override = f"{key}={literal(text)}"
    if parsed is None:
        raise BadInput(_explain_grammar(task, key, text))
    if not override.startswith("~"):
        _check_option(task, key, text, parsed)
    if parsed.is_sweep_override() and not several_runs:
        raise BadInput(_explain_sweep(task, key, text, parsed))
    return override


def _with_nodes(task: str, overrides: Sequence[str]) -> list[str]:
    """The overrides with `++`, as Hydra wants it, before a `_target_` and the arguments that are typed beside it."""
    places = [key_of(each).rpartition(".") for each in overrides]
    nodes = {place for place, _, last in places if last == "_target_" and _takes_node(task, place)}
    return [
        f"++{each}" if place in nodes and not each.startswith(("+", "~")) and not _is_sweep(each) else each
        for each, (place, _, _) in zip(overrides, places, strict=True)
    ]


def _takes_node(task: str, key: str) -> bool:
    """Whether a key may have any value, or lies in one that holds any keys."""
    return any(f"{key}.".startswith(f"{name}.") for name in keys_of(task))


def _is_sweep(override: str) -> bool:
    parsed = _parse(override)
    return parsed is not None and parsed.is_sweep_override()


def _parse(override: str) -> Override | None:
    """What Hydra reads; None where its grammar does not take it."""
    try:
        return OverridesParser.create().parse_overrides([override])[0]
    except HydraException:
        return None


def _check_named(task: str, key: str, text: str) -> None:
    """Raises: BadInput for a place that must be named and is not, as where a variable of the shell is empty."""
    field = keys_of(task).get(key)
    if not text and field is not None and (field.type is str or field.metadata.get("several")):
        raise BadInput(f"{key}=: names nothing; write {key}=FOLDER")


def _read_path(task: str, key: str, text: str, parsed: Override | None, *, several_runs: bool) -> str:
    """An override of a key that names a place: with quotes where Hydra would not read the text as it stands."""
    if os.path.expanduser(text).startswith("~"):  # noqa: PTH111 (where Path's own raises RuntimeError)
        if not is_there(text):
            raise BadInput(f"{key}={text}: there is no such user, and no file or folder of that name here; correct it")
        return f"{key}={literal(os.path.abspath(text))}"  # noqa: PTH100
    parts = text.removeprefix("[").removesuffix("]").split(",")
    are_there = len(parts) > 1 and all(map(is_there, parts)) and not is_there(text)
    if _takes_list(task, key_of(key)) and not several_runs:
        if are_there:
            return f"{key}=[{','.join(map(literal, parts))}]"
        if parsed is not None and parsed.is_choice_sweep() and not is_there(text):
            return f"{key}=[{','.join(literal(str(each)) for each in _as_list(parsed))}]"
    if several_runs and are_there and not text.startswith("["):
        return f"{key}={','.join(map(literal, parts))}"
    if parsed is None:
        is_container = text.startswith(("[", "{")) and not is_there(text)
        return f"{key}={text if is_container else literal(text)}"
    value = None if parsed.is_sweep_override() else parsed.value()
    is_read_otherwise = parsed.is_sweep_override() or value not in (None, text) or "${" in text
    is_text = _is_number(parsed) or (is_read_otherwise and is_there(text))
    return f"{key}={literal(text) if is_text else text}"


def _is_number(parsed: Override) -> bool:
    return not parsed.is_sweep_override() and isinstance(parsed.value(), int | float)


def _is_text(task: str, key: str) -> bool:
    """Whether the value of a key is text, which Hydra must not read as the number that it looks like."""
    return key in keys_of(task) and keys_of(task)[key].type in (str, str | None)


def _takes_list(task: str, key: str) -> bool:
    """Whether the value of a key may be several, in brackets."""
    field = keys_of(task).get(key)
    return field is not None and ("list" in str(field.type) or bool(field.metadata.get("several")))


def _as_list(parsed: Override) -> list[Any]:
    """The values of a sweep or of a list, or the only one."""
    value = list(parsed.sweep_iterator()) if parsed.is_choice_sweep() else parsed.value()
    return value if isinstance(value, list) else [value]


def _check_option(task: str, key: str, text: str, parsed: Override) -> None:
    """Raises: BadInput for a group's value that is none, or no name, or that would be added to what is there."""
    name, value = key_of(key), None if parsed.is_sweep_override() else parsed.value()
    group = name.replace(".", "/")
    if group != name and group in groups_of(task) and isinstance(value, str):
        raise BadInput(f"{key}={text}: chooses no option; type {in_shell(f'{group}={text}')}")
    is_group = name in groups_of(task)
    if (is_group or name.startswith("hydra/")) and (text.lower() == "null" or not text):
        raise BadInput(f"{key}={text}: to leave a group out write ~{group}")
    if is_group and key.startswith("+"):
        raise BadInput(f"{key}={text}: a group's option is chosen without +; type {in_shell(f'{group}={text}')}")
    if is_group and isinstance(value, int | float | dict):
        raise BadInput(f"{key}={text}: no such option{hint_for_option(task, group, text, groups_of(task)[group])}")


def _explain_grammar(task: str, key: str, text: str) -> str:
    """What to type instead of an override that Hydra's grammar does not take."""
    name = key_of(key)
    if _parse(f"{key}=1") is None:
        name = ".".join(part for part in re.split(r"[^\w/-]+", name) if part)
        meant = [in_shell(f"{name}={text}")] if name in keys_of(task) else what_is_meant(task, name, text)
        return f"{key}={text}: no such key; {'type ' + ' or '.join(meant) if meant else LISTED}"
    if not is_known(task, name):
        return f"{key}={text}: no such key{hint_for_key(task, name, text) or f'; {LISTED}'}"
    holds_more = text.startswith(("[", "{")) and not _is_text(task, name)
    if holds_more or re.match(rf"({'|'.join(FUNCTIONS)})\s*\(", text):
        example = {"[": "[a,b]", "{": "{a: 1}"}.get(text[0], "interval(1,2)")
        return f"{key}={text}: its brackets, commas or quotes do not match; write it like '{key}={example}'"
    return f"{key}={text}: has characters that need quotes; type {typed(key, text)}"


def _explain_sweep(task: str, key: str, text: str, parsed: Override) -> str:
    """What to type instead of several values for one run."""
    if parsed.is_interval_sweep():
        return f"{key}={text}: a range to search in; add hparams_search=optuna"
    other = ""
    if _takes_list(task, key_of(key)):
        other = f", or for a list type {in_shell(f'{key}=[{text}]')}"
    elif key_of(key) in path_keys():
        other = f", or for one path type {typed(key, text)}"
    return f"{key}={text}: one run for each value; add -m{other}"
