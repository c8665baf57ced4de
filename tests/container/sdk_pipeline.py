"""Our definition of a pipeline, run by AWS's own client in containers: python sdk_pipeline.py DEFINITION BUCKET FOLDER

In a process of its own: the client reads its settings from the environment when it is imported. The whole definition is
run, then the gate once more with a bound that nothing reaches. Three things are this file's and not the client's: it
has no RegisterModel, which is left out, and no checkpoints, so the archives of the training stand for the run folder;
Docker Compose, which it writes words for, takes `$` for its own and wants it doubled. The last line that is printed is
JSON: status, reason, and the status of each step, of both.
"""

import json
import os
import re
import sys
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

definition, bucket, folder = json.loads(Path(sys.argv[1]).read_text()), sys.argv[2], Path(sys.argv[3])
folder.mkdir(parents=True)
settings = folder / "sagemaker.yaml"
settings.write_text("SchemaVersion: '1.0'\nSageMaker:\n  PythonSDK:\n    Modules:\n      TelemetryOptOut: true\n")
os.environ |= {"SAGEMAKER_USER_CONFIG_OVERRIDE": str(settings), "SAGEMAKER_VALIDATE_ROLE": "false"}

import boto3  # noqa: E402  (reads the environment)
from sagemaker.core.local.utils import get_using_dot_notation  # noqa: E402  # pyright: ignore
from sagemaker.core.workflow.conditions import ConditionEquals  # noqa: E402  # pyright: ignore
from sagemaker.core.workflow.execution_variables import ExecutionVariables  # noqa: E402  # pyright: ignore
from sagemaker.core.workflow.functions import Join, JsonGet  # noqa: E402  # pyright: ignore
from sagemaker.core.workflow.parameters import (  # noqa: E402  # pyright: ignore
    ParameterFloat,
    ParameterInteger,
    ParameterString,
)
from sagemaker.core.workflow.properties import Properties  # noqa: E402  # pyright: ignore
from sagemaker.mlops.local import LocalPipelineSession  # noqa: E402  # pyright: ignore
from sagemaker.mlops.workflow.condition_step import ConditionStep  # noqa: E402  # pyright: ignore
from sagemaker.mlops.workflow.fail_step import FailStep  # noqa: E402  # pyright: ignore
from sagemaker.mlops.workflow.pipeline import Pipeline  # noqa: E402  # pyright: ignore
from sagemaker.mlops.workflow.steps import Step, StepTypeEnum  # noqa: E402  # pyright: ignore

KINDS = {"String": ParameterString, "Integer": ParameterInteger, "Float": ParameterFloat}
PARAMETERS = {
    each["Name"]: KINDS[each["Type"]](each["Name"], each["DefaultValue"]) for each in definition["Parameters"]
}
s3 = boto3.client("s3")


def translated(value: Any, known: Mapping[str, Any]) -> Any:
    """A value of the definition as an object of the client; `known` holds what steps that have ended are known by."""
    if isinstance(value, list):
        return [translated(each, known) for each in value]
    if not isinstance(value, dict):
        return value
    if "Get" in value:
        kind, _, name = value["Get"].partition(".")
        step, _, path = name.partition(".")
        if kind == "Parameters":
            return PARAMETERS[name]
        if kind == "Execution":
            return {"PipelineExecutionId": ExecutionVariables.PIPELINE_EXECUTION_ID}[name]
        return get_using_dot_notation(known[step], path) if step in known else Properties(step, path)
    if "Std:Join" in value:
        return Join(value["Std:Join"]["On"], [translated(each, known) for each in value["Std:Join"]["Values"]])
    if "Std:JsonGet" in value:
        found = re.fullmatch(r"Steps\.([^.]+)\.PropertyFiles\.(.+)", value["Std:JsonGet"]["PropertyFile"]["Get"])
        assert found is not None
        return JsonGet(step_name=found[1], property_file=found[2], json_path=value["Std:JsonGet"]["Path"])
    return {key: translated(each, known) for key, each in value.items()}


class DefinedStep(Step):
    """A step with the arguments that the definition gives it."""

    def __init__(self, step: Mapping[str, Any], known: Mapping[str, Any]) -> None:
        super().__init__(step["Name"], step_type=StepTypeEnum(step["Type"]))
        self._arguments = translated(step["Arguments"], known)
        self._files = list(step.get("PropertyFiles", ()))

    @property
    def arguments(self) -> Any:
        return self._arguments

    @property
    def properties(self) -> Any:
        return Properties(self.name)

    def to_request(self) -> dict[str, Any]:
        return {**super().to_request(), "PropertyFiles": self._files}


def made(step: Mapping[str, Any], known: Mapping[str, Any]) -> Any:
    if step["Type"] == "Fail":
        return FailStep(step["Name"], translated(step["Arguments"]["ErrorMessage"], known))
    if step["Type"] != "Condition":
        return DefinedStep(step, known)
    given = step["Arguments"]
    conditions = [
        ConditionEquals(left=translated(each["LeftValue"], known), right=each["RightValue"])
        for each in given["Conditions"]
    ]
    branches = [
        [made(each, known) for each in given[name] if each["Type"] != "RegisterModel"]
        for name in ("IfSteps", "ElseSteps")
    ]
    return ConditionStep(step["Name"], conditions=conditions, if_steps=branches[0], else_steps=branches[1])


def hand_over(arguments: Mapping[str, Any]) -> None:
    """What the service does all the while: the run folder, as far as archives hold it, to the checkpoints' address."""
    outputs, checkpoints = arguments["OutputDataConfig"]["S3OutputPath"], arguments["CheckpointConfig"]["S3Uri"]
    prefix = outputs.removeprefix(f"s3://{bucket}/")
    target = checkpoints.removeprefix(f"s3://{bucket}/")
    for each in s3.list_objects_v2(Bucket=bucket, Prefix=prefix)["Contents"]:
        archive, unpacked = folder / "archive.tar.gz", folder / "unpacked"
        s3.download_file(bucket, each["Key"], str(archive))
        with tarfile.open(archive) as opened:
            opened.extractall(unpacked, filter="data")
        root = unpacked if each["Key"].endswith("model.tar.gz") else unpacked / "data"
        into = f"{target}/model" if root == unpacked else target
        for file in root.rglob("*"):
            if file.is_file():
                s3.upload_file(str(file), bucket, f"{into}/{file.relative_to(root)}")
                file.unlink()


session = LocalPipelineSession(boto_session=boto3.Session(), default_bucket=bucket)
session.config = {"local": {"container_root": str(folder)}}
client = session.sagemaker_client
create, describe, process = client.create_training_job, client.describe_training_job, client.create_processing_job
trained: dict[str, Mapping[str, Any]] = {}


def create_training_job(name: str, **arguments: Any) -> None:
    create(name, **arguments)
    hand_over(arguments)
    trained[name] = arguments


def create_processing_job(name: str, **arguments: Any) -> None:
    program = arguments["AppSpecification"]
    words = [word.replace("$", "$$") for word in program["ContainerArguments"]]
    process(name, **{**arguments, "AppSpecification": {**program, "ContainerArguments": words}})


client.create_training_job, client.create_processing_job = create_training_job, create_processing_job
client.describe_training_job = lambda name: {**describe(name), "CheckpointConfig": trained[name]["CheckpointConfig"]}


def run(name: str, steps: list[Mapping[str, Any]], known: Mapping[str, Any], **parameters: Any) -> Any:
    objects = [made(each, known) for each in steps]
    pipeline = Pipeline(name, list(PARAMETERS.values()), steps=objects, sagemaker_session=session)
    session.create_pipeline(pipeline, "ours")
    local = {"TrainingInstanceType": "local_cpu", "ProcessingInstanceType": "local_cpu"}
    return session.start_pipeline_execution(name, PipelineParameters={**local, **parameters})


def told(execution: Any) -> dict[str, Any]:
    steps = {name: each.status for name, each in execution.step_execution.items()}
    return {"status": execution.status, "reason": execution.failure_reason, "steps": steps}


whole = run("whole", definition["Steps"], {})
answers = {"whole": told(whole)}
if whole.status == "Succeeded":
    ended = {name: each.properties for name, each in whole.step_execution.items()}
    last = [each for each in definition["Steps"] if each["Name"] in ("gate", "gate-met")]
    known = {name: ended[name] for name in ended if name not in ("gate", "gate-met")}
    answers["refused"] = told(run("refused", last, known, MinAccuracy=0.999))
print(json.dumps(answers))
