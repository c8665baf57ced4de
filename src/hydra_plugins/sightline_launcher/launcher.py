"""Hydra's door to the backends: each run of a grid is a job."""

import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra.core.config_store import ConfigStore
from hydra.core.utils import JobReturn, JobStatus, configure_log
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

log = logging.getLogger(__name__)
ConfigStore.instance().store(
    group="hydra/launcher",
    name="sightline",
    node={"_target_": "hydra_plugins.sightline_launcher.launcher.SightlineLauncher"},
    provider="sightline_launcher",
)


class SightlineLauncher(Launcher):
    """Checks every run by composing it, then gives them to the backend that `launch` names."""

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        self.hydra_context, self.task_function, self.config = hydra_context, task_function, config

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Raises: BadInput before anything is started; Interrupted when a signal came, with the runs stopped."""
        from sightline.launch.backend import Backend, Places, make_backend
        from sightline.launch.records import submit_recorded
        from sightline.launch.several import name_jobs

        configure_log(self.config.hydra.job_logging, self.config.hydra.verbose)
        launch, records = self.config.launch, Path(self.config.paths.runs).absolute() / "jobs"
        names, script = self._check(job_overrides)
        backend: Backend = make_backend(launch.backend, records, Places(launch.n_parallel, list(launch.preload)))
        jobs = name_jobs(backend, names, script, job_overrides, records)
        if launch.dry_run:
            print(json.dumps([backend.plan(job) for job in jobs], indent=2))
            return [JobReturn(status=JobStatus.COMPLETED) for _ in jobs]
        if launch.wait:
            return self._run(backend, jobs, records)
        for job in jobs:
            submit_recorded(backend, job, records)
            log.info("submitted: python src/jobs.py status %s", job.name)
        backend.close()
        return [JobReturn(status=JobStatus.COMPLETED) for _ in jobs]

    def _check(self, job_overrides: Sequence[Sequence[str]]) -> tuple[list[str], str]:
        """The name of each run's experiment, and the program."""
        from hydra_plugins.sightline_sweeper.composition import check, script
        from sightline.errors import BadInput

        if self.config.launch.n_parallel < 1:
            raise BadInput(f"launch.n_parallel={self.config.launch.n_parallel}: must be 1 or more")
        name = self.config.hydra.job.name
        composed = [check(self.hydra_context, self.config, list(words)) for words in job_overrides]
        return [str(cfg.get("name", name)) for cfg in composed], script()

    def _run(self, backend: Any, jobs: Sequence[Any], records: Path) -> list[JobReturn]:
        from hydra_plugins.sightline_sweeper.composition import command_to_go_on
        from sightline.launch.job import State
        from sightline.launch.run_folder import read_json
        from sightline.launch.several import run_jobs

        try:
            with command_to_go_on():
                statuses = run_jobs(backend, jobs, self.config.launch.n_parallel, records, _tell)
        finally:
            backend.close()
        returns = []
        for job, status in zip(jobs, statuses, strict=True):
            result = JobReturn(overrides=job.overrides)
            if status.state == State.SUCCEEDED:
                result.status = JobStatus.COMPLETED
                folder = backend.fetch(read_json(records / f"{job.name}.json")["job_id"], records / job.name)
                metrics = read_json(folder / "metrics.json")
                result.return_value = metrics.get(self.config.get("optimized_metric"))
                print(f"results: {folder}")
            else:
                result.status = JobStatus.FAILED
                result.return_value = RuntimeError(f"{job.name}: {status.reason or status.state}")
            returns.append(result)
        return returns


def _tell(job: Any, job_id: str, status: Any) -> None:
    reason = f" ({status.reason})" if status.reason else ""
    log.info("%s %s%s", job.name, status.state, reason)
