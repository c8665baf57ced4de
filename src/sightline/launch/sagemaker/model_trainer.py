"""AWS's own client (the `sagemaker` SDK, version 3) for a plan of ours: the same job as its `ModelTrainer`."""

import re
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sightline.errors import BadInput
from sightline.launch.backend import Plan
from sightline.launch.backends import settings_of
from sightline.launch.sagemaker.settings import SageMakerSettings

if TYPE_CHECKING:
    from sagemaker.train.model_trainer import ModelTrainer  # pyright: ignore[reportMissingImports]

NEEDS = "needs AWS's own client: pip install 'sightline-vision[sagemaker]'"
NO_TELEMETRY = {
    "SchemaVersion": "1.0",
    "SageMaker": {"PythonSDK": {"Modules": {"TelemetryOptOut": True}}},
}
"""The client's own configuration; without it every call is reported to AWS."""


def require_client(key: str) -> None:
    """Raises: BadInput naming the key that asks for AWS's own client, where it is not installed."""
    if find_spec("sagemaker") is None:
        raise BadInput(f"{key}: {NEEDS}")


def provide(plan: Plan, jobs: Path = Path("runs", "jobs")) -> None:
    """Push the image and upload the files that a plan of `launch=sagemaker` names, where they are missing.

    `jobs` is the folder of the job records, which keeps the hashes of what was uploaded.

    Raises: BadInput for an image that is not to be pushed, or files that have changed since the job was planned.
    """
    _require_sagemaker(plan, "provide")
    from sightline.launch.sagemaker.backend import SageMaker

    settings = settings_of("sagemaker", plan["settings"])
    assert isinstance(settings, SageMakerSettings)
    SageMaker(jobs, settings).provide(plan["request"]["AlgorithmSpecification"]["TrainingImage"], plan["uploads"])


def as_model_trainer(plan: Plan, session: Any = None) -> "ModelTrainer":
    """The client's object for a plan of `launch=sagemaker`, as `SageMaker.plan` or a dry run gives it.

    `.train()` starts the same job: image, hyperparameters, channels, outputs, limits, retries, tags. The client puts
    the time behind the job's name and has no field for `ProfilerConfig`. Image and uploads must be there already:
    `provide(plan)`. `session` is a `sagemaker.core.helper.session_helper.Session`; None: one of the plan's
    region and bucket that reports nothing to AWS. The client asks IAM about the role, unless the environment has
    SAGEMAKER_VALIDATE_ROLE=false.

    Raises: BadInput without the client, or for a plan of another backend.
    """
    _require_sagemaker(plan, "as_model_trainer")
    require_client("as_model_trainer")
    from sagemaker.core.shapes import RetryStrategy  # pyright: ignore[reportMissingImports]
    from sagemaker.core.training import configs  # pyright: ignore[reportMissingImports]
    from sagemaker.train.model_trainer import ModelTrainer  # pyright: ignore[reportMissingImports]

    request = plan["request"]
    algorithm = request["AlgorithmSpecification"]
    trainer = ModelTrainer(
        sagemaker_session=session or _session(plan["settings"]),
        base_job_name=request["TrainingJobName"],
        training_image=algorithm["TrainingImage"],
        training_input_mode=algorithm["TrainingInputMode"],
        role=request["RoleArn"],
        hyperparameters=dict(request["HyperParameters"]),
        environment=dict(request["Environment"]),
        compute=configs.Compute(
            **_fields(request["ResourceConfig"]), enable_managed_spot_training=request["EnableManagedSpotTraining"]
        ),
        networking=configs.Networking(
            **_fields(request.get("VpcConfig", {})),
            enable_inter_container_traffic_encryption=request["EnableInterContainerTrafficEncryption"],
        ),
        stopping_condition=configs.StoppingCondition(**_fields(request["StoppingCondition"])),
        input_data_config=[_channel(each) for each in request.get("InputDataConfig", ())],
        output_data_config=configs.OutputDataConfig(**_fields(request["OutputDataConfig"])),
        checkpoint_config=configs.CheckpointConfig(**_fields(request["CheckpointConfig"])),
        tags=[configs.Tag(**_fields(each)) for each in request["Tags"]],
    )
    return (
        trainer.with_tensorboard_output_config(
            configs.TensorBoardOutputConfig(**_fields(request["TensorBoardOutputConfig"]))
        )
        .with_retry_strategy(RetryStrategy(**_fields(request["RetryStrategy"])))
        .with_metric_definitions([configs.MetricDefinition(**_fields(each)) for each in algorithm["MetricDefinitions"]])
    )


def local_trainer(request: Mapping[str, Any], channels: Mapping[str, str], root: Path) -> "ModelTrainer":
    """The client's object that runs a training job in containers of this machine, in AWS's own local mode.

    `request` holds the part of `create_training_job` that a container sees; `channels` a folder or an s3:// address
    each; `root` is an empty folder to work in, of plain letters: the client joins paths by colons.
    """
    from sagemaker.core.training import configs  # pyright: ignore[reportMissingImports]
    from sagemaker.train.model_trainer import Mode, ModelTrainer  # pyright: ignore[reportMissingImports]

    return ModelTrainer(
        training_mode=Mode.LOCAL_CONTAINER,
        local_container_root=str(root),
        base_job_name=request["TrainingJobName"],
        training_image=request["AlgorithmSpecification"]["TrainingImage"],
        hyperparameters=dict(request["HyperParameters"]),
        environment=dict(request["Environment"]),
        compute=configs.Compute(**_fields(request["ResourceConfig"])),
        input_data_config=[
            configs.InputData(channel_name=name, data_source=address) for name, address in channels.items()
        ],
    )


def _require_sagemaker(plan: Plan, asks: str) -> None:
    if plan.get("backend") != "sagemaker":
        raise BadInput(f"{asks}: a plan of launch={plan.get('backend')}; give one of launch=sagemaker")


def _session(settings: Mapping[str, Any]) -> Any:
    import boto3
    from sagemaker.core.helper.session_helper import Session  # pyright: ignore[reportMissingImports]

    return Session(
        boto_session=boto3.Session(region_name=settings["region"]),
        default_bucket=settings["bucket"],
        sagemaker_config=NO_TELEMETRY,
    )


def _channel(channel: Mapping[str, Any]) -> Any:
    from sagemaker.core.shapes import Channel, DataSource, S3DataSource  # pyright: ignore[reportMissingImports]

    source = S3DataSource(**_fields(channel["DataSource"]["S3DataSource"]))
    return Channel(
        channel_name=channel["ChannelName"],
        data_source=DataSource(s3_data_source=source),
        input_mode=channel["InputMode"],
    )


def _fields(section: Mapping[str, Any]) -> dict[str, Any]:
    """A part of a request with the names that the client gives its fields: `MaxRuntimeInSeconds` is in snake case."""
    return {re.sub("(?<=[a-z0-9])(?=[A-Z])", "_", name).lower(): value for name, value in section.items()}
