"""A job array: several jobs on a backend, at most `n_parallel` at once; finished ones are not run again."""

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path

from sightline.launch.backend import SUBMITTER_KEYS, Backend, Plan
from sightline.launch.interruption import Interruption
from sightline.launch.job import Job, State, Status, job_name
from sightline.launch.records import find_record, has_succeeded, submit_recorded
from sightline.runs.override_text import key_of

MAX_TRIES = 3
"""Attempts at a job that ends for want of a machine."""
NOT_IN_THE_NAME = tuple(
    f"launch.{key}" for key in (*SUBMITTER_KEYS, "n_parallel", "poll_seconds", "push_image", "max_cost_usd")
)
"""Settings that do not change what runs and where: a job has the same name whatever they are."""
OnStatus = Callable[[Job, str, Status], None]
"""Called with a job, its id and its status when it has begun or ended."""


def run_jobs(
    backend: Backend,
    plans: Sequence[Plan],
    n_parallel: int,
    records: Path,
    tell: OnStatus,
    *,
    leaves_running: bool = False,
) -> list[Status]:
    """Run the job of every plan and wait; return how each ended.

    One that runs already is attached to, one that stopped goes on.

    Raises: Interrupted when a signal came: once every running job has stopped, or at once with `leaves_running`.
    """
    jobs = [Job.of(plan) for plan in plans]
    ended: dict[int, Status] = {}
    tries = dict.fromkeys(range(len(jobs)), 0)
    running: dict[int, str] = {}
    waiting = list(range(len(jobs)))
    for number in list(waiting):
        if has_succeeded(backend, jobs[number].name, records):
            ended[number] = Status(State.SUCCEEDED, "finished before")
            waiting.remove(number)
            tell(jobs[number], find_record(records, jobs[number].name).job_id, ended[number])
    with Interruption() as interruption:
        try:
            while waiting or running:
                while waiting and len(running) < n_parallel:
                    number = waiting.pop(0)
                    running[number] = submit_recorded(backend, plans[number], records)
                    tell(jobs[number], running[number], Status(State.RUNNING))
                interruption.wait(backend.poll_seconds)
                interruption.check()
                for number, job_id in list(running.items()):
                    if not (status := backend.status(job_id)).is_over:
                        continue
                    del running[number]
                    tell(jobs[number], job_id, status)
                    tries[number] += 1
                    if status.can_be_retried and tries[number] < MAX_TRIES:
                        waiting.append(number)
                    else:
                        ended[number] = status
        except BaseException:
            if not leaves_running:
                stop_and_wait(backend, list(running.values()))
            raise
    return [ended[number] for number in range(len(jobs))]


def stop_and_wait(backend: Backend, job_ids: Sequence[str]) -> None:
    """Stop jobs and wait until the last one has ended."""
    waiting = Interruption()
    for job_id in job_ids:
        backend.stop(job_id)
    while not all(backend.status(job_id).is_over for job_id in job_ids):
        waiting.wait(backend.poll_seconds)


def name_jobs(
    backend: Backend,
    names: Sequence[str],
    script: str,
    overrides: Sequence[Sequence[str]],
    records: Path,
    commit: str | None,
) -> list[Job]:
    """Jobs with names that follow from their overrides, so that the same command finds them until all are finished."""
    for repetition in range(1, 10_000):
        ends = [] if repetition == 1 else [str(repetition)]
        jobs = [
            Job(job_name(name, _digest(script, of_job), *ends), script, tuple(of_job), commit)
            for name, of_job in zip(names, overrides, strict=True)
        ]
        if not all(has_succeeded(backend, job.name, records) for job in jobs):
            return jobs
    raise RuntimeError("the same command has finished 9,999 times")


def _digest(script: str, overrides: Sequence[str]) -> str:
    identity = [each for each in overrides if key_of(each) not in NOT_IN_THE_NAME]
    return hashlib.sha256("\n".join([script, *identity]).encode()).hexdigest()[:10]
