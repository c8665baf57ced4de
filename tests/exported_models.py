"""Tiny exported models: the folder that a server opens."""

from dataclasses import replace
from pathlib import Path

from sightline.models.checkpoint import load_model
from sightline.models.exported import FILES
from sightline.models.onnx_graph import write_onnx
from sightline.runs.files import read_json
from sightline.task_spec import Calibration, ValueRange
from tests.saved_models import save_tiny_model


def export_tiny_model(
    folder: Path, channels: int = 3, value_range: ValueRange | None = None, *, threshold: float | None = 0.6
) -> Path:
    """A model folder with random weights, the classes a and b, 32 px, and its ONNX file."""
    save_tiny_model(folder, channels, value_range)
    saved = load_model(folder)
    spec = replace(saved.spec, calibration=Calibration(1.5, threshold, 0.95, 100))
    spec.save(folder / "task_spec.json")
    facts = {"name": "tiny", "version": "1", "sha256": read_json(folder / "model.json")["sha256"], "precision": "fp32"}
    write_onnx(folder / FILES["fp32"], saved.network, spec, {**facts, "created": "2026-11-28T12:00:00+00:00"})
    return folder
