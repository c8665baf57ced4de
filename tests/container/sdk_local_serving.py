"""An endpoint or a batch transform by AWS's own client in its local mode, on packed models and pictures in S3.

python sdk_local_serving.py endpoint|transform IMAGE BUCKET FOLDER PORT, in a process of its own: the client reads its
settings from the environment when it is imported. The last line that is printed is JSON: picture to answer.
"""

import json
import os
import sys
from pathlib import Path

what, image, bucket, folder, port = sys.argv[1:]
Path(folder).mkdir(parents=True)
settings = Path(folder) / "sagemaker.yaml"
settings.write_text("SchemaVersion: '1.0'\nSageMaker:\n  PythonSDK:\n    Modules:\n      TelemetryOptOut: true\n")
os.environ |= {"SAGEMAKER_USER_CONFIG_OVERRIDE": str(settings), "SAGEMAKER_VALIDATE_ROLE": "false"}

import boto3  # noqa: E402  (reads the environment)
from sagemaker.core.local import LocalSession  # noqa: E402  # pyright: ignore


class LoopbackPort(int):
    """Published on this machine alone: the client writes it as it is into the compose file."""

    def __str__(self) -> str:
        return f"127.0.0.1:{int(self)}"


session = LocalSession(boto_session=boto3.Session(), default_bucket=bucket)
session.config = {"local": {"serving_port": LoopbackPort(port), "container_root": folder}}
client, s3 = session.sagemaker_client, boto3.client("s3")
container = {
    "Image": image,
    "ModelDataUrl": f"s3://{bucket}/model.tar.gz",
    "Environment": {"SIGHTLINE_SERVE_OPEN": "true"},
}
client.create_model(ModelName="pictures", PrimaryContainer=container)
keys = [each["Key"] for each in s3.list_objects_v2(Bucket=bucket, Prefix="pictures/")["Contents"]]
answers = {}
if what == "endpoint":
    variant = {"ModelName": "pictures", "VariantName": "all", "InstanceType": "local", "InitialInstanceCount": 1}
    client.create_endpoint_config(EndpointConfigName="pictures", ProductionVariants=[variant])
    client.create_endpoint(EndpointName="pictures", EndpointConfigName="pictures")
    try:
        for key in keys:
            body = s3.get_object(Bucket=bucket, Key=key)["Body"].read()
            asked = {"EndpointName": "pictures", "ContentType": "image/png", "Accept": "application/json"}
            found = session.sagemaker_runtime_client.invoke_endpoint(Body=body, **asked)
            answers[Path(key).name] = json.loads(found["Body"].read())
    finally:
        client.delete_endpoint(EndpointName="pictures")
else:
    source = {"S3DataSource": {"S3DataType": "S3Prefix", "S3Uri": f"s3://{bucket}/pictures"}}
    client.create_transform_job(
        TransformJobName="pictures",
        ModelName="pictures",
        TransformInput={"DataSource": source, "ContentType": "image/png"},
        TransformOutput={"S3OutputPath": f"s3://{bucket}/answers", "Accept": "application/json"},
        TransformResources={"InstanceType": "local", "InstanceCount": 1},
        BatchStrategy="SingleRecord",
    )
    for each in s3.list_objects_v2(Bucket=bucket, Prefix="answers/")["Contents"]:
        body = s3.get_object(Bucket=bucket, Key=each["Key"])["Body"].read()
        answers[Path(each["Key"]).name.removesuffix(".out")] = json.loads(body)
print(json.dumps(answers))
