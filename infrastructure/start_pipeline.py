"""The function behind the triggers: starts the pipeline once for an event, and says why. triggers.yaml has it, too."""

import hashlib
import json
import os
from datetime import UTC, datetime, timedelta

import boto3


def handler(event, context):
    """An event of S3 or CloudWatch, or what a schedule sends: {"kind": …, "id": …}."""
    detail = event.get("detail", {})
    if event.get("source") == "aws.s3":
        bucket, key = detail["bucket"]["name"], detail["object"]["key"]
        folder = f"s3://{bucket}/{key.rpartition('/')[0]}/"
        token = f"{folder} {key} {detail['object'].get('etag')} {detail['object'].get('sequencer')}"
        annotations = os.environ["ANNOTATIONS_PREFIX"]
        if annotations and key.startswith(annotations):
            return wait(f"s3://{bucket}/{annotations}", context)
        parameters = {os.environ["DATA_PARAMETER"]: folder}
        if os.environ["DATA_HASH_PARAMETER"]:  # what came under an address that was known is no cached step
            parameters[os.environ["DATA_HASH_PARAMETER"]] = hashlib.sha256(token.encode()).hexdigest()
        return start("data", f"data arrived: {folder}", token, parameters)
    if event.get("source") == "aws.cloudwatch":
        return start("drift", f"alarm {detail['alarmName']}: {detail['state'].get('reason', '')}", event["id"], {})
    return start(event["kind"], event.get("why", event["kind"]), event["id"], event.get("parameters", {}))


def wait(location, context):
    """Set the time of the start anew: annotations come one by one, and one start is for all of them."""
    quiet = timedelta(seconds=int(os.environ["QUIET_SECONDS"]))
    when = (datetime.now(UTC) + quiet).strftime("%Y-%m-%dT%H:%M:%S")
    told = {
        "kind": "annotations",
        "why": f"annotations arrived: {location}",
        "id": f"{location} {when}",
        "parameters": {os.environ["ANNOTATIONS_PARAMETER"]: location},
    }
    arn, role = context.invoked_function_arn, os.environ["SCHEDULER_ROLE"]
    boto3.client("scheduler").update_schedule(
        Name=os.environ["QUIET_SCHEDULE"],
        ScheduleExpression=f"at({when})",
        FlexibleTimeWindow={"Mode": "OFF"},
        State="ENABLED",
        Target={"Arn": arn, "RoleArn": role, "Input": json.dumps(told)},
    )
    return {"at": when}


def start(kind, why, token, parameters):
    """The same token twice, from an event that was delivered twice, starts one execution."""
    digest = hashlib.sha256(f"{os.environ['PIPELINE']} {token}".encode()).hexdigest()
    answer = boto3.client("sagemaker").start_pipeline_execution(
        PipelineName=os.environ["PIPELINE"],
        PipelineExecutionDisplayName=f"{kind}-{digest[:12]}",
        PipelineExecutionDescription=" ".join(why.split())[:3072],
        PipelineParameters=[{"Name": name, "Value": value} for name, value in parameters.items()],
        ClientRequestToken=digest,
    )
    print(why, answer["PipelineExecutionArn"])
    return {"execution": answer["PipelineExecutionArn"]}
