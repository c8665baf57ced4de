"""The verbs of `python src/registry.py`: trained models by name and version."""

import getpass
import os
import socket
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from sightline.config import RegistryConfig
from sightline.errors import BadInput, Damaged
from sightline.registry.packages import open_registry
from sightline.registry.printing import print_added, print_changed, print_listed, print_version
from sightline.registry.rules import check_stage, find_previous
from sightline.registry.sources import facts_of, open_source
from sightline.registry.transport import export_version, imported_version
from sightline.registry.version import STAGES, Registry, Version, check_name, split_name
from sightline.runs.override_text import unquoted


def add(cfg: RegistryConfig, run: str, name: str) -> dict[str, Any]:
    """Register a finished run: its folder, the name of a fetched job, a model.tar.gz here or in S3.

    It must be exported. The version is pending, and has no gate unless a pipeline left one.
    """
    check_name(name)
    registry = _open(cfg)
    registry.check_writable()
    with open_source(run, Path(cfg.paths.runs).expanduser()) as folder:
        added = registry.add(folder, name, facts=facts_of(folder, run), by=_who(cfg))
    return added.to_dict()


def list_versions(cfg: RegistryConfig, name: str | None = None) -> list[dict[str, Any]]:
    """The names, or the versions of one."""
    registry = _open(cfg)
    if name is not None:
        return [each.to_dict() for each in registry.versions(_name(name))]
    rows = []
    for each in registry.names():
        versions = registry.versions(each)
        stages = {stage: next((v.number for v in versions if stage in v.stages), None) for stage in STAGES}
        pending = [version.number for version in versions if version.status == "pending"]
        rows.append(
            {"name": each, "versions": len(versions), "newest": versions[-1].number, **stages, "pending": pending}
        )
    return rows


def show(cfg: RegistryConfig, version: str) -> dict[str, Any]:
    """All that is known of a version: numbers, gate, data, history, and where its files lie."""
    registry = _open(cfg)
    found = _find(registry, version)
    return {**found.to_dict(), "place": f"{registry.place}/{found.spelled()}"}


def approve(cfg: RegistryConfig, version: str) -> dict[str, Any]:
    """Say that a version may go to production (why=…)."""
    return _change(cfg, version, "approve")


def reject(cfg: RegistryConfig, version: str) -> dict[str, Any]:
    """Say that it may go nowhere (why=…)."""
    return _change(cfg, version, "reject")


def stage(cfg: RegistryConfig, version: str, stage: str) -> dict[str, Any]:
    """Give it a stage, staging or production, which the version that has it loses.

    Only an approved version goes to production, and no rejected one to staging.
    """
    check_stage(stage)
    return _change(cfg, version, f"stage:{stage}")


def unstage(cfg: RegistryConfig, version: str, stage: str) -> dict[str, Any]:
    """Take a stage from it; nobody has the stage then."""
    check_stage(stage)
    return _change(cfg, version, f"unstage:{stage}")


def rollback(cfg: RegistryConfig, name: str, stage: str) -> dict[str, Any]:
    """Give a stage back to the version that had it before."""
    registry = _open(cfg)
    previous = find_previous(registry.versions(_name(name)), stage)
    return registry.change(previous, f"rollback:{stage}", _who(cfg), _why(cfg)).to_dict()


def verify(cfg: RegistryConfig, name: str) -> list[dict[str, Any]]:
    """Look at every byte of a version, or of all of a name; exit code 1 where any differs."""
    registry = _open(cfg)
    only, which = split_name(name)
    versions = registry.versions(only) if which is None else [registry.get(only, which)]
    return [{"version": each.spelled(), "differences": registry.differences(each)} for each in versions]


def export(cfg: RegistryConfig, version: str, file: str) -> dict[str, Any]:
    """Write a version into one file, FILE.tar.gz."""
    registry = _open(cfg)
    found = _find(registry, version)
    export_version(registry, found, Path(file).expanduser())
    return {"version": found.spelled(), "file": file, "sha256": found.sha256}


def import_version(cfg: RegistryConfig, file: str, name: str | None = None) -> dict[str, Any]:
    """Add the version in such a file, under its name or another; its hashes are verified first.

    It is pending here, whoever approved it there.
    """
    registry = _open(cfg)
    registry.check_writable()
    with imported_version(Path(file).expanduser()) as (version, folder):
        origin = {"version": version.spelled(), "created": version.created, "history": [*version.history]}
        facts = {**version.facts, "gate": version.gate, "data": version.data, "commit": version.commit}
        return registry.add(folder, name or version.name, facts={**facts, "imported": origin}, by=_who(cfg)).to_dict()


def find_folders(cfg: RegistryConfig, a: str, b: str) -> tuple[Path, Path]:
    """The folders of two versions, here, hashes verified."""
    registry = _open(cfg)
    first, second = (registry.fetch(_find(registry, each)) for each in (a, b))
    return first, second


def prune(cfg: RegistryConfig, name: str) -> dict[str, Any]:
    """Remove old versions: all but the newest (keep=10), and those that are staged or approved (dry_run=true)."""
    registry = _open(cfg)
    versions = registry.versions(_name(name))
    old = [each for each in versions[: -cfg.keep] if not each.stages and each.status != "approved"]
    for each in old if not cfg.dry_run else []:
        registry.remove(each)
    left = [each.spelled() for each in versions if each not in old]
    return {"removed": [each.spelled() for each in old], "kept": left, "dry_run": cfg.dry_run}


def _open(cfg: RegistryConfig) -> Registry:
    cache = Path(cfg.paths.cache)
    return open_registry(cfg.paths.registry, cache, bucket=cfg.bucket, serving_image=cfg.serving_image)


def _find(registry: Registry, text: str) -> Version:
    """Raises: BadInput for a version that there is not."""
    return registry.get(*split_name(text))


def _name(text: str) -> str:
    """Raises: BadInput for the name of a version, where that of a model is meant."""
    name, which = split_name(text)
    if which is not None:
        raise BadInput(f"{text}: name the model alone, {name}")
    return name


def _change(cfg: RegistryConfig, text: str, what: str) -> dict[str, Any]:
    name, which = split_name(text)
    if which is None:
        raise BadInput(f"{text}: say which version: {name}/NUMBER; python src/registry.py list {name} shows them")
    registry = _open(cfg)
    return registry.change(registry.get(name, which), what, _who(cfg), _why(cfg)).to_dict()


def _why(cfg: RegistryConfig) -> str | None:
    """Any text, with Hydra's quotes or without."""
    return None if cfg.why is None else unquoted(cfg.why)


def _who(cfg: RegistryConfig) -> str:
    """For the history."""
    if cfg.by:
        return unquoted(cfg.by)
    try:
        user = getpass.getuser()
    except (OSError, KeyError):  # a user without a name, as in containers
        user = str(os.getuid())
    return f"{user}@{socket.gethostname()}"


def refuse_differences(found: list[dict[str, Any]]) -> None:
    """Raises: Damaged with every file that differs."""
    lines = [f"{each['version']}: {line}" for each in found for line in each["differences"]]
    if lines:
        raise Damaged("; ".join(lines))


def _print_verified(found: list[dict[str, Any]]) -> None:
    for each in found:
        for line in each["differences"] or ["as it was registered"]:
            print(f"{each['version']}: {line}")


def _print_pruned(found: Mapping[str, Any]) -> None:
    said = "would be removed" if found["dry_run"] else "removed"
    print(f"{said}: {', '.join(found['removed']) or 'none'}; kept: {', '.join(found['kept'])}")


VERBS: dict[str, Callable[..., Any]] = {
    "add": add,
    "list": list_versions,
    "show": show,
    "approve": approve,
    "reject": reject,
    "stage": stage,
    "unstage": unstage,
    "rollback": rollback,
    "verify": verify,
    "export": export,
    "import": import_version,
    "prune": prune,
}
PRINTED: dict[str, Callable[[Any], None]] = {
    "add": print_added,
    "list": print_listed,
    "show": print_version,
    **dict.fromkeys(("approve", "reject", "stage", "unstage", "rollback"), print_changed),
    "verify": _print_verified,
    "export": lambda found: print(f"{found['version']}: {found['file']}"),
    "import": print_added,
    "prune": _print_pruned,
}
OPTIONS = {"--runs": "paths.runs", "why": "why", "by": "by"}
"""`why` and `by` are texts as they stand, not what Hydra would read in them."""
CHECKS: dict[str, Callable[[Any], None]] = {"verify": refuse_differences}
"""What ends the program with an error once the result is printed."""
