"""Packages for a registry as a pipeline leaves them, in small."""

import json
from collections.abc import Callable
from pathlib import Path

MakePackage = Callable[..., Path]


def make_package(
    parent: Path, weights: str = "first", accuracy: float | None = 0.9, *, is_exported: bool = True
) -> Path:
    """Make the folder of an exported run, whose weights are a text; `accuracy` is of the test set."""
    folder = parent / f"package-{weights}"
    files = {
        "run.json": json.dumps({"task": "train", "name": "digits", "status": "finished", "commit": "abc"}),
        "config.yaml": "name: digits\n",
        "metrics.json": json.dumps({} if accuracy is None else {"val/accuracy": 0.95, "test/accuracy": accuracy}),
        "manifest.csv": "path,label,split\na.png,1,test\n",
        "model/model.safetensors": weights,
        "model/model.json": "{}",
        "model/task_spec.json": "{}",
        "model/model_card.md": f"# {weights}\n",
        "evaluation/report.html": "<p>report",
        "checkpoints/last.ckpt": "what training goes on from",
        "tensorboard/events": "",
        "code/mine.py": "",
        "code/__pycache__/mine.pyc": "",
    }
    if is_exported:
        files["model/model.onnx"] = f"onnx of {weights}"
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder
