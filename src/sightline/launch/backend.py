"""A place to run jobs: the seven verbs, and the places there are."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from sightline.errors import BadInput
from sightline.launch.job import Job, Status
from sightline.runs.folder import MetricPoint

BACKENDS = ("local_process", "local_container", "sagemaker")


class Backend(Protocol):
    """Adding one is a class with these verbs; `tests/launch/contract` says when it is right."""

    name: str
    poll_seconds: float
    """How often it is worth asking for news."""
    is_remote: bool
    """Whether its jobs run on other machines: then a grid of them, too, goes on when the one who follows it leaves."""

    @property
    def remembered(self) -> Mapping[str, Any]:
        """Settings without which its jobs are not found again."""
        ...

    def plan(self, job: Job) -> dict[str, Any]:
        """The whole request as JSON-able values: pure, the same twice, no network."""
        ...

    def submit(self, plan: dict[str, Any]) -> str:
        """Start it and return the job's id. A job that runs already is not started twice; one that stopped goes on."""
        ...

    def status(self, job_id: str) -> Status: ...

    def metrics(self, job_id: str) -> list[MetricPoint]:
        """What it has reported so far."""
        ...

    def logs(self, job_id: str) -> Iterator[str]:
        """Its output line by line, followed until it ends."""
        ...

    def stop(self, job_id: str) -> None:
        """Ask it to end. Idempotent, and nothing happens to a job that is over."""
        ...

    def fetch(self, job_id: str, into: Path) -> Path:
        """Its run folder, here."""
        ...

    def cost_usd(self, job_id: str) -> float:
        """What it has cost until now; 0 where nobody sends a bill."""
        ...

    def close(self) -> None:
        """Let go of what serves the submitting; jobs run on."""
        ...


@dataclass(frozen=True)
class Slots:
    """How many jobs run side by side on a machine, and what is ready for them before they start."""

    n_parallel: int = 1
    preload: Sequence[str] = ()
    """Modules that are imported once, in a process that every job is a copy of; none: each starts from nothing."""


def make_backend(name: str, jobs: Path, places: Slots, settings: Mapping[str, Any] | None = None) -> Backend:
    """The backend of a name; `jobs` is the folder for jobs that name no `output`, `settings` those of its group.

    Raises: BadInput for a name that there is no backend for.
    """
    if name == "local_process":
        from sightline.launch.local.backend import LocalProcess

        return LocalProcess(jobs, places)
    if name == "sagemaker":
        from sightline.launch.sagemaker.backend import SageMaker
        from sightline.launch.sagemaker.settings import SageMakerSettings

        return SageMaker(jobs, SageMakerSettings(**(settings or {})))
    if name == "local_container":
        from sightline.launch.container.backend import ContainerSettings, LocalContainer

        return LocalContainer(jobs, places, ContainerSettings.of(settings or {}))
    raise BadInput(f"launch.backend={name}: must be one of {', '.join(BACKENDS)}")
