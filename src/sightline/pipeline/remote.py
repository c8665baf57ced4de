"""The verbs about a pipeline on SageMaker: made or changed, started, followed and stopped, over boto3."""

import hashlib
import json
import logging
import shlex
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from sightline.aws.clients import Clients
from sightline.aws.names import ADDRESS
from sightline.aws.request_check import check_request
from sightline.aws.s3 import Storage, split_address
from sightline.command.arguments import CHECKED_OUT
from sightline.config import PipelineConfig
from sightline.errors import BadInput, GateNotMet, Interrupted
from sightline.launch.container.processing_folder import NO_CHAMPION
from sightline.pipeline.comparison import Difference, compare
from sightline.pipeline.definition import (
    FAIL,
    MERGE,
    REGISTER,
    Definition,
    RemotePipeline,
    make_definition,
    open_pipeline,
)
from sightline.pipeline.executions import ExecutionState, PipelineService, id_of, is_missing, refusal
from sightline.pipeline.parameters import PARAMETERS, names_of, sent_value
from sightline.pipeline.price import bound_of, check_bound
from sightline.runs.invocation import Invocation
from sightline.runs.override_text import key_of, unquoted
from sightline.runs.project import PROGRAMS

log = logging.getLogger(__name__)
MAX_PARALLEL_STEPS = 2
"""`explain` runs beside `evaluate`."""
SELECTING = (
    "experiment",
    "launch",
    "output",
    "pipeline.name",
    "pipeline.model",
    "pipeline.description",
    "pipeline.tags",
)
OF_THE_COMMAND = "role bucket prefix region image base_image build_args push_image allow_dirty dry_run wait"
SELECTING += tuple(f"launch.{key}" for key in [*OF_THE_COMMAND.split(), "max_cost_usd", "poll_seconds"])
"""Keys that say which pipeline is meant, or how this command works."""


@dataclass(frozen=True)
class Upserted:
    pipeline: str
    arn: str
    change: str
    """created, updated or unchanged."""
    num_uploads: int

    def lines(self) -> Iterator[str]:
        yield f"{self.pipeline}: {self.change} ({self.arn})"
        yield f"start it with: {_command('start', f'pipeline.name={self.pipeline}')}"


@dataclass(frozen=True)
class Started:
    pipeline: str
    execution: str
    arn: str
    parameters: Mapping[str, str]
    is_new: bool = True
    """False where one with these values runs already."""

    def lines(self) -> Iterator[str]:
        values = ", ".join(f"{name}={value}" for name, value in self.parameters.items())
        state = "started" if self.is_new else "runs already with these values"
        yield f"{self.pipeline} {self.execution}: {state}{f' with {values}' if values else ''}"
        for verb in ("wait", "status", "stop"):
            yield f"  {_command(verb, self.execution, f'pipeline.name={self.pipeline}')}"


@dataclass(frozen=True)
class Listed:
    pipeline: str
    executions: tuple[dict[str, Any], ...]

    def lines(self) -> Iterator[str]:
        if not self.executions:
            how = _command("start", f"pipeline.name={self.pipeline}")
            yield f"{self.pipeline}: no executions; start one with {how}"
        for each in self.executions:
            yield f"{each['execution']}  {each['status']:10} {each['started']}"


@dataclass(frozen=True)
class Stopped:
    pipeline: str
    execution: str

    def lines(self) -> Iterator[str]:
        yield f"{self.pipeline} {self.execution}: asked to end"


def diff(cfg: PipelineConfig, invocation: Invocation) -> Difference:
    pipeline = open_pipeline(cfg, invocation)
    described = _service(pipeline).describe()
    before = None if described is None else json.loads(described["PipelineDefinition"])
    return compare(pipeline.name, before, make_definition(pipeline).document)


def upsert(cfg: PipelineConfig, invocation: Invocation) -> Upserted:
    pipeline = open_pipeline(cfg, invocation)
    definition = make_definition(pipeline)
    check_bound(bound_of(definition), pipeline.settings.max_cost_usd)
    return _upsert(pipeline, definition)


def _upsert(pipeline: RemotePipeline, definition: Definition) -> Upserted:
    """Raises: BadInput for what SageMaker refuses, before anything is sent where that can be known."""
    from botocore.exceptions import ClientError

    service, settings = _service(pipeline), pipeline.cfg.pipeline
    request: dict[str, Any] = {
        "PipelineName": pipeline.name,
        "PipelineDefinition": definition.text,
        "RoleArn": pipeline.settings.role,
        "ParallelismConfiguration": {"MaxParallelExecutionSteps": MAX_PARALLEL_STEPS},
    }
    if settings.description:
        request["PipelineDescription"] = settings.description
    tags = [{"Key": str(key), "Value": str(value)} for key, value in (settings.tags or {}).items()]
    check_request("CreatePipeline", {**request, "ClientRequestToken": "0" * 32, **({"Tags": tags} if tags else {})})
    pipeline.backend.provide(definition.image, definition.uploads)
    _leave_no_champion(pipeline)
    _make_group(pipeline)
    try:
        described = service.describe()
        if described is None:
            made = service.client.create_pipeline(**request, **({"Tags": tags} if tags else {}))
            change = "created"
        elif _is_same(described, request):
            made, change = described, "unchanged"
        else:
            made, change = service.client.update_pipeline(**request), "updated"
        if described is not None and tags:
            service.client.add_tags(ResourceArn=described["PipelineArn"], Tags=tags)
    except ClientError as error:
        raise refusal(error) from error
    return Upserted(pipeline.name, made["PipelineArn"], change, len(definition.uploads))


def _is_same(described: Mapping[str, Any], request: Mapping[str, Any]) -> bool:
    definition = json.loads(described["PipelineDefinition"]) == json.loads(request["PipelineDefinition"])
    keys = ("PipelineDescription", "RoleArn", "ParallelismConfiguration")
    return definition and all(described.get(key) == request[key] for key in keys if key in request)


def _leave_no_champion(pipeline: RemotePipeline) -> None:
    """What says that there is no champion, where the steps would find one."""
    if pipeline.cfg.pipeline.champion != "none":
        _storage(pipeline).write(f"{pipeline.no_champion}{NO_CHAMPION}", b"")


def _make_group(pipeline: RemotePipeline) -> None:
    """Make the model package group that versions go to, if it is missing."""
    from botocore.exceptions import ClientError

    client = _service(pipeline).client
    try:
        client.describe_model_package_group(ModelPackageGroupName=pipeline.group)
    except ClientError as error:
        if not is_missing(error):
            raise refusal(error) from error
        client.create_model_package_group(ModelPackageGroupName=pipeline.group)


def start(cfg: PipelineConfig, invocation: Invocation) -> Started:
    pipeline = open_pipeline(cfg, invocation)
    definition = make_definition(pipeline)
    check_bound(bound_of(definition), pipeline.settings.max_cost_usd)
    return _start(pipeline, definition)


def _start(pipeline: RemotePipeline, definition: Definition) -> Started:
    from botocore.exceptions import ClientError

    service = _service(pipeline)
    deployed = service.definition()
    values = _values(pipeline, definition, deployed)
    defaults = {each["Name"]: str(each["DefaultValue"]) for each in deployed["Parameters"]}
    given = {name: value for name, value in values.items() if value != defaults[name]}
    if (running := _running(service, {**defaults, **given}, defaults)) is not None:
        return Started(pipeline.name, id_of(running), running, given, is_new=False)
    request = {
        "PipelineName": pipeline.name,
        "PipelineParameters": [{"Name": name, "Value": value} for name, value in given.items()],
        "PipelineExecutionDescription": f"commit {pipeline.submission.commit or 'unknown'}",
    }
    try:
        arn = service.client.start_pipeline_execution(**request)["PipelineExecutionArn"]
    except ClientError as error:
        raise refusal(error) from error
    return Started(pipeline.name, id_of(arn), arn, given)


def _values(pipeline: RemotePipeline, definition: Definition, deployed: Mapping[str, Any]) -> dict[str, str]:
    """What is asked for, by the names of the parameters of the pipeline that SageMaker has.

    Raises: BadInput for what it has no parameter for, or a value of another type.
    """
    declared = {each["Name"]: each for each in deployed["Parameters"]}
    own = {each["Name"]: each["DefaultValue"] for each in definition.document["Parameters"]}
    by_key = {each.key: each.name for each in PARAMETERS if each.key is not None}
    fixed = _fixed_overrides(deployed)
    values: dict[str, str] = {}
    guessed = {each.key for each in pipeline.submission.invocation.guesses}
    for override in pipeline.typed:
        key = key_of(override)
        if (
            key in guessed or override == CHECKED_OUT
        ):  # of what the pipeline is made with, which a start does not change
            continue
        if (name := by_key.get(key)) is not None:
            if name not in declared:
                raise BadInput(
                    f"{override}: no step of {pipeline.name} takes this; it has {names_of(deployed['Parameters'])}"
                )
            values[name] = _sent(declared[name], own.get(name))
        elif key not in SELECTING and key.split(".")[0] not in ("paths", "hydra", "local") and override not in fixed:
            raise BadInput(
                f"{override}: {pipeline.name} has no parameter for it, only {names_of(deployed['Parameters'])}; "
                "pipeline.py upsert makes it part of the definition"
            )
    if "Champion" in declared and pipeline.cfg.pipeline.champion == "auto":
        values["Champion"] = _champion(pipeline)
    if "DataSha256" in declared:
        location = values.get("DataLocation", str(declared["DataLocation"]["DefaultValue"]))
        values["DataSha256"] = _data_sha256(pipeline, location)
    return values


def _sent(declared: Mapping[str, Any], value: Any) -> str:
    """A default of this command's definition, as SageMaker takes it for the parameter that it has."""
    if isinstance(value, str) and declared["Type"] == "String":
        return value
    return sent_value(declared, unquoted(value) if isinstance(value, str) else value)


def _fixed_overrides(deployed: Mapping[str, Any]) -> set[str]:
    """What the training of the pipeline is told beside its parameters, and the arguments of its other steps."""
    found = set()
    for step in deployed["Steps"]:
        arguments = step.get("Arguments", {})
        found |= {f"{key}={value}" for key, value in arguments.get("HyperParameters", {}).items()}
        words = arguments.get("AppSpecification", {}).get("ContainerArguments", [])
        found |= {word for word in words if isinstance(word, str)}
        if step["Name"] == MERGE:
            found.add(f"data.version={words[2]}")
    return found


def _champion(pipeline: RemotePipeline) -> str:
    """The address of the version in production, else of the newest approved one, else what says that there is none."""
    from botocore.exceptions import ClientError

    client = _service(pipeline).client
    try:
        pages = client.get_paginator("list_model_packages").paginate(
            ModelPackageGroupName=pipeline.group,
            ModelApprovalStatus="Approved",
            SortBy="CreationTime",
            SortOrder="Descending",
        )
        approved = [each["ModelPackageArn"] for page in pages for each in page["ModelPackageSummaryList"]]
        described = [client.describe_model_package(ModelPackageName=arn) for arn in approved]
    except ClientError as error:
        if is_missing(error):
            return pipeline.no_champion
        raise refusal(error) from error
    staged = [each for each in described if each.get("ModelLifeCycle", {}).get("Stage", "").lower() == "production"]
    chosen = next(iter([*staged, *described]), None)
    if chosen is None:
        return pipeline.no_champion
    return chosen["InferenceSpecification"]["Containers"][0]["ModelDataUrl"]


def _data_sha256(pipeline: RemotePipeline, location: str) -> str:
    """The hash of what lies at an address, from names, sizes and ETags; that of an upload is in its address."""
    uploaded = f"s3://{pipeline.settings.bucket}/{pipeline.settings.prefix}/inputs/"
    if location.startswith(uploaded):
        return location.removeprefix(uploaded).split("/")[0]
    if not ADDRESS.fullmatch(location):
        raise BadInput(f"DataLocation={location}: must be s3://bucket/folder")
    bucket, prefix = split_address(location)
    listed = hashlib.sha256()
    num_files = 0
    pages = _clients(pipeline).get("s3").get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
    for page in pages:
        for each in page.get("Contents", ()):
            num_files += 1
            listed.update(f"{each['Key'][len(prefix) :]}\0{each['Size']}\0{each['ETag']}\n".encode())
    if not num_files:
        raise BadInput(f"DataLocation={location}: nothing lies there; upload the images, or correct the address")
    return listed.hexdigest()


def _running(service: PipelineService, values: Mapping[str, str], defaults: Mapping[str, str]) -> str | None:
    """The ARN of an execution that runs with these values: two of them would write the same checkpoints."""
    for each in service.executions():
        if each["PipelineExecutionStatus"] not in ("Executing", "Stopping"):
            continue
        given = dict(service.state(each["PipelineExecutionArn"]).parameters)
        if {**defaults, **given} == dict(values):
            return each["PipelineExecutionArn"]
    return None


def status(cfg: PipelineConfig, invocation: Invocation, execution: str | None) -> ExecutionState:
    service = _service(open_pipeline(cfg, invocation))
    return service.state(service.find(execution))


def wait(cfg: PipelineConfig, invocation: Invocation, execution: str | None) -> ExecutionState:
    pipeline = open_pipeline(cfg, invocation)
    service = _service(pipeline)
    state = _follow(pipeline, service.find(execution))
    _note_cost(pipeline, state)
    raise_unless_good(state)
    return state


def _follow(pipeline: RemotePipeline, arn: str) -> ExecutionState:
    """The state at the end; on the way a line for each step that changes.

    Raises: Interrupted when a signal came, and the execution runs on.
    """
    service, told = _service(pipeline), dict[str, str]()
    try:
        while True:
            state = service.state(arn)
            for step in state.steps:
                if told.get(step.name) != step.status:
                    log.info("%s", step)
                    told[step.name] = step.status
            if state.is_over:
                return state
            time.sleep(pipeline.settings.poll_seconds)
    except (Interrupted, KeyboardInterrupt):
        log.warning("%s %s runs on; follow and stop it with", pipeline.name, id_of(arn))
        for verb in ("wait", "stop"):
            log.warning("  %s", _command(verb, id_of(arn), f"pipeline.name={pipeline.name}"))
        raise


def raise_unless_good(state: ExecutionState) -> None:
    """Raises: GateNotMet where a gate said no; RuntimeError for any other end but a good one."""
    if state.status == "Succeeded":
        return
    failed = next((each for each in state.steps if each.status == "Failed"), None)
    if failed is not None and failed.name == FAIL:
        raise GateNotMet(str(state.failure))
    where = "" if failed is None else f"{failed.name}: "
    raise RuntimeError(
        f"{state.pipeline} {state.execution}: {state.status}; {where}{state.failure or 'no reason is told'}"
    )


def stop(cfg: PipelineConfig, invocation: Invocation, execution: str | None) -> Stopped:
    from botocore.exceptions import ClientError

    pipeline = open_pipeline(cfg, invocation)
    service = _service(pipeline)
    arn = service.find(execution)
    try:
        service.client.stop_pipeline_execution(PipelineExecutionArn=arn)
    except ClientError as error:
        if error.response["Error"]["Code"] != "ValidationException" or not service.state(arn).is_over:
            raise refusal(error) from error
    return Stopped(pipeline.name, id_of(arn))


def list_executions(cfg: PipelineConfig, invocation: Invocation) -> Listed:
    pipeline = open_pipeline(cfg, invocation)
    rows = tuple(
        {
            "execution": id_of(each["PipelineExecutionArn"]),
            "status": each["PipelineExecutionStatus"],
            "started": each["StartTime"].isoformat(timespec="seconds"),
        }
        for each in _service(pipeline).executions()
    )
    return Listed(pipeline.name, rows)


def run(cfg: PipelineConfig, invocation: Invocation) -> str:
    """Make or change the pipeline, start it, follow it to its end, and bring home what is known of it."""
    from sightline.pipeline.remote_record import bring_home

    pipeline = open_pipeline(cfg, invocation)
    definition = make_definition(pipeline)
    bound = bound_of(definition)
    check_bound(bound, pipeline.settings.max_cost_usd)
    for line in bound.lines():
        log.info("%s", line)
    upserted = _upsert(pipeline, definition)
    log.info("%s: %s", pipeline.name, upserted.change)
    started = _start(pipeline, definition)
    for line in started.lines():
        log.info("%s", line)
    if not pipeline.settings.wait:
        return started.execution
    state = _follow(pipeline, started.arn)
    _note_cost(pipeline, state)
    folder = bring_home(pipeline, state)
    raise_unless_good(state)
    return f"results: {folder}"


def _note_cost(pipeline: RemotePipeline, state: ExecutionState) -> None:
    """Write seconds, machine and USD of each step, and of the whole, into the metadata of the version."""
    from botocore.exceptions import ClientError

    step = next((each for each in state.steps if each.name == REGISTER and each.job), None)
    if step is None:
        return
    jobs = [each for each in state.steps if each.instance_type is not None]
    pairs = {"usd": f"{state.usd:.4f}", "seconds": f"{sum(each.seconds or 0.0 for each in jobs):.0f}"}
    for each in jobs:
        pairs |= {f"seconds.{each.name}": f"{each.seconds or 0.0:.0f}", f"machine.{each.name}": str(each.instance_type)}
        pairs |= {} if each.usd is None else {f"usd.{each.name}": f"{each.usd:.4f}"}
    try:
        _service(pipeline).client.update_model_package(ModelPackageArn=step.job, CustomerMetadataProperties=pairs)
    except ClientError as error:
        log.warning("what the version cost is not written into it: %s", error)


def _clients(pipeline: RemotePipeline) -> Clients:
    return Clients(pipeline.settings.region)


def _service(pipeline: RemotePipeline) -> PipelineService:
    return PipelineService(_clients(pipeline), pipeline.name)


def _storage(pipeline: RemotePipeline) -> Storage:
    return Storage(_clients(pipeline).get("s3"), pipeline.settings.kms_key)


def _command(verb: str, *words: str) -> str:
    return f"python {shlex.join([str(PROGRAMS / 'pipeline.py'), verb, *words])}"
