"""What was submitted, one file a job: `runs/jobs/<name>.json`."""

from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from sightline.errors import BadInput
from sightline.launch.backend import Backend, Plan
from sightline.launch.backends import make_backend
from sightline.launch.job import Job, State
from sightline.runs.files import read_json, write_json
from sightline.runs.record import now


@dataclass(frozen=True)
class JobRecord:
    name: str
    backend: str
    script: str
    overrides: list[str]
    commit: str | None
    submitted: str
    request: dict[str, Any]
    job_id: str
    settings: dict[str, Any] = field(default_factory=dict)
    """What its backend is made with."""
    uploads: dict[str, str] = field(default_factory=dict)
    """Address and local path of what was uploaded for it."""
    changes: str | None = None
    """The difference between the code that was sent and its commit."""
    is_finished: bool = False
    """Whether it is known to have succeeded: then nobody has to be asked."""


def submit_recorded(backend: Backend, plan: Plan, jobs: Path) -> str:
    """Submit a plan and write down what was sent, so that another process finds it; returns the job's id."""
    job_id = backend.submit(plan)
    parts = {key: plan[key] for key in ("backend", "request", "settings", "uploads")}
    job = asdict(Job.of(plan))
    record = JobRecord(**job, **parts, submitted=now(), job_id=job_id, changes=plan.get("changes"))
    _write(record, jobs)
    return job_id


def _write(record: JobRecord, jobs: Path) -> None:
    jobs.mkdir(parents=True, exist_ok=True)
    write_json(jobs / f"{record.name}.json", asdict(record))


def has_succeeded(backend: Backend, name: str, jobs: Path) -> bool:
    """Whether a job of this name was submitted and came to a good end; a good end is noted."""
    if not (jobs / f"{name}.json").is_file():
        return False
    record = find_record(jobs, name)
    if not record.is_finished and backend.status(record.job_id).state == State.SUCCEEDED:
        record = replace(record, is_finished=True)
        if backend.is_remote:  # here a folder can be removed, and then there is nothing left of the job
            _write(record, jobs)
    return record.is_finished


def fetch_recorded(backend: Backend, record: JobRecord, into: Path) -> Path:
    """The job's run folder; its `run.json` gets what only the record knows."""
    folder = backend.fetch(record.job_id, into)
    run = read_json(folder / "run.json")
    if record.changes is not None and run:
        run["launch"] = {**run.get("launch", {}), "changes": record.changes}
        write_json(folder / "run.json", {**run, "dirty": True})
    return folder


def read_records(jobs: Path) -> list[JobRecord]:
    """Every job that was submitted, the latest last."""
    records = [JobRecord(**read_json(path)) for path in jobs.glob("*.json")]
    return sorted(records, key=lambda record: (record.submitted, record.name))


def find_record(jobs: Path, name: str) -> JobRecord:
    """Raises: BadInput when there is no such job."""
    path = jobs / f"{name}.json"
    if not path.is_file():
        known = ", ".join(record.name for record in read_records(jobs)[-5:]) or "none"
        raise BadInput(f"{name}: no such job in {jobs}; the latest are {known}")
    return JobRecord(**read_json(path))


def backend_of(record: JobRecord, jobs: Path) -> Backend:
    return make_backend(record.backend, jobs, record.settings)
