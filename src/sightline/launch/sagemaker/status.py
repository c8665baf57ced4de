"""The status of a training job, from what SageMaker describes."""

import re
from typing import Any

from sightline.errors import BAD_INPUT
from sightline.launch.job import State, Status

PREPARING = {
    "Starting": "it waits for a machine",
    "LaunchingMLInstances": "it waits for a machine",
    "Pending": "it waits for a machine",
    "PreparingTrainingStack": "the machine is prepared",
    "DownloadingTrainingImage": "the machine loads the image",
    "Downloading": "the machine loads the inputs",
}
BETWEEN = {
    "Interrupted": "the spot machine was taken away; it waits for another and goes on from its last checkpoint",
    "Restarting": "it starts again and goes on from its last checkpoint",
    "Updating": "its settings are changed",
    "Uploading": "its results are uploaded",
}
RETRYABLE = ("CapacityError", "InternalServerError")
"""Beginnings of failure reasons after which the same job, submitted again, can succeed."""
OVER = ("Completed", "Failed", "Stopped")


def is_over(described: dict[str, Any]) -> bool:
    """Whether a training job has ended; one that is `Stopping` has not."""
    return described["TrainingJobStatus"] in OVER


def status_of(described: dict[str, Any]) -> Status:
    """The status in an answer to DescribeTrainingJob."""
    state, secondary = described["TrainingJobStatus"], described.get("SecondaryStatus", "")
    if state == "Completed":
        return Status(State.SUCCEEDED)
    if secondary in ("MaxRuntimeExceeded", "MaxWaitTimeExceeded"):
        return Status(State.FAILED, _too_long(described, secondary))
    if state == "Failed":
        return _failed(described.get("FailureReason") or "the service gives no reason")
    if state == "Stopped":
        return Status(State.STOPPED, "stopped")
    if state == "Stopping":
        return Status(State.RUNNING, "it was asked to stop")
    if secondary in PREPARING:
        return Status(State.QUEUED, PREPARING[secondary])
    return Status(State.RUNNING, BETWEEN.get(secondary))


def _too_long(described: dict[str, Any], secondary: str) -> str:
    limits = described.get("StoppingCondition", {})
    if secondary == "MaxRuntimeExceeded":
        minutes = limits.get("MaxRuntimeInSeconds", 0) / 60
        return f"MaxRuntimeExceeded: it ran longer than launch.max_run_minutes={minutes:g}; raise that, and it goes on"
    minutes = limits.get("MaxWaitTimeInSeconds", 0) / 60
    return (
        f"MaxWaitTimeExceeded: there was no spot machine for it within launch.max_wait_minutes={minutes:g}; "
        "raise that, or set launch.spot=false"
    )


def _failed(reason: str) -> Status:
    if reason.startswith(RETRYABLE):
        return Status(State.STOPPED, f"{reason}; the same command goes on with it", can_be_retried=True)
    said = re.sub(r"^AlgorithmError: (ExecuteUserScriptError: *)?", "", reason)
    code = re.search(r",? *exit code: *(\d+)\s*$", said)
    said = said[: code.start()].strip() if code else said.strip()
    return Status(State.FAILED, said or reason, is_bad_input=code is not None and int(code[1]) == BAD_INPUT)
