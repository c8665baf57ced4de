"""The display of a running sweep: a table in a terminal, a line for each finished trial elsewhere."""

import logging
import re
import statistics
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from sightline.sweeping.results import state_of
from sightline.sweeping.study import best_trials, is_counted

if TYPE_CHECKING:
    import optuna

    from sightline.sweeping.loop import Loop

log = logging.getLogger(__name__)
MAX_ROWS = 15
EVERY_SECONDS = 0.5


class LiveTable:
    """Trial, state, parameters, value, best so far and time left."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console(stderr=True)
        self.live = Live(console=self.console, auto_refresh=False, transient=False)
        self._shown_at = 0.0
        self._said: set[int] | None = None

    def __enter__(self) -> "LiveTable":
        if self.console.is_terminal:
            self.live.start()
        return self

    def __exit__(self, *error: object) -> None:
        if self.console.is_terminal:
            self.live.stop()

    def __call__(self, loop: "Loop") -> None:
        is_due = time.monotonic() - self._shown_at > EVERY_SECONDS
        if self.console.is_terminal and is_due:
            self.live.update(table_of(loop), refresh=True)
        elif not self.console.is_terminal and is_due:
            self._say(loop)
        if is_due:
            self._shown_at = time.monotonic()

    def close(self, loop: "Loop") -> None:
        """Show the final state at once."""
        self._shown_at = 0.0
        self(loop)

    def _say(self, loop: "Loop") -> None:
        trials = loop.trials()
        finished = [trial for trial in trials if is_counted(trial)]
        if self._said is None:
            self._said = {trial.number for trial in finished}
            if finished:
                log.info(
                    "going on with %s: %d of %d trials are finished", loop.settings.name, len(finished), loop.n_trials
                )
        for trial in finished:
            if trial.number not in self._said:
                self._said.add(trial.number)
                log.info("%s", " ".join(row_of(trial, loop)) + f"  {summary(loop)}")


def table_of(loop: "Loop") -> Table:
    table = Table(
        title=Text(f"{loop.settings.name}: {summary(loop)}"), title_justify="left", box=None, padding=(0, 2, 0, 0)
    )
    for column in ("trial", "state", *short_names(loop.settings.space.keys), *loop.settings.metrics):
        table.add_column(column)
    for trial in loop.trials()[-MAX_ROWS:]:
        table.add_row(*map(Text, row_of(trial, loop)))
    return table


def short_names(keys: Sequence[str]) -> list[str]:
    """The last part of each key where that is unique."""
    ends = [re.split("[./]", key)[-1] for key in keys]
    return [end if ends.count(end) == 1 else key for key, end in zip(keys, ends, strict=True)]


def row_of(trial: "optuna.trial.FrozenTrial", loop: "Loop") -> list[str]:
    params = [_short(trial.params.get(key, "")) for key in loop.settings.space.keys]
    if trial.values:
        values = [f"{value:.4f}" for value in trial.values]
    else:
        last = trial.intermediate_values.get(trial.last_step) if trial.last_step is not None else None
        values = ["" if last is None else f"({last:.4f})"]
    return [str(trial.number), state_of(trial), *params, *values]


def summary(loop: "Loop") -> str:
    """One line: trials finished, the best so far, and the time left."""
    parts = [f"{loop.counted()} of {loop.n_trials}"]
    if best := best_trials(loop.study):
        if len(loop.settings.metrics) == 1:
            parts.append(f"best {best[0].value:.4f} (trial {best[0].number})")
        else:
            parts.append(f"{len(best)} on the Pareto front")
    if (left := seconds_left(loop)) is not None:
        parts.append(f"about {_duration(left)} left")
    return ", ".join(parts)


def seconds_left(loop: "Loop") -> float | None:
    """Median seconds of a trial times the trials left, over the slots; None before the first and after the last one."""
    durations = [trial.duration.total_seconds() for trial in loop.trials() if is_counted(trial) and trial.duration]
    left = loop.n_trials - loop.counted()
    if not durations or left <= 0:
        return None
    return statistics.median(durations) * left / min(loop.settings.n_parallel, max(1, left))


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
