"""At the end of a sweep: its best configuration trained on train + validation with several seeds, each tested once."""

import logging
import statistics
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from sightline.launch.backend import Backend
from sightline.launch.job import Job, State, Status, job_name
from sightline.launch.job_array import run_jobs
from sightline.runs.override_text import key_of
from sightline.sweeping.settings import Settings
from sightline.sweeping.study import OVERRIDES, best_trials

if TYPE_CHECKING:
    import optuna

log = logging.getLogger(__name__)
REFIT_OVERRIDES = ("stages=[fit,test]", "data.with_validation=true", "checkpoint.average_best=1")


def refit(study: "optuna.Study", settings: Settings, backend: Backend) -> dict[str, Any]:
    """Train the best trial's configuration anew and return its test metrics over the seeds; goes on where it stopped.

    Raises: RuntimeError when a run of it fails; Interrupted with the runs stopped.
    """
    trial = best_trials(study)[0]
    overrides = [each for each in trial.user_attrs[OVERRIDES] if key_of(each) not in ("stages", "seed")]
    seeds = [_first_seed(settings.fixed) + number for number in range(settings.refit_seeds)]
    folder = settings.folder / "refit"
    jobs = [
        Job(
            job_name(settings.name, "refit", str(trial.number), str(seed)),
            settings.script,
            (*overrides, *REFIT_OVERRIDES, f"seed={seed}", f"output={folder / f'{trial.number}-{seed}'}"),
            settings.commit,
        )
        for seed in seeds
    ]
    statuses = run_jobs(backend, [backend.plan(job) for job in jobs], settings.n_parallel, folder, _tell)
    for job, status in zip(jobs, statuses, strict=True):
        if status.state != State.SUCCEEDED:
            raise RuntimeError(f"{job.name}: {status.reason or status.state}")
    measured = [_test_metrics(backend, str(folder / f"{trial.number}-{seed}")) for seed in seeds]
    return {"trial": trial.number, "seeds": seeds, "metrics": summarise(measured)}


def _first_seed(fixed: Sequence[str]) -> int:
    given = [each.split("=", 1)[1] for each in fixed if key_of(each) == "seed"]
    return int(given[-1]) if given else 0


def _test_metrics(backend: Backend, job_id: str) -> dict[str, float]:
    """The final `test/` metrics; the `val/` ones are of images that a refit was trained on."""
    points = backend.metrics(job_id)
    return {point.name: point.value for point in points if point.step is None and point.name.startswith("test/")}


def summarise(measured: Sequence[Mapping[str, float]]) -> dict[str, dict[str, Any]]:
    """Mean, standard deviation over the seeds (null for one seed) and every value of each metric."""
    summary = {}
    for name in measured[0]:
        values = [each[name] for each in measured]
        deviation = statistics.stdev(values) if len(values) > 1 else None
        summary[name] = {"mean": statistics.fmean(values), "standard_deviation": deviation, "values": values}
    return summary


def describe_spread(summary: Mapping[str, Any]) -> str:
    """A metric over the seeds in a line."""
    deviation = summary["standard_deviation"]
    spread = "" if deviation is None else f" ± {deviation:.4f}"
    return f"{summary['mean']:.4f}{spread} over {len(summary['values'])} seed(s), trained on validation too"


def _tell(job: Job, job_id: str, status: Status) -> None:
    log.info("%s %s%s", job.name, status.state, f" ({status.reason})" if status.reason else "")
