"""The task of gate.py: an evaluated model, held to its gate by its numbers alone, and packed for the registry."""

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sightline.config import GateTaskConfig, to_plain, validate_task
from sightline.errors import BadInput, GateNotMet
from sightline.pipeline.conditions import Condition, against_champion, decide, threshold, unchanged_images
from sightline.pipeline.package import pack
from sightline.pipeline.registration import write_registration
from sightline.runs.files import read_json, write_json
from sightline.runs.folder import find_run
from sightline.runs.invocation import UNTOLD, Invocation
from sightline.runs.record import RunRecord, open_folder

if TYPE_CHECKING:
    from omegaconf import DictConfig

GATE = "gate.json"
HELD = ("val", "test")
"""The splits that stay as they are from version to version."""


@dataclass(frozen=True)
class GateResult:
    passed: bool
    sentence: str
    conditions: tuple[Condition, ...]
    run_dir: Path
    package: Path | None
    """What is registered, where the gate was met."""


def gate(cfg: "DictConfig | GateTaskConfig", invocation: Invocation = UNTOLD) -> GateResult:
    """Hold an exported and evaluated run to its gate; write `gate.json`, and `package/` where it passes.

    Raises: BadInput before anything is written; GateNotMet when everything is, with `fails`.
    """
    cfg = validate_task(cfg, GateTaskConfig)
    run = find_run(cfg.run, Path(cfg.paths.runs))
    evaluated, explained = _folder("evaluated", cfg.evaluated), None
    metrics, record = read_json(evaluated / "metrics.json"), read_json(evaluated / "run.json")
    if not metrics or record.get("task") != "evaluate":
        raise BadInput(f"evaluated={cfg.evaluated}: no finished evaluation; name the output of evaluate.py")
    if cfg.explained is not None:
        explained = _folder("explained", cfg.explained)
    settings, modes = cfg.pipeline, _modes(record)
    champion = _champion(cfg, record)
    conditions = threshold(settings, metrics, modes)
    if champion is not None:
        conditions.append(against_champion(settings, metrics, champion))
        if cfg.previous is not None:
            conditions.append(unchanged_images(settings, changed_images(run, Path(cfg.previous)), champion))
    passed, sentence = decide(settings, conditions, champion)
    name = str(read_json(run / "run.json").get("name") or run.name)
    output = open_folder(Path(cfg.paths.runs), "gate", name, cfg.output)
    facts = {"task": "gate", "name": name, "run": str(run), "config": to_plain(cfg)}
    with RunRecord(output, invocation, **facts):
        decision = {
            "passed": passed,
            "sentence": sentence,
            "conditions": [each.to_dict() for each in conditions],
            "champion": champion,
            "settings": to_plain(settings),
        }
        write_json(output / GATE, decision)
        write_json(output / "metrics.json", {each.name: each.value for each in conditions if each.value is not None})
        package = pack(output / GATE, run, evaluated, explained, cfg.registered_as or name) if passed else None
        if package is not None:
            write_registration(output, package, decision)
    if not passed and cfg.fails:
        raise GateNotMet(f"not to be registered: {sentence}")
    return GateResult(passed, sentence, tuple(conditions), output, package)


def _folder(key: str, place: str) -> Path:
    path = Path(place).expanduser().absolute()
    if not path.is_dir():
        raise BadInput(f"{key}={place}: no such folder; name the output of an earlier step")
    return path


def _modes(record: dict[str, Any]) -> dict[str, Any]:
    """Whether less is better, of the user's own metrics."""
    nodes = record.get("config", {}).get("evaluation", {}).get("metrics", {})
    return {name: node.get("mode", "max") for name, node in nodes.items() if node is not None}


def _champion(cfg: GateTaskConfig, record: dict[str, Any]) -> str | None:
    """How the champion is called: as told, or by its version, or as the evaluation was given it."""
    other = record.get("config", {}).get("against")
    if other is None or cfg.champion is not None:
        return cfg.champion
    version = read_json(Path(str(other)) / "version.json")
    return f"{version['name']}/{version['version']}" if version else str(other)


def changed_images(run: Path, previous: Path) -> dict[str, int]:
    """How many images of val and test are new, gone, or have another label or split, by the hash of their bytes.

    Raises: BadInput where there is no manifest of either.
    """
    if not previous.is_file():
        raise BadInput(f"previous={previous}: no such file; name the champion's manifest.csv")
    if not (run / "manifest.csv").is_file():
        raise BadInput(f"run={run}: no manifest.csv lies there, which tells its val and test images; name another run")
    mine, theirs = dict(_held(run / "manifest.csv")), dict(_held(previous))
    both = mine.keys() & theirs.keys()
    return {
        "new": len(mine) - len(both),
        "gone": len(theirs) - len(both),
        "relabelled or moved": sum(mine[each] != theirs[each] for each in both),
    }


def _held(manifest: Path) -> Iterator[tuple[str, tuple[str, str]]]:
    with manifest.open(newline="", encoding="utf-8", errors="surrogateescape") as file:
        for row in csv.DictReader(file):
            if row["split"] in HELD:
                yield row["sha256"], (row["label"], row["split"])
