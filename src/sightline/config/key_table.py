"""The tables of all keys for docs/contracts.md, from the schemas."""

import dataclasses
import json
from typing import Any

from omegaconf import MISSING

from sightline.config.constraints import describe_bounds, needs_of
from sightline.config.registration import all_keys
from sightline.config.schema.tasks import TASKS

BEGIN, END = "<!-- made by scripts/write_key_table.py -->", "<!-- end of what it makes -->"
MAX_NAMED = 10
"""A table does not name more choices; the error does."""
HEADINGS = {"find_lr": "train.py, find_lr.py (`lr_finder` is for the latter)"}
"""The first table is of training, which find_lr.py has all keys of."""


def key_tables() -> str:
    """One table for each program in Markdown; of keys that an earlier one has already, a line names the sections."""
    known: set[str] = set()
    parts = []
    for task in ("find_lr", *(name for name in TASKS if name not in ("train", "find_lr"))):
        rows = {name: _row(name, field) for name, field in all_keys(TASKS[task])}
        again = sorted({_section(name) for name, row in rows.items() if row in known})
        new = [row for name, row in rows.items() if row not in known]
        lines = [f"### {HEADINGS.get(task, f'{task}.py')}", "", "| key | default | meaning |", "|-|-|-|", *new]
        parts.append("\n".join([*lines, *(["", f"As above: {', '.join(again)}."] if again else [])]))
        known |= {*rows.values()}
    return "\n\n".join(parts)


def _section(name: str) -> str:
    section, dot, _ = name.rpartition(".")
    return f"`{section}.…`" if dot else f"`{name}`"


def _row(name: str, field: Any) -> str:
    rules = field.metadata
    choices = rules.get("choices", ())
    needs = " and ".join(each.what for each in needs_of(rules))
    allowed = "`" + "\\|".join(choices) + "`" if 0 < len(choices) <= MAX_NAMED else ""
    cells = (
        f"`{name}`",
        _default(field),
        "; ".join(
            filter(None, (rules.get("meaning"), allowed, describe_bounds(rules), needs and f"only with {needs}"))
        ),
    )
    return f"| {' | '.join(cells)} |"


def _default(field: Any) -> str:
    """As one would type it; nothing where a value must be given."""
    value = field.default if field.default_factory is dataclasses.MISSING else field.default_factory()
    if value in (MISSING, ""):
        return ""
    return f"`{value if isinstance(value, str) else json.dumps(value)}`"
