"""The SageMaker backend: jobs are training jobs, over boto3."""

import functools
import logging
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

from sightline.aws import ecr
from sightline.aws.clients import Clients, check_region, find_region, has_credentials
from sightline.aws.logs import JobLog
from sightline.aws.names import PUSHED_IMAGE
from sightline.aws.prices import check_bound, describe_bound
from sightline.aws.request_check import check_request
from sightline.aws.s3 import Storage
from sightline.errors import BadInput
from sightline.launch.backend import LaunchSettings, Plan, make_plan
from sightline.launch.job import Job, State, Status
from sightline.launch.overrides import split_channels
from sightline.launch.sagemaker.image_address import image_address
from sightline.launch.sagemaker.job_cost import cost_of
from sightline.launch.sagemaker.processing import Machine, job_overrides, make_processing_request
from sightline.launch.sagemaker.request import make_request
from sightline.launch.sagemaker.results import fetch_run, read_metrics
from sightline.launch.sagemaker.settings import SageMakerSettings, check_settings
from sightline.launch.sagemaker.status import is_over, status_of
from sightline.launch.sagemaker.training_jobs import TrainingJobs, attempt_name
from sightline.runs.content_hash import ContentHashes
from sightline.runs.files import write_text
from sightline.runs.folder import MetricPoint
from sightline.runs.override_text import key_of

log = logging.getLogger(__name__)


class SageMaker:
    """A job's id is the name of its first training job; later attempts have a number behind it."""

    name = "sagemaker"
    settings_type: ClassVar[type[LaunchSettings]] = SageMakerSettings
    is_remote = True
    sees_files = False

    def __init__(self, jobs: Path, settings: SageMakerSettings) -> None:
        self.jobs, self.settings = jobs.absolute(), settings
        self.poll_seconds = settings.poll_seconds
        self.working_folder = Path.cwd()
        self._notes = self.jobs / ".hashes"
        self._hashes = ContentHashes(self._notes)
        self._clients = Clients(settings.region)
        self._jobs = TrainingJobs(self._clients)

    @classmethod
    def check(cls, settings: Any) -> Any:
        settings = replace(settings, region=settings.region or find_region())
        check_settings(settings, has_credentials=settings.dry_run or has_credentials())
        check_region(str(settings.region))
        bound = settings.instance_type, settings.instance_count, settings.max_run_minutes
        check_bound(*bound, settings.max_cost_usd)
        if not settings.dry_run:
            log.info("each job: %s", describe_bound(*bound, settings.spot))
        return settings

    def plan(self, job: Job) -> Plan:
        settings = self.settings
        check_settings(settings)
        check_bound(settings.instance_type, settings.instance_count, settings.max_run_minutes, settings.max_cost_usd)
        overrides, paths = split_inputs(job, settings, self.working_folder)
        channels = {name: self.address_of(path) for name, path in paths.items()}
        uploads = {channels[name]: Path(path) for name, path in paths.items() if path != channels[name]}
        request = make_request(job, overrides, channels, image_address(settings), settings)
        check_request("CreateTrainingJob", request)
        return make_plan(job, settings, request, uploads)

    def plan_processing(self, job: Job, machine: Machine, image: str) -> Plan:
        """The plan of a processing job, which a step of a pipeline is: no name and no address of its results yet."""
        check_settings(self.settings)
        paths: dict[str, str]
        overrides, paths = split_channels(job_overrides(job), self.working_folder)
        channels = {name: self.address_of(path) for name, path in paths.items()}
        uploads = {channels[name]: Path(path) for name, path in paths.items() if path != channels[name]}
        request = make_processing_request(job, overrides, channels, image, self.settings, machine)
        return make_plan(job, self.settings, request, uploads)

    def address_of(self, path: str) -> str:
        """Where a path is, or will be, in S3: uploads are named by their content."""
        if path.startswith("s3://"):
            return path
        return f"s3://{self.settings.bucket}/{self.settings.prefix}/inputs/{self._hashes.of(Path(path))}/"

    def submit(self, plan: Plan) -> str:
        request = plan["request"]
        check_request("CreateTrainingJob", request)
        name = request["TrainingJobName"]
        attempts = self._jobs.attempts(name)
        if attempts and (not is_over(attempts[-1]) or status_of(attempts[-1]).state == State.SUCCEEDED):
            self._note_uploads(plan["uploads"])
            return name
        self.provide(request["AlgorithmSpecification"]["TrainingImage"], plan["uploads"])
        self._jobs.create({**request, "TrainingJobName": attempt_name(name, len(attempts) + 1)})
        return name

    def provide(self, image: str, uploads: Mapping[str, str]) -> None:
        """Push the image and upload what is not there yet.

        Raises: BadInput for an image that is nowhere, or files that are no longer those that were planned.
        """
        self._provide_image(image)
        for address, path in uploads.items():
            self._upload(Path(path), address)
        self._note_uploads(uploads)

    def _note_uploads(self, uploads: Mapping[str, str]) -> None:
        """Write down where each upload comes from, for `fetch` to name it again."""
        for address, path in uploads.items():
            self._notes.mkdir(parents=True, exist_ok=True)
            write_text(self._notes / f"{address.rstrip('/').rsplit('/', 1)[-1]}.place", path)
        self._hashes.save()

    def _upload(self, path: Path, address: str) -> None:
        """Raises: BadInput when the files are no longer those that the address names."""
        log.info("%s: looking whether it is in S3 already", path)
        if self._storage.is_complete(address):
            return
        if not path.exists() or self.address_of(str(path)) != address:
            raise BadInput(
                f"{path}: has changed or gone since the job was planned, and is not in S3; plan the job anew"
            )
        if num := self._storage.upload(path, address):
            log.info("%s: %s file(s) uploaded", path, f"{num:,}")

    def _provide_image(self, address: str) -> None:
        """Raises: BadInput for an image that is not in its registry, and is not to be pushed or is not this tree's."""
        found = PUSHED_IMAGE.fullmatch(address)
        if found is None or self._is_pushed(*found.groups()):
            return
        if self.settings.image or not self.settings.push_image:
            raise BadInput(f"launch.image={address}: it is not in the registry; make push-image puts it there")
        if image_address(self.settings) != address:
            raise BadInput(
                f"launch.image={address}: it is not in the registry, and this code makes another one; plan anew"
            )
        from sightline.launch.container.image import build, push

        push(build(self.settings.base_image, shlex.split(self.settings.build_args)), self._clients.get("ecr"))

    def _is_pushed(self, account: str, repository: str, tag: str) -> bool:
        """Whether the registry has the image; yes where we may not ask, because the service may be allowed to."""
        from botocore.exceptions import ClientError

        try:
            return ecr.is_pushed(self._clients.get("ecr"), account, repository, tag)
        except ClientError as error:
            log.debug("%s:%s: %s", repository, tag, error)
            return True

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


def split_inputs(job: Job, settings: SageMakerSettings, folder: Path) -> tuple[list[str], dict[str, str]]:
    """The overrides of the far side, and what each channel holds; relative paths start at `folder`."""
    overrides, data = list(job.overrides), settings.data_s3
    if data:
        overrides = [each for each in overrides if key_of(each) != "data.root"]
        overrides.append(f"data.root={data.rstrip('/')}/")
    return split_channels(overrides, folder)
