"""The command line as a person types it, with containers as the place to run."""

import json
from pathlib import Path

import pytest
import yaml
from tests.conftest import TINY, Cli, do_jobs
from tests.images import image

from sightline.launch.container.engine import docker

pytestmark = pytest.mark.container


def words_for(colors: Path, runs: Path, *words: str) -> list[str]:
    launch = ["launch=local_container", f"launch.image={image()}", "launch.allow_dirty=true"]
    tiny = [word for word in TINY if not word.startswith(("stages", "trainer.max_epochs"))]
    return [*launch, "data=folder", f"data.root={colors}", "name=colors", f"paths.runs={runs}", *tiny, *words]


def test_one_more_word_and_it_runs_in_a_container(
    cli: Cli, colors: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Then the run lies here like any other, and can be evaluated here or in a container."""
    runs = tmp_path / "runs"
    done = cli("train", *words_for(colors, runs, "trainer.max_epochs=1", "explanation.num_images=1"))
    assert done.returncode == 0, done.stderr
    folder = Path(done.stdout.strip().splitlines()[-1].removeprefix("results: "))
    for name in ("explanations/index.html", "model/model.safetensors", "checkpoints/best.ckpt", "manifest.csv"):
        assert (folder / name).is_file()
    record = json.loads((folder / "run.json").read_text())
    assert (record["status"], record["launch"]["backend"]) == ("finished", "local_container")
    (job,) = [path.stem for path in (runs / "jobs").glob("*.json")]
    capsys.readouterr()
    do_jobs(runs, "status", job)
    assert capsys.readouterr().out.strip() == "succeeded"
    measured = cli("evaluate", f"run={folder}", f"paths.runs={runs}")
    assert measured.returncode == 0, measured.stderr
    there = [word for word in words_for(colors, runs) if word.startswith(("launch", "paths"))]
    done = cli("evaluate", f"run={folder}", *there)
    assert done.returncode == 0, done.stderr
    (metrics,) = [json.loads(path.read_text()) for path in (runs / "jobs").glob("evaluate*/metrics.json")]
    assert metrics["test/accuracy"] == json.loads((folder / "metrics.json").read_text())["test/accuracy"]


def test_a_sweep_of_six_with_two_at_once_prunes_and_finishes(cli: Cli, colors: Path, tmp_path: Path) -> None:
    points = ",".join(f"{{model.lr: {lr}}}" for lr in (1e-9, 0.01, 1e-8, 0.005, 1e-7, 0.02))
    search = [
        "hydra/sweeper=sightline",
        "launch.n_parallel=2",
        "augmentation=none",
        "+hydra.sweeper.params={model.lr: {interval: [1.0e-10, 0.1], log: true}}",
        f"hydra.sweeper.enqueue=[{points}]",
        "hydra.sweeper.pruner={_target_: optuna.pruners.ThresholdPruner, lower: 0.9, n_warmup_steps: 8}",
        "hydra.sweeper.n_trials=6",
        "hydra.sweeper.study_name=six",
    ]
    done = cli("train", "-m", *words_for(colors, tmp_path / "runs", "trainer.max_epochs=12", *search))
    assert done.returncode == 0, done.stderr
    folder = tmp_path / "runs" / "sweeps" / "six"
    counts = yaml.safe_load((folder / "results.yaml").read_text())["num_trials"]
    assert counts["complete"] + counts["pruned"] == 6
    assert counts["complete"] >= 1
    assert counts["pruned"] >= 1
    best = yaml.safe_load((folder / "results.yaml").read_text())["best_trial"]
    assert (folder / "trials" / str(best) / "model" / "model.safetensors").is_file()
    assert not docker("ps", "--all", "--quiet", "--filter", "name=sightline-six").strip(), "nothing is left behind"


def test_without_an_engine_or_an_image_nothing_is_started(cli: Cli, colors: Path, tmp_path: Path) -> None:
    words = words_for(colors, tmp_path / "runs")
    nowhere = cli("train", *words, DOCKER_HOST="unix:///nonexistent.sock")
    assert nowhere.returncode == 2
    assert "launch=local_container: no container engine answers" in nowhere.stderr
    unknown = cli("train", *words, "launch.image=sightline-train:unknown")
    assert unknown.returncode == 2
    assert "launch.image=sightline-train:unknown: the engine has no such image; make image builds it" in unknown.stderr
    assert "Traceback" not in nowhere.stderr + unknown.stderr
