"""The task: open the study, run its trials, and write their results."""

import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sightline.launch.backend import Backend
from sightline.launch.job import Job, job_name
from sightline.metrics import REFIT_TABLE
from sightline.sweeping.settings import Settings

log = logging.getLogger(__name__)
WRITTEN_EVERY_SECONDS = 2.0


def sweep(
    settings: Settings, backend: Backend, check: Callable[[list[str]], object] = lambda overrides: None
) -> dict[str, Any]:
    """Run a study to its total, or go on with it; return what `results.yaml` holds. Closes the backend.

    `check` is called with the overrides of each trial before it begins.

    Raises: BadInput before anything is written; Interrupted when a signal came, with the trials stopped.
    """
    try:
        return _sweep(settings, backend, check)
    finally:
        backend.close()


def _sweep(settings: Settings, backend: Backend, check: Callable[[list[str]], object]) -> dict[str, Any]:
    from sightline.sweeping.hyperparameter_table import write_hyperparameter_table
    from sightline.sweeping.live_table import LiveTable
    from sightline.sweeping.loop import Loop
    from sightline.sweeping.ownership import Owner
    from sightline.sweeping.refit import refit
    from sightline.sweeping.report import write_report
    from sightline.sweeping.results import write_results
    from sightline.sweeping.study import best_trials, open_study

    study = open_study(settings)
    owner = Owner(settings.folder / ".sweeps")
    end, results, seconds = "interrupted", {}, 0.0
    with LiveTable() as table:
        loop = Loop(settings, study, backend, owner, check=check, show=_shower(table, settings))
        try:
            end = loop.run()
        finally:
            owner.release()
            table.close(loop)
            seconds = round(time.monotonic() - loop.started, 3)
            results = write_results(study, settings, ended_by=end, seconds=seconds)
    write_report(study, settings)
    write_hyperparameter_table(study, settings)
    if settings.refit and end == "finished" and best_trials(study):
        again = refit(study, settings, backend)
        results = write_results(study, settings, ended_by=end, seconds=seconds, refit=again)
        write_report(study, settings, again)
    return results


def _shower(table: Any, settings: Settings) -> Callable[[Any], None]:
    """A function that shows the table and, every few seconds, writes the results when another trial is finished."""
    from sightline.sweeping.results import write_results

    written, written_at = -1, 0.0

    def show(loop: Any) -> None:
        nonlocal written, written_at
        table(loop)
        is_due = time.monotonic() - written_at > WRITTEN_EVERY_SECONDS
        if is_due and (counted := loop.counted()) != written:
            write_results(loop.study, settings, ended_by=None)
            written, written_at = counted, time.monotonic()

    return show


def first_job(settings: Settings) -> Job:
    """A job at one corner of the space, for a dry run; the points of real trials are the sampler's."""
    overrides = (*settings.overrides(next(settings.space.corners())), f"output={settings.run_folder(0)}")
    return Job(job_name(settings.name, "0"), settings.script, overrides, settings.commit)


def conclude(results: dict[str, Any], folder: Path) -> None:
    """Print the results, and raise the error that the command must fail with."""
    from sightline.sweeping.refit import describe_spread

    counts = results["num_trials"]
    counted = ", ".join(f"{count} {state}" for state, count in counts.items())
    if results["ended_by"] == "failures":
        raise RuntimeError(f"hydra.sweeper.max_failures is reached ({counted}): the reasons are in {folder}/trials.csv")
    if results["best_params"] is None and results["ended_by"] == "finished":
        raise RuntimeError(f"no trial came to an end ({counted}): the reasons are in {folder}/trials.csv")
    if results["ended_by"] != "finished":
        how = "the same command goes on" if results["ended_by"] == "time budget" else "with a higher one it goes on"
        log.warning("the %s is spent: %s; %s", results["ended_by"], counted, how)
    print(f"trials: {counted}")
    if results["best_params"] is not None:
        best = " ".join(f"{key}={value}" for key, value in results["best_params"].items())
        print(f"best: trial {results['best_trial']}, {results['best_value']}: {best}")
    for name, values in results.get("refit", {}).get("metrics", {}).items():
        if name in REFIT_TABLE:
            print(f"{name}: {describe_spread(values)}")
    print(f"results: {folder}")
