"""What is run, and how it fares: plain values that every backend shares."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from sightline.errors import BadInput

NAME = re.compile(r"[a-zA-Z0-9](-*[a-zA-Z0-9])*")
MAX_LETTERS = 63
"""SageMaker's rule for the name of a job; the other backends can live with it."""
STAYS_HERE = ("launch", "hydra", "hparams_search")
"""Groups that say where and how often to run: the far side must not submit again or begin a sweep of its own."""
PATHS_ON_DISK = (
    "data.root data.own_root data.manifest model.weights model.teacher run against resume images output paths.data "
    "paths.cache paths.runs"
).split()
"""Keys that name a place: what the words mean depends on the folder and the machine where they are read."""


@dataclass(frozen=True)
class Job:
    """One run of a program: `script` is a path below the project, `overrides` what one would type behind it."""

    name: str
    script: str
    overrides: tuple[str, ...]
    commit: str | None = None

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
    """Whether it ended for want of a machine or by an error of the place, and not by one of its own."""

    @property
    def is_over(self) -> bool:
        return self.state in (State.SUCCEEDED, State.FAILED, State.STOPPED)


def job_name(*parts: str) -> str:
    """A name that every backend takes, made of words that may hold anything."""
    joined = "-".join(re.sub(r"[^a-zA-Z0-9]+", "-", part).strip("-") for part in parts)
    return joined[-MAX_LETTERS:].strip("-") or "job"


def key_of(override: str) -> str:
    """`model.lr` of `++model.lr=0.1`."""
    return override.lstrip("+~").split("=", 1)[0].split("@", 1)[0]


def far_side(overrides: Iterable[str]) -> list[str]:
    """What the far side is told: without what says where to run, and with the order to run it there, once."""
    kept = [word for word in overrides if re.split(r"[./]", key_of(word), maxsplit=1)[0] not in STAYS_HERE]
    return [*kept, "launch=here", "hydra.mode=RUN"]


def with_absolute_paths(overrides: Iterable[str], folder: Path) -> list[str]:
    """The same places for a process in another folder of this machine."""
    return [_absolute(word, folder) for word in overrides]


def _absolute(override: str, folder: Path) -> str:
    key, equals, value = override.partition("=")
    if key_of(override) not in PATHS_ON_DISK or not equals or "://" in value or value in ("null", "auto", "none", ""):
        return override
    if value.startswith(("/", "~", "$", "'", '"')):
        return override
    is_name = key_of(override) in ("run", "against", "resume") and not (folder / value).exists()
    return override if is_name else f"{key}={folder / value}"
