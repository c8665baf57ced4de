"""What a terminal shows of a pipeline while it runs: a table that is kept up to date; elsewhere a line a change."""

import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.table import Table as RichTable

from sightline.launch.local.supervisor import HIDDEN
from sightline.pipeline.record import PipelineRecord, StepRecord
from sightline.runs.files import read_json
from sightline.runs.folder import read_points

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


def numbers_of(step: str, folder: Path) -> dict[str, Any]:
    """The few numbers that say what a step made of it."""
    metrics = read_json(folder / "metrics.json")
    if step == "prepare":
        return {name.removeprefix("num_images/"): metrics[name] for name in metrics if name.startswith("num_images/")}
    if step == "train":
        points = {point.name: point.value for point in read_points(folder)}
        return {name: round(points[name], 4) for name in ("val/accuracy", "val/loss") if name in points}
    if step == "export":
        facts = read_json(folder / "model" / "export.json")
        return {
            f"{precision} accuracy": round(facts[precision]["accuracy"], 4)
            for precision in ("fp32", "int8")
            if precision in facts
        }
    if step == "evaluate":
        names = ("accuracy", "accuracy_low", "accuracy_high", "ece_calibrated", "corruption/mean_accuracy")
        names = (*names, "against/accuracy_difference")
        return {name: round(metrics[f"test/{name}"], 4) for name in names if f"test/{name}" in metrics}
    if step == "explain":
        images = read_json(folder / "explanations" / "explanations.json").get("images", [])
        return {"images": len({each["image"] for each in images})} if images else {}
    if step == "gate":
        decision = read_json(folder / "gate.json")
        return {"passed": decision["passed"], "conditions": len(decision["conditions"])} if decision else {}
    return {}


def describe_numbers(numbers: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {_shown(value)}" for name, value in numbers.items())


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:,}" if isinstance(value, int) else f"{value:g}" if isinstance(value, float) else str(value)


def log_of(folder: Path) -> Path:
    """Where a step of a local process writes what it says."""
    return folder / HIDDEN / "log.txt"
