"""`docker run IMAGE selftest`: whether an image can train, measure, explain and export."""

import importlib
import json
import os
import pkgutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from sightline.launch.container.folder import ContainerFolder

JOB = {
    "experiment": "digits",
    "model.name": "test_resnet",
    "trainer.max_epochs": "1",
    "trainer.limit_train_batches": "2",
    "evaluation": "short",
    "explanation.num_images": "1",
    "stages": "[fit,test,explain,export]",
    "export.cost": "false",
}
OF_THE_SERVICE = ("fastapi", "prometheus_client", "starlette", "uvicorn")
"""Packages of the extra `serve`, which an image that trains does not have."""
LOADED_LATE = ("onnx", "onnxruntime.quantization", "onnxscript")
"""What no module of ours imports as it loads, and a job needs."""


def import_everything() -> int:
    """Import every module of the package and the plugins, and all that they need; return how many there are."""
    names = [
        module.name
        for package in ("sightline", "hydra_plugins")
        for module in pkgutil.walk_packages(importlib.import_module(package).__path__, f"{package}.")
    ]
    for name in (*names, *LOADED_LATE):
        try:
            importlib.import_module(name)
        except ModuleNotFoundError as error:
            if (error.name or "").split(".")[0] not in OF_THE_SERVICE:
                raise
    return len(names)


def selftest() -> int:
    """Import everything, then train, measure, explain and export a tiny network as a job; return the exit code."""
    started = time.monotonic()
    print(f"imported {import_everything()} modules in {time.monotonic() - started:.1f} s", flush=True)
    with tempfile.TemporaryDirectory() as name:
        folder = ContainerFolder(Path(name))
        folder.config.mkdir(parents=True)
        (folder.config / "hyperparameters.json").write_text(json.dumps(JOB))
        (folder.config / "resourceconfig.json").write_text(json.dumps({"current_host": "algo-1", "hosts": ["algo-1"]}))
        command = [sys.executable, "-m", "sightline.launch.container.entrypoint", "train", "--base-dir", name]
        code = subprocess.run(command, env=os.environ | {"SIGHTLINE_SCRATCH": f"{name}/scratch"}).returncode
        missing = [path for path in _promised(folder) if not path.is_file()]
    if code or missing:
        print(f"self-test failed: exit code {code}, missing: {', '.join(map(str, missing)) or 'nothing'}")
        return code or 1
    print(f"self-test passed in {time.monotonic() - started:.1f} s")
    return 0


def _promised(folder: ContainerFolder) -> list[Path]:
    """The files that a job leaves."""
    results = ("run.json", "metrics.json", "evaluation/report.html", "explanations/index.html")
    model = ("model.safetensors", "task_spec.json", "model.json", "model.onnx", "export.json", "model_card.md")
    return [*(folder.output_data / each for each in results), *(folder.model / each for each in model)]
