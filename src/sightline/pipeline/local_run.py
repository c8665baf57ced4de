"""A pipeline on this machine, told from its input to a version in the registry."""

import getpass
import shlex
import shutil
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sightline.command import compose
from sightline.config import PipelineConfig
from sightline.errors import BadInput, GateNotMet, Interrupted
from sightline.launch.job import State
from sightline.launch.submission import Submission
from sightline.pipeline.checks import Checked, Composed, check, places
from sightline.pipeline.keys import Keys, hash_left
from sightline.pipeline.live import Table, log_of
from sightline.pipeline.merge_step import NothingNew, check_annotations, merge, with_version
from sightline.pipeline.package import PACKAGE
from sightline.pipeline.record import DONE, OVER, PipelineRecord, StepRecord, find_finished, open_record
from sightline.pipeline.step_jobs import StepJobs
from sightline.pipeline.step_numbers import numbers_of
from sightline.runs.files import read_json
from sightline.runs.guesses import announce
from sightline.runs.invocation import UNTOLD, Invocation
from sightline.runs.override_text import typed
from sightline.runs.project import PROGRAMS, PROJECT
from sightline.runs.record import git_commit, now, reason

BACKENDS = ("local_process", "local_container")


@dataclass(frozen=True)
class PipelineResult:
    """What came of a run."""

    folder: Path
    version: dict[str, Any] | None
    sentence: str

    def __str__(self) -> str:
        return f"{self.sentence}\nresults: {self.folder}" if self.folder.is_dir() else self.sentence


def run(cfg: PipelineConfig, invocation: Invocation = UNTOLD) -> PipelineResult | list[dict[str, Any]]:
    """Run what has not run yet of the steps, each a job of its own, and register the model if it meets its gate.

    The same command goes on with a run that was interrupted or killed. With `launch.dry_run` the steps are returned.

    Raises: BadInput before the first step; GateNotMet where the gate says no; RuntimeError where a step fails.
    """
    began, runs = time.monotonic(), Path(cfg.paths.runs).absolute()
    announce(invocation.guesses)
    submission = _open_backend(cfg, invocation)
    check_annotations(cfg)
    versioned, typed = with_version(cfg, invocation.overrides)
    checked = check(versioned, typed)
    if submission.settings.dry_run:
        return _describe_steps(checked)
    commit = git_commit(PROJECT, invocation.commit)[0]
    facts = {"backend": submission.backend.name, "argv": list(invocation.argv), "commit": commit}
    with open_record(runs, cfg.output, cfg.name, checked.model, invocation.overrides, **facts) as (record, goes_on):
        if goes_on:
            _take_up(record, cfg.pipeline.rerun)
        jobs = StepJobs(submission, record, runs, places(typed))
        try:
            with Table(record) as table:
                if (merged := merge(cfg, record, table)) is not None:
                    versioned, typed = with_version(cfg, invocation.overrides, merged)
                    checked = check(versioned, typed)
                _run_steps(versioned, checked, jobs, table)
                sentence = _register(cfg, checked, record, table)
            _end(record, "finished", sentence, began, jobs)
        except NothingNew as found:
            _end(record, "nothing_new", str(found), began, jobs)
            if not goes_on:  # no more than this line came of it
                shutil.rmtree(record.folder)
            return PipelineResult(record.folder, None, str(found))
        except Interrupted as error:
            _end(record, "interrupted", str(error), began, jobs)
            print(f"go on with: {shlex.join([sys.executable, *invocation.argv])}", file=sys.stderr)
            raise
        except BaseException as error:
            _end(record, "gate_not_met" if isinstance(error, GateNotMet) else "failed", reason(error), began, jobs)
            raise
        finally:
            submission.backend.close()
    return PipelineResult(record.folder, record.version, sentence)


def _open_backend(cfg: PipelineConfig, invocation: Invocation) -> Submission:
    """Raises: BadInput for settings of `launch` that cannot be."""
    values = {"backend": "local_process", **cfg.launch}
    if values["backend"] not in BACKENDS:
        raise BadInput(f"launch.backend={values['backend']}: must be here, {', '.join(BACKENDS)} or sagemaker")
    if values.get("wait") is False:
        raise BadInput(
            f"launch.wait=false launch={values['backend']}: the steps need this process; leave launch.wait out, or run "
            "the pipeline where it needs nobody, with launch=sagemaker"
        )
    return Submission.open(values, Path(cfg.paths.runs).absolute() / "jobs", invocation)


def _describe_steps(checked: Checked) -> list[dict[str, Any]]:
    return [
        {
            "name": each.step.name,
            "script": each.step.script,
            "overrides": [*each.step.overrides],
            "inputs": {key: f"{left.step}/{left.path}".rstrip("/") for key, left in each.step.inputs.items()},
        }
        for each in checked.steps
    ]


def _take_up(record: PipelineRecord, rerun: list[str]) -> None:
    """Make ready for going on; of a run that is over, what `rerun` asks for is done again, and annotations are read."""
    if record.status in OVER:
        for each in record.steps:
            each.status = "waiting" if each.name in (*rerun, "merge") else each.status
    record.status, record.sentence, record.finished, record.gate, record.version = "running", None, None, None, None


def _end(record: PipelineRecord, status: str, sentence: str, began: float, jobs: StepJobs) -> None:
    record.status, record.sentence, record.finished = status, sentence, now()
    record.overhead_seconds = round(time.monotonic() - began - jobs.seconds, 3)
    record.save()


def _run_steps(cfg: PipelineConfig, checked: Checked, jobs: StepJobs, table: Table) -> None:
    """Run each step that no run has done with the same key.

    Raises: BadInput or RuntimeError where one fails.
    """
    record = jobs.record
    champion = checked.champion
    record.champion = None if champion is None else {"name": champion.name, "sha256": champion.sha256}
    keys = Keys.of(cfg, champion, checked.images)
    for composed in checked.steps:
        step = record.step(composed.step.name)
        inputs = {
            key: f"{record.step(left.step).output_sha256}/{left.path}" for key, left in composed.step.inputs.items()
        }
        key = keys.of_step(composed, inputs)
        is_done = step.status in DONE and step.inputs_sha256 == key and _is_left(step)
        if not is_done and not _reuse(step, key, record, jobs.runs, begins_anew=step.name in cfg.pipeline.rerun):
            _run_step(composed, step, key, jobs, table)
        record.save()
        table.tell(step)
    keys.hashes.save()


def _is_left(step: StepRecord) -> bool:
    return step.output is not None and hash_left(step.name, Path(step.output)) == step.output_sha256


def _reuse(step: StepRecord, key: str, record: PipelineRecord, runs: Path, *, begins_anew: bool) -> bool:
    """Take a step from an earlier run that did the same, unless it was asked for anew or has begun here."""
    has_begun = step.inputs_sha256 == key and step.status in ("running", "stopped", "failed")
    found = None if begins_anew or has_begun else find_finished(runs, record.name, step.name, key, record.folder)
    if found is None:
        return False
    taken = ("inputs_sha256", "started", "finished", "seconds", "machine", "usd", "output", "output_sha256", "numbers")
    for name in taken:
        setattr(step, name, getattr(found, name))
    step.status, step.reason, step.job_id = "reused", None, None
    assert step.output is not None
    step.reused_from = found.reused_from or str(Path(step.output).parent)
    return True


def _run_step(composed: Composed, step: StepRecord, key: str, jobs: StepJobs, table: Table) -> None:
    """Raises: BadInput or RuntimeError where it fails."""
    record = jobs.record
    folders = {name: Path(output) for name, output in ((each.name, each.output) for each in record.steps) if output}
    plan = jobs.plan(composed, folders)
    status = jobs.run(step, plan, key, table)
    if status.state != State.SUCCEEDED:
        step.status, step.reason, step.finished = "failed", status.reason or str(status.state), now()
        table.tell(step)
        told = f"step {step.name}: {step.reason}"
        if not status.is_bad_input:
            told += f"; what it said is in {log_of(record.folder / step.name)}"
        raise (BadInput if status.is_bad_input else RuntimeError)(told)
    folder = jobs.bring_home(step)
    step.output, step.output_sha256 = str(folder), hash_left(step.name, folder)
    if step.output_sha256 is None:
        step.status, step.reason = "failed", "ended well and left nothing"
        raise RuntimeError(f"step {step.name}: {step.reason}; what it said is in {log_of(folder)}")
    step.status, step.numbers = "finished", numbers_of(step.name, folder)


def _register(cfg: PipelineConfig, checked: Checked, record: PipelineRecord, table: Table) -> str:
    """Register what the gate let pass, and say what to type next.

    Raises: GateNotMet where it did not.
    """
    folders = {each.name: Path(each.output) for each in record.steps if each.output is not None}
    step, decision = record.step("register"), read_json(folders["gate"] / "gate.json")
    record.gate = decision
    trained = read_json(folders["train"] / "run.json")
    named = ("name", "version", "sha256", "num_images")
    record.data = {name: trained.get("data", {}).get(name) for name in named if name in trained.get("data", {})}
    if not decision["passed"]:
        step.status, step.reason = "skipped", None
        raise GateNotMet(f"not registered: {decision['sentence']}")
    began = time.monotonic()
    step.status, step.started = "running", now()
    record.save()
    facts = {
        "gate": decision,
        "data": record.data,
        "commit": trained.get("commit"),
        "run": str(record.folder),
        "seconds": {"whole": record.seconds} | {each.name: each.seconds for each in record.steps if each.seconds},
        "cost": {"usd": record.usd} | {each.name: each.usd for each in record.steps if each.usd is not None},
        "machine": record.step("train").machine,
        "image": trained.get("launch", {}).get("image"),
    }
    registry, model = checked.registry, checked.model
    before = registry.versions(model) if model in registry.names() else []
    version = registry.add(
        folders["gate"] / PACKAGE, model, facts=facts, by=getpass.getuser(), status=cfg.pipeline.approval
    )
    is_new = version.number not in {each.number for each in before}
    record.version = {
        "name": version.name,
        "version": version.number,
        "sha256": version.sha256,
        "status": version.status,
        "is_new": is_new,
    }
    step.status, step.finished, step.seconds = "finished", now(), round(time.monotonic() - began, 3)
    step.numbers = {"version": version.spelled(), "status": version.status}
    table.tell(step)
    return _next_words(version.spelled(), version.status, is_new=is_new, place=_typed_registry(cfg))


def _typed_registry(cfg: PipelineConfig) -> str:
    """What commands about the registry need besides, where it does not lie where they look."""
    usual = str(compose("registry").paths.registry)
    return "" if cfg.paths.registry == usual else f" {typed('paths.registry', cfg.paths.registry)}"


def _next_words(name: str, status: str, *, is_new: bool, place: str) -> str:
    python = f"python {PROGRAMS}"
    what = f"{name} is {status}" if is_new else f"{name} is this model already, and {status}: nothing new is registered"
    approve = "" if status != "pending" else f"approve it with {python}/registry.py approve {name}{place}, "
    return f"{what}; {approve}serve it with {python}/serve.py run=registry:{name}{place}"
