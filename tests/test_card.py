"""The commands that the project is known by, to the last letter and to their end; only where results go is added."""

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from sightline.launch.container.image import REPOSITORY, content_tag
from tests.conftest import PROJECT, Cli
from tests.launch.conftest import BUCKET, REGION, ROLE, aws, service  # noqa: F401
from tests.launch.fake_sagemaker import FakeSageMaker

pytestmark = pytest.mark.slow
HOUR = 3600.0
DATA, WEIGHTS = os.environ.get("SIGHTLINE_DATA"), os.environ.get("SIGHTLINE_WEIGHTS")
MOBILENET = "mobilenetv2_100.safetensors"


def folder_of(done: subprocess.CompletedProcess[str]) -> Path:
    assert done.returncode == 0, done.stderr
    return Path(done.stdout.strip().splitlines()[-1].removeprefix("results: "))


def metrics_of(folder: Path) -> dict[str, float]:
    return json.loads((folder / "metrics.json").read_text())


def test_train_the_digits(cold_cli: Cli, tmp_path: Path) -> None:
    done = cold_cli("train", "experiment=digits", f"paths.runs={tmp_path / 'runs'}", f"paths.data={tmp_path / 'data'}")
    assert metrics_of(folder_of(done))["test/accuracy"] >= 0.98


@pytest.mark.realdata
@pytest.mark.skipif(not DATA, reason="SIGHTLINE_DATA names no folder")
@pytest.mark.parametrize(("experiment", "accuracy", "weights"), [("gtsrb", 0.98, None), ("intel", 0.92, MOBILENET)])
def test_train_an_experiment(
    experiment: str, accuracy: float, weights: str | None, cold_cli: Cli, tmp_path: Path
) -> None:
    """The accuracies stand below those of the cards, whose intervals begin at 0.989 and 0.923."""
    words = [f"data.root={Path(str(DATA)) / experiment}"]
    if weights is not None:
        if not WEIGHTS:
            pytest.skip(f"SIGHTLINE_WEIGHTS names no folder with {weights}")
        words.append(f"model.weights={Path(WEIGHTS) / weights}")
    done = cold_cli("train", f"experiment={experiment}", *words, f"paths.runs={tmp_path}", timeout=HOUR)
    assert metrics_of(folder_of(done))["val/accuracy"] >= accuracy


def test_search_settings(cold_cli: Cli, tmp_path: Path) -> None:
    paths = (f"paths.runs={tmp_path / 'runs'}", f"paths.data={tmp_path / 'data'}")
    done = cold_cli("train", "-m", "hparams_search=optuna", "experiment=digits", *paths, timeout=HOUR)
    assert done.returncode == 0, done.stderr
    folder = tmp_path / "runs" / "sweeps" / "digits-optuna"
    results = OmegaConf.load(folder / "results.yaml")
    assert sum(results.num_trials.values()) == 20
    assert results.num_trials.failed == 0
    assert results.best_value >= 0.97
    assert (folder / "report.html").is_file()


def test_train_on_sagemaker(
    service: FakeSageMaker,  # noqa: F811
    aws: Callable[[str], Any],  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The target of the Makefile, against a service that runs the job here, and a registry that has the image."""
    registry = aws("ecr")
    registry.create_repository(repositoryName=REPOSITORY)
    config = {"digest": f"sha256:{hashlib.sha256(b'').hexdigest()}", "mediaType": "a", "size": 0}
    manifest = {"schemaVersion": 2, "mediaType": "application/vnd.docker.distribution.manifest.v2+json", "layers": []}
    registry.put_image(
        repositoryName=REPOSITORY, imageTag=content_tag(), imageManifest=json.dumps({**manifest, "config": config})
    )
    for name, value in (("SAGEMAKER_ROLE", ROLE), ("SAGEMAKER_BUCKET", BUCKET), ("AWS_REGION", REGION)):
        monkeypatch.setenv(name, value)
    words = f"launch.allow_dirty=true paths.runs={tmp_path / 'runs'}"
    command = ["make", "--old-file=.venv/installed", f"PY={sys.executable}", "sagemaker-train", f"ARGS={words}"]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, timeout=600)
    folder = folder_of(done)
    assert metrics_of(folder)["test/accuracy"] >= 0.98
    record = json.loads((folder / "run.json").read_text())
    assert (record["status"], record["launch"]["backend"]) == ("finished", "sagemaker")
    (request,) = service.requests
    assert request["AlgorithmSpecification"]["TrainingImage"].endswith(f"/{REPOSITORY}:{content_tag()}")
    assert request["HyperParameters"]["experiment"] == "digits"
    assert (folder / "model" / "model.safetensors").is_file()
