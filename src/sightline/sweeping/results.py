"""The results of a sweep as plain files: `results.yaml`, `trials.csv`, and its best trial as an experiment."""

import csv
import io
import platform
from collections.abc import Sequence
from datetime import date
from typing import TYPE_CHECKING, Any

from sightline.config import to_yaml
from sightline.launch.local.machine import num_cores
from sightline.runs.files import write_text
from sightline.runs.override_text import key_of
from sightline.sweeping.settings import Settings
from sightline.sweeping.study import REASON, RETIRED, REUSED, best_trials, is_counted

if TYPE_CHECKING:
    import optuna

STATES = {"COMPLETE": "complete", "PRUNED": "pruned", "FAIL": "failed", "RUNNING": "running", "WAITING": "waiting"}
COUNTED = ("complete", "pruned", "failed")
NOT_IN_EXPERIMENTS = ("stages=", "optimized_metric=", "resume=", "paths.")
"""Overrides that say what a trial does or where, not what it is."""


def state_of(trial: "optuna.trial.FrozenTrial") -> str:
    return "retired" if trial.user_attrs.get(RETIRED) else STATES[trial.state.name]


def write_results(study: "optuna.Study", settings: Settings, **more: Any) -> dict[str, Any]:
    """Write `results.yaml` and `trials.csv`, and `best.yaml` where there is a best trial; return the results."""
    results = summarise(study, settings) | more
    write_text(settings.folder / "results.yaml", to_yaml(results))
    write_text(settings.folder / "trials.csv", _table(study, settings))
    if best := best_trials(study):
        write_text(settings.folder / "best.yaml", experiment_of(best[0], settings, results["num_trials"]["complete"]))
    return results


def summarise(study: "optuna.Study", settings: Settings) -> dict[str, Any]:
    trials = study.get_trials(deepcopy=False)
    num_trials = {state: sum(is_counted(t) and state_of(t) == state for t in trials) for state in COUNTED}
    results: dict[str, Any] = {"study": settings.name, "metrics": dict(settings.metrics), "num_trials": num_trials}
    results |= {"best_params": None, "best_value": None, "best_trial": None}
    if best := best_trials(study):
        first, decode = best[0], settings.space.decode
        is_single = len(settings.metrics) == 1
        results["best_params"] = decode(first.params)
        results["best_value"] = first.values[0] if is_single else list(first.values)
        results["best_trial"] = first.number
        if not is_single:
            results["pareto"] = [
                {
                    "trial": t.number,
                    "params": decode(t.params),
                    "values": dict(zip(settings.metrics, t.values, strict=True)),
                }
                for t in best
            ]
    return results


def _table(study: "optuna.Study", settings: Settings) -> str:
    trials = study.get_trials(deepcopy=False)
    params = list(dict.fromkeys([*settings.space.keys, *(key for trial in trials for key in trial.params)]))
    metrics = list(settings.metrics)
    values = ["value"] if len(metrics) == 1 else [f"value_{metric}" for metric in metrics]
    ends = ["started", "finished", "seconds", "run", "reused", "reason"]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["number", "state", *values, *(f"params_{key}" for key in params), *ends])
    for trial in trials:
        writer.writerow(_row(trial, settings, params, len(metrics)))
    return text.getvalue()


def _row(trial: "optuna.trial.FrozenTrial", settings: Settings, params: Sequence[str], num_values: int) -> list[Any]:
    begun, ended = trial.datetime_start, trial.datetime_complete
    values = trial.values or [""] * num_values
    reused = trial.user_attrs.get(REUSED)
    run = settings.run_folder(trial.number if reused is None else reused)
    return [
        trial.number,
        state_of(trial),
        *values,
        *(trial.params.get(key, "") for key in params),
        begun.isoformat(timespec="seconds") if begun else "",
        ended.isoformat(timespec="seconds") if ended else "",
        round((ended - begun).total_seconds(), 3) if begun and ended else "",
        run.relative_to(settings.folder).as_posix() if run.is_dir() else "",
        "" if reused is None else reused,
        " ".join(str(trial.user_attrs.get(REASON, "")).split()),
    ]


def experiment_of(trial: "optuna.trial.FrozenTrial", settings: Settings, num_complete: int) -> str:
    """A trial as an experiment file: its settings, below the comment that every experiment has."""
    kept = [each for each in settings.fixed if "=" in each and not each.startswith((*NOT_IN_EXPERIMENTS, "~"))]
    fixed = {key_of(each): _value_of(each) for each in kept}
    fixed.pop("experiment", None)
    point = fixed | settings.space.decode(trial.params)
    groups = [{f"override /{key}": value} for key, value in point.items() if key in settings.groups]
    base: list[Any] = [settings.experiment] if settings.experiment else []
    content: dict[str, Any] = {"defaults": [*base, *groups, "_self_"]}
    for key, value in point.items():
        if key not in settings.groups:
            _set(content, key.lstrip("+").split("."), value)
    return _card(trial, settings, num_complete) + to_yaml(content)


def _card(trial: "optuna.trial.FrozenTrial", settings: Settings, num_complete: int) -> str:
    name = f"{settings.name}_best"
    reached = ", ".join(f"{metric} {value:.4f}" for metric, value in zip(settings.metrics, trial.values, strict=True))
    assert trial.datetime_complete is not None
    assert trial.datetime_start is not None
    seconds = (trial.datetime_complete - trial.datetime_start).total_seconds()
    lines = [
        "# @package _global_",
        f"# Trial {trial.number} of the sweep {settings.name}; to use it, copy it to configs/experiment/{name}.yaml",
        f"#   command: python src/train.py experiment={name}",
        f"#   score:   {reached}, the best of {num_complete} and so a little lucky; the test set was not read",
        f"#   time:    {seconds:.0f} s beside what else ran",
        f"#   machine: {platform.machine()}, {num_cores()} core(s), {date.today().isoformat()}",
    ]
    return "\n".join(lines) + "\n"


def _value_of(override: str) -> Any:
    from hydra.core.override_parser.overrides_parser import OverridesParser

    return OverridesParser.create().parse_override(override).value()


def _set(content: dict[str, Any], path: Sequence[str], value: Any) -> None:
    for part in path[:-1]:
        content = content.setdefault(part, {})
    content[path[-1]] = value
