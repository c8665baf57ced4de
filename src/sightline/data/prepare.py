"""The task of prepare.py: fetch a data set, audit it, pin its split, pack it. Never imports torch at the top."""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from sightline.config import PrepareConfig, to_plain, validate_task
from sightline.data.collection.adapters import DATA_SETS, fetch
from sightline.data.manifest import Manifest
from sightline.data.opening import open_files
from sightline.runs.files import write_json
from sightline.runs.invocation import UNTOLD, Invocation
from sightline.runs.record import RunRecord, open_folder

if TYPE_CHECKING:
    from omegaconf import DictConfig

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class PrepareResult:
    metrics: dict[str, int]
    run_dir: Path


def prepare(cfg: "DictConfig | PrepareConfig", invocation: Invocation = UNTOLD) -> PrepareResult:
    """Fetch a data set if need be, audit it, and pin its split in `manifest.csv` beside the images.

    Raises: BadInput when it cannot be trained on.
    """
    cfg = validate_task(cfg, PrepareConfig)
    if cfg.fetch and not _is_here(cfg.data.root):
        _fetch(cfg)
    opened = open_files(cfg)
    output = open_folder(Path(cfg.paths.runs), "prepare", cfg.data.name, cfg.output)
    facts = {"task": "prepare", "name": cfg.data.name, "config": to_plain(cfg)}
    with RunRecord(output, invocation, **facts) as record:
        record.update(data={"name": cfg.data.name, **opened.describe()})
        record.add_guesses(opened.guesses)
        opened.save(output)
        if cfg.pin and cfg.data.num_folds is None:
            _pin(opened.manifest)
        if cfg.shards is not None:
            from sightline.data.shards.packing import pack

            pack(opened.manifest, cfg.shards)
        metrics = {f"num_images/{split}": count for split, count in opened.manifest.num_images.items()}
        metrics |= {f"findings/{kind}": count for kind, count in opened.num_findings.items()}
        write_json(output / "metrics.json", metrics)
    return PrepareResult(metrics, output)


def _is_here(root: str) -> bool:
    return "://" in root or Path(root).expanduser().exists()


def _fetch(cfg: PrepareConfig) -> None:
    source = cfg.data.source
    if source in DATA_SETS:
        options = {"class_names": list(cfg.data.classes)} if cfg.data.classes else {}
        fetch(source, Path(cfg.data.root).expanduser(), cache=Path(cfg.paths.cache), **options)


def _pin(manifest: Manifest) -> None:
    path = manifest.root / "manifest.csv"
    try:
        manifest.save(path)
    except OSError as error:
        log.warning(
            "%s cannot be written (%s): pin the split with data.manifest=<run folder>/manifest.csv", path, error
        )
    else:
        log.info("the split is pinned in %s: images that are added will not move these", path)
