"""The wrapper of every program: short errors, exit codes, signals. Never imports torch."""

import ast
import functools
import io
import logging
import os
import re
import runpy
import select
import signal
import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

import rich
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from sightline.command.arguments import HELP, VERSION, read_arguments
from sightline.command.composition import with_search_path
from sightline.command.help import help_text, version_text
from sightline.command.messages import exit_code, explain
from sightline.config import TASKS, check_overrides, did_you_mean, refuse_unknown_keys, validate_task
from sightline.env_file import load_env_file
from sightline.errors import BAD_INPUT, FAILED, GATE_NOT_MET, Interrupted
from sightline.runs.guesses import announce
from sightline.runs.invocation import COMMIT, RANK_VARIABLES, SERVE_TOKEN, UNTOLD, Invocation
from sightline.runs.override_text import value_of
from sightline.runs.project import PROGRAMS

log = logging.getLogger(__name__)
FULL_ERROR = "HYDRA_FULL_ERROR"
OPEN = re.compile(r"hydra\.sweeper\.((sampler|pruner)[.=]|(metrics|params)=)")
"""Nodes with arguments of Optuna, whose keys no schema knows."""
NOT_SAID = (
    # pytorch_lightning: advice on what is chosen here for a reason, or what our own messages say with the key
    ".*does not have many workers.*",
    ".*The number of training batches .* is smaller than the logging interval.*",
    ".*Checkpoint directory .* exists and is not empty.*",
    ".*persistent_workers.*",
    ".*your dataloader is not resumable.*",  # its sampler is
    ".*module.s. in eval mode at the start of training.*",
    "You passed in a `val_dataloader` but have no `validation_step`.*",
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


_invocations = [UNTOLD]
"""That of this process, once `run_and_exit` has read it."""


def invocation() -> Invocation:
    """What this process was told, with the overrides of the run that Hydra is at."""
    overrides = HydraConfig.get().overrides.task if HydraConfig.initialized() else ()
    return replace(_invocations[0], overrides=tuple(overrides))


class _TaskFailed(BaseException):
    """Carries an error past Hydra, which would print it first."""


def task(function: Callable[[DictConfig, Invocation], Any]) -> Callable[[DictConfig], Any]:
    """Decorate the function below `@hydra.main`: it gets the invocation, and its errors reach `run` untouched."""

    @functools.wraps(function)
    def wrapped(cfg: DictConfig) -> Any:
        try:
            refuse_unknown_keys(cfg)
            told = invocation()
            _tell(told)
            _check_overrides(cfg, told.overrides)
            return function(cfg, told)
        except Exception as error:
            if HydraConfig.get().mode == RunMode.MULTIRUN:
                raise  # Hydra goes on with the other runs and raises this one at the end
            raise _TaskFailed from error

    return wrapped


def _tell(told: Invocation) -> None:
    """Print what was understood that was not typed, and whose settings a typed experiment has on other images."""
    if told.ranks.get("RANK", "0") != "0":
        return
    announce(told.guesses)
    experiment, root = value_of(told.overrides, "experiment"), value_of(told.overrides, "data.root")
    if experiment and root and "experiment" not in [guess.key for guess in told.guesses]:
        log.info(
            "network, augmentation and settings are those of experiment=%s, the images are in %s", experiment, root
        )


def _check_overrides(cfg: DictConfig, overrides: Sequence[str]) -> None:
    """Look for overrides without effect. In one run of several, and in a job that was checked before, they may stay."""
    schema = OmegaConf.get_type(cfg)
    if schema is not None and schema in TASKS.values():
        is_alone = HydraConfig.get().mode == RunMode.RUN and "launch=here" not in overrides
        check_overrides(validate_task(cfg, schema), overrides, may_stay=not is_alone)


def main() -> None:
    """`sightline TASK …` of an installed wheel: `python src/TASK.py …`."""
    programs = {path.stem: path for path in sorted(PROGRAMS.glob("*.py"))}
    task, *args = sys.argv[1:] or ["--help"]
    if task in programs:
        sys.argv[:] = [str(programs[task]), *args]
        runpy.run_path(str(programs[task]), run_name="__main__")
    elif task in (VERSION, "version"):
        print(version_text())
    elif task in (*HELP, "help"):
        about = {
            name: ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) for name, path in programs.items()
        }
        width = 2 + max(map(len, about))
        lines = [f"  {name:{width}}{(text or '').split(': python')[0]}" for name, text in about.items()]
        try:
            print(
                "\n".join(["sightline TASK …", "", *lines, "", "sightline TASK --help tells more of one"]), flush=True
            )
        except BrokenPipeError:
            _end_unread()
    else:
        known = ", ".join(programs)
        print(f"error: {task}: no such task{did_you_mean(task, programs)}; there are {known}", file=sys.stderr)
        sys.exit(BAD_INPUT)


def run(main: Callable[[], Any], positional: str | None = None) -> NoReturn:
    """Run a Hydra program and exit: 0 done, 1 failed, 2 bad input, 4 a gate was not met, 130 or 143 interrupted.

    The reason is the last line on stderr; `HYDRA_FULL_ERROR=1` shows the traceback too. Words without `=` are values of
    the key `positional`, where there is one. When the reader of the output leaves, as `head` does, the program ends
    silently.
    """

    def program() -> None:
        task = Path(sys.argv[0]).stem
        read = read_arguments(task, sys.argv[1:], positional)
        _invocations[0] = replace(_invocations[0], guesses=read.guesses)
        if VERSION in read.flags:
            print(version_text())
        elif {*HELP} & {*read.flags}:
            print(help_text(task, read.overrides))
        else:
            overrides = with_search_path(read.overrides)
            sys.argv[1:] = [*read.flags, *(f"++{each}" if OPEN.match(each) else each for each in overrides)]
            main()

    run_and_exit(program)


def run_and_exit(program: Callable[[], Any]) -> NoReturn:
    """Run a program with short errors, exit codes and signals, as `run` says."""
    load_env_file()
    shows_traceback = os.environ.get(FULL_ERROR) == "1"
    os.environ[FULL_ERROR] = "1"  # makes Hydra raise its errors instead of printing them
    ranks = {name: os.environ[name] for name in RANK_VARIABLES if name in os.environ}
    token = os.environ.get(SERVE_TOKEN) or None
    _invocations[:] = [Invocation(tuple(sys.argv), commit=os.environ.get(COMMIT), ranks=ranks, serve_token=token)]
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
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # as stderr has it: no name that is printed ends a program
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
