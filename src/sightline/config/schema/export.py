"""The section `export`, and the configuration of export.py."""

from dataclasses import dataclass, field
from typing import Any

from omegaconf import MISSING

from sightline.config.constraints import key
from sightline.config.schema.data import PathsConfig
from sightline.config.schema.own_code import CODE_SHA256, EXTENSIONS, TRUST_CODE
from sightline.config.schema.run_data import RUN, RunDataConfig
from sightline.errors import BadInput


@dataclass
class ExportConfig:
    """How a model is exported, and what its answers are held to."""

    int8: Any = key("auto", "also write model.int8.onnx; auto: where it meets its bounds; true: or refuse the export")
    calibration_images: int = key(256, "of train, from which int8 learns its ranges", minimum=1)
    max_accuracy_drop: float = key(0.005, "of int8 below fp32 on validation", minimum=0, maximum=1)
    min_agreement: float = key(
        0.98, "share of validation images that int8 classifies as fp32 does", minimum=0, maximum=1
    )
    cost: bool = key(True, "also measure latency and memory of each file and of torch, in processes of their own")

    def check(self) -> None:
        if self.int8 not in ("auto", True, False):
            raise BadInput(f"export.int8={self.int8}: must be auto, true or false")


@dataclass
class ExportTaskConfig:
    """A finished run, exported for serving."""

    run: str = key(MISSING, RUN, path="run")
    export: ExportConfig = field(default_factory=ExportConfig)
    data: RunDataConfig = field(default_factory=RunDataConfig)
    extensions: str | None = key(None, EXTENSIONS, path="path")
    trust_code: bool = key(False, TRUST_CODE)
    code_sha256: dict[str, str] = key({}, CODE_SHA256)
    output: str | None = key(
        None, "a folder for a copy of the run, which is exported instead of the run itself", path="stays"
    )
    paths: PathsConfig = field(default_factory=PathsConfig)
    launch: dict[str, Any] = key({}, "where the task is started; empty where it runs")

    def check(self) -> None:
        if self.data.version is not None:
            raise BadInput(
                f"data.version={self.data.version}: an export is compared on the run's own images; drop it; "
                "evaluate.py measures a version"
            )
        if self.data.root is not None:
            raise BadInput(
                f"data.root={self.data.root}: an export is compared on the run's own images; where they lie elsewhere "
                f"now, say data.own_root={self.data.root}"
            )
