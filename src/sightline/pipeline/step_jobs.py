"""The steps of a local pipeline as jobs of a backend: begun, followed, found again after a kill."""

import hashlib
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sightline.config import targets_of, to_plain
from sightline.launch.backend import Plan
from sightline.launch.interruption import Interruption
from sightline.launch.job import Job, State, Status, job_name
from sightline.launch.job_array import stop_and_wait
from sightline.launch.local.machine import describe_machine
from sightline.launch.local.supervisor import HIDDEN
from sightline.launch.submission import TARGETS, Submission, composed_keys
from sightline.pipeline.checks import Composed
from sightline.pipeline.keys import value_at
from sightline.pipeline.live import Table
from sightline.pipeline.record import PipelineRecord, StepRecord
from sightline.runs.files import read_json
from sightline.runs.override_text import key_of, override
from sightline.runs.record import now

GOES_ON = "train"
"""The step that goes on from its last checkpoint; every other one begins anew."""


@dataclass
class StepJobs:
    """Where the steps of one pipeline run."""

    submission: Submission
    record: PipelineRecord
    runs: Path
    places: list[str]
    """The overrides that say where this machine reads and writes."""
    seconds: float = 0.0
    """That steps took in this sitting."""

    @property
    def backend(self) -> Any:
        return self.submission.backend

    def plan(self, composed: Composed, folders: Mapping[str, Path]) -> Plan:
        """The job of a step; `folders` has what earlier steps left."""
        step = composed.step
        inputs = {key: str(folders[each.step] / each.path) for key, each in step.inputs.items()}
        plain = to_plain(composed.config)
        values = {key: inputs.get(key, value_at(plain, key)) for key in (*composed_keys(), *inputs)}
        places = self.places if self.backend.sees_files else []
        told = [*step.overrides, *places, *(override(key, path) for key, path in inputs.items())]
        made = self.submission.overrides(told, {**values, TARGETS: targets_of(plain)}, self.runs)
        if "data" not in plain:  # gate.py reads no images
            made = [each for each in made if key_of(each) != "data.own_root"]
        made = [*made, override("output", str(self.record.folder / step.name))]
        unique = hashlib.sha256(str(self.record.folder).encode("utf-8", "surrogateescape")).hexdigest()[:10]
        job = Job(job_name(self.record.name, step.name, unique), step.script, tuple(made), self.record.commit)
        return self.submission.plan(job)

    def run(self, rec: StepRecord, plan: Plan, key: str, table: Table) -> Status:
        """Run a step to its end, or follow the one that a process before this began.

        Raises: Interrupted when a signal came, once the step has stopped.
        """
        job_id, folder = str(plan["request"]["folder"]), self.record.folder / rec.name
        is_the_same = rec.inputs_sha256 == key and rec.job_id == job_id
        status = self._status(rec.name, job_id)
        if is_the_same and status.state == State.SUCCEEDED:
            return status
        if not (is_the_same and status.state == State.RUNNING):
            if status.state == State.RUNNING:
                stop_and_wait(self.backend, [job_id])
            if not (is_the_same and rec.name == GOES_ON):
                for each in {folder, Path(job_id)}:
                    shutil.rmtree(each, ignore_errors=True)
                rec.started = None
            rec.status, rec.inputs_sha256, rec.job_id, rec.reason = "running", key, job_id, None
            rec.reused_from, rec.output, rec.numbers = None, str(folder), {}
            rec.machine, rec.started = describe_machine(), rec.started or now()
            self.record.save()
            self.backend.submit(plan)
        table.tell(rec)
        return self._follow(rec, job_id, table)

    def _follow(self, rec: StepRecord, job_id: str, table: Table) -> Status:
        with Interruption() as interruption:
            try:
                while not (status := self._status(rec.name, job_id)).is_over:
                    table.look(rec)
                    interruption.wait(self.backend.poll_seconds)
                    interruption.check()
            except BaseException:
                stop_and_wait(self.backend, [job_id])
                rec.status, rec.reason = "stopped", "stopped with the pipeline"
                raise
        return status

    def _status(self, name: str, job_id: str) -> Status:
        """A step without an exit code has not ended by itself; of a training its own record tells."""
        status = self.backend.status(job_id)
        has_code = "exit_code" in read_json(Path(job_id) / HIDDEN / "state.json")
        if status.state == State.SUCCEEDED and not has_code and name != GOES_ON:
            return Status(State.STOPPED, "its processes were killed")
        return status

    def bring_home(self, rec: StepRecord) -> Path:
        """The folder of a step that succeeded, with its time and its price."""
        assert rec.job_id is not None
        folder = self.backend.fetch(rec.job_id, self.record.folder / rec.name)
        state = read_json(Path(rec.job_id) / HIDDEN / "state.json")
        seconds = float(state.get("ended", time.time())) - float(state.get("started", time.time()))
        self.seconds += seconds
        if rec.name == GOES_ON:  # of all its sittings
            seconds = max(seconds, float(read_json(folder / "run.json").get("seconds") or 0.0))
        rec.seconds, rec.finished = round(seconds, 3), now()
        rec.usd = round(self.backend.cost_usd(rec.job_id), 4)
        return folder
