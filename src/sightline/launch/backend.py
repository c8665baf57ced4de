"""The protocol of backends: a backend is a place to run jobs, like this machine or SageMaker."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Protocol

from sightline.errors import BadInput
from sightline.launch.job import Job, Status
from sightline.runs.folder import MetricPoint

Plan = dict[str, Any]
"""What a submit needs, in any process, as JSON-able values: `backend`, `job` {name, script, overrides, commit},
`settings` (what the backend is made with), `uploads` {address: local path} and `request`, which is sent as it is."""


@dataclass
class LaunchSettings:
    """The keys of `launch` that every backend has."""

    backend: str = "local_process"
    n_parallel: int = 1  # so many runs at once
    preload: list[str] = field(default_factory=list)  # modules imported once for all runs, where that is possible
    wait: bool = True  # follow the jobs and fetch their results; false: submit and leave
    dry_run: bool = False  # print the plans as JSON and start nothing


@dataclass
class ImageSettings(LaunchSettings):
    """The keys of backends whose jobs run in a container image, which holds the code."""

    image: str | None = None  # null: the one that is built from this tree
    base_image: str = ""  # what that one is built on; empty: what the Dockerfile says
    instance_count: int = 1  # so many machines run one job
    allow_dirty: bool = False  # send code that no commit has; the difference goes into run.json


SUBMITTER_KEYS = ("wait", "dry_run", "allow_dirty")
"""Settings that concern the submitting alone and are no part of a plan."""


class Backend(Protocol):
    """Adding one is a class like this, a file of `configs/launch/` and an entry in `backends.BACKENDS`.

    It is made with the folder for jobs that name no `output`, and its settings. `tests/launch/contract` says when it is
    right.
    """

    name: str
    settings_type: ClassVar[type[LaunchSettings]]
    """The schema of `launch` for this backend: its keys and their types."""
    poll_seconds: float
    """Seconds between two looks at the status of a job."""
    is_remote: bool
    """Whether its jobs run on other machines: then they run on when the submitting command is interrupted."""
    sees_files: bool
    """Whether its jobs see the files of this machine, code and data, where they lie."""

    def __init__(self, jobs: Path, settings: Any) -> None: ...

    @classmethod
    def check(cls, settings: Any) -> Any:
        """The settings, with what the environment says of those that are not given. Starts and writes nothing.

        Raises: BadInput that names all that is missing, or the first that cannot be.
        """
        ...

    def plan(self, job: Job) -> Plan:
        """All that a submit needs: pure, the same twice, no network; writes nothing."""
        ...

    def submit(self, plan: Plan) -> str:
        """Upload what is missing, start it and return the job's id: the one side effect.

        The plan may come from another process. A job that runs already is not started twice; one that stopped goes on.
        """
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
        """Release what submitting needed, like helper processes; jobs run on."""
        ...


def make_plan(
    job: Job, settings: LaunchSettings, request: dict[str, Any], uploads: Mapping[str, Path] | None = None
) -> Plan:
    """The plan of a job whose backend sends `request` and uploads local files to addresses."""
    return {
        "backend": settings.backend,
        "job": {"name": job.name, "script": job.script, "overrides": list(job.overrides), "commit": job.commit},
        "settings": {key: value for key, value in asdict(settings).items() if key not in SUBMITTER_KEYS},
        "uploads": {address: str(path) for address, path in (uploads or {}).items()},
        "request": request,
    }


def check_parts(plan: Plan, parts: Iterable[str]) -> None:
    """Raises: BadInput for a plan whose request lacks what submitting it needs."""
    if missing := [each for each in parts if each not in plan["request"]]:
        raise BadInput(
            f"the request of {plan['job']['name']} lacks {', '.join(missing)}; give what launch.dry_run=true printed"
        )


def check_counts(settings: LaunchSettings) -> None:
    """Raises: BadInput for numbers of jobs and machines that cannot be."""
    for key in ("n_parallel", "instance_count"):
        if (count := getattr(settings, key, 1)) < 1:
            raise BadInput(f"launch.{key}={count}: must be 1 or more")
