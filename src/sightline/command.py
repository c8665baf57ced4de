"""The wrapper of every entry point: short errors, exit codes, signals. Never imports torch."""

import ast
import functools
import inspect
import json
import logging
import os
import re
import runpy
import select
import signal
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, redirect_stdout
from dataclasses import asdict, dataclass, field, fields, is_dataclass
from typing import Any, NoReturn

import hydra
import rich
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.object_type import ObjectType
from hydra.core.utils import configure_log
from hydra.errors import HydraException, MissingConfigException
from hydra.types import RunMode
from hydra.version import VersionBase
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import ConfigAttributeError, ConfigKeyError, OmegaConfBaseException

from sightline.config import TASKS, did_you_mean, refuse_unknown_keys, validate_task
from sightline.distributed import rank as process_rank
from sightline.env_file import load_env_file
from sightline.errors import BAD_INPUT, FAILED, GATE_NOT_MET, BadInput, GateNotMet, Interrupted
from sightline.runs import record as run_record
from sightline.runs.project import CONFIGS, IS_INSTALLED, PROGRAMS
from sightline.runs.record import reason

FULL_ERROR = "HYDRA_FULL_ERROR"
HELP = {"--help", "-h"}
SEVERAL = ("-m", "--multirun")
ONE_RUN = {"hparams_search": "null", "launch": "here"}
"""Groups that select multirun mode unless they have this value."""
OPEN = re.compile(r"hydra\.sweeper\.((sampler|pruner)[.=]|(metrics|params)=)")
"""Nodes with arguments of Optuna, whose keys no schema knows."""
HYDRA_SHORTENED = "1.3."
"""Versions of Hydra whose listing of groups `groups_listed_in_place` shortens."""
NULL_GROUP = "Config group override must be a string or a list"
"""Hydra's message for `group=null`, which should be `~group`."""
NOT_SAID = (
    # pytorch_lightning: advice on what is chosen here for a reason, or what our own messages say with the key
    ".*does not have many workers.*",
    ".*The number of training batches .* is smaller than the logging interval.*",
    ".*Checkpoint directory .* exists and is not empty.*",
    ".*persistent_workers.*",
    ".*your dataloader is not resumable.*",  # its sampler is
    ".*module.s. in eval mode at the start of training.*",
    "You requested to overfit but enabled .* dataloader shuffling.*",
    # torchmetrics: what the watch over divergence says with the step and the images
    "Encountered `nan` values in tensor. Will be removed.*",
    # torch: said once, with the key, when the data is made ready
    "This DataLoader will create .* worker processes.*",
    # torch: a step that mixed precision skipped, or a schedule that is called by Lightning
    ".*Detected call of `lr_scheduler.step.*",
    # torch, about how pytorch_lightning calls it
    ".*`isinstance.treespec, LeafSpec.` is deprecated.*",
)
"""Warnings of libraries that say nothing about our data and settings: left out of what commands say, and no errors in
the tests, where all others are."""


@dataclass(frozen=True)
class Verbs:
    """The verbs of a program: `VERB [NAME …] [key=value …] [--json]`.

    A function of `functions` takes the configuration, as the dataclass of `configs/<task>.yaml`, and the names; its
    first line of documentation is its help. It returns what JSON can hold, dataclasses and iterators included;
    `printed` has the functions that show results to people, where `print` will not do. `options` are further spellings
    of keys: `--into DIR` for `into=DIR`.
    """

    task: str
    functions: Mapping[str, Callable[..., Any]]
    printed: Mapping[str, Callable[[Any], None]] = field(default_factory=dict)
    options: Mapping[str, str] = field(default_factory=dict)

    def usage(self, verb: str) -> str:
        """`status JOB`; names that may be left out in brackets."""
        _, *names = inspect.signature(self.functions[verb]).parameters.values()
        upper = [f"{each.name.upper()}{' …' if each.kind is each.VAR_POSITIONAL else ''}" for each in names]
        required = [each.default is each.empty and each.kind is not each.VAR_POSITIONAL for each in names]
        shown = [name if needed else f"[{name}]" for name, needed in zip(upper, required, strict=True)]
        return " ".join([verb, *shown])


class _TaskFailed(BaseException):
    """Carries an error past Hydra, which would print it first."""


def task(function: Callable[[DictConfig], Any]) -> Callable[[DictConfig], Any]:
    """Decorate the function below `@hydra.main`: its errors reach `run` untouched."""

    @functools.wraps(function)
    def wrapped(cfg: DictConfig) -> Any:
        try:
            refuse_unknown_keys(cfg)
            return function(cfg)
        except Exception as error:
            if HydraConfig.get().mode == RunMode.MULTIRUN:
                raise  # Hydra goes on with the other runs and raises this one at the end
            raise _TaskFailed from error

    return wrapped


def main() -> None:
    """`sightline TASK …` of an installed wheel: `python src/TASK.py …`."""
    programs = {path.stem: path for path in sorted(PROGRAMS.glob("*.py"))}
    task, *args = sys.argv[1:] or ["--help"]
    if task in programs:
        sys.argv[:] = [str(programs[task]), *args]
        runpy.run_path(str(programs[task]), run_name="__main__")
    elif task in HELP:
        about = {
            name: ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) for name, path in programs.items()
        }
        lines = [f"  {name:10}{(text or '').split(': python')[0]}" for name, text in about.items()]
        print("\n".join(["sightline TASK …", "", *lines, "", "sightline TASK --help tells more of one"]))
    else:
        known = ", ".join(programs)
        print(f"error: {task}: no such task{did_you_mean(task, programs)}; there are {known}", file=sys.stderr)
        sys.exit(BAD_INPUT)


def run(main: Callable[[], Any], positional: str | None = None) -> NoReturn:
    """Run a Hydra program and exit: 0 done, 1 failed, 2 bad input, 4 a gate was not met, 130 or 143 interrupted.

    The reason is the last line on stderr; `HYDRA_FULL_ERROR=1` shows the traceback too. A first argument without `=` is
    the value of the key `positional`, where there is one. When the reader of the output leaves, as `head` does, the
    program ends silently.
    """

    def program() -> None:
        args = sys.argv[1:]
        if positional and args and "=" not in args[0] and not args[0].startswith("-"):
            args[0] = f"{positional}={args[0]}"
        sys.argv[1:] = _hydra_args(args)
        with groups_listed_in_place() if hydra.__version__.startswith(HYDRA_SHORTENED) else nullcontext():
            main()

    _run_and_exit(program)


def run_verbs(load: Callable[[], Verbs]) -> NoReturn:
    """Run a program with verbs and exit as `run` does; `load` is called once errors are caught.

    `--help` lists the verbs and the keys, `VERB --help` describes one. With `--json` one JSON document stands alone on
    stdout: what the verb prints goes to stderr, and a stream becomes a list once it ends.
    """
    _run_and_exit(lambda: do_verb(load(), sys.argv[1:], sets_up_logging=True))


def do_verb(verbs: Verbs, args: Sequence[str], *, sets_up_logging: bool = False) -> None:
    """Run the verb that the arguments name and print its result.

    Raises: BadInput for a verb, a name, an option or a key that there is not.
    """
    flags = {*args} & {"--json", *HELP}
    args, settings = _take_options(verbs, [arg for arg in args if arg not in flags])
    names = [arg for arg in args if arg == "-" or ("=" not in arg and not arg.startswith(("-", "~")))]
    verb, *names = names or [""]
    if verb not in verbs.functions and (verb or not flags & HELP):
        problem = f"{verb}: no such verb{did_you_mean(verb, verbs.functions)}" if verb else "say what to do"
        raise BadInput(f"{problem}; the verbs are {', '.join(verbs.functions)}")
    cfg = compose(verbs.task, [arg for arg in args if arg not in (verb, *names)], with_hydra=True)
    if sets_up_logging:
        configure_log(cfg.hydra.job_logging)
    OmegaConf.set_struct(cfg, False)
    del cfg["hydra"]
    refuse_unknown_keys(cfg)
    for key, value in settings.items():
        OmegaConf.update(cfg, key, value)
    if flags & HELP:
        print(_help_of_verbs(verbs, verb, cfg))
        return
    settings_of_task = validate_task(cfg, TASKS[verbs.task])
    _call_and_print(verbs, verb, (settings_of_task, *names), as_json="--json" in flags)


def _take_options(verbs: Verbs, args: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    """The arguments without the options of the program, and the values of the keys that these set."""
    kept, settings, rest = [], {}, iter(args)
    for arg in rest:
        option, equals, value = arg.partition("=")
        if option == "-" or not option.startswith("-"):
            kept.append(arg)
            continue
        if option not in verbs.options:
            known = ["--json", "--help", *verbs.options]
            raise BadInput(f"{option}: no such option{did_you_mean(option, known)}; there are {', '.join(known)}")
        if not equals and (value := next(rest, "")) == "":
            raise BadInput(f"{option}: no value is given; say {verbs.options[option]}=…")
        settings[verbs.options[option]] = value
    return kept, settings


def _call_and_print(verbs: Verbs, verb: str, arguments: tuple[Any, ...], *, as_json: bool) -> None:
    function = verbs.functions[verb]
    try:
        inspect.signature(function).bind(*arguments)
    except TypeError:
        raise BadInput(f"{' '.join([verb, *arguments[1:]])}: write it as {verbs.usage(verb)}") from None
    if not as_json:
        verbs.printed.get(verb, print)(function(*arguments))
        return
    with redirect_stdout(sys.stderr):
        text = json.dumps(function(*arguments), default=_plain, ensure_ascii=False, indent=2)
    print(text)


def _plain(value: Any) -> Any:
    """A dataclass as a dictionary, an iterator as a list, anything else as text: for values that JSON lacks."""
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    return list(value) if isinstance(value, Iterator) else str(value)


def _help_of_verbs(verbs: Verbs, verb: str, cfg: DictConfig) -> str:
    program = f"sightline {verbs.task}" if IS_INSTALLED else f"python src/{verbs.task}.py"
    keys = ["keys:", "", *_lines(dict(_describe_keys(cfg))), "", "--json: one JSON document alone on stdout"]
    if verb:
        usage, about = f"{program} {verbs.usage(verb)}", inspect.getdoc(verbs.functions[verb]) or ""
    else:
        table = {verbs.usage(each): inspect.getdoc(verbs.functions[each]) or "" for each in verbs.functions}
        usage, about = f"{program} VERB", "\n".join(_lines({name: text.split("\n")[0] for name, text in table.items()}))
    return "\n".join([f"{usage} [key=value …] [--json]", "", about, "", *keys])


def _describe_keys(cfg: DictConfig, prefix: str = "") -> Iterator[tuple[str, str]]:
    """`key=value` as composed, and what each key means."""
    schema = OmegaConf.get_type(cfg)
    assert schema is not None
    for each in fields(schema):
        value = cfg._get_node(each.name)
        if isinstance(value, DictConfig) and is_dataclass(OmegaConf.get_type(value)):
            yield from _describe_keys(value, f"{prefix}{each.name}.")
        else:
            text = OmegaConf.to_yaml(OmegaConf.create({"value": value})).strip().removeprefix("value: ")
            yield f"{prefix}{each.name}={text}", each.metadata.get("meaning", "")


def _lines(table: Mapping[str, str]) -> list[str]:
    width = max(map(len, table))
    return [f"  {name:{width}}  {text.rstrip('.')}".rstrip() for name, text in table.items()]


def compose(task: str, overrides: Sequence[str] = (), *, with_hydra: bool = False) -> DictConfig:
    """The configuration of a task, as its program composes it; from any folder, and where Hydra runs already."""
    there, base = GlobalHydra.instance().hydra, VersionBase.instance().version_base
    GlobalHydra.instance().clear()
    try:
        with initialize_config_dir(str(CONFIGS), version_base="1.3"):
            return hydra.compose(task, list(overrides), return_hydra_config=with_hydra)
    finally:
        GlobalHydra.instance().hydra, VersionBase.instance().version_base = there, base


def _run_and_exit(program: Callable[[], Any]) -> NoReturn:
    """Run a program with short errors, exit codes and signals, as `run` says."""
    load_env_file()
    shows_traceback = os.environ.get(FULL_ERROR) == "1"
    os.environ[FULL_ERROR] = "1"  # makes Hydra raise its errors instead of printing them
    run_record.command_line[:] = sys.argv
    run_record.built_from[:] = filter(None, [os.environ.get(run_record.COMMIT)])
    process_rank.given.update({name: os.environ[name] for name in process_rank.NAMES if name in os.environ})
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _interrupt)
    _quieten()
    try:
        _run_and_flush(program)
    except BaseException as raised:
        error = raised.__cause__ if isinstance(raised, _TaskFailed) and raised.__cause__ else raised
        if isinstance(error, BrokenPipeError) and _nobody_reads():
            _end_unread()
        code = exit_code(error)
        if code is None:
            raise
        if shows_traceback:
            _print_traceback(error)
        print(
            f"error: {explain(error)}" if code in (FAILED, BAD_INPUT, GATE_NOT_MET) else explain(error), file=sys.stderr
        )
        sys.exit(code)
    finally:
        if not shows_traceback:
            os.environ.pop(FULL_ERROR)
    sys.exit(0)


def _hydra_args(args: list[str]) -> list[str]:
    """The flag for several runs in front, added where a group sets that mode, or Hydra would hide what is wrong."""
    flags = [arg for arg in args if arg.startswith("-")]
    values = dict(arg.split("=", 1) for arg in args if "=" in arg)
    if not flags and "hydra.mode" not in values and any(values.get(key, one) != one for key, one in ONE_RUN.items()):
        flags = ["-m"]
    first = [flag for flag in flags if flag in SEVERAL]
    others = [arg for arg in args if arg not in SEVERAL]
    return [*first, *(f"++{arg}" if OPEN.match(arg) else arg for arg in others)]


@contextmanager
def groups_listed_in_place() -> Iterator[None]:
    """Within it Hydra lists configuration groups, as for `--help`, without a copy of its whole repository each time.

    The copy protects the original from search paths among the overrides; the help has none.
    """
    from hydra._internal.config_loader_impl import ConfigLoaderImpl

    original = ConfigLoaderImpl.get_group_options

    def get_group_options(
        self: ConfigLoaderImpl, group_name: str, results_filter: ObjectType | None = ObjectType.CONFIG, **others: Any
    ) -> list[str]:
        if others:
            return original(self, group_name, results_filter, **others)
        return self.repository.get_group_options(group_name, results_filter)

    ConfigLoaderImpl.get_group_options = get_group_options  # pyright: ignore[reportAttributeAccessIssue]
    try:
        yield
    finally:
        ConfigLoaderImpl.get_group_options = original


def _run_and_flush(program: Callable[[], Any]) -> None:
    """Run a program and flush stdout, where an error can still be handled."""
    try:
        program()
    except SystemExit:
        sys.stdout.flush()
        raise
    sys.stdout.flush()


def _nobody_reads() -> bool:
    """Whether our output goes into a pipe whose reader is gone."""
    poll = select.poll()
    poll.register(sys.stdout.fileno(), 0)
    return any(event & (select.POLLERR | select.POLLHUP) for _, event in poll.poll(0))


def _end_unread() -> NoReturn:
    """Exit as programs do after SIGPIPE."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # takes what is still to be written
    sys.exit(128 + signal.SIGPIPE)


def _interrupt(number: int, frame: Any) -> NoReturn:
    """The first signal unwinds the program; a second one ends it at once."""
    signal.signal(number, signal.SIG_DFL)
    raise Interrupted(number)


def _quieten() -> None:
    """Silence messages of libraries about themselves, but not warnings about our data and settings."""
    if not sys.stdout.isatty():
        rich.reconfigure(quiet=True)  # a bar that is not drawn leaves an empty line
    for name in (
        "pytorch_lightning.utilities.rank_zero",
        "pytorch_lightning.accelerators.cuda",
        "matplotlib.font_manager",
    ):
        logging.getLogger(name).setLevel(logging.WARNING)
    for message in NOT_SAID:
        warnings.filterwarnings("ignore", message=message)


def _print_traceback(error: BaseException) -> None:
    import traceback

    traceback.print_exception(error)


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
    if isinstance(cause, ConfigKeyError | ConfigAttributeError):
        return _explain_unknown_key(cause)
    if isinstance(cause, OmegaConfBaseException) and cause.full_key:
        return f"{cause.full_key}: {_first_line(cause)}; change the value"
    if isinstance(error, HydraException):
        return _explain_composition(error)
    if isinstance(error, KeyboardInterrupt):
        return "stopped by SIGINT"
    return f"{type(error).__name__}: {reason(error)}"


def _explain_unknown_key(error: OmegaConfBaseException) -> str:
    parent = error.parent_node
    known = [str(key) for key in parent if key != "hydra"] if isinstance(parent, DictConfig) else []
    full_key = str(error.full_key or error.key)
    prefix = full_key[: -len(str(error.key))] if full_key.endswith(str(error.key)) else ""
    hint = did_you_mean(str(error.key), known, prefix) or f"; known here: {', '.join(known)}"
    return f"{full_key}: no such key{hint}"


def _explain_composition(error: HydraException) -> str:
    if isinstance(error, MissingConfigException) and error.options and error.missing_cfg_file:
        options = sorted(set(error.options))
        hint = did_you_mean(error.missing_cfg_file.rpartition("/")[2], options)
        return f"Could not find '{error.missing_cfg_file}'{hint}; there are: {', '.join(options)}"
    return "\n".join(line.rstrip() for line in str(error).splitlines() if line.strip())


def _first_line(error: BaseException) -> str:
    return str(error).splitlines()[0].strip()


def _in_digits(value: float) -> str:
    return f"{value:.4f}" if value == 0 or abs(value) >= 0.01 else f"{value:.2e}"


def print_metrics(metrics: Mapping[str, float], names: tuple[str, ...], folder: Any) -> None:
    """Print a short table of the named metrics, and the run folder."""
    from rich.console import Console
    from rich.table import Table

    console = Console(soft_wrap=True, highlight=False)
    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    for name in names:
        if name in metrics:
            value = metrics[name]
            is_count = isinstance(value, int) or abs(value) >= 100
            count = f"{value:,.0f}" if console.is_terminal else f"{value:.0f}"  # programs read it without commas
            table.add_row(name, count if is_count else _in_digits(value))
    console.print(table)
    console.print(f"results: {folder}", markup=False)
