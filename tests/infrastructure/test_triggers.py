"""What starts the pipeline by itself: from an object in S3 to the start call, on MiniStack."""

import json
import textwrap
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from tests.conftest import PROJECT
from tests.infrastructure.ministack import PipelineStarts, find_ministack, running, wait_for

FOLDER = PROJECT / "infrastructure"
TEMPLATE = FOLDER / "triggers.yaml"
BUCKET = "experiments"
Clients = Callable[[str], Any]


@pytest.mark.structure
def test_the_template_has_the_function_as_its_file_has_it() -> None:
    code = (FOLDER / "start_pipeline.py").read_text(encoding="utf-8")
    assert textwrap.indent(code, " " * 10, lambda line: line.strip() != "") in TEMPLATE.read_text(encoding="utf-8")
    assert len(code) <= 4096, "CloudFormation takes no more in a template"


@pytest.fixture(scope="module")
def starts() -> Iterator[PipelineStarts]:
    service = PipelineStarts()
    yield service
    service.close()


@pytest.fixture(scope="module")
def cloud(starts: PipelineStarts, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Clients]:
    program = find_ministack()
    if program is None:
        pytest.skip("needs MiniStack: make test-cloud installs it")
    with running(program, tmp_path_factory.mktemp("ministack"), starts.address) as clients:
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


def of(starts: PipelineStarts, name: str) -> list[dict[str, Any]]:
    return [request for request in starts.started.values() if request["PipelineName"] == f"{name}-pipeline"]


def parameters_of(request: dict[str, Any]) -> dict[str, str]:
    return {each["Name"]: each["Value"] for each in request["PipelineParameters"]}


@pytest.mark.cloud
def test_data_that_are_complete_start_the_pipeline_with_their_folder(cloud: Clients, starts: PipelineStarts) -> None:
    deploy(cloud, "data", DataPrefix="data/")
    s3 = cloud("s3")
    for number in range(5):
        s3.put_object(Bucket=BUCKET, Key=f"data/2026-11-28/forest/{number}.png", Body=b"x")
    s3.put_object(Bucket=BUCKET, Key="elsewhere/_COMPLETE", Body=b"")
    s3.put_object(Bucket=BUCKET, Key="data/2026-11-28/_COMPLETE", Body=b"")
    (request,) = wait_for(lambda: of(starts, "data"), "the start")
    parameters = parameters_of(request)
    assert parameters["DataLocation"] == f"s3://{BUCKET}/data/2026-11-28/"
    assert len(parameters["DataSha256"]) == 64
    assert request["PipelineExecutionDescription"] == f"data arrived: s3://{BUCKET}/data/2026-11-28/"
    assert request["PipelineExecutionDisplayName"].startswith("data-")
    s3.put_object(Bucket=BUCKET, Key="data/zwei & drei/_COMPLETE", Body=b"")
    second = wait_for(lambda: of(starts, "data")[1:], "the second start")
    assert parameters_of(second[0])["DataLocation"] == f"s3://{BUCKET}/data/zwei & drei/"
    assert not starts.refused


@pytest.mark.cloud
def test_annotations_that_come_one_by_one_start_it_once(cloud: Clients, starts: PipelineStarts) -> None:
    deploy(cloud, "labels", AnnotationsPrefix="annotations/", QuietSeconds="2")
    for number in range(8):
        cloud("s3").put_object(Bucket=BUCKET, Key=f"annotations/{number}", Body=json.dumps({"id": number}).encode())
    (request,) = wait_for(lambda: of(starts, "labels"), "the start")
    assert parameters_of(request) == {"Annotations": f"s3://{BUCKET}/annotations/"}
    assert request["PipelineExecutionDescription"] == f"annotations arrived: s3://{BUCKET}/annotations/"


@pytest.mark.cloud
def test_an_alarm_that_fires_starts_it(cloud: Clients, starts: PipelineStarts) -> None:
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
    (request,) = wait_for(lambda: of(starts, "drift"), "the start")
    assert request["PipelineExecutionDescription"] == "alarm images-drift: Threshold crossed: 1 datapoint"
    assert request["PipelineParameters"] == []


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
def test_a_schedule_starts_it(cloud: Clients, starts: PipelineStarts) -> None:
    soon = (datetime.now(UTC) + timedelta(seconds=1)).strftime("%Y-%m-%dT%H:%M:%S")
    deploy(cloud, "weekly", ScheduleExpression=f"at({soon})")
    (request,) = wait_for(lambda: of(starts, "weekly"), "the start")
    assert request["PipelineExecutionDescription"] == "schedule"


@pytest.mark.cloud
def test_a_stack_without_triggers_has_none(cloud: Clients) -> None:
    deploy(cloud, "bare")
    resources = cloud("cloudformation").describe_stack_resources(StackName="bare")["StackResources"]
    types = {each["ResourceType"] for each in resources}
    assert not types & {"AWS::Events::Rule", "AWS::Scheduler::Schedule", "AWS::Lambda::Permission"}


@pytest.mark.cloud
def test_a_refused_start_is_tried_again_and_an_event_that_none_follows_is_kept(
    cloud: Clients, starts: PipelineStarts
) -> None:
    """Called as EventBridge calls it on AWS; MiniStack's own calls by EventBridge are never tried again."""
    outputs = deploy(cloud, "busy", DriftAlarm="busy")
    starts.num_to_refuse = 1
    event = json.dumps(alarm_event("busy")).encode()
    cloud("lambda").invoke(FunctionName=outputs["Function"], InvocationType="Event", Payload=event)
    wait_for(lambda: of(starts, "busy"), "the second try")
    starts.num_to_refuse = 100
    cloud("lambda").invoke(FunctionName=outputs["Function"], InvocationType="Event", Payload=event)
    kept = wait_for(
        lambda: cloud("sqs").receive_message(QueueUrl=outputs["Unanswered"]).get("Messages"), "the event is kept"
    )
    assert json.loads(kept[0]["Body"])["requestPayload"]["detail"]["alarmName"] == "busy"
    starts.num_to_refuse = 0
