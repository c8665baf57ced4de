"""The schema of what is ours, its rules, and typed configurations. Never imports torch: bad input must fail fast."""

from sightline.config.code_of_run import check_place, find_code_of_run
from sightline.config.constraints import UnknownKey, did_you_mean, key, refuse_idle, validate_choice
from sightline.config.conversion import (
    check_overrides,
    escaped,
    explain_key,
    refuse_unknown_keys,
    save_yaml,
    to_plain,
    to_yaml,
    typed_section,
    unknown_key,
    validate,
    validate_task,
    with_value,
)
from sightline.config.instantiation import build, build_each, build_part, check_targets, taken_by, taken_by_name
from sightline.config.location import locate, where_raised
from sightline.config.own_code import OwnCode, open_code, targets_of
from sightline.config.registration import all_keys, path_keys, register, with_absolute_paths
from sightline.config.schema.augmentation import AugmentationConfig, BatchAugmentationConfig
from sightline.config.schema.data import DataConfig, PathsConfig
from sightline.config.schema.data_versions import DataVersionsConfig
from sightline.config.schema.evaluation import EvaluationConfig
from sightline.config.schema.explanation import METHODS, ExplanationConfig
from sightline.config.schema.export import ExportConfig, ExportTaskConfig
from sightline.config.schema.model import ModelConfig
from sightline.config.schema.own_code import is_own
from sightline.config.schema.pipeline import STEPS, GateConfig, GateTaskConfig, PipelineConfig, PipelineSettings
from sightline.config.schema.predict import PredictConfig
from sightline.config.schema.registry import RegistryConfig
from sightline.config.schema.rules import check_processes, check_views
from sightline.config.schema.run_data import RunDataConfig
from sightline.config.schema.serve import ServeConfig
from sightline.config.schema.tables import PARQUET_SUFFIX, TABLE_SUFFIXES
from sightline.config.schema.tasks import (
    SPLITS,
    TASKS,
    EvaluateConfig,
    ExplainConfig,
    JobsConfig,
    ModelsConfig,
    NewConfig,
    PrepareConfig,
)
from sightline.config.schema.train import FindLrConfig, TrainConfig
from sightline.config.schema.trainer import (
    PRECISIONS,
    RUNTIMES,
    STRATEGIES,
    CheckpointConfig,
    DivergenceConfig,
    LrFinderConfig,
    TrainerConfig,
)
from sightline.config.task_code import with_own_code

__all__ = [
    "METHODS",
    "PARQUET_SUFFIX",
    "PRECISIONS",
    "RUNTIMES",
    "SPLITS",
    "STEPS",
    "STRATEGIES",
    "TABLE_SUFFIXES",
    "TASKS",
    "AugmentationConfig",
    "BatchAugmentationConfig",
    "CheckpointConfig",
    "DataConfig",
    "DataVersionsConfig",
    "DivergenceConfig",
    "EvaluateConfig",
    "EvaluationConfig",
    "ExplainConfig",
    "ExplanationConfig",
    "ExportConfig",
    "ExportTaskConfig",
    "FindLrConfig",
    "GateConfig",
    "GateTaskConfig",
    "JobsConfig",
    "LrFinderConfig",
    "ModelConfig",
    "ModelsConfig",
    "NewConfig",
    "OwnCode",
    "PathsConfig",
    "PipelineConfig",
    "PipelineSettings",
    "PredictConfig",
    "PrepareConfig",
    "RegistryConfig",
    "RunDataConfig",
    "ServeConfig",
    "TrainConfig",
    "TrainerConfig",
    "UnknownKey",
    "all_keys",
    "build",
    "build_each",
    "build_part",
    "check_overrides",
    "check_place",
    "check_processes",
    "check_targets",
    "check_views",
    "did_you_mean",
    "escaped",
    "explain_key",
    "find_code_of_run",
    "is_own",
    "key",
    "locate",
    "open_code",
    "path_keys",
    "refuse_idle",
    "refuse_unknown_keys",
    "register",
    "save_yaml",
    "taken_by",
    "taken_by_name",
    "targets_of",
    "to_plain",
    "to_yaml",
    "typed_section",
    "unknown_key",
    "validate",
    "validate_choice",
    "validate_task",
    "where_raised",
    "with_absolute_paths",
    "with_own_code",
    "with_value",
]

register()
