"""Sweeps as a user sees them: totals, resumes, pruning, failures, budgets, and the files that are left."""

import csv
import json
import re
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import optuna
import pytest
from omegaconf import OmegaConf
from optuna.storages.journal import JournalFileBackend
from tests.sweeping.conftest import MEDIAN, RANDOM, RunSweep, make_settings

from sightline.errors import BadInput
from sightline.launch.backend import LaunchSettings
from sightline.launch.local.backend import LocalProcess
from sightline.sweeping.loop import Loop
from sightline.sweeping.ownership import Owner
from sightline.sweeping.results import write_results
from sightline.sweeping.study import open_study
from sightline.sweeping.sweep import sweep


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "demo" / "trials.csv").open() as file:
        return list(csv.DictReader(file))


def points(folder: Path) -> list[tuple[str, str]]:
    return [(row["params_x"], row["params_y"]) for row in rows(folder)]


def test_leaves_what_it_promises(run_sweep: RunSweep, tmp_path: Path) -> None:
    results = run_sweep("nap=0.01", "paths.cache=elsewhere", pruner=MEDIAN, n_trials=8)
    folder = tmp_path / "demo"
    assert sum(results["num_trials"].values()) == 8
    assert OmegaConf.to_container(OmegaConf.load(folder / "results.yaml")) == results
    complete = [row for row in rows(tmp_path) if row["state"] == "complete"]
    assert max(float(row["value"]) for row in complete) == results["best_value"]
    for row in rows(tmp_path):
        assert (folder / row["run"] / "metrics.csv").is_file()
        assert (folder / row["run"] / "checkpoints").exists() == (row["state"] == "complete"), "pruned ones free theirs"
    page = (folder / "report.html").read_text()
    for title in ("History", "Importance", "Parallel coordinates", "Slices", "Learning curves", "Timeline"):
        assert title in page
    assert page.count("Plotly.newPlot") >= 5, page[-2000:]
    assert 'src="http' not in page
    assert len(list((folder / "tensorboard").iterdir())) >= len(complete)
    best = OmegaConf.load(folder / "best.yaml")
    assert best.x == results["best_params"]["x"]
    assert "paths" not in best, "where things lie is none of its settings"
    storage = optuna.storages.JournalStorage(
        JournalFileBackend(str(folder / "study.journal"))
    )  # as optuna-dashboard opens it
    assert len(optuna.load_study(study_name="demo", storage=storage).trials) == 8


def test_plots_are_seen_on_light_and_dark_pages(run_sweep: RunSweep, tmp_path: Path) -> None:
    """Lines and points have a contrast of 3 to both pages; Optuna's own colours reach from white to dark blue."""
    params = {"x": {"interval": [0, 1]}, "y": {"choice": [0.2, 0.4, 0.6]}}
    run_sweep("nap=0.01", "epochs=4", pruner=MEDIAN, n_trials=8, params=params)
    page = (tmp_path / "demo" / "report.html").read_text()
    plots = [part.split("</script>")[0] for part in page.split("Plotly.newPlot(")[1:]]
    drawn = [plot.split('"template":')[0] for plot in plots]
    colors = {color for plot in drawn for color in re.findall(r'"color":"(rgb\(.+?\)|#\w{6})"', plot)}
    colors |= {color for plot in plots for color in re.findall(r"#\w{6}", plot.split('"colorway":[')[-1].split("]")[0])}
    assert len(colors) > 12
    for color in colors:
        assert contrast(color, "#ffffff") > 3, color
        assert contrast(color, "#14171c") > 3, color


def contrast(one: str, other: str) -> float:
    """Of two colours, by WCAG 2.2."""
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def luminance(color: str) -> float:
    parts = (
        re.findall(r"\d+", color) if color.startswith("rgb") else [int(part, 16) for part in re.findall(r"\w\w", color)]
    )
    shares = [int(part) / 255 for part in parts]
    linear = [share / 12.92 if share <= 0.04045 else ((share + 0.055) / 1.055) ** 2.4 for share in shares]
    return sum(weight * share for weight, share in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def test_goes_on_to_the_total_without_repeating(run_sweep: RunSweep, tmp_path: Path) -> None:
    """A sampler with a seed would propose its first points again."""
    run_sweep(n_trials=4)
    before = (tmp_path / "demo" / "trials" / "0" / "metrics.csv").stat().st_mtime_ns
    results = run_sweep(n_trials=9)
    assert results["num_trials"]["complete"] == 9
    assert len(set(points(tmp_path))) == 9
    assert (tmp_path / "demo" / "trials" / "0" / "metrics.csv").stat().st_mtime_ns == before
    again = run_sweep(n_trials=9)
    assert again["num_trials"]["complete"] == 9
    assert len(rows(tmp_path)) == 9


def test_two_sweeps_that_begin_at_once_propose_different_points(tmp_path: Path) -> None:
    """Both have the same seed, and both find an empty study."""
    settings = make_settings(tmp_path, n_trials=8, n_parallel=2)
    loops = []
    for _ in range(2):
        backend = LocalProcess(settings.folder, LaunchSettings(n_parallel=2, preload=["json"]), grace_seconds=5.0)
        loops.append(Loop(settings, open_study(settings), backend, Owner(settings.folder / ".sweeps")))
    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(Loop.run, loops)) == ["finished"] * 2
    for loop in loops:
        loop.backend.close()
    write_results(loops[0].study, settings)
    assert len(set(points(tmp_path))) == 8


def test_another_space_is_refused_with_the_difference(run_sweep: RunSweep, tmp_path: Path) -> None:
    run_sweep(n_trials=2)
    other = {"x": {"interval": [0, 2]}, "y": {"interval": [0, 1]}}
    with pytest.raises(BadInput) as refused:
        run_sweep(n_trials=3, params=other)
    assert "x is {'interval': [0.0, 2.0]} (was {'interval': [0.0, 1.0]})" in str(refused.value)
    with pytest.raises(BadInput, match="epochs is new"):
        run_sweep("nap=0.01", "epochs=2", n_trials=3)
    assert "to begin another sweep add hydra.sweeper.study_name=demo-2;" in str(refused.value)
    assert str(refused.value).endswith("in the new space add hydra.sweeper.allow_new_space=true")
    with pytest.raises(BadInput, match="to begin another sweep add hydra.sweeper.study_name=demo-2"):
        run_sweep(n_trials=3, metrics={"val/accuracy": "minimize"})
    assert sum(run_sweep(n_trials=3, params=other, allow_new_space=True)["num_trials"].values()) == 3
    for changed in ({"interval": [0.1, 2], "log": True}, {"choice": [0.1, 0.2]}):
        with pytest.raises(BadInput, match="x: within a study .* hydra.sweeper.warm_start=demo"):
            run_sweep(n_trials=4, params=other | {"x": changed}, allow_new_space=True)
    assert [row["state"] for row in rows(tmp_path)] == ["complete"] * 3


def test_failures_are_recorded_and_the_sweep_goes_on(run_sweep: RunSweep, tmp_path: Path) -> None:
    params = {"x": {"interval": [0, 1]}, "fail": {"choice": ["exit", "undefined", "kill", "silent", "none"]}}
    sampler = {**RANDOM, "seed": 3}
    results = run_sweep(params=params, n_trials=16, sampler=sampler)
    reasons = {row["params_fail"]: row["reason"] for row in rows(tmp_path)}
    states = {row["params_fail"]: row["state"] for row in rows(tmp_path)}
    assert states == {"none": "complete"} | dict.fromkeys(("exit", "undefined", "kill", "silent"), "failed")
    assert reasons["exit"] == "the loss is lost"
    assert reasons["undefined"] == "val/accuracy is nan"
    assert "SIGKILL" in reasons["kill"]
    assert reasons["silent"] == "it reported no val/accuracy; it has nothing"
    assert sum(results["num_trials"].values()) == 16


def test_too_many_failures_end_it(run_sweep: RunSweep, capfd: pytest.CaptureFixture[str]) -> None:
    results = run_sweep("fail=exit", "nap=0.01", n_trials=50, max_failures=4)
    assert results["ended_by"] == "failures"
    assert 4 <= results["num_trials"]["failed"] <= 6, "those beside the fourth may have failed too"
    assert "[W " not in capfd.readouterr().err, "what cannot be drawn stands on the page"


def test_time_budget_leaves_the_rest_to_the_next_start(run_sweep: RunSweep, tmp_path: Path) -> None:
    begun = time.monotonic()
    results = run_sweep("nap=0.4", "epochs=10", n_trials=6, time_budget_minutes=1.5 / 60)
    assert time.monotonic() - begun < 15
    assert results["ended_by"] == "time budget"
    assert sum(results["num_trials"].values()) == 0
    assert [row["state"] for row in rows(tmp_path)] == ["running"] * 3
    text = json.dumps([(tmp_path / "demo" / "trials" / str(n) / ".job" / "state.json").read_text() for n in range(3)])
    assert text.count("exit_code") == 3, "they were stopped"


def test_a_point_that_comes_twice_is_run_once(run_sweep: RunSweep, tmp_path: Path) -> None:
    results = run_sweep(params={"x": {"choice": [0.1, 0.2]}, "y": {"choice": [0.5]}}, n_trials=7)
    assert sum(results["num_trials"].values()) == 7
    assert len([row for row in rows(tmp_path) if row["reused"]]) == 5
    assert len(list((tmp_path / "demo" / "trials").iterdir())) == 2
    for row in rows(tmp_path):
        assert row["run"], "a repeated trial names the run that it stands for"


def test_grid(run_sweep: RunSweep, tmp_path: Path) -> None:
    params = {"x": {"choice": [0.1, 0.3, 0.5]}, "y": {"range": [0, 1], "step": 0.5}}
    results = run_sweep(params=params, sampler={"_target_": "optuna.samplers.GridSampler"}, n_trials=50)
    assert results["num_trials"]["complete"] == 9
    assert len(set(points(tmp_path))) == 9
    assert results["best_params"] == {"x": 0.3, "y": 0.5}


def test_first_points_and_an_earlier_study(run_sweep: RunSweep, tmp_path: Path) -> None:
    first = {"x": 0.3, "y": 0.6}
    run_sweep(enqueue=[first], n_trials=3)
    assert points(tmp_path)[0] == ("0.3", "0.6")
    run_sweep(enqueue=[first], n_trials=4)
    assert points(tmp_path).count(("0.3", "0.6")) == 1
    (tmp_path / "demo").rename(tmp_path / "earlier")
    results = run_sweep(warm_start=str(tmp_path / "earlier"), n_trials=2)
    assert results["best_params"] == first
    assert points(tmp_path)[0] == ("0.3", "0.6")
    for changes, message in (
        ({"enqueue": [{"x": 7}]}, "enqueue[0]: x=7 lies outside"),
        ({"enqueue": [{"lr": 7}]}, "lr is not searched; searched are x, y"),
        ({"warm_start": "nothing"}, "warm_start=nothing: no such study"),
    ):
        with pytest.raises(BadInput) as refused:
            run_sweep(**changes)
        assert message in str(refused.value)


def test_two_metrics_give_a_front(run_sweep: RunSweep, tmp_path: Path) -> None:
    metrics = {"val/accuracy": "maximize", "train/images_per_second": "maximize"}
    results = run_sweep(metrics=metrics, n_trials=8, sampler={"_target_": "optuna.samplers.NSGAIISampler", "seed": 0})
    front = results["pareto"]
    assert 1 <= len(front) <= 8
    values = [tuple(each["values"][metric] for metric in metrics) for each in front]
    for one in values:
        assert not any(all(a > b for a, b in zip(other, one, strict=True)) for other in values)
    assert "Pareto front" in (tmp_path / "demo" / "report.html").read_text()
    with pytest.raises(BadInput, match="set hydra.sweeper.pruner=null"):
        run_sweep(metrics=metrics, pruner=MEDIAN)


SAMPLERS: list[dict[str, Any]] = [
    {"_target_": "optuna.samplers.TPESampler", "n_startup_trials": 2},
    {"_target_": "optuna.samplers.GPSampler", "n_startup_trials": 2, "deterministic_objective": True},
    {"_target_": "optuna.samplers.CmaEsSampler", "n_startup_trials": 2},
]
PRUNERS: list[dict[str, Any]] = [
    {"_target_": "optuna.pruners.HyperbandPruner", "min_resource": 1, "max_resource": 3},
    {"_target_": "optuna.pruners.SuccessiveHalvingPruner"},
    {"_target_": "optuna.pruners.PatientPruner", "wrapped_pruner": MEDIAN, "patience": 1},
]


@pytest.mark.slow
@pytest.mark.parametrize(("sampler", "pruner"), list(zip(SAMPLERS, PRUNERS, strict=True)))
def test_samplers_and_pruners_of_optuna(run_sweep: RunSweep, sampler: dict[str, Any], pruner: dict[str, Any]) -> None:
    assert sum(run_sweep(sampler=sampler, pruner=pruner, n_trials=6)["num_trials"].values()) == 6


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sampler": {"_target_": "os.system"}}, "_target_=os.system: must come from optuna"),
        ({"sampler": {"_target_": "optuna.samplers.TPE"}}, "hydra.sweeper.sampler (optuna.samplers.TPE)"),
        ({"sampler": {"_target_": "optuna.samplers.TPESampler", "sede": 1}}, "unexpected keyword argument 'sede'"),
        ({"pruner": {"_target_": "optuna.pruners.MedianPruner", "min_resource": 2}}, "or write all of it anew"),
        ({"pruner": {"_target_": "optuna.samplers.TPESampler"}}, "is no pruner; see optuna.pruners"),
        ({"sampler": {"_target_": "optuna.samplers.GridSampler"}}, "a grid needs choice or range"),
        ({"storage": "nonsense"}, "hydra.sweeper.storage=nonsense"),
        ({"metrics": {"test/accuracy": "maximize"}}, "nothing may be chosen on the test set"),
        ({"metrics": {"val/accuracy": "up"}}, "must be one of maximize, minimize"),
        ({"n_trials": 0}, "n_trials=0: must be 1 or more"),
    ],
)
def test_bad_input_leaves_nothing(run_sweep: RunSweep, tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(BadInput) as refused:
        run_sweep(**changes)
    assert message in str(refused.value)
    assert not list(tmp_path.rglob("*"))


def test_a_trial_that_refuses_its_input_stops_the_sweep_and_does_not_count(run_sweep: RunSweep, tmp_path: Path) -> None:
    """Once the cause is gone the same command goes on, and every trial is run."""
    needed = tmp_path / "data"
    with pytest.raises(BadInput, match=f"trial 0: needs={needed}: no such file"):
        run_sweep("nap=0.01", f"needs={needed}", n_trials=4, n_parallel=1)
    assert [row["state"] for row in rows(tmp_path)] == ["running"]
    needed.touch()
    results = run_sweep("nap=0.01", f"needs={needed}", n_trials=4, n_parallel=1)
    assert results["num_trials"] == {"complete": 4, "pruned": 0, "failed": 0}
    assert [row["number"] for row in rows(tmp_path)] == ["0", "1", "2", "3"]


class Priced(LocalProcess):
    """Every trial costs a dollar."""

    def cost_usd(self, job_id: str) -> float:
        return 1.0


def test_money_ends_a_sweep_and_more_of_it_goes_on(tmp_path: Path) -> None:
    def run(budget: float) -> dict[str, Any]:
        settings = make_settings(tmp_path, n_trials=4, n_parallel=1, cost_budget_usd=budget)
        return sweep(settings, Priced(settings.folder, LaunchSettings(preload=["json"]), grace_seconds=5.0))

    first = run(2.5)
    assert first["ended_by"] == "cost budget"
    assert 2 <= sum(first["num_trials"].values()) <= 3
    assert run(2.5)["num_trials"] == first["num_trials"], "what is spent stays spent"
    assert run(100.0)["ended_by"] == "finished"
    with pytest.raises(BadInput, match="hydra.sweeper.cost_budget_usd=0: must be above 0"):
        run(0)


def test_a_trial_whose_sweep_died_before_its_point_gets_a_point_of_its_own(run_sweep: RunSweep, tmp_path: Path) -> None:
    run_sweep(n_trials=3)
    open_study(make_settings(tmp_path)).ask()  # nobody suggested anything for it
    run_sweep(n_trials=6)
    assert len(set(points(tmp_path))) == len(points(tmp_path)) == 6
