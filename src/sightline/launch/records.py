"""What was submitted, one file a job: `runs/jobs/<name>.json`."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from sightline.errors import BadInput
from sightline.launch.backend import Backend, Places, make_backend
from sightline.launch.job import Job
from sightline.launch.run_folder import read_json
from sightline.run_record import now, write_json


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


def submit_recorded(backend: Backend, job: Job, jobs: Path) -> str:
    """Submit a job and write down what was sent, so that another process finds it."""
    request = backend.plan(job)
    job_id = backend.submit(request)
    record = JobRecord(job.name, backend.name, job.script, list(job.overrides), job.commit, now(), request, job_id)
    jobs.mkdir(parents=True, exist_ok=True)
    write_json(jobs / f"{job.name}.json", asdict(record))
    return job_id


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
    return make_backend(record.backend, jobs, Places())
