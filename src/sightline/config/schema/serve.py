"""The configuration of serve.py."""

from dataclasses import dataclass, field
from typing import Any

from sightline.config.constraints import key
from sightline.config.schema.data import PathsConfig
from sightline.config.schema.run_data import RUN
from sightline.errors import BadInput
from sightline.serve_settings import ServeSettings


@dataclass
class ServeConfig:
    """A finished run as a service; or a service that answers what another endpoint answers."""

    run: str | None = key(None, RUN, path="run")
    endpoint: str | None = key(
        None, "instead of run: http://…, sagemaker:NAME, lambda:NAME or deployment:NAME/STAGE, whose answers are given"
    )
    serve: ServeSettings = field(default_factory=ServeSettings)
    paths: PathsConfig = field(default_factory=PathsConfig)
    launch: dict[str, Any] = key({}, "where the task is started; empty where it runs")

    def check(self) -> None:
        if (self.run is None) == (self.endpoint is None):
            raise BadInput("run, endpoint: give one of the two, like run=latest")
