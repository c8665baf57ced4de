"""The section `export`, and the configuration of export.py."""

from dataclasses import dataclass, field
from typing import Any

from omegaconf import MISSING

from sightline.config.constraints import key
from sightline.config.schema.data import PathsConfig
from sightline.config.schema.own_code import CODE_SHA256, EXTENSIONS, TRUST_CODE
from sightline.config.schema.run_data import RUN, RunDataConfig


@dataclass
class ExportConfig:
    """How a model is exported, and what its answers are held to."""

    int8: bool = key(True, "also write model.int8.onnx")
    calibration_images: int = key(256, "of train, from which int8 learns its ranges", minimum=1)
    max_accuracy_drop: float = key(0.005, "of int8 below fp32 on validation", minimum=0, maximum=1)
    min_agreement: float = key(
        0.98, "share of validation images that int8 classifies as fp32 does", minimum=0, maximum=1
    )


@dataclass
class ExportTaskConfig:
    """A finished run, exported for serving."""

    run: str = key(MISSING, RUN, path="run")
    export: ExportConfig = field(default_factory=ExportConfig)
    data: RunDataConfig = field(default_factory=RunDataConfig)
    extensions: str | None = key(None, EXTENSIONS, path="path")
    trust_code: bool = key(False, TRUST_CODE)
    code_sha256: dict[str, str] = key({}, CODE_SHA256)
    paths: PathsConfig = field(default_factory=PathsConfig)
    launch: dict[str, Any] = key({}, "where the task is started; empty where it runs")
