"""The Hydra launcher: each run of a grid is a job of the backend that `launch` names."""

from collections.abc import Sequence
from pathlib import Path

from hydra.core.config_store import ConfigStore
from hydra.core.utils import JobReturn, JobStatus, configure_log
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

ConfigStore.instance().store(
    group="hydra/launcher",
    name="sightline",
    node={"_target_": "hydra_plugins.sightline_plugins.launcher.SightlineLauncher"},
    provider="sightline_plugins",
)


class SightlineLauncher(Launcher):
    """Composes and checks every run, then submits them together."""

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        self.hydra_context, self.task_function, self.config = hydra_context, task_function, config

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Raises: BadInput before anything is started; Interrupted when a signal came: a single job runs on."""
        from hydra_plugins.sightline_plugins.composition import (
            check,
            check_prerequisites,
            composed_values,
            refuse_idle,
        )
        from sightline.command import invocation, with_overrides_of_run
        from sightline.config import to_plain
        from sightline.errors import BadInput
        from sightline.launch.submission import Submission, print_plans
        from sightline.runs.files import read_json
        from sightline.runs.guesses import announce

        config = self.config
        configure_log(config.hydra.job_logging, config.hydra.verbose)
        announce(invocation().guesses)
        submission = Submission.open(to_plain(config.launch), Path(config.paths.runs).absolute() / "jobs", invocation())
        names, overrides, runs = [], [], []
        for given in job_overrides:
            given = with_overrides_of_run(given, Path(config.paths.runs))
            cfg = check(self.hydra_context, config, given)
            names.append(str(cfg.get("name", config.hydra.job.name)))
            pinned, values = submission.pin_data_version(given, composed_values(cfg))
            overrides.append(submission.overrides(pinned, values, Path(cfg.paths.runs).absolute()))
            check_prerequisites(cfg, submission)
            runs.append((cfg, given))
        refuse_idle(runs)
        plans = submission.plan_all(names, overrides)
        if submission.settings.dry_run or not submission.settings.wait:
            print_plans(plans) if submission.settings.dry_run else submission.leave(plans)
            return [JobReturn(status=JobStatus.COMPLETED) for _ in plans]
        returns = []
        for plan, (status, folder) in zip(plans, submission.run(plans), strict=True):
            result = JobReturn(overrides=plan["job"]["overrides"], status=JobStatus.COMPLETED)
            if folder is None:
                result.status = JobStatus.FAILED
                kind = BadInput if status.is_bad_input else RuntimeError
                result.return_value = kind(f"{plan['job']['name']}: {status.reason or status.state}")
            else:
                result.return_value = read_json(folder / "metrics.json").get(config.get("optimized_metric"))
            returns.append(result)
        return returns
