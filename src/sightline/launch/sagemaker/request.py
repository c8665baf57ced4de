"""The whole request of a training job, from a job and the settings: pure."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from sightline.launch.container.folder import OPT_ML
from sightline.launch.container.hyperparameters import to_hyperparameters
from sightline.launch.job import Job, job_name
from sightline.launch.sagemaker.metric_definitions import metric_definitions
from sightline.launch.sagemaker.settings import SageMakerSettings
from sightline.launch.sagemaker.tags import tags_of

CHECKPOINTS = str(OPT_ML / "checkpoints")
TENSORBOARD = str(OPT_ML / "output" / "tensorboard")
MAX_RETRIES = 3
"""Attempts by the service itself, after its internal errors."""
MAX_LETTERS = 60
"""The longest name; SageMaker's 63 leave three for the number of a later attempt."""
NUM_COMMIT_LETTERS = 7


def make_request(
    job: Job, overrides: list[str], channels: Mapping[str, str], image: str, settings: SageMakerSettings
) -> dict[str, Any]:
    """Arguments of `create_training_job`; `channels` holds s3:// addresses.

    The name tells the job, the commit and everything else that is asked for: the same request has the same name.

    Raises: BadInput for what SageMaker cannot take.
    """
    hyperparameters = to_hyperparameters(overrides, job.script)
    request = {
        **_program(job, hyperparameters, image, settings),
        **_machines(settings),
        **_inputs(channels, settings),
    }
    digest = hashlib.sha256(json.dumps([request, settings.bucket, settings.prefix], sort_keys=True).encode())
    ends = [(job.commit or "")[:NUM_COMMIT_LETTERS], digest.hexdigest()[:8]]
    name = job_name(job.name, *filter(None, ends))[-MAX_LETTERS:].strip("-")
    return {"TrainingJobName": name, **request, **_outputs(name, settings), "Tags": tags_of(job, settings)}


def _program(job: Job, hyperparameters: dict[str, str], image: str, settings: SageMakerSettings) -> dict[str, Any]:
    return {
        "AlgorithmSpecification": {
            "TrainingImage": image,
            "TrainingInputMode": settings.input_mode,
            "MetricDefinitions": metric_definitions(job.script),
        },
        "RoleArn": settings.role,
        "HyperParameters": hyperparameters,
        "Environment": {"PYTHONUNBUFFERED": "1"},
        "ProfilerConfig": {"DisableProfiler": True},
    }


def _machines(settings: SageMakerSettings) -> dict[str, Any]:
    resources: dict[str, Any] = {
        "InstanceType": settings.instance_type,
        "InstanceCount": settings.instance_count,
        "VolumeSizeInGB": settings.volume_gb,
    }
    if settings.kms_key:
        resources["VolumeKmsKeyId"] = settings.kms_key
    if settings.warm_pool_minutes > 0:
        resources["KeepAlivePeriodInSeconds"] = int(60 * settings.warm_pool_minutes)
    limits = {"MaxRuntimeInSeconds": int(60 * settings.max_run_minutes)}
    if settings.spot:
        limits["MaxWaitTimeInSeconds"] = int(60 * settings.wait_minutes)
    request = {
        "ResourceConfig": resources,
        "StoppingCondition": limits,
        "RetryStrategy": {"MaximumRetryAttempts": MAX_RETRIES},
        "EnableManagedSpotTraining": settings.spot,
        "EnableInterContainerTrafficEncryption": settings.instance_count > 1,
    }
    if settings.subnets:
        request["VpcConfig"] = {"Subnets": settings.subnets, "SecurityGroupIds": settings.security_groups}
    return request


def _inputs(channels: Mapping[str, str], settings: SageMakerSettings) -> dict[str, Any]:
    if not channels:
        return {}
    return {"InputDataConfig": [_channel(name, address, settings) for name, address in sorted(channels.items())]}


def _channel(name: str, address: str, settings: SageMakerSettings) -> dict[str, Any]:
    source = {"S3DataType": "S3Prefix", "S3Uri": address, "S3DataDistributionType": "FullyReplicated"}
    is_folder = address.endswith("/")
    return {
        "ChannelName": name,
        "DataSource": {"S3DataSource": source},
        "InputMode": settings.input_mode if is_folder else "File",  # FastFile takes folders alone
    }


def _outputs(name: str, settings: SageMakerSettings) -> dict[str, Any]:
    """Where results and checkpoints go: the same for every attempt, so that a later one resumes."""
    root = f"s3://{settings.bucket}/{settings.prefix}/jobs/{name}"
    key = {"KmsKeyId": settings.kms_key} if settings.kms_key else {}
    return {
        "OutputDataConfig": {"S3OutputPath": f"{root}/output", **key},
        "CheckpointConfig": {"S3Uri": f"{root}/checkpoints", "LocalPath": CHECKPOINTS},
        "TensorBoardOutputConfig": {"S3OutputPath": f"{root}/tensorboard", "LocalPath": TENSORBOARD},
    }
