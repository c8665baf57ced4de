"""A LightningModule of one's own in place of ours: trained, measured, resumed, or refused with what to change."""

import json
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import WITHOUT_FIGURES, Cli, compose_config
from tests.own_modules import words, write_modules

from sightline import FinishedRun
from sightline.config import check_overrides, validate
from sightline.errors import BadInput
from sightline.training.find_lr import find_lr
from sightline.training.train import train


@pytest.fixture(scope="module")
def code(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_modules(tmp_path_factory.mktemp("own") / "code")


def read(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text())


def fit(code: Path, data: Path, name: str, output: Path, *more: str) -> dict[str, float]:
    return train(compose_config("train", *words(data, code, name, f"output={output}", *more))).metrics


@pytest.fixture(scope="module")
def own_run(cli: Cli, code: Path, colors: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of `Small` as the command line makes it, with everything measured."""
    run = tmp_path_factory.mktemp("runs") / "small"
    measured = ("stages=[fit,test,explain]", "evaluation=short", *WITHOUT_FIGURES, "explanation=integrated_gradients")
    tiny = ("explanation.num_images=1", "module.width=6", "model.lr=0.02", f"output={run}")
    done = cli("train", *words(colors, code, "Small", *measured, *tiny))
    assert done.returncode == 0, done.stderr
    return run


def test_it_is_trained_measured_and_explained_as_ours_is(own_run: Path) -> None:
    metrics, record = read(own_run / "metrics.json"), read(own_run / "run.json")
    assert {"val/accuracy", "test/accuracy", "test/loss", "train/images_per_second"} <= metrics.keys()
    assert {"val/margin", "test/margin"} <= metrics.keys(), "what the module logs itself"
    assert record["model"]["target"] == "own_modules_of_tests.Small"
    assert record["resume"] == {"exact": True, "why": []}
    assert list((own_run / "explanations").glob("*.png"))
    header = (own_run / "metrics.csv").read_text().splitlines()[0].split(",")
    assert {"train/loss", "val/loss", "val/margin"} <= {*header}
    described = read(own_run / "model" / "model.json")
    assert described["arguments"] == {"num_classes": 3, "in_chans": 3, "lr": 0.02, "width": 6}


def test_evaluation_explanation_and_prediction_find_it(own_run: Path, cli: Cli, colors: Path, tmp_path: Path) -> None:
    short = ("evaluation=short", *WITHOUT_FIGURES, f"output={tmp_path / 'evaluated'}")
    done = cli("evaluate", f"run={own_run}", *short)
    assert done.returncode == 0, done.stderr
    measured, trained = read(tmp_path / "evaluated" / "metrics.json"), read(own_run / "metrics.json")
    assert measured["test/loss"] == trained["test/loss"], "to the last bit"
    assert (
        cli("predict", f"run={own_run}", f"images={colors / 'test'}", f"output={tmp_path / 'predicted'}").returncode
        == 0
    )
    explained = ("explanation=integrated_gradients", f"images={colors / 'test' / 'red' / '00.png'}")
    assert cli("explain", f"run={own_run}", *explained, f"output={tmp_path / 'explained'}").returncode == 0
    best = FinishedRun.open(own_run / "checkpoints" / "best.ckpt").predict(colors / "test")
    assert best.probabilities.tolist() == FinishedRun.open(own_run).predict(colors / "test").probabilities.tolist()


def test_what_its_recipe_decides_is_refused_when_it_is_typed(code: Path, colors: Path) -> None:
    for typed in ("model.loss=bce", "model=resnet50", "model.optimizer.weight_decay=1", "augmentation.mixup=0.2"):
        cfg = validate(compose_config("train", *words(colors, code, "Small", typed)))
        with pytest.raises(BadInput, match="it counts only with module._target_=null"):
            check_overrides(cfg, [typed])
    cfg = validate(compose_config("train", *words(colors, code, "Small", "model.lr=1", "augmentation=strong")))
    check_overrides(cfg, ["model.lr=1", "augmentation=strong"])


def test_a_module_without_logits_is_trained_and_measures_itself(
    code: Path, colors: Path, tmp_path: Path, cli: Cli, caplog: pytest.LogCaptureFixture
) -> None:
    run = tmp_path / "run"
    metrics = fit(code, colors, "Embedder", run, "checkpoint.monitor=val_loss", "stages=[fit,test,explain]")
    assert "forward returns (2, 4) for two images, and no logits (2, 3)" in caplog.text
    assert {"val_loss", "test/distance"} <= metrics.keys()
    assert "test/accuracy" not in metrics
    assert not (run / "model").exists()
    assert read(run / "run.json")["status"] == "finished"
    for task in ("evaluate", "predict", "explain"):
        images = (f"images={colors / 'test'}",) if task != "evaluate" else ()
        for path in (run, run / "checkpoints" / "best.ckpt"):
            done = cli(task, f"run={path}", *images)
            assert done.returncode == 2
            assert "no logits (2, 3): there are no answers to measure, explain or predict with" in done.stderr


def test_manual_optimization_and_no_validation(code: Path, colors: Path, tmp_path: Path) -> None:
    assert fit(code, colors, "Manual", tmp_path / "manual")["val/loss"] > 0
    assert fit(code, colors, "Unvalidated", tmp_path / "unvalidated")["val/loss"] > 0
    assert (tmp_path / "unvalidated" / "checkpoints" / "best.ckpt").is_file()


def test_what_no_checkpoint_holds_is_said(
    code: Path, colors: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    fit(code, colors, "Counting", tmp_path / "run")
    why = "count changes in training, and no checkpoint holds it"
    assert read(tmp_path / "run" / "run.json")["resume"] == {"exact": False, "why": [why]}
    assert caplog.text.count(why) == 1


def test_a_lost_loss_ends_it_as_ours(code: Path, colors: Path, tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="the loss became"):
        fit(code, colors, "Small", tmp_path / "run", "model.lr=1e30")
    assert read(tmp_path / "run" / "run.json")["divergence"]["files"]


WRONG = [
    ("Missing", "own_modules_of_tests has no Missing"),
    ("network", "network is no LightningModule|Linear is no LightningModule"),
    ("Unsteppable", "Unsteppable has no training_step; add one that returns the loss of a batch"),
    (
        "Small module.depth=3",
        r"does not take depth \(did you mean width\?\); it takes num_classes, lr, width=4",
    ),
    ("Small module.width=wide", "module .*Small.*: .*change or remove that argument"),
    ("Small checkpoint.monitor=val/accuracy", "does not log that in validation; it logs val/loss, val/margin there"),
    (
        "Small callbacks=early_stopping callbacks.early_stopping.monitor=val/f1",
        "callbacks.early_stopping.monitor=val/f1",
    ),
    ("Small checkpoint.monitor=test/margin", "nothing may be chosen on the test set"),
    ("Small model.lr=auto", "model.lr=auto: is found by our own training step"),
    ("Small data.batch_size=auto", "data.batch_size=auto: is found by our own training step"),
    ("Small checkpoint.average_best=2 checkpoint.monitor=val/margin", "an average is judged by what we measure"),
    ("Embedder checkpoint.monitor=val_loss checkpoint.average_best=1 checkpoint.mode=up", "must be one of min, max"),
    ("Embedder checkpoint.monitor=val_loss optimized_metric=val/f1", "has no such metric; it has val_loss"),
    ("Pickled", r"save_hyperparameters\(\) keeps loss .* leave it out with save_hyperparameters\(ignore=\['loss'\]\)"),
    ("Failing", r"validation of one batch fails \(.*own_modules_of_tests.py line \d+: TypeError"),
    ("Wrongly", r"forward of own_modules_of_tests.Wrongly does not take images \(2, 3, 32, 32\)"),
]


@pytest.mark.parametrize(("typed", "message"), WRONG, ids=[typed for typed, _ in WRONG])
def test_what_cannot_be_trained_is_refused_before_anything_is_written(
    typed: str, message: str, code: Path, colors: Path, tmp_path: Path
) -> None:
    name, *more = typed.split()
    with pytest.raises(BadInput, match=message):
        fit(code, colors, name, tmp_path / "run", *more)
    assert not (tmp_path / "run").exists()


def test_arguments_without_a_class_are_refused(colors: Path) -> None:
    with pytest.raises(BadInput, match=r"module.width=3: of which class\? Add module._target_=my_code.MyClass"):
        validate(compose_config("train", "data=folder", f"data.root={colors}", "module.width=3"))


def test_on_two_devices(cli: Cli, code: Path, colors: Path, tmp_path: Path) -> None:
    two = ("trainer.devices=2", f"output={tmp_path / 'run'}")
    done = cli("train", *words(colors, code, "Small", *two, "data.batch_size=6"))
    assert done.returncode == 2
    assert "one of 2 processes gets none, which a module of your own cannot average" in done.stderr
    done = cli("train", *words(colors, code, "Small", *two, "data.batch_size=8", "trainer.limit_val_batches=1"))
    assert done.returncode == 0, done.stderr
    assert {"val/loss", "val/margin", "val/accuracy"} <= read(tmp_path / "run" / "metrics.json").keys()


def test_find_lr_refuses_it(code: Path, colors: Path) -> None:
    with pytest.raises(BadInput, match="find_lr.py sweeps our own training step"):
        find_lr(compose_config("find_lr", *words(colors, code, "Small")))


def test_a_module_of_a_group_of_its_own_folder(cli: Cli, code: Path, colors: Path, tmp_path: Path) -> None:
    """`configs/module/mine.yaml` beside the code; what stands there may be typed over."""
    configs = code / "configs" / "module"
    configs.mkdir(parents=True, exist_ok=True)
    (configs / "mine.yaml").write_text("_target_: own_modules_of_tests.Small\nwidth: 6\nlr: 0.5\n")
    chosen = ("module=mine", "module.lr=0.25", f"output={tmp_path / 'run'}")
    done = cli("train", *[each for each in words(colors, code, "Small", *chosen) if "_target_" not in each])
    assert done.returncode == 0, done.stderr
    arguments = read(tmp_path / "run" / "model" / "model.json")["arguments"]
    assert (arguments["width"], arguments["lr"]) == (6, 0.25)


def test_a_sweep_over_its_arguments(cli: Cli, code: Path, colors: Path, tmp_path: Path) -> None:
    search = (
        *("hparams_search=optuna", "hydra.sweeper.n_trials=2", "hydra.sweeper.sampler.seed=1"),
        *("hydra.sweeper.params={module.width:{choice:[4,6]}}", "optimized_metric=val/margin"),
        *("hydra.sweeper.study_name=own", f"paths.runs={tmp_path}"),
    )
    done = cli("train", "-m", *words(colors, code, "Small", "trainer.max_epochs=1", *search))
    assert done.returncode == 0, done.stderr
    assert "complete: 2" in (tmp_path / "sweeps" / "own" / "results.yaml").read_text()
    assert (tmp_path / "sweeps" / "own" / "best.yaml").is_file()
