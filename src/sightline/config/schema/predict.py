"""The configuration of predict.py."""

from dataclasses import dataclass, field
from typing import Any

from omegaconf import MISSING

from sightline.config.constraints import key
from sightline.config.schema.data import PathsConfig
from sightline.config.schema.own_code import CODE_SHA256, EXTENSIONS, TRUST_CODE
from sightline.config.schema.run_data import IMAGES, RUN, PicturesConfig
from sightline.config.schema.trainer import PRECISION, PRECISIONS, RUNTIME, RUNTIMES


@dataclass
class PredictConfig:
    """Photos, classified by a finished run."""

    run: str = key(MISSING, RUN, path="run")
    images: Any = key(MISSING, IMAGES, path="path", several=True)
    pictures: bool = key(False, "also save each photo with its class as the title")
    data: PicturesConfig = field(default_factory=PicturesConfig)
    batch_size: int = key(64, "images at a time", minimum=1)
    num_workers: int = key(2, "processes that decode images", minimum=0)
    accelerator: str = key("auto", "auto: the best that this machine has")
    precision: str = key("32-true", PRECISION, choices=PRECISIONS)
    runtime: str = key("auto", RUNTIME, choices=RUNTIMES)
    extensions: str | None = key(None, EXTENSIONS, path="path")
    trust_code: bool = key(False, TRUST_CODE)
    code_sha256: dict[str, str] = key({}, CODE_SHA256)
    output: str | None = key(None, "the folder of the results, instead of a new one below paths.runs", path="stays")
    paths: PathsConfig = field(default_factory=PathsConfig)
    launch: dict[str, Any] = key({}, "where the task is started; empty where it runs")
