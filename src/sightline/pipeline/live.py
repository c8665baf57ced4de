"""What a terminal shows of a pipeline while it runs: a table that is kept up to date; elsewhere a line a change."""

import time
from pathlib import Path
from types import TracebackType

from rich.console import Console
from rich.live import Live
from rich.table import Table as RichTable

from sightline.launch.local.supervisor import HIDDEN
from sightline.pipeline.record import PipelineRecord, StepRecord
from sightline.pipeline.step_numbers import describe_numbers, numbers_of

STYLES = {"finished": "green", "reused": "cyan", "running": "yellow", "failed": "red", "stopped": "red"}
SECONDS_BETWEEN_LOOKS = 0.5


class Table:
    """While it is entered, it shows the steps of a run."""

    def __init__(self, record: PipelineRecord) -> None:
        self.record, self.console = record, Console(soft_wrap=True, highlight=False, stderr=True)
        self._live = Live(console=self.console, auto_refresh=False) if self.console.is_terminal else None
        self._began: dict[str, float] = {}
        self._looked = 0.0

    def __enter__(self) -> "Table":
        if self._live is not None:
            self._live.start()
        else:
            self.console.print(f"pipeline: {self.record.folder}", markup=False)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._draw()
            self._live.stop()

    def tell(self, step: StepRecord) -> None:
        """Call it when something of a step has changed."""
        if step.status == "running":
            self._began.setdefault(step.name, time.monotonic())
        if self._live is not None:
            self._draw()
            return
        seconds = f"  {step.seconds:.1f} s" if step.seconds is not None and step.status == "finished" else ""
        shown = f"  {describe_numbers(step.numbers)}" if step.numbers else ""
        why = f"  {step.reason}" if step.reason else ""
        self.console.print(f"{step.name:10}{step.status}{seconds}{shown}{why}", markup=False)

    def look(self, step: StepRecord) -> None:
        """Call it often while a step runs."""
        if self._live is not None and time.monotonic() - self._looked > SECONDS_BETWEEN_LOOKS:
            self._looked = time.monotonic()
            step.numbers = numbers_of(step.name, self.record.folder / step.name) or step.numbers
            self._draw()

    def _draw(self) -> None:
        assert self._live is not None
        table = RichTable(box=None, padding=(0, 2, 0, 0))
        for title in ("step", "state", "time", "numbers"):
            table.add_column(title, justify="right" if title == "time" else "left")
        for step in self.record.steps:
            if step.status == "skipped":
                continue
            seconds = step.seconds
            if step.status == "running":
                seconds = time.monotonic() - self._began.get(step.name, time.monotonic())
            style = STYLES.get(step.status, "dim")
            shown = "" if seconds is None else f"{seconds:.0f} s"
            table.add_row(step.name, f"[{style}]{step.status}[/]", shown, step.reason or describe_numbers(step.numbers))
        self._live.update(table, refresh=True)


def log_of(folder: Path) -> Path:
    """Where a step of a local process writes what it says."""
    return folder / HIDDEN / "log.txt"
