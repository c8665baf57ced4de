"""A data set from its configuration: found, looked at, split, and read in batches."""

import csv
import hashlib
import io
import json
import logging
import math
import os
import shutil
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from omegaconf import DictConfig, OmegaConf

from sightline.config import BatchAugmentationConfig, build, command_line_overrides, to_plain, validate_preparation
from sightline.data.audit.inspection import inspect_files
from sightline.data.collection.adapters import DATA_SETS, fetch
from sightline.data.collection.digits import write_digits
from sightline.data.collection.sources import localise
from sightline.data.manifest import TEST, Manifest, Selection
from sightline.data.splitting import SplitRule, make_manifest
from sightline.errors import BadInput
from sightline.runs.record import RunRecord, open_folder, write_json

if TYPE_CHECKING:
    from sightline.data.audit.audit import Audit
    from sightline.data.batch_augmentation import BatchAugmentation
    from sightline.data.cache import ImageCache
    from sightline.data.datamodule import ImageDataModule
    from sightline.data.datasets import ImageDataset
    from sightline.data.shards.packing import ShardInfo
    from sightline.data.shards.stores import ShardCache
    from sightline.data.transforms import Augmentation
    from sightline.task_spec import TaskSpec

log = logging.getLogger(__name__)
AUDIT_FILES = ("audit.json", "audit.html")
MAX_NAMED = 5


@dataclass(frozen=True)
class OpenedData:
    """A data set that may be trained on."""

    manifest: Manifest
    """What is used: bad files that are skipped are not in it."""
    skipped: dict[str, str] = field(default_factory=dict)
    """Path and defect of each bad file left out."""
    report: Path | None = None
    """The folder of audit.json and audit.html, unless the audit was skipped."""
    num_findings: dict[str, int] = field(default_factory=dict)
    """By kind."""

    @property
    def class_names(self) -> tuple[str, ...]:
        return self.manifest.class_names

    def class_counts(self) -> list[int]:
        """How many training images each class has."""
        labels = self.manifest.select("train").labels
        return np.bincount(labels, minlength=len(self.class_names)).tolist()

    def describe(self) -> dict[str, Any]:
        """For run.json."""
        manifest = self.manifest
        facts = {"num_images": manifest.num_images, "sha256": manifest.sha256, "root": str(manifest.root)}
        facts["skipped"] = {"num_images": len(self.skipped), "files": self.skipped}
        return {**facts, "findings": self.num_findings if self.report else None}

    def save(self, folder: Path) -> None:
        """Put the manifest and the audit into a run's folder."""
        self.manifest.save(folder / "manifest.csv")
        if self.report is not None:
            for name in AUDIT_FILES:
                shutil.copyfile(self.report / name, folder / name)


@dataclass(frozen=True)
class StreamedData:
    """A data set in shards, which were packed from an audited one."""

    location: str
    info: "ShardInfo"

    @property
    def class_names(self) -> tuple[str, ...]:
        return self.info.class_names

    def class_counts(self) -> list[int]:
        """How many training images each class has, by the manifest that lies beside the shards."""
        from sightline.data.shards.stores import open_store

        text = (open_store(self.location).read("manifest.csv") or b"").decode()
        rows = csv.DictReader(io.StringIO(text))
        counts = Counter(row["label"] for row in rows if row["split"] == "train")
        return [counts[name] for name in self.class_names]

    def describe(self) -> dict[str, Any]:
        """For run.json."""
        return {"num_images": self.info.num_images, "sha256": self.info.sha256, "root": self.location}

    def save(self, folder: Path) -> None:
        """Put the manifest into a run's folder."""
        from sightline.data.shards.stores import open_store

        (folder / "manifest.csv").write_bytes(open_store(self.location).read("manifest.csv") or b"")


@dataclass(frozen=True)
class PrepareResult:
    metrics: dict[str, int]
    run_dir: Path


def prepare(cfg: DictConfig) -> PrepareResult:
    """Fetch a data set if need be, audit it, and pin its split in `manifest.csv` beside the images.

    Raises: BadInput when it cannot be trained on.
    """
    validate_preparation(cfg)
    if cfg.data.source in ("synthetic", "shards"):
        raise BadInput(f"data.source={cfg.data.source}: has no files to prepare; choose another data")
    if cfg.fetch and not _is_here(cfg.data.root):
        _fetch(cfg)
    opened = open_data(cfg)
    output = open_folder(Path(cfg.paths.runs), "prepare", cfg.data.name, cfg.output)
    facts = {"task": "prepare", "name": cfg.data.name, "overrides": command_line_overrides(), "config": to_plain(cfg)}
    with RunRecord(output, **facts) as record:
        record.update(data={"name": cfg.data.name, **opened.describe()})
        opened.save(output)
        if cfg.pin and cfg.data.num_folds is None:
            _pin(opened)
        if cfg.shards is not None:
            from sightline.data.shards.packing import pack

            pack(opened.manifest, cfg.shards)
        metrics = {f"num_images/{split}": count for split, count in opened.manifest.num_images.items()}
        metrics |= {f"findings/{kind}": count for kind, count in opened.num_findings.items()}
        write_json(output / "metrics.json", metrics)
    return PrepareResult(metrics, output)


def _is_here(root: str) -> bool:
    return "://" in root or Path(root).expanduser().exists()


def _fetch(cfg: DictConfig) -> None:
    source = cfg.data.source
    if source in DATA_SETS:
        options = {"class_names": list(cfg.data.classes)} if cfg.data.classes else {}
        fetch(source, Path(cfg.data.root).expanduser(), cache=Path(cfg.paths.cache), **options)


def _pin(opened: OpenedData) -> None:
    path = opened.manifest.root / "manifest.csv"
    try:
        opened.manifest.save(path)
    except OSError as error:
        log.warning(
            "%s cannot be written (%s): pin the split with data.manifest=<run folder>/manifest.csv", path, error
        )
    else:
        log.info("the split is pinned in %s: images that are added will not move these", path)


def open_training_data(cfg: DictConfig) -> OpenedData | StreamedData | None:
    """The data that a configuration names; None for synthetic images."""
    if cfg.data.source == "synthetic":
        return None
    return open_shards(cfg.data.root) if cfg.data.source == "shards" else open_data(cfg)


def describe_data(cfg: DictConfig, opened: OpenedData | StreamedData | None) -> dict[str, Any]:
    """A run's data for its run.json."""
    if opened is None:
        counts = {"train": cfg.data.num_synthetic, "val": cfg.data.batch_size, "test": 0}
        return {"name": cfg.data.name, "num_images": counts, "sha256": None}
    return {"name": cfg.data.name, **opened.describe()}


def open_shards(location: str) -> StreamedData:
    """A data set that `prepare.py shards=LOCATION` packed.

    Raises: BadInput when there is none.
    """
    from sightline.data.shards.packing import read_shards

    info = read_shards(location)
    counts = ", ".join(f"{count} {split}" for split, count in info.num_images.items())
    log.info("%s: %d classes, %s images in shards", location, len(info.class_names), counts)
    return StreamedData(location, info)


def open_data(cfg: DictConfig) -> OpenedData:
    """The images of a configuration, audited unless `data.audit=skip`, with bad files and leaks dealt with as it says.

    Raises: BadInput when there are none, or when they are not fit to train on.
    """
    data, cache = cfg.data, Path(cfg.paths.cache)
    if data.source == "digits" and Path(data.root) == Path(cfg.paths.data) / "digits":
        write_digits(Path(data.root))  # any other root is somebody's own folder
    root = localise(data.root, cache)
    rule = SplitRule(
        val_fraction=data.val_fraction,
        test_fraction=data.test_fraction,
        group_pattern=data.group_pattern,
        groups_span_classes=data.groups_span_classes,
        num_folds=data.num_folds,
        fold=data.fold,
    )
    pinned = _find_pinned(data.manifest, root)
    manifest = make_manifest(root, rule, origin=data.origin, class_pattern=data.class_pattern, pinned=pinned)
    index = cache / "index" / f"{hashlib.sha256(str(manifest.root).encode()).hexdigest()[:32]}.sqlite"
    inspection = inspect_files(manifest.root, manifest.paths, index=index, decode=data.audit != "skip")
    manifest.with_digests(inspection.facts["sha256"])
    opened = OpenedData(manifest)
    if data.audit != "skip":
        opened = _apply_audit(data, _audit_once(manifest, inspection, cache), opened)
    counts = opened.manifest.num_images
    log.info(
        "%s: %d classes, %d train, %d val, %d test images",
        manifest.root,
        len(manifest.class_names),
        *(counts[split] for split in ("train", "val", "test")),
    )
    return opened


def _find_pinned(setting: str, root: Path) -> Manifest | None:
    """The manifest that fixes the splits: the one named, or the one beside the images."""
    if setting == "none":
        return None
    folder = root if root.is_dir() else root.parent
    path = folder / "manifest.csv" if setting == "auto" else Path(setting).expanduser()
    if path == root or (setting == "auto" and not path.is_file()):
        return None
    if not path.is_file():
        raise BadInput(f"data.manifest={setting}: no such file; name a manifest.csv, or set auto or none")
    log.info("the split is that of %s; only images that it lacks are placed anew", path)
    return Manifest.load(path, folder)


def _audit_once(manifest: Manifest, inspection: Any, cache: Path) -> Path:
    """The folder of this data's audit, made now unless the same files have been audited before.

    Of several runs that begin at once, one makes it and the others wait.
    """
    from filelock import FileLock

    folder = cache / "audits" / manifest.sha256[:32]
    if _is_audited(folder):
        return folder
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{folder}.lock"):
            if not _is_audited(folder):
                _audit(manifest, inspection, folder)
    except OSError as error:
        raise BadInput(
            f"paths.cache={cache}: the audit cannot be written ({error}); name another folder, or set data.audit=skip"
        ) from error
    return folder


def _is_audited(folder: Path) -> bool:
    return all((folder / name).is_file() for name in AUDIT_FILES)


def _audit(manifest: Manifest, inspection: Any, folder: Path) -> None:
    from sightline.data.audit.audit import audit
    from sightline.data.audit.report import write_report

    found: Audit = audit(manifest, inspection)
    folder.mkdir(exist_ok=True)
    write_report(found, manifest, folder / "audit.html")
    write_json(folder / "audit.json", found.to_dict())


def _apply_audit(data: DictConfig, report: Path, opened: OpenedData) -> OpenedData:
    """The data without its bad files, if the configuration lets them be left out.

    Raises: BadInput for bad files or leaks that it does not allow.
    """
    from sightline.data.audit.inspection import STATUSES

    findings = json.loads((report / "audit.json").read_text(encoding="utf-8"))["findings"]
    bad = {
        file: finding["kind"] for finding in findings if finding["kind"] in STATUSES[1:] for file in finding["files"]
    }
    page = report / "audit.html"
    _check_bad_files(data, bad, len(opened.manifest), page)
    num_findings: dict[str, int] = {}
    for finding in findings:
        num_findings[finding["kind"]] = num_findings.get(finding["kind"], 0) + 1
    if num_findings:
        counts = ", ".join(f"{kind.replace('_', ' ')} {count:,}" for kind, count in num_findings.items())
        log.warning("findings of the audit: %s; see %s", counts, page)
    if leaks := [finding for finding in findings if finding["kind"] == "leak"]:
        _report_leaks(data, leaks, page)
    manifest = opened.manifest
    if bad:
        manifest = manifest.keep(~np.isin(manifest.paths, np.array(list(bad), manifest.paths.dtype)))
    return OpenedData(manifest, bad, report, num_findings)


def _check_bad_files(data: DictConfig, bad: dict[str, str], num_images: int, page: Path) -> None:
    if not bad:
        return
    named = "; ".join(f"{file} ({kind})" for file, kind in list(bad.items())[:MAX_NAMED])
    more = f" and {len(bad) - MAX_NAMED} more" if len(bad) > MAX_NAMED else ""
    share = math.ceil(1000 * len(bad) / num_images) / 1000
    if data.on_bad_file == "error":
        larger = f" data.max_bad_fraction={share:g}" if len(bad) > data.max_bad_fraction * num_images else ""
        raise BadInput(
            f"data.root={data.root}: {len(bad)} bad file(s): {named}{more}; all are in {page}. Repair or remove them, "
            f"or leave them out with data.on_bad_file=skip{larger}"
        )
    if len(bad) > data.max_bad_fraction * num_images:
        raise BadInput(
            f"data.max_bad_fraction={data.max_bad_fraction}: {len(bad)} of {num_images} files are bad: {named}{more}; "
            f"all are in {page}. Repair or remove them, or set data.max_bad_fraction={share:g}"
        )
    log.warning("%d bad file(s) are left out: %s%s", len(bad), named, more)


def _report_leaks(data: DictConfig, leaks: list[dict[str, Any]], page: Path) -> None:
    first = ", ".join(leaks[0]["files"][:2])
    text = f"{len(leaks)} set(s) of images lie in more than one split, the first is {first}"
    if data.on_leak == "error":
        raise BadInput(
            f"data.on_leak=error: {text}; all are in {page}. Remove them from one split, or set on_leak=warn"
        )
    log.warning("%s: numbers on those splits flatter the model", text)


def make_augmentation(cfg: DictConfig, spec: "TaskSpec") -> "Augmentation":
    """The changes of single images that a configuration names, without what would change a class."""
    from sightline.data.transforms import Augmentation

    transforms = _build_all(cfg.augmentation.transforms, "augmentation.transforms")
    return Augmentation(
        spec,
        crop_scale=cfg.augmentation.crop_scale,
        crop_ratio=cfg.augmentation.crop_ratio,
        horizontal_flip=cfg.augmentation.horizontal_flip,
        transforms=transforms,
        orientation_matters=cfg.data.orientation_matters,
    )


def make_batch_augmentation(cfg: DictConfig, spec: "TaskSpec") -> "BatchAugmentation | None":
    """The changes of whole batches that a configuration names, without what would change a class."""
    from sightline.data.batch_augmentation import BatchAugmentation, RandomView

    batch = cfg.augmentation.batch
    if batch == OmegaConf.structured(BatchAugmentationConfig):
        return None
    view = RandomView(
        tuple(batch.crop_scale),
        tuple(batch.crop_ratio),
        batch.rotate_degrees,
        batch.shear_degrees,
    )
    pairs = dict(cfg.data.mirror_classes) or None
    steps = {key: _build_all(batch[key], f"augmentation.batch.{key}").values() for key in ("before", "after")}
    return BatchAugmentation(
        spec,
        view,
        source_size=batch.source_size,
        horizontal_flip=0.0 if cfg.data.orientation_matters and pairs is None else batch.horizontal_flip,
        mirror_classes=pairs,
        before=steps["before"],
        after=steps["after"],
    )


def _build_all(nodes: DictConfig, key: str) -> dict[str, Any]:
    """The objects of a configuration by name; null leaves one out."""
    return {str(name): build(node, f"{key}.{name}") for name, node in nodes.items() if node is not None}


def make_datamodule(cfg: DictConfig, opened: OpenedData | StreamedData | None, spec: "TaskSpec") -> "ImageDataModule":
    """Batches of the images, or of random pixels where there are none."""
    from sightline.data.batch_augmentation import source_of
    from sightline.data.datamodule import ImageDataModule
    from sightline.data.datasets import SyntheticDataset
    from sightline.data.samplers import BalancedSampler

    data = cfg.data
    _check_workers(data.num_workers)
    loading: dict[str, Any] = {"batch_size": data.batch_size, "num_workers": data.num_workers, "seed": cfg.seed}
    if opened is None:
        images = SyntheticDataset(data.num_synthetic, spec)
        return ImageDataModule(spec, images, SyntheticDataset(data.batch_size, spec), None, **loading)
    in_batches = make_batch_augmentation(cfg, spec)
    loading["batch_augmentation"] = in_batches
    source, num_draws = source_of(spec, in_batches)
    augmentation = make_augmentation(cfg, source)
    if isinstance(opened, StreamedData):
        from sightline.data.shards.loading import ShardDataModule

        kept = shard_cache(cfg.paths.cache, data.cache_gb)
        return ShardDataModule(opened.location, spec, augmentation=augmentation, cache=kept, **loading)
    make = _dataset_maker(cfg, opened.manifest)
    train = make("train", source, augmentation=augmentation, num_draws=num_draws)
    val = make("val", spec)
    test = make("test", spec) if opened.manifest.num_images["test"] else None
    datamodule = ImageDataModule(spec, train, val, test, **loading)
    if data.device_cache:
        datamodule.keep_on_device()
    if data.sampler == "balanced":
        datamodule.sampler = BalancedSampler(train.images.labels, cfg.seed)
    return datamodule


def _check_workers(num_workers: int) -> None:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if num_workers > cores:
        log.warning(
            "data.num_workers=%d: only %d core(s) are lent to this process; fewer may be faster", num_workers, cores
        )


def image_cache(cache: str, limit_gb: float = 50.0, mode: str = "auto") -> "ImageCache":
    """Where decoded images are kept."""
    from sightline.data.cache import ImageCache

    return ImageCache(Path(cache) / "images", limit_gb=limit_gb, mode=mode)


def shard_cache(cache: str, limit_gb: float = 50.0) -> "ShardCache":
    """Where shards that stream are kept."""
    from sightline.data.shards.stores import ShardCache

    return ShardCache(Path(cache) / "shards", limit_gb)


def _dataset_maker(cfg: DictConfig, manifest: Manifest) -> "Callable[..., ImageDataset]":
    """Makes the data set of a split, over the cache that all runs share."""
    from sightline.data.cache import Pixels
    from sightline.data.datasets import ImageDataset

    cache = image_cache(cfg.paths.cache, cfg.data.cache_gb, cfg.data.cache)
    all_folds = Selection(manifest, np.flatnonzero(manifest.splits != TEST)) if cfg.data.num_folds else None

    def make(
        split: str, spec: "TaskSpec", *, augmentation: "Augmentation | None" = None, num_draws: int = 0
    ) -> "ImageDataset":
        images = manifest.select(split)
        if split == "train" and cfg.data.with_validation:
            images = Selection(manifest, np.flatnonzero(manifest.splits != TEST))
        pixels = Pixels(spec)
        if augmentation is not None and augmentation.crop_scale is not None:
            pixels = Pixels.for_crops(spec, augmentation.crop_scale, augmentation.crop_ratio)
        if all_folds is None or split == "test":
            store, places = cache.store(images, pixels), None
        else:
            store, places = cache.store(all_folds, pixels), np.searchsorted(all_folds.rows, images.rows)  # one for all
        return ImageDataset(images, spec, augmentation, cfg.seed, store, places, num_draws)

    return make
