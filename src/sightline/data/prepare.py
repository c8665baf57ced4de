"""The task of prepare.py: fetch a data set, audit it, pin its split, pack it. Never imports torch at the top."""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from sightline.config import PrepareConfig, to_plain, validate_task
from sightline.data.collection.adapters import DATA_SETS, fetch
from sightline.data.collection.sources import localise
from sightline.data.collection.tables import is_table
from sightline.data.manifest import SPLITS, Manifest
from sightline.data.opening import list_and_split, open_files
from sightline.data.versions.checkout import with_data_version
from sightline.errors import BadInput
from sightline.runs.archives import is_archive
from sightline.runs.files import write_json
from sightline.runs.invocation import UNTOLD, Invocation
from sightline.runs.record import RunRecord, open_folder

if TYPE_CHECKING:
    from omegaconf import DictConfig

log = logging.getLogger(__name__)
MAX_CLASSES = 50
"""Lines of classes that a dry run prints."""
LAYOUT_NAMES = {
    "splits": "a folder for each split, in it one for each class",
    "classes": "a folder for each class",
    "classes_splits": "a folder for each class, in it one for each split",
    "names": "classes in the files' names",
    "table": "a table",
    "gtsrb": "the layout of GTSRB",
    "intel": "the layout of the Intel scenes",
}


@dataclass(frozen=True)
class PrepareResult:
    metrics: dict[str, int]
    run_dir: Path


def prepare(cfg: "DictConfig | PrepareConfig", invocation: Invocation = UNTOLD) -> PrepareResult:
    """Fetch a data set if need be, audit it, and pin its split in `manifest.csv` beside the images.

    Raises: BadInput when it cannot be trained on.
    """
    cfg = with_data_version(validate_task(cfg, PrepareConfig))
    fetch_missing(cfg)
    opened = open_files(cfg)
    output = open_folder(Path(cfg.paths.runs), "prepare", cfg.data.name, cfg.output)
    facts = {"task": "prepare", "name": cfg.data.name, "config": to_plain(cfg)}
    with RunRecord(output, invocation, **facts) as record:
        record.update(data={"name": cfg.data.name, **opened.describe()})
        record.add_guesses(opened.guesses)
        opened.save(output)
        if cfg.pin and cfg.data.num_folds is None and opened.version is None:
            _pin(opened.manifest)
        if cfg.shards is not None:
            from sightline.data.shards.packing import pack

            reading = {"value_range": opened.value_range, "max_pixels": opened.max_pixels}
            pack(opened.manifest, cfg.shards, **reading, channels=opened.channels)
        metrics = {f"num_images/{split}": count for split, count in opened.manifest.num_images.items()}
        metrics |= {f"findings/{kind}": count for kind, count in opened.num_findings.items()}
        write_json(output / "metrics.json", metrics)
    return PrepareResult(metrics, output)


def describe(cfg: "DictConfig | PrepareConfig") -> str:
    """What `prepare` would find, from the names of files alone: a line for each class with its images by split.

    Raises: BadInput when it cannot be trained on, and for what would have to be fetched or unpacked first.
    """
    data = validate_task(cfg, PrepareConfig).data
    if data.version is not None:
        raise BadInput(
            f"dry_run=true: a version is what its table says; type data_versions.py show {data.version} to see it"
        )
    root = Path(data.root.removeprefix("file://")).expanduser().absolute()
    if root.is_file() and not (is_archive(root.name) or is_table(root.name)):
        localise(str(root), Path())  # says what it should be, where it is no table
    is_missing = data.source == "folder" and not _is_here(data.root)
    if not (is_missing or root.is_dir() or (root.is_file() and is_table(root.name))):
        raise BadInput(
            f"dry_run=true: {data.root} is no folder or table on this disk, and a dry run fetches and unpacks nothing; "
            "leave it out, or name another data.root"
        )
    listing, split = list_and_split(data, root)
    manifest, rest = split.manifest, [label for label, fate in split.small_classes.items() if fate == "left_out"]
    counts = np.zeros((len(manifest.class_names), len(SPLITS)), int)
    np.add.at(counts, (manifest.labels, manifest.splits), 1)
    rows = [(name, *map(str, row)) for name, row in zip(manifest.class_names, counts, strict=True)]
    if len(rows) > MAX_CLASSES:
        rows[MAX_CLASSES:] = [(f"… {len(rows) - MAX_CLASSES} more", "", "", "")]
    rows += [(f"{name}: left out", "", "", "") for name in rest]
    table = [("class", *SPLITS), *rows, ("all images", *map(str, counts.sum(axis=0)))]
    width = max(len(name) for name, *_ in table)
    lines = [f"{name:<{width}}" + "".join(f"{number:>8}" for number in numbers) for name, *numbers in table]
    head = f"{root}: {LAYOUT_NAMES[listing.layout]}, {len(manifest.class_names)} classes"
    tail = "nothing was read, fetched or written; without dry_run=true the images are audited and the split is pinned"
    return "\n".join([head, *lines, tail])


def _is_here(root: str) -> bool:
    return "://" in root or Path(root).expanduser().exists()


def fetch_missing(cfg: PrepareConfig) -> None:
    """Bring a data set here that is not, where it has an address and `fetch` allows it."""
    source = cfg.data.source
    if cfg.fetch and source in DATA_SETS and not _is_here(cfg.data.root):
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
