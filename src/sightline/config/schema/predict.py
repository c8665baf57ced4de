"""The configuration of predict.py."""

from dataclasses import dataclass, field
from typing import Any

from sightline.config.constraints import Needs, key
from sightline.config.schema.data import PathsConfig
from sightline.config.schema.own_code import CODE_SHA256, EXTENSIONS, TRUST_CODE
from sightline.config.schema.run_data import IMAGES, RUN, PicturesConfig
from sightline.config.schema.trainer import MEASURED_PRECISION, MEASURED_PRECISIONS, RUNTIME, RUNTIMES
from sightline.errors import BadInput

ENDPOINT = "http://…, https://…, sagemaker:NAME, lambda:NAME or deployment:NAME/STAGE"
HERE = Needs("run=…", lambda cfg: cfg.run is not None)
THERE = Needs("endpoint=…", lambda cfg: cfg.endpoint is not None)
ALONE = ("run", "endpoint", "images")


@dataclass
class PredictConfig:
    """Photos, classified by a finished run or by what is deployed."""

    run: str | None = key(None, RUN, path="run")
    endpoint: str | None = key(None, f"instead of run: what is asked, {ENDPOINT}")
    images: Any = key(
        None,
        f"{IMAGES}; a table with a column of paths (.csv, .parquet), or s3://bucket/prefix",
        path="path",
        several=True,
    )
    format: str = key("csv", "of predictions.…", choices=("csv", "jsonl", "parquet"))
    part: int = key(0, "the part of the images that is computed, from 0 on", minimum=0)
    num_parts: int = key(1, "parts that the images are divided into; each writes a file of its own", minimum=1)
    merge: Any = key(None, "a folder of parts, or several: put together, when none lacks", path="path", several=True)
    pictures: bool = key(False, "also save each photo with its class as the title")
    connections: int = key(
        8, "requests to the endpoint that are under way at a time", minimum=1, maximum=256, needs=THERE
    )
    data: PicturesConfig = field(default_factory=PicturesConfig)
    batch_size: int = key(64, "images at a time", minimum=1)
    num_workers: int = key(2, "threads that decode images", minimum=0)
    accelerator: str = key("auto", "auto: the best that this machine has", needs=HERE)
    precision: str = key("32-true", MEASURED_PRECISION, choices=MEASURED_PRECISIONS, needs=HERE)
    runtime: str = key("auto", RUNTIME, choices=RUNTIMES, needs=HERE)
    extensions: str | None = key(None, EXTENSIONS, path="path")
    trust_code: bool = key(False, TRUST_CODE)
    code_sha256: dict[str, str] = key({}, CODE_SHA256)
    output: str | None = key(None, "the folder of the results, instead of a new one below paths.runs", path="stays")
    paths: PathsConfig = field(default_factory=PathsConfig)
    launch: dict[str, Any] = key({}, "where the task is started; empty where it runs")

    def check(self) -> None:
        if self.merge is not None:
            if given := [name for name in ALONE if getattr(self, name) is not None]:
                raise BadInput(f"{given[0]}={getattr(self, given[0])}: merge={self.merge} reads parts alone; drop one")
            return
        if self.run is not None and self.endpoint is not None:
            raise BadInput(f"run={self.run} endpoint={self.endpoint}: both answer; drop one of the two")
        if self.run is None and self.endpoint is None:
            raise BadInput(f"run, endpoint: give one of the two, like run=latest, or endpoint={ENDPOINT.split(',')[0]}")
        if self.images is None:
            raise BadInput("images: no value is set; add images=FOLDER to the command")
        if self.part >= self.num_parts:
            last = self.num_parts - 1
            raise BadInput(
                f"part={self.part} num_parts={self.num_parts}: parts count from 0; the last one is part={last}"
            )
