"""What starts the pipeline by itself: from an object in S3 to the start call, on MiniStack."""

import json
import re
import textwrap
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from tests.conftest import PROJECT
from tests.infrastructure.ministack import REGION, find_ministack, running, wait_for
from tests.launch.conftest import ROLE
from tests.launch.fake_model_registry import Refused
from tests.launch.fake_sagemaker import FakeSageMaker

from sightline.pipeline.parameters import PARAMETERS

FOLDER = PROJECT / "infrastructure"
TEMPLATE = FOLDER / "triggers.yaml"
BUCKET = "experiments"
Clients = Callable[[str], Any]


@pytest.mark.structure
def test_the_template_has_the_function_as_its_file_has_it() -> None:
    code = (FOLDER / "start_pipeline.py").read_text(encoding="utf-8")
    assert textwrap.indent(code, " " * 10, lambda line: line.strip() != "") in TEMPLATE.read_text(encoding="utf-8")
    assert len(code) <= 4096, "CloudFormation takes no more in a template"


class BusySageMaker(FakeSageMaker):
    """Refuses so many of the next starts as `num_to_refuse` says."""

    num_to_refuse = 0

    def StartPipelineExecution(self, request: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        if self.num_to_refuse > 0:
            self.num_to_refuse -= 1
            raise Refused("ResourceLimitExceeded", "too many executions run")
        return super().StartPipelineExecution(request)


@pytest.fixture(scope="module")
def service(aws: Clients, tmp_path_factory: pytest.TempPathFactory) -> Iterator[BusySageMaker]:
    service = BusySageMaker(tmp_path_factory.mktemp("service"), aws("s3"), aws("logs"))
    yield service
    service.close()


@pytest.mark.structure
def test_the_template_sets_parameters_that_pipelines_have() -> None:
    text = TEMPLATE.read_text(encoding="utf-8")
    set_ones = re.findall(r"  \w+Parameter:\n    Type: String\n    Default: (\w+)", text)
    assert len(set_ones) == 3
    assert set(set_ones) <= {each.name for each in PARAMETERS}


@pytest.fixture(scope="module")
def cloud(service: BusySageMaker, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Clients]:
    program = find_ministack()
    if program is None:
        pytest.skip("needs MiniStack: make test-cloud installs it")
    with running(program, tmp_path_factory.mktemp("ministack"), service.address) as clients:
        s3 = clients("s3")
        s3.create_bucket(Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})
        s3.put_bucket_notification_configuration(
            Bucket=BUCKET, NotificationConfiguration={"EventBridgeConfiguration": {}}
        )
        yield clients


def deploy(clients: Clients, name: str, **parameters: str) -> dict[str, str]:
    """The outputs of a stack of the template."""
    cloudformation = clients("cloudformation")
    cloudformation.create_stack(
        StackName=name,
        TemplateBody=TEMPLATE.read_text(encoding="utf-8"),
        Capabilities=["CAPABILITY_IAM"],
        Parameters=[
            {"ParameterKey": key, "ParameterValue": value}
            for key, value in {"PipelineName": f"{name}-pipeline", "Bucket": BUCKET, **parameters}.items()
        ],
    )

    def finished() -> Any:
        (stack,) = cloudformation.describe_stacks(StackName=name)["Stacks"]
        return None if stack["StackStatus"].endswith("_IN_PROGRESS") else stack

    stack = wait_for(finished, f"the stack {name}")
    assert stack["StackStatus"] == "CREATE_COMPLETE", stack
    return {each["OutputKey"]: each["OutputValue"] for each in stack["Outputs"]}


def make_pipeline(service: BusySageMaker, name: str, *parameters: str) -> str:
    """A pipeline with parameters, whose only step fails and says their values."""
    import boto3

    said: list[Any] = ["told:"]
    for each in parameters:
        said += [f" {each}=", {"Get": f"Parameters.{each}"}]
    step = {"Name": "say", "Type": "Fail", "Arguments": {"ErrorMessage": {"Std:Join": {"On": "", "Values": said}}}}
    declared = [{"Name": each, "Type": "String", "DefaultValue": "none"} for each in parameters]
    boto3.client("sagemaker", region_name=REGION, endpoint_url=service.address).create_pipeline(
        PipelineName=f"{name}-pipeline",
        PipelineDefinition=json.dumps({"Version": "2020-12-01", "Parameters": declared, "Steps": [step]}),
        RoleArn=ROLE,
        ClientRequestToken="x" * 32,
    )
    return f"{name}-pipeline"


def executions_of(service: BusySageMaker, name: str) -> list[dict[str, Any]]:
    """Those of a stack's pipeline that are over, oldest first, and what their step said."""
    found = []
    for arn, execution in [*service.executions.items()]:
        described = execution.describe()
        if f"/{name}-pipeline/" in arn and described["PipelineExecutionStatus"] == "Failed":
            (step,) = service.ListPipelineExecutionSteps({"PipelineExecutionArn": arn})["PipelineExecutionSteps"]
            found.append({**described, "said": step["FailureReason"]})
    return found


@pytest.mark.cloud
def test_data_that_are_complete_start_the_pipeline_with_their_folder(cloud: Clients, service: BusySageMaker) -> None:
    make_pipeline(service, "data", "DataLocation", "DataSha256")
    deploy(cloud, "data", DataPrefix="data/")
    s3 = cloud("s3")
    for number in range(5):
        s3.put_object(Bucket=BUCKET, Key=f"data/2026-11-28/forest/{number}.png", Body=b"x")
    s3.put_object(Bucket=BUCKET, Key="elsewhere/_COMPLETE", Body=b"")
    s3.put_object(Bucket=BUCKET, Key="data/2026-11-28/_COMPLETE", Body=b"")
    (first,) = wait_for(lambda: executions_of(service, "data"), "the start")
    folder = f"s3://{BUCKET}/data/2026-11-28/"
    assert re.search(f"told: DataLocation={folder} DataSha256=[0-9a-f]{{64}}$", first["said"])
    assert first["PipelineExecutionDescription"] == f"data arrived: {folder}"
    s3.put_object(Bucket=BUCKET, Key="data/zwei & drei/_COMPLETE", Body=b"")
    (second,) = wait_for(lambda: executions_of(service, "data")[1:], "the second start")
    assert f"DataLocation=s3://{BUCKET}/data/zwei & drei/ " in second["said"]


@pytest.mark.cloud
def test_annotations_that_come_one_by_one_start_it_once(cloud: Clients, service: BusySageMaker) -> None:
    make_pipeline(service, "labels", "Annotations")
    deploy(cloud, "labels", AnnotationsPrefix="annotations/", QuietSeconds="2")
    for number in range(8):
        cloud("s3").put_object(Bucket=BUCKET, Key=f"annotations/{number}", Body=json.dumps({"id": number}).encode())
    (execution,) = wait_for(lambda: executions_of(service, "labels"), "the start")
    assert execution["said"].endswith(f"told: Annotations=s3://{BUCKET}/annotations/")
    assert execution["PipelineExecutionDescription"] == f"annotations arrived: s3://{BUCKET}/annotations/"


@pytest.mark.cloud
def test_an_alarm_that_fires_starts_it(cloud: Clients, service: BusySageMaker) -> None:
    make_pipeline(service, "drift")
    function = deploy(cloud, "drift", DriftAlarm="images-drift")["Function"]
    assert function == "drift-start"
    rules = cloud("events").list_rules()["Rules"]
    (pattern,) = [json.loads(each["EventPattern"]) for each in rules if "images-drift" in each.get("EventPattern", "")]
    event = alarm_event("images-drift")
    assert cloud("events").test_event_pattern(EventPattern=json.dumps(pattern), Event=json.dumps(event))["Result"]
    other = {**event, "detail": {**event["detail"], "state": {"value": "OK"}}}
    assert not cloud("events").test_event_pattern(EventPattern=json.dumps(pattern), Event=json.dumps(other))["Result"]
    for _ in range(2):  # delivered twice, as EventBridge may
        cloud("lambda").invoke(FunctionName=function, Payload=json.dumps(event).encode())
    (execution,) = wait_for(lambda: executions_of(service, "drift"), "the start")
    assert execution["PipelineExecutionDescription"] == "alarm images-drift: Threshold crossed: 1 datapoint"


def alarm_event(name: str) -> dict[str, Any]:
    """As CloudWatch sends it; no emulator does."""
    return {
        "version": "0",
        "id": "c4c1c1c9-6542-e61b-6ef0-8c4d36933a92",
        "detail-type": "CloudWatch Alarm State Change",
        "source": "aws.cloudwatch",
        "account": "000000000000",
        "time": "2026-11-28T12:00:00Z",
        "region": "eu-west-1",
        "resources": [f"arn:aws:cloudwatch:eu-west-1:000000000000:alarm:{name}"],
        "detail": {"alarmName": name, "state": {"value": "ALARM", "reason": "Threshold crossed:\n1 datapoint"}},
    }


@pytest.mark.cloud
def test_a_schedule_starts_it(cloud: Clients, service: BusySageMaker) -> None:
    make_pipeline(service, "weekly")
    soon = (datetime.now(UTC) + timedelta(seconds=1)).strftime("%Y-%m-%dT%H:%M:%S")
    deploy(cloud, "weekly", ScheduleExpression=f"at({soon})")
    (execution,) = wait_for(lambda: executions_of(service, "weekly"), "the start")
    assert execution["PipelineExecutionDescription"] == "schedule"


@pytest.mark.cloud
def test_a_stack_without_triggers_has_none(cloud: Clients) -> None:
    deploy(cloud, "bare")
    resources = cloud("cloudformation").describe_stack_resources(StackName="bare")["StackResources"]
    types = {each["ResourceType"] for each in resources}
    assert not types & {"AWS::Events::Rule", "AWS::Scheduler::Schedule", "AWS::Lambda::Permission"}


@pytest.mark.cloud
def test_a_refused_start_is_tried_again_and_an_event_that_none_follows_is_kept(
    cloud: Clients, service: BusySageMaker
) -> None:
    """Called as EventBridge calls it on AWS; MiniStack's own calls by EventBridge are never tried again."""
    make_pipeline(service, "busy")
    outputs = deploy(cloud, "busy", DriftAlarm="busy")
    service.num_to_refuse = 1
    event = json.dumps(alarm_event("busy")).encode()
    cloud("lambda").invoke(FunctionName=outputs["Function"], InvocationType="Event", Payload=event)
    wait_for(lambda: executions_of(service, "busy"), "the second try")
    service.num_to_refuse = 100
    cloud("lambda").invoke(FunctionName=outputs["Function"], InvocationType="Event", Payload=event)
    kept = wait_for(
        lambda: cloud("sqs").receive_message(QueueUrl=outputs["Unanswered"]).get("Messages"), "the event is kept"
    )
    assert json.loads(kept[0]["Body"])["requestPayload"]["detail"]["alarmName"] == "busy"
    service.num_to_refuse = 0
