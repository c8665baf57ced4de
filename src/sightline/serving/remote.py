"""An endpoint elsewhere in the place of a model: a server in front of what is deployed answers with what that says."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sightline.serving.client import Endpoint, open_endpoint
from sightline.serving.contract import Answer, HeatMap, ModelIdentity, Problem
from sightline.task_spec import Calibration, TaskSpec

RETRIES = 1
"""Of a request: who asks us is told to come back, as we were told."""


@dataclass(frozen=True, eq=False)
class RemoteAnswerer:
    """What answers for pictures by asking; problems and their statuses go through as they are."""

    endpoint: Endpoint
    described: dict[str, Any]

    @classmethod
    def open(cls, address: str, token: str | None = None, runs: Path = Path("runs")) -> "RemoteAnswerer":
        """Ask an endpoint who it is.

        Raises: BadInput where nothing of ours answers.
        """
        endpoint = open_endpoint(address, token, runs=runs, retries=RETRIES)
        return cls(endpoint, endpoint.describe())

    @property
    def spec(self) -> TaskSpec:
        """The classes and what pictures are taken, as far as the endpoint says it; preparation is done there."""
        said, channels = self.described, self.described.get("channels") or 3
        threshold = said.get("threshold")
        calibration = None if threshold is None else Calibration(1.0, threshold, 0.0, 0)
        even = (0.5,) * channels
        sizes = {"channels": channels, "bit_depth": said.get("bit_depth") or 8, "calibration": calibration}
        return TaskSpec(tuple(said.get("classes") or ()), said.get("image_size") or 1, even, even, **sizes)

    @property
    def model(self) -> ModelIdentity:
        return ModelIdentity(*(str(self.described.get(name, "")) for name in ("name", "version", "sha256")))

    def answer(self, pictures: Sequence[bytes], ids: Sequence[str]) -> list[Answer | Problem]:
        """An answer for each picture in order, or the endpoint's problem in its place."""
        return self.endpoint.answer(pictures, ids)

    def explain(self, picture: bytes) -> HeatMap:
        """Raises: Problem, the endpoint's own; 501 where it has no such door."""
        return self.endpoint.explain(picture)

    def describe(self) -> dict[str, Any]:
        return dict(self.described)
