"""Versions as people read them."""

import sys
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from sightline.registry.version import STAGES

MAX_COLUMNS = 1000
"""Width of a table where a program reads it."""
SHORT = 12
"""Letters of a hash."""
ACCURACY = "test/accuracy"


def print_added(version: Mapping[str, Any]) -> None:
    name = f"{version['name']}/{version['version']}"
    if ACCURACY not in version["metrics"]:
        print(f"{name} has no test metrics: it was measured on no test images", file=sys.stderr)
    approve, serve = (
        f"approve it with python src/registry.py approve {name}",
        f"python src/serve.py run=registry:{name}",
    )
    steps = {"pending": f"; {approve}, serve it with {serve}", "approved": f"; serve it with {serve}"}
    print(f"{name} is {version['status']}{steps.get(version['status'], '')}")


def print_changed(version: Mapping[str, Any]) -> None:
    """What the last entry of its history did."""
    name, last = f"{version['name']}/{version['version']}", version["history"][-1]
    stages = f", in {' and '.join(version['stages'])}" if version["stages"] else ""
    why = f" ({last['why']})" if last["why"] else ""
    print(f"{name} is {version['status']}{stages}: {last['what']} by {last['by']}{why}")


def print_listed(rows: Sequence[Mapping[str, Any]]) -> None:
    """Names with their stages, or the versions of one."""
    if not rows:
        print("the registry is empty", file=sys.stderr)
    elif "versions" in rows[0]:
        columns = ("name", "versions", "newest", *STAGES, "pending")
        _print_table(columns, [[_text(row[column]) for column in columns] for row in rows])
    else:
        _print_table(
            ("version", "status", "stages", ACCURACY, "gate", "data", "created", "by"), [_row(each) for each in rows]
        )


def _row(version: Mapping[str, Any]) -> list[str]:
    metrics, first = version["metrics"], version["history"][0] if version["history"] else {}
    return [
        f"{version['name']}/{version['version']}",
        version["status"],
        _text(version["stages"]),
        _interval(metrics, ACCURACY),
        _gate(version["gate"]),
        _data(version["data"]),
        version["created"],
        _text(first.get("by")),
    ]


def print_version(version: Mapping[str, Any]) -> None:
    """Everything, a line each; then the history."""
    facts: dict[str, Any] = {
        "version": f"{version['name']}/{version['version']}",
        "status": version["status"],
        "stages": _text(version["stages"]),
        "sha256": version["sha256"],
        "place": version["place"],
        "data": _data(version["data"]),
        "commit": _text(version["commit"]),
        "gate": _gate(version["gate"], is_long=True),
        "created": version["created"],
        **{key: _text(value) for key, value in version["facts"].items() if not isinstance(value, dict | list)},
        **{name: f"{value:.4f}" for name, value in sorted(version["metrics"].items()) if _is_shown(name)},
    }
    width = max(map(len, facts))
    for key, value in facts.items():
        print(f"{key:{width}}  {value}")
    print()
    columns = ("at", "by", "what", "why")
    _print_table(columns, [[_text(each.get(column)) for column in columns] for each in version["history"]])


def _is_shown(metric: str) -> bool:
    """Not the numbers of single classes or corruptions."""
    return metric.startswith("test/") and metric.count("/") == 1


def _text(value: Any) -> str:
    if value is None or value == []:
        return "-"
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def _interval(metrics: Mapping[str, float], name: str) -> str:
    if name not in metrics:
        return "-"
    low, high = (metrics.get(f"{name}_{end}") for end in ("low", "high"))
    return f"{metrics[name]:.4f}" + ("" if low is None or high is None else f" ({low:.4f} to {high:.4f})")


def _gate(gate: Mapping[str, Any] | None, *, is_long: bool = False) -> str:
    if gate is None:
        return "none"
    said = "passed" if gate.get("passed") else "not met"
    return f"{said}: {gate['sentence']}" if is_long and gate.get("sentence") else said


def _data(data: Mapping[str, Any]) -> str:
    version = data.get("version")
    if isinstance(version, Mapping):
        return f"{version.get('name')}/{version.get('version')}"
    return " ".join(filter(None, [str(data.get("name") or ""), str(data.get("sha256") or "")[:SHORT]])) or "-"


def _print_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    table = Table(box=None, padding=(0, 2, 0, 0))
    for column in columns:
        table.add_column(column, no_wrap=True)
    for row in rows:
        table.add_row(*row)
    console = Console(highlight=False, markup=False)
    console.width = max(console.width, 160) if console.is_terminal else MAX_COLUMNS
    console.print(table, soft_wrap=True)
