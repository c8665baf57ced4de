"""Jobs and their status: plain values that every backend shares."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from sightline.errors import BadInput

NAME = re.compile(r"[a-zA-Z0-9](-*[a-zA-Z0-9])*")
MAX_LETTERS = 63
"""SageMaker's rule for the name of a job; the other backends can live with it."""


@dataclass(frozen=True)
class Job:
    """One run of a program: `script` is its path below the project, `overrides` its Hydra overrides."""

    name: str
    script: str
    overrides: tuple[str, ...]
    commit: str | None = None

    @classmethod
    def of(cls, plan: Mapping[str, Any]) -> "Job":
        """The job of a plan."""
        fields = plan["job"]
        return cls(fields["name"], fields["script"], tuple(fields["overrides"]), fields["commit"])

    def __post_init__(self) -> None:
        if not NAME.fullmatch(self.name) or len(self.name) > MAX_LETTERS:
            raise BadInput(
                f"job name {self.name}: use letters, digits and single '-' between them, {MAX_LETTERS} at the most"
            )


class State(StrEnum):
    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    STOPPED = "stopped"
    """Ended before its time: on request, by a signal, or with its machine. It can be submitted again and goes on."""


@dataclass(frozen=True)
class Status:
    state: State
    reason: str | None = None
    can_be_retried: bool = False
    """Whether it ended for want of a machine or by an error of the backend, and not by one of its own."""
    is_bad_input: bool = False
    """Whether it refused what it was given, with exit code 2: it would again, until that is mended."""

    @property
    def is_over(self) -> bool:
        return self.state in (State.SUCCEEDED, State.FAILED, State.STOPPED)


def job_name(*parts: str) -> str:
    """A valid job name from parts of any text, joined by `-`."""
    joined = "-".join(re.sub(r"[^a-zA-Z0-9]+", "-", part).strip("-") for part in parts)
    return joined[-MAX_LETTERS:].strip("-") or "job"
