"""The verbs of `python src/data_versions.py`: create, list, diff, show, tag, checkout and merge."""

import os
import pwd
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from sightline.config import DataVersionsConfig
from sightline.data.manifest import SPLITS
from sightline.data.versions.checkout import checkout
from sightline.data.versions.creating import create_version
from sightline.data.versions.difference import KINDS, Difference
from sightline.data.versions.store import DataVersion, Versions, open_versions
from sightline.errors import BadInput
from sightline.runs.invocation import Invocation
from sightline.runs.override_text import key_of

WIDE = 1000
"""Characters in a line of a table where a program reads it."""
MAX_SHOWN = 10
"""Images of a kind that a difference names on the screen."""


def create(cfg: DataVersionsConfig, invocation: Invocation, name: str) -> dict[str, Any]:
    """The next version, of data=NAME, data.root=FOLDER or run=RUN.

    Known images keep their split, new ones are trained on. Nothing is written where nothing has changed.
    """
    typed = {key_of(each) for each in invocation.overrides}
    if cfg.run is not None and typed & {"data", "data.root"}:
        raise BadInput(f"run={cfg.run}: data.root and data name other images; drop one of them")
    if not typed & {"data", "data.root", "run"}:
        raise BadInput(f"create {name}: say which images: data.root=FOLDER, data=NAME or run=RUN")
    made = create_version(_versions(cfg), name, cfg, by=_by(cfg))
    return _facts(made.version) | {"is_new": made.is_new, "sentence": made.sentence}


def list_versions(cfg: DataVersionsConfig, _: Invocation, name: str = "") -> list[dict[str, Any]]:
    """Every version of every data set, or of one."""
    versions = _versions(cfg)
    names = [name] if name else versions.names()
    if name and not versions.numbers(name):
        versions.load(name)
    if not names:
        print(f"no versions in {versions.place.address}", file=sys.stderr)
    return [_facts(versions.load(each, number)) for each in names for number in versions.numbers(each)]


def show(cfg: DataVersionsConfig, _: Invocation, version: str) -> dict[str, Any]:
    """What a version holds by class and split, who made it, when and why."""
    found = _versions(cfg).find(version)
    return {**found.facts, "tags": list(found.tags)}


def tag(cfg: DataVersionsConfig, _: Invocation, version: str, word: str) -> dict[str, Any]:
    """A name for a version: NAME/word then means it, wherever a version is named."""
    versions = _versions(cfg)
    found = versions.find(version)
    before = versions.tag(found, word, _by(cfg))
    return {"version": found.spelled(), "tag": word, "before": None if before is None else f"{found.name}/{before}"}


def diff(cfg: DataVersionsConfig, _: Invocation, a: str, b: str) -> dict[str, Any]:
    """What B has and A lacks, by class; report=FILE.html shows the pictures."""
    versions = _versions(cfg)
    before, after = versions.find(a), versions.find(b)
    difference = Difference.of(before.manifest, after.manifest)
    if cfg.report is not None:
        from sightline.data.versions.report import write_report

        write_report(Path(cfg.report).expanduser(), versions, before, after, difference)
    return difference.to_dict()


def check_out(cfg: DataVersionsConfig, _: Invocation, version: str) -> dict[str, Any]:
    """The images of a version into a new folder (into=FOLDER), bit for bit."""
    if cfg.into is None:
        raise BadInput(f"checkout {version}: where to? Add into=FOLDER")
    versions, folder = _versions(cfg), Path(cfg.into).expanduser().absolute()
    found = versions.find(version)
    is_new = checkout(versions, found, folder, link=cfg.link)
    return {"version": found.spelled(), "folder": str(folder), "images": len(found.manifest), "is_new": is_new}


def merge(cfg: DataVersionsConfig, _: Invocation, name: str, annotations: str = "") -> dict[str, Any]:
    """Annotations into the next version: a file, a folder or s3://… of Label Studio's JSON, or a CSV.

    What is new goes to train. Contradictions are left out and named; val and test stay as they are.
    """
    from sightline.data.versions.merging import merge_annotations

    source = annotations or cfg.annotations
    if source is None or (annotations and cfg.annotations):
        raise BadInput(f"merge {name}: name the annotations once, like merge {name} from=FILE, a folder or s3://…")
    allowed = {"allow_test_changes": cfg.allow_test_changes, "new_classes": cfg.new_classes}
    told = {"control": cfg.control, "why": cfg.why, "max_pixels": cfg.data.max_pixels}
    return merge_annotations(_versions(cfg), name, source, by=_by(cfg), **allowed, **told).to_dict()


def _versions(cfg: DataVersionsConfig) -> Versions:
    return open_versions(cfg.paths.data_versions, Path(cfg.paths.cache))


def _by(cfg: DataVersionsConfig) -> str:
    """Who makes a version: as told, else the user of this machine."""
    if cfg.by is not None:
        return cfg.by
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return f"user {os.getuid()}"


def _facts(version: DataVersion) -> dict[str, Any]:
    facts = version.facts
    told = {key: facts.get(key) for key in ("created", "by", "why", "num_images", "changes")}
    return {"name": version.name, "version": version.number, "sha256": version.sha256, **told, "tags": [*version.tags]}


# for people


def _print_sentence(result: Mapping[str, Any]) -> None:
    print(result["sentence"])


def _print_list(rows: Sequence[Mapping[str, Any]]) -> None:
    if not rows:
        return
    table = _table("version", *SPLITS, "created", "by", "tags", "changes", "why")
    for row in rows:
        changes = row["changes"] or {}
        changed = ", ".join(f"{count:,} {kind}" for kind, count in changes.items() if count)
        counts = [f"{row['num_images'][split]:,}" for split in SPLITS]
        about = (row["created"][:16].replace("T", " "), row["by"] or "", " ".join(row["tags"]), changed)
        table.add_row(f"{row['name']}/{row['version']}", *counts, *about, row["why"] or "")
    _print_table(table)


def _print_version(facts: Mapping[str, Any]) -> None:
    source = ", ".join(f"{key}={value}" for key, value in (facts.get("source") or {}).items())
    after = facts.get("after")
    print(f"{facts['name']}/{facts['version']}" + (f" ({', '.join(facts['tags'])})" if facts["tags"] else ""))
    for key, value in {
        "made": f"{facts['created']} by {facts.get('by')}",
        "why": facts.get("why"),
        "of": source,
        "after": None if after is None else f"{facts['name']}/{after}: {_in_words(facts.get('changes') or {})}",
        "sha256": facts["sha256"],
    }.items():
        if value:
            print(f"  {key:8}{value}")
    for title in ("left_out", "test_changes"):
        for kind, found in (facts.get(title) or {}).items():
            print(f"  {title.replace('_', ' ')}: {found['count']} {kind}, the first is {found['files'][0]}")
    if leaks := facts.get("leaks"):
        print(f"  look like images of another split: {len(leaks)} set(s), the first is {' '.join(leaks[0]['files'])}")
    table = _table("class", *SPLITS)
    for label, counts in facts["by_class"].items():
        table.add_row(label, *(f"{counts[split]:,}" for split in SPLITS))
    table.add_row("all images", *(f"{facts['num_images'][split]:,}" for split in SPLITS))
    _print_table(table)


def _in_words(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count:,} {kind}" for kind, count in counts.items() if count) or "nothing changed"


def _print_tag(result: Mapping[str, Any]) -> None:
    moved = f" (before that {result['before']})" if result["before"] else ""
    print(f"{result['version'].partition('/')[0]}/{result['tag']} is {result['version']} now{moved}")


def _print_difference(found: Mapping[str, Any]) -> None:
    print(_in_words({kind: len(found[kind]) for kind in KINDS}))
    if not found["by_class"]:
        return
    table = _table("class", *(column.replace("_", " ") for column in next(iter(found["by_class"].values()))))
    for label, counts in found["by_class"].items():
        table.add_row(label, *(f"{count:,}" if count else "" for count in counts.values()))
    _print_table(table)
    for kind in KINDS:
        for entry in found[kind][:MAX_SHOWN]:
            change = f": {entry['from']} → {entry['to']}" if "from" in entry else f" ({entry['label']})"
            print(f"{kind} {entry['path']}{change}")
        if (more := len(found[kind]) - MAX_SHOWN) > 0:
            print(f"… {more:,} more {kind}; --json names all")


def _print_checkout(result: Mapping[str, Any]) -> None:
    said = "checked out to" if result["is_new"] else "is there already, unchanged:"
    print(f"{result['version']}: {result['images']:,} images {said} {result['folder']}")


def _table(first: str, *columns: str) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0))
    table.add_column(first, no_wrap=True)
    for column in columns:
        table.add_column(column, no_wrap=True, justify="left" if column in LEFT else "right")
    return table


LEFT = ("created", "by", "tags", "changes", "why")


def _print_table(table: Table) -> None:
    console = Console(highlight=False, markup=False)
    console.width = console.width if console.is_terminal else WIDE
    console.print(table, soft_wrap=True)


VERBS: dict[str, Callable[..., Any]] = {
    "create": create,
    "list": list_versions,
    "show": show,
    "diff": diff,
    "tag": tag,
    "checkout": check_out,
    "merge": merge,
}
PRINTED: dict[str, Callable[[Any], None]] = {
    "create": _print_sentence,
    "list": _print_list,
    "show": _print_version,
    "diff": _print_difference,
    "tag": _print_tag,
    "checkout": _print_checkout,
    "merge": _print_sentence,
}
