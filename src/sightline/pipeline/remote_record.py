"""The folder of a pipeline's run that was on SageMaker: what each step did and cost, its gate, and its version."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from sightline.aws.clients import Clients
from sightline.aws.s3 import Storage
from sightline.pipeline.definition import CONDITION, FAIL, GATE_FILE, MERGED, REGISTER, RemotePipeline
from sightline.pipeline.executions import ExecutionState, StepState
from sightline.runs.files import read_json, write_json
from sightline.runs.record import now, open_folder

if TYPE_CHECKING:
    from sightline.pipeline.record import PipelineRecord

STATUS = {
    "Succeeded": "finished",
    "Failed": "failed",
    "Stopped": "stopped",
    "Stopping": "running",
    "Executing": "running",
    "Starting": "running",
}
"""Of a step: how SageMaker calls it, and how pipeline.json does."""
DECISIONS = (CONDITION, FAIL, MERGED)
FETCHED = ("gate.json", "package/run.json", "package/metrics.json", "package/evaluation/report.html")
"""Of the gate's step; the version itself stays in S3."""


def bring_home(pipeline: RemotePipeline, state: ExecutionState) -> Path:
    """Write pipeline.json of an execution that is over, and its gate's decision, into a new folder; return that."""
    experiment = str(pipeline.choices.get("experiment") or pipeline.cfg.name)
    folder = open_folder(pipeline.runs, "pipeline", experiment, pipeline.cfg.output)
    storage = Storage(Clients(pipeline.settings.region).get("s3"), pipeline.settings.kms_key)
    source = f"{pipeline.root}/executions/{state.execution}/gate"
    for name in FETCHED:
        storage.download_file(f"{source}/{name}", folder / "gate" / name)
    gate = read_json(folder / "gate" / GATE_FILE) or None
    _record(pipeline, state, folder, gate).save()
    write_json(folder / "definition.json", {"execution": state.execution, "parameters": dict(state.parameters)})
    return folder


def _record(
    pipeline: RemotePipeline, state: ExecutionState, folder: Path, gate: dict[str, Any] | None
) -> "PipelineRecord":
    from sightline.pipeline.record import PipelineRecord

    return PipelineRecord(
        folder=folder,
        name=str(pipeline.choices.get("experiment") or pipeline.cfg.name),
        model=pipeline.group,
        overrides=list(pipeline.typed),
        backend="sagemaker",
        argv=list(pipeline.submission.invocation.argv),
        commit=pipeline.submission.commit,
        status=_status(state),
        sentence=None if gate is None else gate.get("sentence"),
        finished=now(),
        steps=[_step(pipeline, state, each) for each in state.steps if each.name not in DECISIONS],
        gate=gate,
        version=_version(pipeline, state, gate),
    )


def _status(state: ExecutionState) -> str:
    if state.status == "Succeeded":
        is_registered = any(each.name == REGISTER for each in state.steps)
        return "finished" if is_registered else "nothing_new"
    if any(each.name == FAIL for each in state.steps):
        return "gate_not_met"
    return "interrupted" if state.status == "Stopped" else "failed"


def _step(pipeline: RemotePipeline, state: ExecutionState, step: StepState) -> Any:
    from sightline.pipeline.record import StepRecord

    status = STATUS.get(step.status, "failed")
    return StepRecord(
        name=step.name,
        status="reused" if step.is_cached and status == "finished" else status,
        seconds=None if step.seconds is None else round(step.seconds, 3),
        machine=step.instance_type,
        usd=step.usd,
        output=f"{pipeline.root}/executions/{state.execution}/{step.name}",
        job_id=step.job,
        reason=step.reason,
    )


def _version(pipeline: RemotePipeline, state: ExecutionState, gate: dict[str, Any] | None) -> dict[str, Any] | None:
    step = next((each for each in state.steps if each.name == REGISTER and each.job), None)
    if step is None:
        return None
    number = str(step.job).rsplit("/", 1)[-1]
    status = dict(state.parameters).get("ApprovalStatus", "PendingManualApproval")
    return {
        "name": pipeline.group,
        "version": int(number) if number.isdigit() else number,
        "status": "approved" if status == "Approved" else "pending",
        "arn": step.job,
        "is_new": True,
    }
