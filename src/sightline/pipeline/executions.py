"""SageMaker's pipelines and their executions, over boto3: what it has, how they are doing, and what they cost."""

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sightline.aws.clients import Clients
from sightline.aws.prices import find_price
from sightline.errors import BadInput
from sightline.launch.sagemaker.job_cost import cost_of

OVER = ("Succeeded", "Failed", "Stopped")
NEWEST = ("latest", None)
POLICY = "docs/aws.md has the policy"


@dataclass(frozen=True)
class StepState:
    """A step of an execution; `usd` is null where it is not known yet, or has no price."""

    name: str
    status: str
    seconds: float | None = None
    instance_type: str | None = None
    usd: float | None = None
    is_cached: bool = False
    reason: str | None = None
    job: str | None = None
    """ARN of what it made: a job, or a version."""

    def __str__(self) -> str:
        facts = [
            "found in the cache" if self.is_cached else None,
            None if self.seconds is None else f"{self.seconds:,.0f} s",
            self.instance_type,
            None if self.usd is None else f"{self.usd:.4f} USD",
            self.reason,
        ]
        return f"{self.name:14} {self.status:10} {', '.join(filter(None, facts))}".rstrip()


@dataclass(frozen=True)
class ExecutionState:
    """An execution, with its steps in the order in which they began."""

    pipeline: str
    execution: str
    status: str
    steps: tuple[StepState, ...]
    reason: str | None = None
    parameters: tuple[tuple[str, str], ...] = ()
    usd: float = 0.0
    """Until now, by list prices; what has no price counts nothing."""

    @property
    def is_over(self) -> bool:
        return self.status in OVER

    @property
    def failure(self) -> str | None:
        """Why it failed, by the step that did."""
        failed = next((each for each in self.steps if each.status == "Failed"), None)
        return self.reason if failed is None else failed.reason or self.reason

    def lines(self) -> Iterator[str]:
        yield f"{self.pipeline} {self.execution}: {self.status}{f' ({self.reason})' if self.reason else ''}"
        yield from map(str, self.steps)
        yield f"so far {self.usd:.4f} USD, by list prices"


class PipelineService:
    """What SageMaker has under the name of one pipeline."""

    def __init__(self, clients: Clients, name: str) -> None:
        self.name = name
        self._clients = clients

    @property
    def client(self) -> Any:
        return self._clients.get("sagemaker")

    def describe(self) -> dict[str, Any] | None:
        """Its definition and settings; None where there is no such pipeline."""
        from botocore.exceptions import ClientError

        try:
            return self.client.describe_pipeline(PipelineName=self.name)
        except ClientError as error:
            if is_missing(error):
                return None
            raise refusal(error) from error

    def definition(self) -> dict[str, Any]:
        """Raises: BadInput where there is no such pipeline."""
        return json.loads(self.require()["PipelineDefinition"])

    def require(self) -> dict[str, Any]:
        described = self.describe()
        if described is None:
            raise BadInput(
                f"pipeline.name={self.name}: SageMaker has no such pipeline; make it with pipeline.py upsert, or name "
                "another one"
            )
        return described

    def executions(self) -> list[dict[str, Any]]:
        """Summaries, the newest first."""
        self.require()
        pages = self.client.get_paginator("list_pipeline_executions").paginate(
            PipelineName=self.name, SortBy="CreationTime", SortOrder="Descending"
        )
        return [each for page in pages for each in page["PipelineExecutionSummaries"]]

    def find(self, execution: str | None) -> str:
        """The ARN of an execution: of the newest, or by its ARN or the id in it.

        Raises: BadInput where there is none.
        """
        if execution is not None and execution.startswith("arn:"):
            return execution
        found = [each["PipelineExecutionArn"] for each in self.executions()]
        if execution in NEWEST and found:
            return found[0]
        named = [arn for arn in found if id_of(arn) == execution]
        if not named:
            known = ", ".join(map(id_of, found[:5])) or "none"
            raise BadInput(
                f"{execution or self.name}: {self.name} has no such execution; there are {known}; pipeline.py list "
                "shows all"
            )
        return named[0]

    def state(self, arn: str) -> ExecutionState:
        """How an execution is doing.

        Raises: BadInput where there is no such execution.
        """
        from botocore.exceptions import ClientError

        try:
            described = self.client.describe_pipeline_execution(PipelineExecutionArn=arn)
        except ClientError as error:
            if is_missing(error):
                raise BadInput(
                    f"{arn}: SageMaker has no such execution; pipeline.py list shows those there are"
                ) from error
            raise refusal(error) from error
        steps = tuple(self._step(each) for each in self._steps(arn))
        status, reason = described["PipelineExecutionStatus"], described.get("FailureReason")
        usd = round(sum(each.usd or 0.0 for each in steps), 4)
        return ExecutionState(self.name, id_of(arn), status, steps, reason, self._parameters(arn), usd)

    def _parameters(self, arn: str) -> tuple[tuple[str, str], ...]:
        given = self.client.list_pipeline_parameters_for_execution(PipelineExecutionArn=arn)["PipelineParameters"]
        return tuple((each["Name"], each["Value"]) for each in given)

    def _steps(self, arn: str) -> list[dict[str, Any]]:
        """As they began."""
        pages = self.client.get_paginator("list_pipeline_execution_steps").paginate(
            PipelineExecutionArn=arn, SortOrder="Ascending"
        )
        return [each for page in pages for each in page["PipelineExecutionSteps"]]

    def _step(self, told: dict[str, Any]) -> StepState:
        metadata = told.get("Metadata", {})
        is_cached = "CacheHitResult" in told
        name, status, reason = told["StepName"], told["StepStatus"], told.get("FailureReason")
        for kind, ask in (("TrainingJob", self._training), ("ProcessingJob", self._processing)):
            if (arn := metadata.get(kind, {}).get("Arn")) is not None and not is_cached:
                seconds, instance_type, usd = ask(arn.rsplit("/", 1)[-1])
                return StepState(name, status, seconds, instance_type, usd, False, reason, arn)
        arn = next((each["Arn"] for each in metadata.values() if "Arn" in each), None)
        reason = reason or metadata.get("Fail", {}).get("ErrorMessage")
        return StepState(name, status, _seconds(told), usd=0.0, is_cached=is_cached, reason=reason, job=arn)

    def _training(self, name: str) -> tuple[float | None, str, float | None]:
        cost = cost_of([self.client.describe_training_job(TrainingJobName=name)])
        return cost["seconds_billed"] or None, cost["instance_type"], cost["cost_usd"]

    def _processing(self, name: str) -> tuple[float | None, str, float | None]:
        told = self.client.describe_processing_job(ProcessingJobName=name)
        cluster = told["ProcessingResources"]["ClusterConfig"]
        begin, end = told.get("ProcessingStartTime"), told.get("ProcessingEndTime")
        seconds = None if begin is None else _span(begin, end)
        price = find_price(cluster["InstanceType"])
        usd = None if price is None or seconds is None else price.cost_usd(seconds, cluster["InstanceCount"])
        return seconds, cluster["InstanceType"], usd


def id_of(arn: str) -> str:
    return arn.rsplit("/", 1)[-1]


def _seconds(told: dict[str, Any]) -> float | None:
    begin = told.get("StartTime")
    return None if begin is None else _span(begin, told.get("EndTime"))


def _span(begin: datetime, end: datetime | None) -> float:
    return max(0.0, (time.time() if end is None else end.timestamp()) - begin.timestamp())


def is_missing(error: Any) -> bool:
    """Whether SageMaker knows no such thing, in any of its spellings."""
    code, message = error.response["Error"]["Code"], error.response["Error"].get("Message", "").lower()
    return code in ("ResourceNotFound", "ResourceNotFoundException") or any(
        each in message for each in ("does not exist", "not found", "could not find")
    )


def refusal(error: Any) -> BadInput:
    """What SageMaker said no to, for the one who asked."""
    code, message = error.response["Error"]["Code"], error.response["Error"].get("Message", "")
    return BadInput(f"SageMaker refuses: {message} ({code}; {POLICY})")
