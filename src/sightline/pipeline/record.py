"""The folder of a pipeline's run and its `pipeline.json`: which step is where, how each ended, what came of it."""

import fcntl
import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from sightline.config import STEPS
from sightline.errors import BadInput
from sightline.pipeline.keys import hash_left
from sightline.runs.files import read_json, write_json
from sightline.runs.override_text import key_of
from sightline.runs.record import now, open_folder

log = logging.getLogger(__name__)
FILE = "pipeline.json"
FOLDER = "pipeline"
"""Below the folder of runs."""
OVER = ("finished", "gate_not_met", "nothing_new")
"""How a run may have ended that is not gone on with."""
DONE = ("finished", "reused")
"""How a step may stand that is not run again."""
NOT_THE_SAME_RUN = ("pipeline.rerun", "pipeline.ignore_code", "launch", "output")
"""What may be typed otherwise when a run goes on."""


@dataclass
class StepRecord:
    """One step, as pipeline.json has it."""

    name: str
    status: str = "waiting"
    """waiting, running, finished, reused, failed, stopped, skipped."""
    inputs_sha256: str | None = None
    """Its key: of the program, the settings, the inputs and the code."""
    started: str | None = None
    finished: str | None = None
    seconds: float | None = None
    machine: str | None = None
    """Cores and processor, or the type of an instance."""
    usd: float | None = None
    output: str | None = None
    """The folder of what it left."""
    output_sha256: str | None = None
    """Of what it left for later steps."""
    reused_from: str | None = None
    """The run of the pipeline that did it."""
    job_id: str | None = None
    reason: str | None = None
    numbers: dict[str, Any] = field(default_factory=dict)
    """What is shown of it."""


@dataclass
class PipelineRecord:
    """`pipeline.json`: written whole whenever something changes."""

    folder: Path
    name: str
    model: str
    overrides: list[str]
    backend: str
    argv: list[str]
    commit: str | None = None
    status: str = "running"
    """running, finished, gate_not_met, nothing_new, failed, interrupted."""
    sentence: str | None = None
    """What came of it, in words."""
    started: str = field(default_factory=now)
    finished: str | None = None
    steps: list[StepRecord] = field(default_factory=list)
    gate: dict[str, Any] | None = None
    champion: dict[str, Any] | None = None
    data: dict[str, Any] = field(default_factory=dict)
    version: dict[str, Any] | None = None
    """`{name, version, sha256, status, is_new}` of what was registered."""
    overhead_seconds: float | None = None
    """Of the last sitting: the wall time that no step took."""

    @property
    def seconds(self) -> float:
        return round(sum(each.seconds or 0.0 for each in self.steps), 3)

    @property
    def usd(self) -> float:
        return round(sum(each.usd or 0.0 for each in self.steps), 4)

    def step(self, name: str) -> StepRecord:
        return next(each for each in self.steps if each.name == name)

    def to_dict(self) -> dict[str, Any]:
        values = {each.name: getattr(self, each.name) for each in fields(self) if each.name not in ("folder", "steps")}
        whole = {"seconds": self.seconds, "usd": self.usd}
        return {**values, **whole, "steps": [asdict(each) for each in self.steps]}

    def save(self) -> None:
        """Write pipeline.json, and the page that shows it."""
        from sightline.pipeline.report import write_page

        write_json(self.folder / FILE, self.to_dict())
        write_page(self)

    @classmethod
    def load(cls, folder: Path) -> "PipelineRecord":
        """Raises: BadInput for a folder that is no pipeline's run."""
        values = read_json(folder / FILE)
        if not values:
            raise BadInput(f"{folder}: no {FILE}; name the folder of a pipeline's run")
        known = {each.name for each in fields(cls)} - {"folder", "steps"}
        known_of_step = {each.name for each in fields(StepRecord)}
        steps = [StepRecord(**{k: v for k, v in each.items() if k in known_of_step}) for each in values["steps"]]
        return cls(folder, steps=steps, **{key: value for key, value in values.items() if key in known})


def runs_of(runs: Path, name: str) -> Iterator[PipelineRecord]:
    """The runs of an experiment's pipeline, the newest first; what is none is passed over."""
    for file in sorted((runs / FOLDER / name).glob(f"*/{FILE}"), reverse=True):
        try:
            yield PipelineRecord.load(file.parent)
        except (ValueError, TypeError, KeyError) as error:
            log.warning("%s cannot be read, and is passed over (%s)", file, error)


@contextmanager
def open_record(
    runs: Path, output: str | None, name: str, model: str, overrides: Sequence[str], **facts: Any
) -> Iterator[tuple[PipelineRecord, bool]]:
    """The record of a new run, or of the one that this command goes on with, and whether it is one; for this process.

    Raises: BadInput where another process runs it, or `output` holds something else.
    """
    folder = (
        _to_go_on(runs, name, overrides, facts["backend"]) if output is None else Path(output).expanduser().absolute()
    )
    goes_on = folder is not None and (folder / FILE).is_file()
    if folder is None or not goes_on:
        folder = open_folder(runs, FOLDER, name, output)
    with _hold(folder):
        if goes_on:
            record = PipelineRecord.load(folder)
            if record.name != name:
                raise BadInput(f"output={folder}: holds a run of {record.name}, not of {name}; name another folder")
            record.overrides, record.model = list(overrides), model
            for key, value in facts.items():
                setattr(record, key, value)
        else:
            steps = [StepRecord(each) for each in STEPS]
            record = PipelineRecord(folder, name, model, list(overrides), steps=steps, **facts)
        yield record, goes_on


def _to_go_on(runs: Path, name: str, overrides: Sequence[str], backend: str) -> Path | None:
    """The newest run of an experiment, where the same command began it and it did not come to its end."""
    newest = next(runs_of(runs, name), None)
    if newest is None or newest.status in OVER or newest.backend != backend:
        return None
    return newest.folder if _identity(newest.overrides) == _identity(overrides) else None


def _identity(overrides: Sequence[str]) -> list[str]:
    return sorted(each for each in overrides if not key_of(each).startswith(NOT_THE_SAME_RUN))


@contextmanager
def _hold(folder: Path) -> Iterator[None]:
    """Raises: BadInput when another process has the folder."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise BadInput(
                f"output={folder}: this pipeline runs already, in another process; wait for it, or name another folder"
            ) from None
        except OSError:  # a network disk without locks
            pass
        yield
    finally:
        os.close(descriptor)


def find_finished(runs: Path, name: str, step: str, key: str, besides: Path) -> StepRecord | None:
    """A step of an earlier run that finished with this key, where what it left is still there as it was."""
    for record in runs_of(runs, name):
        if record.folder == besides:
            continue
        for each in record.steps:
            is_it = each.name == step and each.status in DONE and each.inputs_sha256 == key
            if is_it and each.output and hash_left(step, Path(each.output)) == each.output_sha256:
                return each
    return None


def is_running(folder: Path) -> bool:
    """Whether a process has the folder of a run."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    finally:
        os.close(descriptor)
    return False
