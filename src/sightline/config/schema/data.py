"""The data group: where images are, how they are split and how they are read."""

import re
from dataclasses import dataclass, field, replace
from typing import Any

from omegaconf import MISSING

from sightline.config.constraints import Needs, key, only_with, validate_choice
from sightline.config.instantiation import check_targets
from sightline.config.schema.pixels import FILES, NOT_FILES, PixelsConfig
from sightline.config.schema.tables import ColumnsConfig, TableFormatConfig, TablePathsConfig, refuse_table_keys
from sightline.errors import BadInput

SOURCES = ("folder", "digits", "gtsrb", "intel", "cifar100", "dogs", "shards", "synthetic")
SAMPLERS = ("shuffled", "balanced")
LAYOUTS = ("auto", "splits", "classes", "classes_splits")
LOOKED_AT = replace(FILES, may_stay=True)


@dataclass
class PathsConfig:
    """Where this machine keeps what."""

    data: str = key(MISSING, "data sets are looked for, and made, here", path="stays")
    cache: str = key(MISSING, "downloads, decoded images and audits: all of it can be made again", path="stays")
    inputs: str = key(MISSING, "of a job: a folder for each place that came with it", path="stays")
    runs: str = key(MISSING, "run folders are made here", path="stays")
    registry: str = key(
        "${paths.runs}/registry", "of models: a folder, s3://bucket/prefix or sagemaker:GROUP", path="stays"
    )
    data_versions: str = key(
        "${paths.runs}/data_versions", "of data sets: a folder or s3://bucket/prefix", path="stays"
    )


@dataclass
class DataConfig(PixelsConfig):
    """A data set, its split, and how its images are read."""

    name: str = key(MISSING, "of the data set")
    source: str = key(
        "folder",
        "whatever root holds; or a data set that we can fetch, shards, or synthetic (random pixels)",
        choices=SOURCES,
    )
    root: str = key(
        MISSING,
        "holds train/<class>/… and perhaps val/ and test/; or a .csv, .lst, .parquet, archive or s3:// address",
        path="path",
        needs=Needs("another data.source than synthetic", lambda cfg: cfg.data.source != "synthetic"),
    )
    version: str | None = key(
        None,
        "of data_versions.py, in place of root: NAME (its newest), NAME/3 or NAME/tag",
        needs=FILES,
    )
    origin: str = key("", "where to get the data when root is missing")
    classes: list[str] | None = key(
        None, "of cifar100: those to write, by name; null: all", needs=only_with("data.source", "cifar100")
    )
    layout: str = key(
        "auto",
        "of folders: splits (train/<class>/), classes (<class>/), classes_splits (<class>/train/); auto: found out",
        choices=LAYOUTS,
        needs=FILES,
    )
    class_pattern: str | None = key(
        None, "regular expression; its brackets hold the class in a class folder's name", needs=FILES
    )
    name_pattern: str | None = key(
        None,
        "the same in a file's name, like cat.0.jpg: folders tell the split alone then",
        needs=FILES,
    )
    tables: list[str] = key([], "where root is a folder of images: their tables in it; []: found")
    columns: ColumnsConfig = field(default_factory=ColumnsConfig)
    table_paths: TablePathsConfig = field(default_factory=TablePathsConfig)
    table_format: TableFormatConfig = field(default_factory=TableFormatConfig)
    orientation_matters: bool = key(False, "true: no flip, transpose or quarter turn, they would change the class")
    mirror_classes: dict[str, str] = key({}, "but for these: a class, and that of its mirror image")
    batch_size: int | str = key(
        64,
        "of all devices together; auto: the largest power of two that fits into memory",
        minimum=1,
        words=("auto",),
        noun="a number",
    )
    num_workers: int = key(2, "processes that decode images", minimum=0)
    group_pattern: str | None = key(
        None, "regular expression; images whose paths agree in its brackets stay together", needs=FILES
    )
    groups_span_classes: bool = key(
        False,
        "true: the same group in two classes is one (a patient), not two (a counter)",
        needs=only_with("data.group_pattern"),
    )
    val_fraction: float = key(
        0.15,
        "of the groups of each class, where there is no val/",
        minimum=0,
        below=1,
        needs=Needs(
            "data.num_folds=null and images in files", lambda cfg: cfg.data.num_folds is None and FILES.holds(cfg)
        ),
    )
    test_fraction: float = key(0.15, "the same where there is no test/; 0 makes none", minimum=0, below=1, needs=FILES)
    small_classes: str = key(
        "error",
        "classes with too few images or groups for every split; train_only: trained on, not measured; or leave_out",
        choices=("error", "train_only", "leave_out"),
        needs=FILES,
    )
    num_folds: int | None = key(
        None,
        "cross-validation: all but test is dealt into so many parts …",
        minimum=2,
        hint=", or null for a single split",
        needs=FILES,
    )
    fold: int = key(0, "… and this one is validation")
    with_validation: bool = key(
        False, "train on the validation images too; then the last epoch is the one that is kept"
    )
    manifest: str = key(
        "auto",
        "the split as a file; auto: root/manifest.csv where there is one; none: split anew",
        path="path",
        needs=LOOKED_AT,
    )
    audit: str = key("auto", "look at every file at first use; skip: do not", choices=("auto", "skip"), needs=LOOKED_AT)
    on_bad_file: str = key(
        "error", "skip: leave bad files out, and say so in run.json …", choices=("error", "skip"), needs=LOOKED_AT
    )
    max_bad_fraction: float = key(
        0.01,
        "… while they are no more than this share",
        minimum=0,
        maximum=1,
        noun="a share",
        needs=only_with("data.on_bad_file", "skip"),
    )
    on_leak: str = key("warn", "of images in two splits", choices=("warn", "error"), needs=LOOKED_AT)
    sampler: Any = key(
        "shuffled",
        "balanced: as many training images of one class as of another; or a `_target_` node of one's own",
    )
    cache: str = key(
        "auto",
        "decoded images on disk; auto: if they fit; always; off: decode the files in every epoch",
        choices=("auto", "always", "off"),
        needs=LOOKED_AT,
    )
    cache_gb: float = key(
        50.0,
        "the most that all caches may take",
        above=0,
        hint="; to have no cache set data.cache=off",
        needs=Needs("data.cache=auto or always", lambda cfg: cfg.data.cache != "off" or cfg.data.source == "shards"),
    )
    device_cache: bool = key(False, "all decoded images of training and validation in the memory of the device")
    num_synthetic: int = key(
        1024,
        "images that source=synthetic pretends to have",
        minimum=1,
        needs=only_with("data.source", "synthetic"),
    )

    def check(self) -> None:
        if isinstance(self.sampler, dict):
            if "_target_" not in self.sampler:
                raise BadInput(
                    f"data.sampler={self.sampler}: no _target_ is set; add data.sampler._target_=MODULE.CLASS"
                )
            check_targets(self.sampler, "data.sampler")
        else:
            validate_choice("data.sampler", self.sampler, SAMPLERS)
        if self.source in NOT_FILES:
            refuse_table_keys(self, f"data.source={self.source} reads none")
        for name, value in (("on_bad_file", "skip"), ("on_leak", "error")):
            if self.audit == "skip" and getattr(self, name) == value:
                raise BadInput(
                    f"data.audit=skip data.{name}={value}: only the audit tells; set data.audit=auto or drop "
                    f"data.{name}"
                )
        self._check_folds()
        if self.val_fraction + self.test_fraction >= 1:
            raise BadInput(
                f"data.val_fraction={self.val_fraction} data.test_fraction={self.test_fraction}: "
                "together they leave nothing to train on; make their sum smaller than 1"
            )
        _check_pattern("data.group_pattern", self.group_pattern, "the group", r"(\d+)_\d+")
        _check_pattern("data.class_pattern", self.class_pattern, "the class", r"^\d+\.(.+)$")
        _check_pattern("data.name_pattern", self.name_pattern, "the class", "^([a-z]+)")
        if self.name_pattern is not None and (self.class_pattern is not None or self.layout == "classes_splits"):
            name = "layout" if self.class_pattern is None else "class_pattern"
            raise BadInput(
                f"data.{name}={getattr(self, name)} data.name_pattern={self.name_pattern}: the class stands in the "
                "folder's name or in the file's; drop one of the two"
            )
        self.check_pixels()

    def _check_folds(self) -> None:
        if self.num_folds is not None and self.version is not None:
            raise BadInput(
                f"data.version={self.version} data.num_folds={self.num_folds}: a version has one split, which stays; "
                "drop one of the two"
            )
        if self.num_folds is None and self.fold != 0:
            raise BadInput(f"data.fold={self.fold}: of how many folds? Add data.num_folds=5, say")
        if self.num_folds is not None and not 0 <= self.fold < self.num_folds:
            raise BadInput(
                f"data.fold={self.fold}: with data.num_folds={self.num_folds} must be from 0 to {self.num_folds - 1}"
            )


def _check_pattern(name: str, pattern: str | None, sought: str, example: str) -> None:
    if pattern is None:
        return
    try:
        groups = re.compile(pattern).groups
    except re.error as error:
        raise BadInput(f"{name}={pattern}: not a regular expression ({error})") from error
    if groups < 1:
        raise BadInput(
            f"{name}={pattern}: put brackets round the part that names {sought}, like '{name}=\"{example}\"'"
        )
