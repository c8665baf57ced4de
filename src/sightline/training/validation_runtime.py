"""Validates a fit by another runtime than torch: the network compiled, or its graph of each validation."""

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning import Callback

from sightline.data.transforms import to_pixels
from sightline.models.exported import ExportedModel
from sightline.models.onnx_graph import write_onnx
from sightline.models.runtimes import FilledForward, OnnxRuntime


class ValidationRuntime(Callback):
    """Lets our module validate through a network that is compiled once, or through the graph of its present weights."""

    def __init__(self, runtime: str) -> None:
        """`runtime` is `compiled` or `onnx`."""
        self.runtime = runtime
        self._compiled: FilledForward | None = None

    def on_validation_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        if self.runtime == "onnx":
            pl_module.validation_forward = _GraphForward(pl_module)
        elif not pl_module.is_compiled:
            self._compiled = self._compiled or FilledForward(pl_module.backbone)
            pl_module.validation_forward = self._compiled

    def on_validation_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        pl_module.validation_forward = None


class _GraphForward:
    """The graph of the weights that a module has when the first batch comes, by when an average has taken its place."""

    def __init__(self, module: Any) -> None:
        self.module, self.runtime = module, OnnxRuntime(self._export)

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        return self.runtime.logits(to_pixels(images, self.module.spec))

    def _export(self, batch: torch.Tensor) -> ExportedModel:
        spec = replace(self.module.spec, views="none", calibration=None)
        with tempfile.TemporaryDirectory() as folder, torch.random.fork_rng(), torch.inference_mode(False):
            network = self.module.architecture.create()
            network.load_state_dict(self.module.backbone.state_dict())
            path = Path(folder, "model.onnx")
            with torch.autocast("cpu", enabled=False):
                write_onnx(path, network.eval(), spec, {})
            return ExportedModel.open(path, num_threads=torch.get_num_threads())
