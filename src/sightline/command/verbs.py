"""Programs with verbs: `python src/jobs.py VERB [NAME …] [key=value …] [--json]`."""

import inspect
import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext, redirect_stdout
from dataclasses import asdict, dataclass, field, is_dataclass, replace
from typing import Any, NoReturn

from hydra.core.utils import configure_log
from omegaconf import DictConfig, OmegaConf

from sightline.command.arguments import HELP, VERSION, read_overrides
from sightline.command.composition import compose
from sightline.command.help import describe_keys, table_lines, version_text
from sightline.command.program import invocation, run_and_exit
from sightline.config import TASKS, did_you_mean, refuse_unknown_keys, validate_task
from sightline.errors import BadInput
from sightline.runs.override_text import key_of, override, value_of
from sightline.runs.project import IS_INSTALLED


@dataclass(frozen=True)
class Verbs:
    """The verbs of a program: `VERB [NAME …] [key=value …] [--json]`.

    A function of `functions` takes the configuration, as the dataclass of `configs/<task>.yaml`, and the names; its
    first line of documentation is its help. It returns what JSON can hold, dataclasses and iterators included;
    `printed` has the functions that show results to people, where `print` will not do. `options` are further spellings
    of keys: `--into DIR` for `into=DIR`, or `from` for a key that Python cannot name so. With `takes_invocation`
    functions take what was typed, too, before the names. `parameters` are further names of keys, like `Epochs` for
    `trainer.max_epochs`; `defaults` has, by verb, what its command line begins with.
    """

    task: str
    functions: Mapping[str, Callable[..., Any]]
    printed: Mapping[str, Callable[[Any], None]] = field(default_factory=dict)
    options: Mapping[str, str] = field(default_factory=dict)
    takes_invocation: bool = False
    parameters: Mapping[str, str] = field(default_factory=dict)
    defaults: Mapping[str, Sequence[str]] = field(default_factory=dict)
    checks: Mapping[str, Callable[[Any], None]] = field(default_factory=dict)
    """By verb: what raises an error for a result once it is printed."""

    def usage(self, verb: str) -> str:
        """`status JOB`; names that may be left out in brackets."""
        names = [*inspect.signature(self.functions[verb]).parameters.values()][1 + self.takes_invocation :]
        upper = [f"{each.name.upper()}{' …' if each.kind is each.VAR_POSITIONAL else ''}" for each in names]
        required = [each.default is each.empty and each.kind is not each.VAR_POSITIONAL for each in names]
        shown = [name if needed else f"[{name}]" for name, needed in zip(upper, required, strict=True)]
        return " ".join([verb, *shown])


def run_verbs(load: Callable[[], Verbs]) -> NoReturn:
    """Run a program with verbs and exit as `run` does; `load` is called once errors are caught.

    `--help` lists the verbs and the keys, `VERB --help` describes one. With `--json` one JSON document stands alone on
    stdout: what the verb prints goes to stderr, and a stream becomes a list once it ends.
    """
    run_and_exit(lambda: do_verb(load(), sys.argv[1:], sets_up_logging=True))


def do_verb(verbs: Verbs, args: Sequence[str], *, sets_up_logging: bool = False) -> None:
    """Run the verb that the arguments name and print its result.

    Raises: BadInput for a verb, a name, an option or a key that there is not.
    """
    if list(args) in ([VERSION], ["version"]):
        print(version_text())
        return
    args = [HELP[0], *args[1:]] if args and args[0] == "help" else args
    flags = {*args} & {"--json", *HELP}
    args, settings = _take_options(verbs, [arg for arg in args if arg not in flags])
    names = [arg for arg in args if arg == "-" or ("=" not in arg and not arg.startswith(("-", "~")))]
    verb, *names = names or [""]
    if verb not in verbs.functions and (verb or not flags & {*HELP}):
        problem = f"{verb}: no such verb{did_you_mean(verb, verbs.functions)}" if verb else "say what to do"
        raise BadInput(f"{problem}; the verbs are {', '.join(verbs.functions)}")
    given = [_with_key(verbs, arg) for arg in args if arg not in (verb, *names)]
    begins = [each for each in verbs.defaults.get(verb, ()) if value_of(given, key_of(each)) is None]
    overrides, guesses = read_overrides(verbs.task, [*begins, *given])
    cfg = compose(verbs.task, overrides, with_hydra=True)
    if sets_up_logging:
        configure_log(cfg.hydra.job_logging)
    choices = {str(group): choice for group, choice in cfg.hydra.runtime.choices.items()}
    OmegaConf.set_struct(cfg, False)
    del cfg["hydra"]
    refuse_unknown_keys(cfg)
    for key, value in settings.items():
        OmegaConf.update(cfg, key, value)
    if flags & {*HELP}:
        print(_help_of_verbs(verbs, verb, cfg))
        return
    settings_of_task = validate_task(cfg, TASKS[verbs.task])
    typed = [*overrides, *(override(key, value) for key, value in settings.items())]
    given = replace(invocation(), overrides=tuple(typed), guesses=tuple(guesses), choices=choices)
    told = [given] if verbs.takes_invocation else []
    _call_and_print(verbs, verb, (settings_of_task, *told), names, as_json="--json" in flags)


def _with_key(verbs: Verbs, arg: str) -> str:
    """An override by the name of a parameter as one by its key.

    Raises: BadInput for a name in capitals that is no parameter.
    """
    name, equals, value = arg.partition("=")
    if not verbs.parameters or not name[:1].isupper():
        return arg
    if name not in verbs.parameters:
        known = ", ".join(verbs.parameters)
        raise BadInput(f"{name}: no step takes this parameter{did_you_mean(name, verbs.parameters)}; there are {known}")
    return f"{verbs.parameters[name]}{equals}{value}"


def _take_options(verbs: Verbs, args: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    """The arguments without the options of the program, and the values of the keys that these set."""
    kept, settings, rest = [], {}, iter(args)
    for arg in rest:
        option, equals, value = arg.partition("=")
        is_spelling = bool(equals) and option in verbs.options
        if option == "-" or not (option.startswith("-") or is_spelling):
            kept.append(arg)
            continue
        if option not in verbs.options:
            known = ["--json", "--help", *verbs.options]
            raise BadInput(f"{option}: no such option{did_you_mean(option, known)}; there are {', '.join(known)}")
        if not equals and (value := next(rest, "")) == "":
            raise BadInput(f"{option}: no value is given; say {verbs.options[option]}=…")
        settings[verbs.options[option]] = value
    return kept, settings


def _call_and_print(verbs: Verbs, verb: str, told: tuple[Any, ...], names: Sequence[str], *, as_json: bool) -> None:
    function = verbs.functions[verb]
    try:
        inspect.signature(function).bind(*told, *names)
    except TypeError:
        raise BadInput(f"{' '.join([verb, *names])}: write it as {verbs.usage(verb)}") from None
    with redirect_stdout(sys.stderr) if as_json else nullcontext():
        found = function(*told, *names)
        text = json.dumps(found, default=_plain, ensure_ascii=False, indent=2) if as_json else ""
    if as_json:
        print(text)
    else:
        verbs.printed.get(verb, print)(found)
    verbs.checks.get(verb, bool)(found)


def _plain(value: Any) -> Any:
    """A dataclass as a dictionary, an iterator as a list, anything else as text: for values that JSON lacks."""
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    return list(value) if isinstance(value, Iterator) else str(value)


def _help_of_verbs(verbs: Verbs, verb: str, cfg: DictConfig) -> str:
    program = f"sightline {verbs.task}" if IS_INSTALLED else f"python src/{verbs.task}.py"
    keys = ["keys:", "", *table_lines(dict(describe_keys(cfg))), "", "--json: one JSON document alone on stdout"]
    if verb:
        usage, about = f"{program} {verbs.usage(verb)}", inspect.getdoc(verbs.functions[verb]) or ""
    else:
        table = {verbs.usage(each): inspect.getdoc(verbs.functions[each]) or "" for each in verbs.functions}
        usage, about = (
            f"{program} VERB",
            "\n".join(table_lines({name: text.split("\n")[0] for name, text in table.items()})),
        )
    return "\n".join([f"{usage} [key=value …] [--json]", "", about, "", *keys])
