"""The attempts of a job, each a training job of SageMaker: create, describe, stop."""

from typing import Any

from sightline.aws.clients import Clients
from sightline.errors import BadInput
from sightline.launch.sagemaker.status import is_over

POLICY = "docs/aws.md has the policy"


class TrainingJobs:
    """A job's id is the name of its first training job; later attempts have a number behind it."""

    def __init__(self, clients: Clients) -> None:
        self._clients = clients

    def attempts(self, job_id: str) -> list[dict[str, Any]]:
        """What the service says of each, the first one first."""
        found: list[dict[str, Any]] = []
        while not found or is_over(found[-1]):
            described = self._describe(attempt_name(job_id, len(found) + 1))
            if described is None:
                break
            found.append(described)
        return found

    def is_over(self, name: str) -> bool:
        described = self._describe(name)
        return described is None or is_over(described)

    def _describe(self, name: str) -> dict[str, Any] | None:
        from botocore.exceptions import ClientError

        try:
            return self._clients.get("sagemaker").describe_training_job(TrainingJobName=name)
        except ClientError as error:
            code, message = error.response["Error"]["Code"], error.response["Error"].get("Message", "").lower()
            if code == "ResourceNotFound" or "not found" in message or "not find" in message:
                return None
            raise

    def create(self, request: dict[str, Any]) -> None:
        """Raises: BadInput where the account does not allow the job."""
        from botocore.exceptions import ClientError

        try:
            self._clients.get("sagemaker").create_training_job(**request)
        except ClientError as error:
            code, message = error.response["Error"]["Code"], error.response["Error"].get("Message", "")
            if code == "ResourceInUse":  # another process was a moment earlier
                return
            if code == "ResourceLimitExceeded":
                raise BadInput(
                    f"launch.instance_type={request['ResourceConfig']['InstanceType']}: {message} Ask for a higher "
                    "quota in the console (Service Quotas, SageMaker), or choose another type or launch.spot"
                ) from error
            if code in ("AccessDeniedException", "ValidationException"):
                raise BadInput(f"SageMaker refuses the job: {message} ({code}; {POLICY})") from error
            raise

    def stop(self, name: str) -> None:
        """Ask a training job to end; one that has just ended does not mind."""
        from botocore.exceptions import ClientError

        try:
            self._clients.get("sagemaker").stop_training_job(TrainingJobName=name)
        except ClientError as error:
            if error.response["Error"]["Code"] not in ("ValidationException", "ResourceNotFound"):
                raise


def attempt_name(job_id: str, number: int) -> str:
    return job_id if number == 1 else f"{job_id}-{number}"
