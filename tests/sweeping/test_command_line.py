"""Sweeps and grids as a person types them, with train.py itself."""

import csv
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from tests.conftest import PROJECT, TINY, Cli

from sightline.config import to_plain

REFUSED = [
    ("hparams_search=optuna model.lrr=interval(1,2)", "(did you mean 'model.lr=interval(1,2)'?)"),
    ("hparams_search=optuna model.lr=interval(2,1)", "interval=[2.0, 1.0] is empty"),
    (
        "hparams_search=optuna model/optimizer=choice(adam,adma)",
        "model/optimizer=adma: no such option (did you mean model/optimizer=adam?)",
    ),
    ("hparams_search=optuna model.lr=interval(-1,1)", "model.lr=-1.0: must be a number above 0"),
    ("hparams_search=optuna optimized_metric=test/accuracy", "nothing may be chosen on the test set"),
    ("hparams_search=optuna hydra.sweeper.n_trails=3", "n_trails"),
    ("hparams_search=optuna hydra.sweeper.n_trials=0", "hydra.sweeper.n_trials=0: must be 1 or more"),
    ("hparams_search=optuna hydra.sweeper.sampler._target_=os.system", "_target_=os.system: must come from optuna"),
    ("hparams_search=optuna hydra.sweeper.pruner={_target_:optuna.pruners.Median}", "hydra.sweeper.pruner (optuna.pru"),
    ("hparams_search=optuna hydra.sweeper.metrics={val/acuracy:maximize}", "val/acuracy: must be one of val/loss"),
    ("hparams_search=optuna hydra.sweeper.sampler.sede=3", "unexpected keyword argument 'sede'"),
    ("hparams_search=accuracy_and_speed hydra.sweeper.metrics={test/loss:minimize}", "chosen on the test set"),
    ("hparams_search=optuna hydra.sweeper.params={model.lr:{interval:[2,1]}}", "interval=[2, 1] is empty"),
    (
        "hparams_search=optuna model.lr=interval(0.1,1) trainer.max_epoch=2",
        "trainer.max_epoch=2: no such key (did you mean trainer.max_epochs=2?)",
    ),
    (
        "hparams_search=optuna model.lr=0.1 model.lr=interval(0.1,1)",
        "model.lr: typed with one value (model.lr=0.1) and",
    ),
    (
        "hparams_search=optuna model=resnet18_half model/optimizer=sgd model.lr=0.1",
        "nothing is left to search, model.name, model/optimizer, model.lr typed with one value; leave one of them out",
    ),
    ("hparams_search=optuna hydra.sweeper.refit_seeds=2", "it counts only with hydra.sweeper.refit=true; leave"),
    (
        "hparams_search=accuracy_and_speed optimized_metric=val/loss",
        "optimized_metric=val/loss: has no effect here, hydra",
    ),
    (
        "hparams_search=optuna launch=local_process launch.wait=false",
        "launch.wait=false: has no effect here, a sweep wai",
    ),
    (
        "hparams_search=optuna hydra.sweeper.refit=true model/scheduler=plateau",
        "model/scheduler=plateau follows validation",
    ),
    (
        "hparams_search=optuna model.focal_gamma=1",
        "model.focal_gamma=1: has no effect here, it counts only with model.l",
    ),
    ("hparams_search=optuna data=folder", "data.root: no value is set; add data.root=… to the command"),
    ("hparams_search=optnua", "hparams_search=optnua: no such option (did you mean hparams_search=optuna?)"),
    ("launch=local_process launch.n_parallel=0", "launch.n_parallel=0: must be 1 or more"),
    ("launch=local_process launch.n_paralel=2", "launch.n_paralel: no such key (did you mean launch.n_parallel?)"),
    ("launch=local_process data=folder data.root=nowhere", "nowhere: no such file or folder; name one that is here"),
    ("launch=local_process trainer.max_epochs=1,0", "set trainer.max_epochs to 1 or more"),
]


@pytest.mark.parametrize(("words", "message"), REFUSED)
def test_bad_input_leaves_nothing(words: str, message: str, cli: Cli, tmp_path: Path) -> None:
    done = cli("train", f"paths.runs={tmp_path / 'runs'}", *words.split())
    assert done.returncode == 2, done.stderr
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert not list(tmp_path.rglob("*"))


def test_a_dry_run_prints_the_requests_and_starts_nothing(cli: Cli, colors: Path, tmp_path: Path) -> None:
    root = os.path.relpath(colors, tmp_path)  # as true in the command's own folder, which lies beside this one
    words = ["launch=local_process", "launch.dry_run=true", f"data.root={root}", "data=folder"]
    done = cli("train", "-m", "seed=1,2", f"paths.runs={tmp_path / 'runs'}", *words)
    assert done.returncode == 0, done.stderr
    requests = [plan["request"] for plan in json.loads(done.stdout)]
    assert [request["command"][2] for request in requests] == ["seed=1", "seed=2"]
    for request in requests:
        (root,) = [word for word in request["command"] if word.startswith("data.root=")]
        assert Path(root.split("=")[1]).is_absolute(), "the job runs in another folder"
        assert request["command"][-1] == f"output={request['folder']}"
    assert not list(tmp_path.rglob("*"))


@pytest.mark.parametrize(
    ("words", "left_out", "study"),
    [
        ("hparams_search=optuna", {}, "Neue-Bilder-2-optuna"),
        (
            "hparams_search=optuna model=resnet18_half ++model.lr=0.1",
            {"model.name": "model=resnet18_half", "model.lr": "++model.lr=0.1"},
            "Neue-Bilder-2-resnet18_half-optuna",
        ),
        ("hparams_search=momentum model.name=test_vit", {}, "Neue-Bilder-2-test_vit-momentum"),
        ("hparams_search=momentum name=mine model.lr=0.1", {"model.lr": "model.lr=0.1"}, "mine-momentum"),
    ],
)
def test_what_is_typed_is_not_searched_and_names_the_sweep(
    words: str, left_out: dict[str, str], study: str, cli: Cli, colors: Path, tmp_path: Path
) -> None:
    root = tmp_path / "Neue Bilder (2)"
    root.symlink_to(colors)
    places = ["data=folder", f"data.root='{root}'", f"paths.runs={tmp_path}"]
    done = cli("train", *words.split(), *places, "launch=local_process", "launch.dry_run=true")
    assert done.returncode == 0, done.stderr
    overrides = json.loads(done.stdout)["job"]["overrides"]
    assert overrides[-1] == f"output={tmp_path / 'sweeps' / study / 'trials' / '0'}"
    for key, typed in left_out.items():
        assert f"{key} is not searched: {typed} is typed" in done.stderr
        assert typed in overrides
        assert not [each for each in overrides if each.startswith(f"{key}=") and each != typed]


def tiny(colors: Path, tmp_path: Path) -> list[str]:
    words = [*TINY, "data=folder", f"data.root={colors}", "name=colors", "augmentation=none", "logger=none"]
    return [*words, f"paths.runs={tmp_path / 'runs'}", f"paths.cache={tmp_path / 'cache'}"]


@pytest.mark.slow
def test_a_sweep_of_real_trainings(cli: Cli, colors: Path, tmp_path: Path) -> None:
    words = [
        *tiny(colors, tmp_path),
        "hparams_search=momentum",
        "hydra.sweeper.n_trials=3",
        "hydra.sweeper.n_parallel=2",
        "hydra.sweeper.pruner={_target_:optuna.pruners.MedianPruner,n_startup_trials:4}",  # in place of another one
    ]
    enqueue = "hydra.sweeper.enqueue=[{model/optimizer:sgd,model.lr:0.05,model.optimizer.momentum:0.9}]"
    done = cli("train", *words, enqueue)
    assert done.returncode == 0, done.stderr
    folder = tmp_path / "runs" / "sweeps" / "colors-momentum"
    assert done.stdout.splitlines()[-1] == f"results: {folder}"
    with (folder / "trials.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["state"] for row in rows] == ["complete"] * 3, done.stderr
    assert (rows[0]["params_model/optimizer"], rows[0]["params_model.optimizer.momentum"]) == ("sgd", "0.9")
    for row in rows:
        metrics = json.loads((folder / row["run"] / "metrics.json").read_text())
        assert metrics["val/accuracy"] == float(row["value"])
        assert not [name for name in metrics if name.startswith("test/")], "the test set is locked"
    assert not (tmp_path / "runs" / "latest").exists(), "trials do not move it"
    check_best(folder, tmp_path)


def check_best(folder: Path, tmp_path: Path) -> None:
    """`best.yaml`, used as it says, composes to the configuration of the best trial."""
    results = OmegaConf.load(folder / "results.yaml")
    (tmp_path / "more" / "experiment").mkdir(parents=True)
    shutil.copy(folder / "best.yaml", tmp_path / "more" / "experiment" / "colors_best.yaml")
    with initialize_config_dir(str(PROJECT / "configs"), version_base="1.3"):
        cfg = compose("train", [f"hydra.searchpath=[file://{tmp_path / 'more'}]", "experiment=colors_best"])
    trial = OmegaConf.to_container(OmegaConf.load(folder / "trials" / str(results.best_trial) / "config.yaml"))
    assert isinstance(trial, dict)
    composed = to_plain(cfg)
    for config in (trial, composed):
        for key in ("output", "stages", "paths"):
            config.pop(key)
    assert composed == trial


@pytest.mark.slow
def test_the_best_is_refitted_and_tested_once(cli: Cli, colors: Path, tmp_path: Path) -> None:
    words = [*tiny(colors, tmp_path), "hparams_search=momentum", "hydra.sweeper.n_trials=2", "hydra.sweeper.refit=true"]
    done = cli("train", *words, "hydra.sweeper.refit_seeds=2")
    assert done.returncode == 0, done.stderr
    folder = tmp_path / "runs" / "sweeps" / "colors-momentum"
    results = OmegaConf.load(folder / "results.yaml")
    assert len(results.refit.metrics["test/accuracy"]["values"]) == 2
    for seed in (0, 1):
        run = folder / "refit" / f"{results.best_trial}-{seed}"
        config = OmegaConf.load(run / "config.yaml")
        assert (config.seed, config.data.with_validation) == (seed, True)
        record = json.loads((run / "run.json").read_text())
        assert record["status"] == "finished"
    assert "over 2 seed(s)" in done.stdout
    assert "Trained anew on train and validation, and tested once" in (folder / "report.html").read_text()


IMPORTED_LATER = """
import importlib, runpy, sys
from sightline.sweeping.preloading import preloaded
for name in preloaded():
    importlib.import_module(name)
before = set(sys.modules)
try:
    runpy.run_path(sys.argv[0], run_name="__main__")
finally:
    print("later:", *sorted(set(sys.modules) - before))
"""


@pytest.mark.slow
def test_a_preloaded_process_has_what_a_training_imports(colors: Path, tmp_path: Path) -> None:
    """Every trial would import the rest again."""
    script = str(PROJECT / "src" / "train.py")
    program = f"import sys; sys.argv[0] = {script!r}\n{IMPORTED_LATER}"
    words = [word for word in tiny(colors, tmp_path) if word not in ("stages=[fit,test]", "logger=none")]
    done = subprocess.run(
        [sys.executable, "-c", program, *words, "stages=[fit]", f"output={tmp_path / 'run'}"],
        env={**os.environ, "PYTHONPATH": str(PROJECT / "src")},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    later = next(line for line in done.stdout.splitlines() if line.startswith("later:")).split()[1:]
    heavy = "torch torchvision timm captum sklearn pytorch_lightning albumentations s3fs jinja2 sightline".split()
    assert not [name for name in later if name.split(".")[0] in heavy]


@pytest.mark.slow
def test_a_grid_runs_side_by_side_and_goes_on(cli: Cli, colors: Path, tmp_path: Path) -> None:
    words = [*tiny(colors, tmp_path), "-m", "seed=1,2", "launch=local_process", "launch.n_parallel=2"]
    first = cli("train", *words)
    assert first.returncode == 0, first.stderr
    folders = [Path(line.removeprefix("results: ")) for line in first.stdout.splitlines() if "results: " in line]
    assert [OmegaConf.load(folder / "config.yaml").seed for folder in folders] == [1, 2]
    assert "val/accuracy" in json.loads((folders[0] / "metrics.json").read_text())
    (folders[1] / ".job" / "state.json").unlink()  # as if the machine had gone down
    shutil.rmtree(folders[1])
    before = (folders[0] / "metrics.json").stat().st_mtime_ns
    again = cli("train", *words)
    assert again.returncode == 0, again.stderr
    assert "finished before" in again.stderr
    assert (folders[0] / "metrics.json").stat().st_mtime_ns == before
    assert (folders[1] / "metrics.json").is_file()
    listed = cli("jobs", "list", "--runs", str(tmp_path / "runs")).stdout
    assert listed.count("succeeded") == 2
    logs = cli("jobs", "logs", folders[0].name, "--runs", str(tmp_path / "runs")).stdout
    assert "results: " in logs
