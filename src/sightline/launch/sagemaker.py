"""Jobs as training jobs of Amazon SageMaker: the verbs over boto3."""

import functools
import logging
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sightline.errors import BadInput
from sightline.launch.channels import split_channels
from sightline.launch.cloudwatch import JobLog
from sightline.launch.container_folder import OPT_ML
from sightline.launch.content_hash import content_hash
from sightline.launch.image_address import image_address
from sightline.launch.job import Job, MetricPoint, State, Status, key_of
from sightline.launch.job_cost import cost_of
from sightline.launch.prices import check_bound
from sightline.launch.request_check import EXTRA, check_request
from sightline.launch.run_folder import name_places_here, note_launch, read_json, read_points
from sightline.launch.sagemaker_request import make_request
from sightline.launch.sagemaker_status import is_over, status_of
from sightline.launch.settings import SageMakerSettings, check_settings
from sightline.launch.storage import Storage, extract

log = logging.getLogger(__name__)
ARCHIVES = {"model.tar.gz": "model", "output.tar.gz": "."}
"""What the service packs at the end, and where in a run folder it belongs."""
REGISTRY = re.compile(r"(\d{12})\.dkr\.ecr\.[a-z0-9-]+\.amazonaws\.com(?:\.cn)?/([^:]+):(.+)")
POLICY = "docs/aws.md has the policy"


class SageMaker:
    """A job's id is the name of its first training job; later attempts have a number behind it."""

    name = "sagemaker"
    is_remote = True

    def __init__(self, jobs: Path, settings: SageMakerSettings) -> None:
        self.jobs, self.settings = jobs.absolute(), settings
        self.poll_seconds = settings.poll_seconds
        self.working_folder = Path.cwd()
        self._uploads: dict[str, Path] = {}
        self._clients: dict[str, Any] = {}

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
        if data is not None:
            words = [word for word in words if key_of(word) != "data.root"]
            words.append(f"data.root={data.rstrip('/')}/")
        return split_channels(words, self.working_folder)

    def _address(self, place: str) -> str:
        """Where a place is, or will be, in S3."""
        if place.startswith("s3://"):
            return place
        digest = content_hash(Path(place), self.jobs / ".hashes")
        address = f"s3://{self.settings.bucket}/{self.settings.prefix}/inputs/{digest}/"
        self._uploads[address] = Path(place)
        (self.jobs / ".hashes" / f"{digest}.place").write_text(place, encoding="utf-8", errors="surrogateescape")
        return address

    def submit(self, plan: dict[str, Any]) -> str:
        name = plan["TrainingJobName"]
        attempts = self._attempts(name)
        if attempts and (not is_over(attempts[-1]) or status_of(attempts[-1]).state == State.SUCCEEDED):
            return name
        self._provide_image(plan["AlgorithmSpecification"]["TrainingImage"])
        self._upload(plan)
        request = {**plan, "TrainingJobName": _attempt_name(name, len(attempts) + 1)}
        self._create(request)
        return name

    def _provide_image(self, address: str) -> None:
        """Raises: BadInput for an image that is not in its registry, and is not to be pushed."""
        if self.settings.push_image and not self.settings.image:
            from sightline.launch.image import build, push

            push(build(self.settings.base_image), self._client("ecr"))
        elif (found := REGISTRY.fullmatch(address)) is not None and not self._is_pushed(*found.groups()):
            raise BadInput(f"launch.image={address}: it is not in the registry; make push-image puts it there")

    def _is_pushed(self, account: str, repository: str, tag: str) -> bool:
        """Whether a registry has an image; one that we may not ask counts as having it."""
        from botocore.exceptions import ClientError

        try:
            self._client("ecr").describe_images(
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

    def _create(self, request: dict[str, Any]) -> None:
        from botocore.exceptions import ClientError

        try:
            self._client("sagemaker").create_training_job(**request)
        except ClientError as error:
            code, message = error.response["Error"]["Code"], error.response["Error"].get("Message", "")
            if code == "ResourceInUse":  # another process was a moment earlier
                return
            if code == "ResourceLimitExceeded":
                raise BadInput(
                    f"launch.instance_type={self.settings.instance_type}: {message} Ask for a higher quota in the "
                    "console (Service Quotas, SageMaker), or choose another type or launch.spot"
                ) from error
            if code in ("AccessDeniedException", "ValidationException"):
                raise BadInput(f"SageMaker refuses the job: {message} ({code}; {POLICY})") from error
            raise

    def status(self, job_id: str) -> Status:
        attempts = self._attempts(job_id)
        return status_of(attempts[-1]) if attempts else Status(State.STOPPED, "SageMaker knows no such job")

    def metrics(self, job_id: str) -> list[MetricPoint]:
        attempts = self._attempts(job_id)
        if not attempts:
            return []
        with tempfile.TemporaryDirectory() as folder:
            for name in ("metrics.csv", "metrics.json"):
                self._storage.download_file(f"{_checkpoints(attempts[-1])}/{name}", Path(folder, name))
            points = read_points(Path(folder))
        return points or [
            MetricPoint(each["MetricName"], None, each["Value"], each["Timestamp"].timestamp())
            for each in attempts[-1].get("FinalMetricDataList", ())
        ]

    def logs(self, job_id: str) -> Iterator[str]:
        for attempt in self._attempts(job_id):
            name = attempt["TrainingJobName"]
            yield from JobLog(self._client("logs"), name).follow(
                functools.partial(self._is_over, name), self.poll_seconds
            )

    def _is_over(self, name: str) -> bool:
        described = self._describe(name)
        return described is None or is_over(described)

    def stop(self, job_id: str) -> None:
        from botocore.exceptions import ClientError

        attempts = self._attempts(job_id)
        if not attempts or attempts[-1]["TrainingJobStatus"] != "InProgress":
            return
        try:
            self._client("sagemaker").stop_training_job(TrainingJobName=attempts[-1]["TrainingJobName"])
        except ClientError as error:
            if error.response["Error"]["Code"] not in ("ValidationException", "ResourceNotFound"):  # it has just ended
                raise

    def fetch(self, job_id: str, into: Path) -> Path:
        attempts = self._attempts(job_id)
        if not attempts:
            raise BadInput(f"{job_id}: SageMaker knows no such job in {self.settings.region}")
        into.mkdir(parents=True, exist_ok=True)
        self._storage.download(_checkpoints(attempts[-1]), into)
        self._unpack(attempts[-1], into)
        name_places_here(into, self._places_here(attempts[-1], into))
        image = attempts[-1]["AlgorithmSpecification"].get("TrainingImage")
        note_launch(into, backend=self.name, job_id=job_id, image=image, **cost_of(attempts))
        return into

    def _places_here(self, attempt: dict[str, Any], run: Path) -> dict[str, str]:
        """For each input folder of the job what was uploaded to it, or where it lies in S3."""
        inputs = read_json(run / "run.json").get("config", {}).get("paths", {}).get("inputs", f"{OPT_ML}/input/data")
        found = {}
        for channel in attempt.get("InputDataConfig", ()):
            address = channel["DataSource"]["S3DataSource"]["S3Uri"]
            note = self.jobs / ".hashes" / f"{address.rstrip('/').rsplit('/', 1)[-1]}.place"
            here = note.read_text(encoding="utf-8", errors="surrogateescape") if note.is_file() else address
            found[f"{inputs}/{channel['ChannelName']}"] = here
        return found

    def _unpack(self, attempt: dict[str, Any], into: Path) -> None:
        root = f"{attempt['OutputDataConfig']['S3OutputPath'].rstrip('/')}/{attempt['TrainingJobName']}/output"
        with tempfile.TemporaryDirectory() as folder:
            for name, place in ARCHIVES.items():
                if self._storage.download_file(f"{root}/{name}", Path(folder, name)):
                    extract(Path(folder, name), into / place)

    def cost_usd(self, job_id: str) -> float:
        """Until now, by the list price; 0 where the table has none."""
        attempts = self._attempts(job_id)
        return (cost_of(attempts)["cost_usd"] or 0.0) if attempts else 0.0

    def close(self) -> None:
        """Nothing is held."""

    def _attempts(self, job_id: str) -> list[dict[str, Any]]:
        """What the service says of each training job that this one was, the first one first."""
        found: list[dict[str, Any]] = []
        while not found or is_over(found[-1]):
            described = self._describe(_attempt_name(job_id, len(found) + 1))
            if described is None:
                break
            found.append(described)
        return found

    def _describe(self, name: str) -> dict[str, Any] | None:
        from botocore.exceptions import ClientError

        try:
            return self._client("sagemaker").describe_training_job(TrainingJobName=name)
        except ClientError as error:
            code, message = error.response["Error"]["Code"], error.response["Error"].get("Message", "").lower()
            if code == "ResourceNotFound" or (code == "ValidationException" and "not f" in message):
                return None
            raise

    @functools.cached_property
    def _storage(self) -> Storage:
        return Storage(self._client("s3"), self.settings.kms_key)

    def _client(self, service: str) -> Any:
        if service in self._clients:
            return self._clients[service]
        try:
            import boto3
            from botocore.config import Config
        except ImportError as error:
            raise BadInput(EXTRA) from error
        config = Config(retries={"mode": "standard", "max_attempts": 5}, max_pool_connections=32)
        self._clients[service] = boto3.Session(region_name=self.settings.region).client(service, config=config)
        return self._clients[service]


def _attempt_name(job_id: str, number: int) -> str:
    return job_id if number == 1 else f"{job_id}-{number}"


def _checkpoints(described: dict[str, Any]) -> str:
    return described["CheckpointConfig"]["S3Uri"].rstrip("/")
