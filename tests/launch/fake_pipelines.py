"""Pipelines of the SageMaker of the tests: definitions are read, and their steps run as jobs in the order they need.

Get, Std:Join, Std:JsonGet, property files, Condition, Fail, RegisterModel, the step cache, retries and stops are as
SageMaker's documentation and its Python SDK's local mode have them; docs/pipeline_on_aws.md says what it knows.
"""

import json
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import Any
from uuid import uuid4

from tests.launch.fake_model_registry import Refused
from tests.launch.fake_processing import ACCOUNT, POLL_SECONDS

from sightline.aws.request_check import check_request
from sightline.aws.s3 import split_address
from sightline.errors import BadInput

STEP_KEYS = {"Name", "Type", "Arguments", "CacheConfig", "RetryPolicies", "PropertyFiles", "DependsOn"}
"""Of a step; the service refuses any other."""
PIPELINE_KEYS = {"Version", "Metadata", "Parameters", "PipelineExperimentConfig", "Steps"}
CACHED = {
    "Processing": ("AppSpecification", "Environment", "ProcessingInputs"),
    "Training": ("AlgorithmSpecification", "CheckpointConfig", "Environment", "HyperParameters", "InputDataConfig"),
}
"""What of a step's arguments the cache compares (docs: Default cache key attributes by pipeline step type)."""
TYPES = {"String": str, "Integer": int, "Float": float, "Boolean": bool}
OVER = ("Succeeded", "Failed", "Stopped")
VARIABLES = ("Get", "Std:Join", "Std:JsonGet")


class StepFailed(Exception):
    pass


def _invalid(message: str) -> Refused:
    return Refused("ValidationException", message)


def is_variable(value: Any) -> bool:
    return isinstance(value, Mapping) and len(value) == 1 and next(iter(value)) in VARIABLES


def references(value: Any) -> Iterator[str]:
    """Every `Get` in it."""
    if isinstance(value, Mapping):
        if set(value) == {"Get"}:
            yield value["Get"]
        for each in value.values():
            yield from references(each)
    elif isinstance(value, list):
        for each in value:
            yield from references(each)


def steps_of(steps: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """All of them, those in the branches of conditions too."""
    for step in steps:
        yield step
        if step["Type"] == "Condition":
            yield from steps_of(step["Arguments"]["IfSteps"])
            yield from steps_of(step["Arguments"]["ElseSteps"])


def needed_by(step: dict[str, Any]) -> set[str]:
    arguments = step["Arguments"]["Conditions"] if step["Type"] == "Condition" else step["Arguments"]
    found = {each.split(".")[1] for each in references(arguments) if each.startswith("Steps.")}
    return found | set(step.get("DependsOn", ()))


def check_definition(text: str) -> dict[str, Any]:
    """Refuse what the service cannot parse: unknown keys, parameters and steps; names that are there twice; circles."""
    try:
        document = json.loads(text)
    except ValueError as error:
        raise _invalid(f"Unable to parse pipeline definition: {error}") from error
    if unknown := set(document) - PIPELINE_KEYS:
        raise _invalid(f"Unable to parse pipeline definition. Cannot parse object, unknown property {unknown}")
    steps = list(steps_of(document["Steps"]))
    names = [step["Name"] for step in steps]
    if len(names) != len(set(names)):
        raise _invalid(f"Step names must be unique: {names}")
    parameters = {each["Name"]: each for each in document.get("Parameters", ())}
    for name, each in parameters.items():
        if not isinstance(each["DefaultValue"], TYPES[each["Type"]]):
            raise _invalid(f"Parameter {name}: the default is no {each['Type']}")
    for step in steps:
        if unknown := set(step) - STEP_KEYS:
            raise _invalid(f"Step {step['Name']}: unknown property {unknown}")
        if not re.fullmatch(r"[A-Za-z0-9\-_]{1,64}", step["Name"]):
            raise _invalid(f"Step name {step['Name']} is not valid")
        for each in references(step["Arguments"]):
            kind, _, name = each.partition(".")
            if (kind == "Parameters" and name not in parameters) or (
                kind == "Steps" and name.split(".")[0] not in names
            ):
                raise _invalid(f"Step {step['Name']} refers to {each}, which is not there")
        if step["Type"] == "Condition":
            branches = [*step["Arguments"]["IfSteps"], *step["Arguments"]["ElseSteps"]]
            if any(each["Type"] == "Condition" for each in branches):
                raise _invalid(f"Step {step['Name']}: conditions in conditions are not supported")
    _check_order(steps)
    return document


def _check_order(steps: list[dict[str, Any]]) -> None:
    waiting, done = {step["Name"]: needed_by(step) for step in steps}, set[str]()
    while waiting:
        ready = {name for name, needed in waiting.items() if needed <= done}
        if not ready:
            raise _invalid(f"Cycle detected in pipeline step graph: {sorted(waiting)}")
        done |= ready
        waiting = {name: needed for name, needed in waiting.items() if name not in ready}


class Execution:
    """One execution of a pipeline, in a thread of its own."""

    def __init__(self, service: Any, pipeline: dict[str, Any], values: dict[str, Any], description: str) -> None:
        self.service, self.pipeline, self.values, self.description = service, pipeline, values, description
        self.id = uuid4().hex[:12]
        self.arn = f"{pipeline['PipelineArn']}/execution/{self.id}"
        self.definition = check_definition(pipeline["PipelineDefinition"])
        self.parallel = pipeline.get("ParallelismConfiguration", {}).get("MaxParallelExecutionSteps", 50)
        self.status, self.reason, self.started = "Executing", "", time.time()
        self.rows: dict[str, dict[str, Any]] = {}
        """Of every step that has begun: what ListPipelineExecutionSteps tells."""
        self.properties: dict[str, dict[str, Any]] = {}
        self.blocked: set[str] = set()
        self.is_stopped = False
        self.given: list[dict[str, str]] = []
        """The values that were given for parameters, as they were sent."""
        self.thread = threading.Thread(target=self.work, daemon=True)

    # the order of the steps

    def work(self) -> None:
        steps = {step["Name"]: step for step in steps_of(self.definition["Steps"])}
        in_branches = {
            inner["Name"]: step["Name"]
            for step in steps.values()
            if step["Type"] == "Condition"
            for inner in [*step["Arguments"]["IfSteps"], *step["Arguments"]["ElseSteps"]]
        }
        running: dict[Future[None], str] = {}
        with ThreadPoolExecutor(self.parallel) as pool:
            while True:
                done = {name for name, row in self.rows.items() if row["StepStatus"] == "Succeeded"}
                failed = [name for name, row in self.rows.items() if row["StepStatus"] in ("Failed", "Stopped")]
                for name, step in steps.items():
                    needed = needed_by(step) | ({in_branches[name]} if name in in_branches else set())
                    is_ready = needed <= done and name not in self.rows and not self._is_blocked(name, steps)
                    if is_ready and not failed and not self.is_stopped and len(running) < self.parallel:
                        self.rows[name] = {"StepName": name, "StepStatus": "Executing", "StartTime": time.time()}
                        running[pool.submit(self._run_step, step)] = name
                if not running:
                    break
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    del running[future]
        self._end()

    def _is_blocked(self, name: str, steps: Mapping[str, dict[str, Any]]) -> bool:
        """Whether it is in a branch that was not taken, or needs a step that is."""
        return name in self.blocked or any(self._is_blocked(each, steps) for each in needed_by(steps[name]))

    def _end(self) -> None:
        failed = [row for row in self.rows.values() if row["StepStatus"] == "Failed"]
        if self.is_stopped:
            self.status = "Stopped"
        elif failed:
            names = ", ".join(row["StepName"] for row in failed)
            self.reason = f"Step failure: One or multiple steps failed: {names}"
            self.status = "Failed"
        else:
            self.status = "Succeeded"

    def _run_step(self, step: dict[str, Any]) -> None:
        row, kinds = self.rows[step["Name"]], dict[str, Callable[..., None]]()
        kinds |= {"Training": self._train, "Processing": self._process, "Condition": self._choose}
        kinds |= {"Fail": self._fail, "RegisterModel": self._register}
        try:
            kinds[step["Type"]](step, row)
            row["StepStatus"] = "Stopped" if row.pop("stopped", False) else "Succeeded"
        except StepFailed as failure:
            row |= {"StepStatus": "Failed", "FailureReason": str(failure)}
        except Exception as error:  # noqa: BLE001 (what the service cannot do is a failed step)
            row |= {"StepStatus": "Failed", "FailureReason": f"ClientError: {type(error).__name__}: {error}"}
        row["EndTime"] = time.time()

    # what the kinds of step do

    def _train(self, step: dict[str, Any], row: dict[str, Any]) -> None:
        self._job(step, row, "TrainingJob")

    def _process(self, step: dict[str, Any], row: dict[str, Any]) -> None:
        self._job(step, row, "ProcessingJob")

    def _job(self, step: dict[str, Any], row: dict[str, Any], kind: str) -> None:
        arguments = self.resolve(step["Arguments"])
        key = self._cache_key(step, arguments)
        if key is not None and (known := self.service.cached.get(key)) is not None:
            source, properties, metadata = known
            self.properties[step["Name"]] = properties
            row |= {"CacheHitResult": {"SourcePipelineExecutionArn": source}, "Metadata": metadata}
            return
        attempts = max((each.get("MaxAttempts", 1) for each in step.get("RetryPolicies", ())), default=1)
        told: dict[str, Any] = {}
        for attempt in range(1, attempts + 1):
            name = f"pipelines-{self.id}-{step['Name']}-{uuid4().hex[:10]}"[:63]
            self.service.call(f"Create{kind}", {**arguments, f"{kind}Name": name})
            row |= {"AttemptCount": attempt, "Metadata": {kind: {"Arn": f"{ACCOUNT}:{_dashed(kind)}/{name}"}}}
            told = self._until_over(kind, name)
            if told[f"{kind}Status"] != "Failed" or not self._can_retry(step, told["FailureReason"]):
                break
        if told[f"{kind}Status"] == "Failed":
            raise StepFailed(f"ClientError: {told['FailureReason']}")
        if told[f"{kind}Status"] == "Stopped":
            row["stopped"] = True
            return
        self.properties[step["Name"]] = told
        if key is not None:
            self.service.cached[key] = self.arn, told, row["Metadata"]

    def _until_over(self, kind: str, name: str) -> dict[str, Any]:
        is_told = False
        while True:
            told = self.service.call(f"Describe{kind}", {f"{kind}Name": name})
            if told[f"{kind}Status"] in ("Completed", "Failed", "Stopped"):
                return told
            if self.is_stopped and not is_told:
                self.service.call(f"Stop{kind}", {f"{kind}Name": name})
                is_told = True
            time.sleep(POLL_SECONDS)

    def _can_retry(self, step: dict[str, Any], reason: str) -> bool:
        kinds = {kind for each in step.get("RetryPolicies", ()) for kind in each["ExceptionType"]}
        marks = {"SageMaker.CAPACITY_ERROR": "CapacityError", "SageMaker.JOB_INTERNAL_ERROR": "InternalServerError"}
        return any(kind in kinds and mark in reason for kind, mark in marks.items())

    def _cache_key(self, step: dict[str, Any], arguments: dict[str, Any]) -> str | None:
        if not step.get("CacheConfig", {}).get("Enabled"):
            return None
        compared = {each: arguments.get(each) for each in CACHED[step["Type"]]}
        return json.dumps([self.pipeline["PipelineName"], step["Name"], step["Type"], compared], sort_keys=True)

    def _choose(self, step: dict[str, Any], row: dict[str, Any]) -> None:
        arguments = step["Arguments"]
        outcome = True
        for condition in arguments["Conditions"]:
            left, right = self.resolve(condition["LeftValue"]), self.resolve(condition["RightValue"])
            assert condition["Type"] == "Equals", condition["Type"]
            outcome = outcome and left == right
        skipped = arguments["ElseSteps"] if outcome else arguments["IfSteps"]
        self.blocked |= {each["Name"] for each in skipped}
        row["Metadata"] = {"Condition": {"Outcome": "True" if outcome else "False"}}

    def _fail(self, step: dict[str, Any], row: dict[str, Any]) -> None:
        message = self.resolve(step["Arguments"]["ErrorMessage"])
        row["Metadata"] = {"Fail": {"ErrorMessage": message}}
        raise StepFailed(message)

    def _register(self, step: dict[str, Any], row: dict[str, Any]) -> None:
        request = self.resolve(step["Arguments"])
        address = request["InferenceSpecification"]["Containers"][0]["ModelDataUrl"]
        bucket, key = split_address(address)
        self.service.s3.head_object(Bucket=bucket, Key=key)
        arn = self.service.call("CreateModelPackage", request)["ModelPackageArn"]
        row["Metadata"] = {"RegisterModel": {"Arn": arn}}

    # variables

    def resolve(self, value: Any) -> Any:
        """The value with every variable replaced by what it stands for now."""
        if is_variable(value):
            kind, inner = next(iter(value.items()))
            return {"Get": self._get, "Std:Join": self._join, "Std:JsonGet": self._json_get}[kind](inner)
        if isinstance(value, Mapping):
            return {key: self.resolve(each) for key, each in value.items()}
        return [self.resolve(each) for each in value] if isinstance(value, list) else value

    def _get(self, name: str) -> Any:
        kind, _, rest = name.partition(".")
        if kind == "Parameters":
            return self.values[rest]
        if kind == "Execution":
            return {
                "PipelineName": self.pipeline["PipelineName"],
                "PipelineExecutionId": self.id,
                "PipelineExecutionArn": self.arn,
            }[rest]
        step, _, path = rest.partition(".")
        found: Any = self.properties[step]
        for part in re.findall(r"\['([^']+)'\]|([^.\[\]]+)", path):
            key = part[0] or part[1]
            if isinstance(found, list):
                found = next(each for each in found if each.get("OutputName") == key)
            else:
                found = found[key]
        return found

    def _join(self, inner: dict[str, Any]) -> str:
        return inner["On"].join(str(self.resolve(each)) for each in inner["Values"])

    def _json_get(self, inner: dict[str, Any]) -> Any:
        _, step, _, name = inner["PropertyFile"]["Get"].split(".")
        files = next(each for each in steps_of(self.definition["Steps"]) if each["Name"] == step)["PropertyFiles"]
        file = next(each for each in files if each["PropertyFileName"] == name)
        folder = self._get(f"Steps.{step}.ProcessingOutputConfig.Outputs['{file['OutputName']}'].S3Output.S3Uri")
        bucket, prefix = split_address(folder)
        content = self.service.s3.get_object(Bucket=bucket, Key=f"{prefix}/{file['FilePath']}")["Body"].read()
        found = json.loads(content)
        for part in inner["Path"].split("."):
            found = found[part]
        return found

    def describe(self) -> dict[str, Any]:
        told = {
            "PipelineArn": self.pipeline["PipelineArn"],
            "PipelineExecutionArn": self.arn,
            "PipelineExecutionStatus": "Stopping" if self.is_stopped and self.status not in OVER else self.status,
            "PipelineExecutionDescription": self.description,
            "CreationTime": self.started,
        }
        return told | ({"FailureReason": self.reason} if self.reason else {})


def _dashed(kind: str) -> str:
    return {"TrainingJob": "training-job", "ProcessingJob": "processing-job"}[kind]


class Pipelines:
    """`pipelines` by name, `executions` by ARN, `cached` what the step cache knows."""

    def __init__(self) -> None:
        self.pipelines: dict[str, dict[str, Any]] = {}
        self.executions: dict[str, Execution] = {}
        self._starts: dict[str, str] = {}
        """The execution of each client's token."""
        self.cached: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {}

    def call(self, operation: str, request: dict[str, Any]) -> dict[str, Any]:
        """One operation of the service, as a step calls it: its arguments are checked as the API does."""
        check_request(operation, request)
        return getattr(self, operation)(request)

    def CreatePipeline(self, request: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        _check("CreatePipeline", request)
        name = request["PipelineName"]
        if name in self.pipelines:
            raise _invalid(f"Pipeline names must be unique within an AWS account and region: {name} exists already")
        check_definition(request["PipelineDefinition"])
        arn = f"{ACCOUNT}:pipeline/{name.lower()}"
        kept = {key: value for key, value in request.items() if key not in ("ClientRequestToken", "Tags")}
        self.pipelines[name] = {**kept, "PipelineArn": arn, "CreationTime": time.time(), "PipelineStatus": "Active"}
        return {"PipelineArn": arn}

    def UpdatePipeline(self, request: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        _check("UpdatePipeline", request)
        pipeline = self._pipeline(request)
        check_definition(request.get("PipelineDefinition", pipeline["PipelineDefinition"]))
        pipeline |= request
        return {"PipelineArn": pipeline["PipelineArn"]}

    def DescribePipeline(self, request: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        return self._pipeline(request)

    def AddTags(self, request: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        return {"Tags": request["Tags"]}

    def StartPipelineExecution(self, request: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        _check("StartPipelineExecution", request)
        token = request.get("ClientRequestToken", "")
        if token in self._starts:
            return {"PipelineExecutionArn": self._starts[token]}
        pipeline = dict(self._pipeline(request))
        declared = {each["Name"]: each for each in json.loads(pipeline["PipelineDefinition"])["Parameters"]}
        values = {name: each["DefaultValue"] for name, each in declared.items()}
        for each in request.get("PipelineParameters", ()):
            name = each["Name"]
            if name not in declared:
                raise _invalid(f"Unknown pipeline parameter {name}")
            try:
                values[name] = TYPES[declared[name]["Type"]](each["Value"])
            except ValueError as error:
                raise _invalid(f"Parameter {name}: {error}") from error
            if "EnumValues" in declared[name] and values[name] not in declared[name]["EnumValues"]:
                raise _invalid(f"Parameter {name}: {values[name]} is none of {declared[name]['EnumValues']}")
        execution = Execution(self, pipeline, values, request.get("PipelineExecutionDescription", ""))
        execution.given = request.get("PipelineParameters", [])
        self.executions[execution.arn] = execution
        if token:
            self._starts[token] = execution.arn
        execution.thread.start()
        return {"PipelineExecutionArn": execution.arn}

    def DescribePipelineExecution(self, request: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        return self._execution(request).describe()

    def ListPipelineParametersForExecution(self, request: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        return {"PipelineParameters": self._execution(request).given}

    def ListPipelineExecutions(self, request: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        arn = self._pipeline(request)["PipelineArn"]
        found = [each for each in self.executions.values() if each.arn.startswith(f"{arn}/")]
        found.sort(key=lambda each: each.started, reverse=request.get("SortOrder") != "Ascending")
        rows = [{**each.describe(), "StartTime": each.started} for each in found]
        for row in rows:
            del row["CreationTime"], row["PipelineArn"]
            row.pop("FailureReason", None)
        return {"PipelineExecutionSummaries": rows}

    def ListPipelineExecutionSteps(self, request: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        """Pages of three, so that whoever asks has to turn them."""
        rows = sorted(self._execution(request).rows.values(), key=lambda row: row["StartTime"])
        if request.get("SortOrder") != "Ascending":
            rows.reverse()
        begin = int(request.get("NextToken", 0))
        more = {"NextToken": str(begin + 3)} if begin + 3 < len(rows) else {}
        return {"PipelineExecutionSteps": [dict(row) for row in rows[begin : begin + 3]], **more}

    def StopPipelineExecution(self, request: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        execution = self._execution(request)
        if execution.status in OVER:
            raise _invalid(f"Only pipelines with Executing status can be stopped, this one is {execution.status}")
        execution.is_stopped = True
        return {"PipelineExecutionArn": execution.arn}

    def RetryPipelineExecution(self, request: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        """Steps that did not succeed run again, with the same values."""
        execution = self._execution(request)
        execution.rows = {name: row for name, row in execution.rows.items() if row["StepStatus"] == "Succeeded"}
        execution.status, execution.reason, execution.is_stopped = "Executing", "", False
        execution.thread = threading.Thread(target=execution.work, daemon=True)
        execution.thread.start()
        return {"PipelineExecutionArn": execution.arn}

    def _pipeline(self, request: dict[str, Any]) -> dict[str, Any]:
        name = request["PipelineName"]
        if name not in self.pipelines:
            raise Refused("ResourceNotFound", f"Pipeline '{ACCOUNT}:pipeline/{name.lower()}' does not exist.")
        return self.pipelines[name]

    def _execution(self, request: dict[str, Any]) -> Execution:
        arn = request["PipelineExecutionArn"]
        if arn not in self.executions:
            raise Refused("ResourceNotFound", f"Pipeline execution with ARN {arn} does not exist.")
        return self.executions[arn]


def _check(operation: str, request: dict[str, Any]) -> None:
    try:
        check_request(operation, request)
    except BadInput as problem:
        raise _invalid(str(problem)) from problem
