"""Weights, biases, gradients and the outputs of layers as histograms in TensorBoard."""

import logging
from collections.abc import Callable
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback
from pytorch_lightning.loggers import TensorBoardLogger
from torch import nn

log = logging.getLogger(__name__)
MAX_VALUES = 100_000
"""Larger tensors are subsampled at even strides."""


class TensorHistograms(Callback):
    """Every `every_steps` optimizer steps, from the first on: `weights/…`, `biases/…`, `gradients/…`, `outputs/…`.

    A compiled network runs those steps as it was written: compiled, it does not say what its layers give.
    """

    def __init__(self, every_steps: int = 100) -> None:
        if every_steps < 1:
            raise ValueError(f"every_steps={every_steps}: must be 1 or more")
        self.every_steps = every_steps
        self._done = -1
        self._is_due = False
        self._hooks: list[Any] = []

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._done = -1  # after going back a step comes again
        if not _writers(trainer):
            log.warning("callbacks=tensor_histograms: there is no TensorBoard to write to; set logger=tensorboard")

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        step = trainer.global_step
        self._is_due = bool(step % self.every_steps == 0 and step != self._done and _writers(trainer))
        if self._is_due:
            self._done = step
            torch.compiler.set_stance("force_eager")
            seen: set[str] = set()
            for name, module in pl_module.named_modules():
                if not any(module.children()) and not isinstance(module, nn.Identity) and name.startswith("backbone."):
                    self._hooks.append(module.register_forward_hook(self._hook(trainer, name, seen)))

    def on_before_optimizer_step(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, optimizer: torch.optim.Optimizer
    ) -> None:
        """The gradients are complete here, and the weights are those that gave them."""
        if self._done != trainer.global_step:
            return
        for name, parameter in pl_module.named_parameters():
            short = name.removeprefix("backbone.")
            kind = "biases" if name.endswith("bias") else "weights"
            _add(trainer, f"{kind}/{short}", parameter)
            if parameter.grad is not None:
                _add(trainer, f"gradients/{short}", parameter.grad)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self._remove_hooks()

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        self._remove_hooks()

    def _hook(self, trainer: pl.Trainer, name: str, seen: set[str]) -> Callable[..., None]:
        def add(module: nn.Module, inputs: Any, output: Any) -> None:
            if isinstance(output, torch.Tensor) and name not in seen:  # a layer may be used more than once
                seen.add(name)
                _add(trainer, f"outputs/{name.removeprefix('backbone.')}", output)

        return add

    def _remove_hooks(self) -> None:
        if self._hooks:
            torch.compiler.set_stance("default")
        for hook in self._hooks:
            hook.remove()
        self._hooks = []


def _writers(trainer: pl.Trainer) -> list[Any]:
    return [logger.experiment for logger in trainer.loggers if isinstance(logger, TensorBoardLogger)]


def _add(trainer: pl.Trainer, tag: str, tensor: torch.Tensor) -> None:
    values = tensor.detach().flatten()
    values = values[:: max(1, len(values) // MAX_VALUES)].float().cpu()
    values = values[values.isfinite()]
    if len(values):
        for writer in _writers(trainer):
            writer.add_histogram(tag, values, trainer.global_step)
