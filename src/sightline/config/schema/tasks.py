"""The configurations of the tasks beside training."""

from dataclasses import dataclass, field
from typing import Any

from omegaconf import MISSING

from sightline.config.constraints import Needs, key, only_with
from sightline.config.schema.data import NOT_FILES, DataConfig, PathsConfig
from sightline.config.schema.data_versions import DataVersionsConfig
from sightline.config.schema.evaluation import EvaluationConfig
from sightline.config.schema.explanation import ExplanationConfig
from sightline.config.schema.export import ExportTaskConfig
from sightline.config.schema.own_code import CODE_SHA256, EXTENSIONS, TRUST_CODE
from sightline.config.schema.pipeline import GateTaskConfig, PipelineConfig
from sightline.config.schema.predict import PredictConfig
from sightline.config.schema.registry import RegistryConfig
from sightline.config.schema.run_data import IMAGES, RUN, RunDataConfig
from sightline.config.schema.serve import ServeConfig
from sightline.config.schema.train import FindLrConfig, TrainConfig
from sightline.config.schema.trainer import MEASURED_PRECISION, MEASURED_PRECISIONS, PRECISIONS, RUNTIME, RUNTIMES
from sightline.errors import BadInput
from sightline.task_spec import VIEWS

SPLITS = ("train", "val", "test")
TIMED = only_with("time", True)


@dataclass
class EvaluateConfig:
    """A finished run, measured."""

    run: str = key(MISSING, RUN, path="run")
    against: str | None = key(None, "another one, to compare with on the same images", path="run")
    split: str = key("test", "of the run's own images", choices=SPLITS)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    data: RunDataConfig = field(default_factory=RunDataConfig)
    accelerator: str = key("auto", "auto: the one of the training, where it is here")
    precision: str = key("32-true", MEASURED_PRECISION, choices=MEASURED_PRECISIONS)
    runtime: str = key("auto", RUNTIME, choices=RUNTIMES)
    test_time_augmentation: str | None = key(None, "null: what the run used", choices=VIEWS)
    extensions: str | None = key(None, EXTENSIONS, path="path")
    trust_code: bool = key(False, TRUST_CODE)
    code_sha256: dict[str, str] = key({}, CODE_SHA256)
    output: str | None = key(None, "the folder of the results, instead of a new one below paths.runs", path="stays")
    paths: PathsConfig = field(default_factory=PathsConfig)
    launch: dict[str, Any] = key({}, "where the task is started; empty where it runs")

    def check(self) -> None:
        self.evaluation.check_splits((self.split,))


@dataclass
class ExplainConfig:
    """A finished run, explained."""

    run: str = key(MISSING, RUN, path="run")
    images: Any = key(None, f"{IMAGES}; null: images of the split", path="path", several=True)
    split: str = key(
        "test",
        "of the run's own images",
        choices=SPLITS,
        needs=Needs("images=null", lambda cfg: cfg.images is None),
    )
    explanation: ExplanationConfig = field(default_factory=ExplanationConfig)
    data: RunDataConfig = field(default_factory=RunDataConfig)
    accelerator: str = key("auto", "auto: the one of the training, where it is here")
    runtime: str = key("auto", RUNTIME, choices=RUNTIMES)
    extensions: str | None = key(None, EXTENSIONS, path="path")
    trust_code: bool = key(False, TRUST_CODE)
    code_sha256: dict[str, str] = key({}, CODE_SHA256)
    output: str | None = key(None, "the folder of the results, instead of a new one below paths.runs", path="stays")
    paths: PathsConfig = field(default_factory=PathsConfig)
    launch: dict[str, Any] = key({}, "where the task is started; empty where it runs")

    def check(self) -> None:
        if self.images is not None and self.data.version is not None:
            raise BadInput(
                f"images={self.images} data.version={self.data.version}: both name the images; drop one of the two"
            )
        if self.images is not None and self.data.root is not None:
            raise BadInput(
                f"images={self.images} data.root={self.data.root}: both name the images; drop one of the two"
            )
        if self.images is not None and self.explanation.target != "prediction":
            raise BadInput(
                f"explanation.target={self.explanation.target}: images={self.images} have no labels; "
                "set it to prediction"
            )


@dataclass
class PrepareConfig:
    """A data set, fetched, audited and pinned."""

    data: DataConfig = field(default_factory=DataConfig)
    fetch: bool = key(True, "download the data set when it is not here and its source has an address")
    dry_run: bool = key(False, "only say what is understood, from names alone: nothing is decoded, fetched or written")
    pin: bool = key(True, "write the split to data.root/manifest.csv, so that images added later do not move it")
    shards: str | None = key(
        None,
        "also pack the images into shards that stream from here, a folder or s3://bucket/prefix",
        path="target",
    )
    extensions: str | None = key(None, EXTENSIONS, path="path")
    trust_code: bool = key(False, TRUST_CODE)
    code_sha256: dict[str, str] = key({}, CODE_SHA256)
    output: str | None = key(None, "the folder of the results, instead of a new one below paths.runs", path="stays")
    paths: PathsConfig = field(default_factory=PathsConfig)
    launch: dict[str, Any] = key({}, "where the task is started; empty where it runs")

    def check(self) -> None:
        if self.data.source in NOT_FILES:
            raise BadInput(f"data.source={self.data.source}: has no files to prepare; choose another data")


@dataclass
class ModelsConfig:
    """A table of timm's models."""

    pattern: str = key("resnet*", "`*` and `?` stand for letters; without them: names that contain it")
    limit: int = key(40, "the most models to describe", minimum=1)
    image_size: int | None = key(None, "null: what each was made for", minimum=8)
    time: bool = key(False, "also measure images per second, on this machine")
    batch_size: int = key(32, "for that", minimum=2, needs=TIMED)
    accelerator: str = key("auto", "auto: the best that this machine has", needs=TIMED)
    precision: str = key(
        "auto", "auto: bf16 mixed where the device has it in hardware", choices=PRECISIONS, needs=TIMED
    )
    output: str | None = key(None, "a folder for models.csv", path="stays")


@dataclass
class JobsConfig:
    """Jobs that were submitted, and their records."""

    into: str | None = key(None, "where fetch puts a run folder; null: paths.runs/jobs/<name>")
    paths: PathsConfig = field(default_factory=PathsConfig)
    launch: dict[str, Any] = key({}, "where the task is started; empty where it runs")


@dataclass
class NewConfig:
    """A project of one's own beside Sightline."""

    name: str = key(MISSING, "of the project and its folder; `-` becomes `_` in its package")
    into: str = key(".", "the folder that it is made in", path="stays")


TASKS: dict[str, type] = {
    "train": TrainConfig,
    "evaluate": EvaluateConfig,
    "explain": ExplainConfig,
    "predict": PredictConfig,
    "prepare": PrepareConfig,
    "export": ExportTaskConfig,
    "serve": ServeConfig,
    "find_lr": FindLrConfig,
    "models": ModelsConfig,
    "jobs": JobsConfig,
    "pipeline": PipelineConfig,
    "gate": GateTaskConfig,
    "registry": RegistryConfig,
    "data_versions": DataVersionsConfig,
    "new": NewConfig,
}
"""By the name of the program."""
