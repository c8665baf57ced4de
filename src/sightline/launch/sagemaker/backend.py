"""Jobs as training jobs of Amazon SageMaker: the verbs over boto3."""

import functools
import logging
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sightline.aws.clients import Clients
from sightline.aws.logs import JobLog
from sightline.aws.prices import check_bound
from sightline.aws.request_check import check_request
from sightline.aws.s3 import Storage
from sightline.errors import BadInput
from sightline.launch.channels import split_channels
from sightline.launch.job import Job, State, Status, key_of
from sightline.launch.sagemaker.image_address import image_address
from sightline.launch.sagemaker.job_cost import cost_of
from sightline.launch.sagemaker.request import make_request
from sightline.launch.sagemaker.results import fetch_run, read_metrics
from sightline.launch.sagemaker.settings import SageMakerSettings, check_settings
from sightline.launch.sagemaker.status import is_over, status_of
from sightline.launch.sagemaker.training_jobs import TrainingJobs, attempt_name
from sightline.runs.content_hash import content_hash
from sightline.runs.folder import MetricPoint

log = logging.getLogger(__name__)
REGISTRY = re.compile(r"(\d{12})\.dkr\.ecr\.[a-z0-9-]+\.amazonaws\.com(?:\.cn)?/([^:]+):(.+)")


class SageMaker:
    """A job's id is the name of its first training job; later attempts have a number behind it."""

    name = "sagemaker"
    is_remote = True

    def __init__(self, jobs: Path, settings: SageMakerSettings) -> None:
        self.jobs, self.settings = jobs.absolute(), settings
        self.poll_seconds = settings.poll_seconds
        self.working_folder = Path.cwd()
        self._uploads: dict[str, Path] = {}
        self._notes = self.jobs / ".hashes"
        self._clients = Clients(settings.region)
        self._jobs = TrainingJobs(self._clients)

    @property
    def remembered(self) -> dict[str, Any]:
        """Settings without which a job is not found again."""
        return {"region": self.settings.region, "poll_seconds": self.settings.poll_seconds}

    def plan(self, job: Job) -> dict[str, Any]:
        settings = self.settings
        check_settings(settings)
        check_bound(settings.instance_type, settings.instance_count, settings.max_run_minutes, settings.max_cost_usd)
        overrides, places = self._split(job)
        channels = {name: self._address(place) for name, place in places.items()}
        request = make_request(job, overrides, channels, image_address(settings), settings)
        check_request("CreateTrainingJob", request)
        return request

    def _split(self, job: Job) -> tuple[list[str], dict[str, str]]:
        words, data = list(job.overrides), self.settings.data_s3
        if data:
            words = [word for word in words if key_of(word) != "data.root"]
            words.append(f"data.root={data.rstrip('/')}/")
        return split_channels(words, self.working_folder)

    def _address(self, place: str) -> str:
        """Where a place is, or will be, in S3."""
        if place.startswith("s3://"):
            return place
        digest = content_hash(Path(place), self._notes)
        address = f"s3://{self.settings.bucket}/{self.settings.prefix}/inputs/{digest}/"
        self._uploads[address] = Path(place)
        return address

    def submit(self, plan: dict[str, Any]) -> str:
        self._note_uploads()
        name = plan["TrainingJobName"]
        attempts = self._jobs.attempts(name)
        if attempts and (not is_over(attempts[-1]) or status_of(attempts[-1]).state == State.SUCCEEDED):
            return name
        self._provide_image(plan["AlgorithmSpecification"]["TrainingImage"])
        self._upload(plan)
        self._jobs.create({**plan, "TrainingJobName": attempt_name(name, len(attempts) + 1)})
        return name

    def _note_uploads(self) -> None:
        """Write down where each upload comes from, for `fetch` to name it again."""
        for address, path in self._uploads.items():
            self._notes.mkdir(parents=True, exist_ok=True)
            note = self._notes / f"{address.rstrip('/').rsplit('/', 1)[-1]}.place"
            note.write_text(str(path), encoding="utf-8", errors="surrogateescape")

    def _provide_image(self, address: str) -> None:
        """Raises: BadInput for an image that is not in its registry, and is not to be pushed."""
        found = REGISTRY.fullmatch(address)
        if found is None or self._is_pushed(*found.groups()):
            return
        if self.settings.image or not self.settings.push_image:
            raise BadInput(f"launch.image={address}: it is not in the registry; make push-image puts it there")
        from sightline.launch.container.image import build, push

        push(build(self.settings.base_image, shlex.split(self.settings.build_args)), self._clients.get("ecr"))

    def _is_pushed(self, account: str, repository: str, tag: str) -> bool:
        """Whether a registry has an image; one that we may not ask counts as having it."""
        from botocore.exceptions import ClientError

        try:
            self._clients.get("ecr").describe_images(
                registryId=account, repositoryName=repository, imageIds=[{"imageTag": tag}]
            )
        except ClientError as error:
            log.debug("%s:%s: %s", repository, tag, error)
            return error.response["Error"]["Code"] not in ("ImageNotFoundException", "RepositoryNotFoundException")
        return True

    def _upload(self, plan: dict[str, Any]) -> None:
        for channel in plan.get("InputDataConfig", ()):
            address = channel["DataSource"]["S3DataSource"]["S3Uri"]
            if address in self._uploads:
                log.info("%s: looking whether it is in S3 already", self._uploads[address])
                if num := self._storage.upload(self._uploads[address], address):
                    log.info("%s: %s file(s) uploaded", self._uploads[address], f"{num:,}")

    def status(self, job_id: str) -> Status:
        attempts = self._jobs.attempts(job_id)
        return status_of(attempts[-1]) if attempts else Status(State.STOPPED, "SageMaker knows no such job")

    def metrics(self, job_id: str) -> list[MetricPoint]:
        attempts = self._jobs.attempts(job_id)
        return read_metrics(self._storage, attempts[-1]) if attempts else []

    def logs(self, job_id: str) -> Iterator[str]:
        for attempt in self._jobs.attempts(job_id):
            name = attempt["TrainingJobName"]
            lines = JobLog(self._clients.get("logs"), name)
            yield from lines.follow(functools.partial(self._jobs.is_over, name), self.poll_seconds)

    def stop(self, job_id: str) -> None:
        attempts = self._jobs.attempts(job_id)
        if attempts and attempts[-1]["TrainingJobStatus"] == "InProgress":
            self._jobs.stop(attempts[-1]["TrainingJobName"])

    def fetch(self, job_id: str, into: Path) -> Path:
        attempts = self._jobs.attempts(job_id)
        if not attempts:
            raise BadInput(f"{job_id}: SageMaker knows no such job in {self.settings.region}")
        fetch_run(self._storage, attempts, into, self._notes)
        return into

    def cost_usd(self, job_id: str) -> float:
        """Until now, by the list price; 0 where the table has none."""
        attempts = self._jobs.attempts(job_id)
        return (cost_of(attempts)["cost_usd"] or 0.0) if attempts else 0.0

    def close(self) -> None:
        """Nothing is held."""

    @functools.cached_property
    def _storage(self) -> Storage:
        return Storage(self._clients.get("s3"), self.settings.kms_key)
