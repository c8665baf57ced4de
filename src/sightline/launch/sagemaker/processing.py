"""The request of a processing job: a program of ours but train.py, as a step of a pipeline. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sightline.aws.request_check import check_request
from sightline.errors import BadInput
from sightline.launch.job import Job
from sightline.launch.overrides import without_submitter
from sightline.launch.sagemaker.settings import SageMakerSettings
from sightline.launch.sagemaker.tags import tags_of

PROCESSING = "/opt/ml/processing"
INPUTS, OUTPUT = f"{PROCESSING}/input", f"{PROCESSING}/output"
OUTPUT_NAME = "output"
ENTRY_POINT = ("python", "-m", "sightline.launch.container.entrypoint", "process")
MAX_ARGUMENTS, MAX_ARGUMENT_LETTERS = 100, 256
"""What SageMaker takes."""


@dataclass(frozen=True)
class Machine:
    """Of a processing job."""

    instance_type: str
    volume_gb: int
    max_run_minutes: float


def make_processing_request(
    job: Job,
    overrides: list[str],
    channels: Mapping[str, str],
    image: str,
    settings: SageMakerSettings,
    machine: Machine,
) -> dict[str, Any]:
    """Arguments of `create_processing_job` but its name and output address; `channels` holds s3:// addresses.

    Raises: BadInput for what SageMaker cannot take.
    """
    arguments = [job.script, *overrides]
    check_arguments(arguments)
    cluster: dict[str, Any] = {
        "InstanceCount": 1,
        "InstanceType": machine.instance_type,
        "VolumeSizeInGB": machine.volume_gb,
    }
    if settings.kms_key:
        cluster["VolumeKmsKeyId"] = settings.kms_key
    request: dict[str, Any] = {
        "AppSpecification": {
            "ImageUri": image,
            "ContainerEntrypoint": list(ENTRY_POINT),
            "ContainerArguments": arguments,
        },
        "ProcessingResources": {"ClusterConfig": cluster},
        "ProcessingInputs": [processing_input(name, address) for name, address in sorted(channels.items())],
        "StoppingCondition": {"MaxRuntimeInSeconds": int(60 * machine.max_run_minutes)},
        "Environment": {"PYTHONUNBUFFERED": "1"},
        "RoleArn": settings.role,
        "Tags": tags_of(job, settings),
    }
    if settings.subnets:
        vpc = {"Subnets": settings.subnets, "SecurityGroupIds": settings.security_groups}
        request["NetworkConfig"] = {"VpcConfig": vpc}
    return request


def check_processing_request(request: Mapping[str, Any]) -> None:
    """Raises: BadInput for what the service would refuse of a request without name and output address."""
    missing = {"ProcessingJobName": "name", "ProcessingOutputConfig": processing_output("s3://bucket/folder")}
    check_request("CreateProcessingJob", {**missing, **request})


def job_overrides(job: Job) -> list[str]:
    """The overrides that the program is given there, beside those that a container adds."""
    return without_submitter(job.overrides)


def check_arguments(arguments: list[str]) -> None:
    """Raises: BadInput for more, or longer ones, than SageMaker takes."""
    for each in arguments:
        if len(each) > MAX_ARGUMENT_LETTERS:
            raise BadInput(
                f"{each[:80]}…: {len(each)} letters, and a step of a pipeline takes {MAX_ARGUMENT_LETTERS}; put the "
                "setting into a file of configs/ and name that"
            )
        if not each:
            raise BadInput("an empty override: leave it out")
    if len(arguments) > MAX_ARGUMENTS:
        raise BadInput(
            f"{arguments[0]}: {len(arguments) - 1} overrides, and a step of a pipeline takes {MAX_ARGUMENTS - 1}; put "
            "some of them into a file of configs/"
        )


def processing_input(name: str, address: Any) -> dict[str, Any]:
    """A channel: what lies at an address, copied before the start."""
    return {
        "InputName": name,
        "S3Input": {
            "S3Uri": address,
            "LocalPath": f"{INPUTS}/{name}",
            "S3DataType": "S3Prefix",
            "S3InputMode": "File",
            "S3DataDistributionType": "FullyReplicated",
        },
    }


def processing_output(address: Any, kms_key: str | None = None) -> dict[str, Any]:
    """Where the folder of the program's results goes once it has ended."""
    output = {"S3Uri": address, "LocalPath": OUTPUT, "S3UploadMode": "EndOfJob"}
    key = {"KmsKeyId": kms_key} if kms_key else {}
    return {"Outputs": [{"OutputName": OUTPUT_NAME, "S3Output": output}], **key}
