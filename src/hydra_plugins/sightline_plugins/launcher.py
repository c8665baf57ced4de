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
    node={"_target_": "hydra_plugins.sightline_plugins.launcher.SightlineLauncher"},
    provider="sightline_plugins",
)


class SightlineLauncher(Launcher):
    """Checks every run by composing it, then gives them to the backend that `launch` names."""

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        self.hydra_context, self.task_function, self.config = hydra_context, task_function, config

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Raises: BadInput before anything is started; Interrupted when a signal came: a single job runs on."""
        from hydra_plugins.sightline_plugins.places import changes_of_source, check_launch, launch_settings
        from sightline.launch.backend import Backend, Slots, make_backend
        from sightline.launch.job_array import name_jobs

        configure_log(self.config.hydra.job_logging, self.config.hydra.verbose)
        settings, records = launch_settings(self.config), Path(self.config.paths.runs).absolute() / "jobs"
        settings = check_launch(settings)
        names, words, script = self._check(job_overrides, settings)
        places = Slots(settings["n_parallel"], settings["preload"])
        backend: Backend = make_backend(settings["backend"], records, places, settings)
        changes = changes_of_source(settings)
        jobs = name_jobs(backend, names, script, words, records)
        if settings["dry_run"]:
            requests = [backend.plan(job) for job in jobs]
            print(json.dumps(requests if len(requests) > 1 else requests[0], indent=2, ensure_ascii=False))
            return [JobReturn(status=JobStatus.COMPLETED) for _ in jobs]
        if settings["wait"]:
            return self._run(backend, jobs, records, changes)
        return _leave(backend, jobs, records, changes)

    def _check(
        self, job_overrides: Sequence[Sequence[str]], settings: dict[str, Any]
    ) -> tuple[list[str], list[list[str]], str]:
        """The name of each run's experiment, the words that it gets, and the program."""
        from hydra_plugins.sightline_plugins.composition import check, script
        from hydra_plugins.sightline_plugins.places import REMOTE, check_hosts, check_places, remote_overrides
        from sightline.errors import BadInput

        if settings["n_parallel"] < 1:
            raise BadInput(f"launch.n_parallel={settings['n_parallel']}: must be 1 or more")
        name = self.config.hydra.job.name
        composed = [check(self.hydra_context, self.config, list(words)) for words in job_overrides]
        for cfg in composed:
            check_hosts(cfg, settings)
        words = [list(each) for each in job_overrides]
        if settings["backend"] in REMOTE:
            words = [remote_overrides(each, cfg, settings) for each, cfg in zip(words, composed, strict=True)]
        else:
            for each, cfg in zip(words, composed, strict=True):
                check_places(each, cfg)
        return [str(cfg.get("name", name)) for cfg in composed], words, script()

    def _run(self, backend: Any, jobs: Sequence[Any], records: Path, changes: str | None) -> list[JobReturn]:
        from hydra_plugins.sightline_plugins.composition import command_to_go_on
        from sightline.launch.job import State
        from sightline.launch.job_array import run_jobs
        from sightline.launch.log_following import Follower, command_to_fetch
        from sightline.launch.records import fetch_recorded, find_record

        n_parallel, is_single = self.config.launch.n_parallel, len(jobs) == 1
        leaves_running = is_single or backend.is_remote
        follower = Follower(backend, records, shows_output=is_single, leaves_running=leaves_running)
        try:
            with command_to_go_on(), follower:
                statuses = run_jobs(
                    backend, jobs, n_parallel, records, follower.tell, changes, leaves_running=leaves_running
                )
        finally:
            backend.close()
        returns = []
        for job, status in zip(jobs, statuses, strict=True):
            result = JobReturn(overrides=job.overrides)
            if status.state == State.SUCCEEDED:
                result.status = JobStatus.COMPLETED
                with command_to_fetch(job.name, records):
                    folder = fetch_recorded(backend, find_record(records, job.name), records / job.name)
                metrics = read_metrics(folder)
                result.return_value = metrics.get(self.config.get("optimized_metric"))
                _print_cost(folder)
                print(f"results: {folder}")
            else:
                result.status = JobStatus.FAILED
                result.return_value = RuntimeError(f"{job.name}: {status.reason or status.state}")
            returns.append(result)
        return returns


def read_metrics(folder: Path) -> dict[str, float]:
    from sightline.runs.files import read_json

    return read_json(folder / "metrics.json")


def _print_cost(folder: Path) -> None:
    from sightline.runs.files import read_json

    launch = read_json(folder / "run.json").get("launch", {})
    if launch.get("cost_usd") is not None:
        saving = "" if launch["spot_saving"] is None else f", {launch['spot_saving']:.0%} saved by spot machines"
        print(f"cost: {launch['cost_usd']:.2f} USD for {launch['seconds_billed']:,.0f} s{saving}")


def _leave(backend: Any, jobs: Sequence[Any], records: Path, changes: str | None) -> list[JobReturn]:
    """Submit and say how to find the jobs again."""
    from sightline.launch.log_following import commands
    from sightline.launch.records import submit_recorded

    for job in jobs:
        submit_recorded(backend, job, records, changes)
        print(f"job: {job.name}")
        for line in commands(job.name, records):
            print(f"  {line}")
    backend.close()
    return [JobReturn(status=JobStatus.COMPLETED) for _ in jobs]
