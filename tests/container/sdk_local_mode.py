"""A job by AWS's own client in its local mode: python sdk_local_mode.py IMAGE BUCKET ROOT NUM_HOSTS KEY=VALUE …

In a process of its own: the client reads its settings from the environment when it is imported.
"""

import os
import sys
from pathlib import Path

image, bucket, root, num_hosts, *words = sys.argv[1:]
Path(root).mkdir(parents=True)
settings = Path(root).parent / "sagemaker.yaml"
settings.write_text("SchemaVersion: '1.0'\nSageMaker:\n  PythonSDK:\n    Modules:\n      TelemetryOptOut: true\n")
os.environ |= {"SAGEMAKER_USER_CONFIG_OVERRIDE": str(settings), "SAGEMAKER_VALIDATE_ROLE": "false"}

import boto3  # noqa: E402  (reads the environment)
from sagemaker.core.helper.session_helper import Session  # noqa: E402  # pyright: ignore
from sagemaker.core.training.configs import Compute, InputData  # noqa: E402  # pyright: ignore
from sagemaker.train.model_trainer import Mode, ModelTrainer  # noqa: E402  # pyright: ignore

trainer = ModelTrainer(
    training_mode=Mode.LOCAL_CONTAINER,
    training_image=image,
    role="arn:aws:iam::123456789012:role/sightline",
    sagemaker_session=Session(boto_session=boto3.Session(), default_bucket=bucket),
    base_job_name="sightline",
    compute=Compute(instance_type="local_cpu", instance_count=int(num_hosts)),
    local_container_root=root,
    hyperparameters=dict(word.split("=", 1) for word in words),
    environment={"SIGHTLINE_COMMIT": "abc"},
)
trainer.train(input_data_config=[InputData(channel_name="data_root", data_source=f"s3://{bucket}/colors/")])
