"""What a pipeline asks of SageMaker, asked of moto: another reading of the same API, which runs nothing."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.conftest import Cli
from tests.launch.conftest import BUCKET, REGION, ROLE
from tests.launch.fake_pipelines import is_variable, steps_of

from sightline.aws.request_check import check_request

SENT = {"Training": "CreateTrainingJob", "Processing": "CreateProcessingJob", "RegisterModel": "CreateModelPackage"}
VALUES = {"Parameters.ApprovalStatus": "PendingManualApproval"}


def guessed(value: Any, defaults: dict[str, Any]) -> Any:
    """The value with something in the place of every variable."""
    if is_variable(value):
        kind, inner = next(iter(value.items()))
        if kind == "Std:Join":
            return inner["On"].join(str(guessed(each, defaults)) for each in inner["Values"])
        name = inner if kind == "Get" else ""
        return defaults.get(name, "s3://bucket/folder" if name.endswith("S3Uri") else "text")
    if isinstance(value, dict):
        return {key: guessed(each, defaults) for key, each in value.items()}
    return [guessed(each, defaults) for each in value] if isinstance(value, list) else value


def test_made_started_and_registered(aws: Callable[[str], Any], cli: Cli, tmp_path: Path) -> None:
    launch = f"role={ROLE} bucket={BUCKET} region={REGION} image=image:1 allow_dirty=true prefix=moto"
    words = [f"paths.runs={tmp_path}", *(f"launch.{each}" for each in launch.split()), "pipeline.name=moto"]
    for expected in ("created", "unchanged"):
        done = cli("pipeline", "upsert", *words, "--json")
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["change"] == expected
    done = cli("pipeline", "start", *words, "Epochs=2", "--json")
    assert done.returncode == 0, done.stderr
    started = json.loads(done.stdout)
    client = aws("sagemaker")
    told = client.describe_pipeline_execution(PipelineExecutionArn=started["arn"])
    assert told["PipelineExecutionStatus"] == "Succeeded", "moto's always are"
    document = json.loads(client.describe_pipeline(PipelineName="moto")["PipelineDefinition"])
    defaults = {f"Parameters.{each['Name']}": each["DefaultValue"] for each in document["Parameters"]}
    for step in steps_of(document["Steps"]):
        if step["Type"] not in SENT:
            continue
        request, kind = guessed(step["Arguments"], defaults), SENT[step["Type"]].removeprefix("Create")
        request |= {} if kind == "ModelPackage" else {f"{kind}Name": f"moto-{step['Name']}"}
        check_request(SENT[step["Type"]], request)
        call = {"TrainingJob": "create_training_job", "ProcessingJob": "create_processing_job"}
        getattr(client, call.get(kind, "create_model_package"))(**request)
    (package,) = client.list_model_packages(ModelPackageGroupName="digits")["ModelPackageSummaryList"]
    assert package["ModelApprovalStatus"] == "PendingManualApproval"
