"""The task: open the study, run its trials, and write what they say."""

import time
from collections.abc import Callable
from typing import Any

from sightline.launch.backend import Backend
from sightline.sweeping.settings import Settings

WRITTEN_EVERY_SECONDS = 2.0


def sweep(
    settings: Settings, backend: Backend, check: Callable[[list[str]], None] = lambda overrides: None
) -> dict[str, Any]:
    """Run a study to its total, or go on with it; return what `results.yaml` holds. Closes the backend.

    `check` is called with the overrides of each trial before it begins.

    Raises: BadInput before anything is written; Interrupted when a signal came, with the trials stopped.
    """
    try:
        return _sweep(settings, backend, check)
    finally:
        backend.close()


def _sweep(settings: Settings, backend: Backend, check: Callable[[list[str]], None]) -> dict[str, Any]:
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
    """Show the table, and write the results when another trial is finished, though not at every moment."""
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
