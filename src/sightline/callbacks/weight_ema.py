"""An exponential moving average (EMA) of the weights: validated and saved instead of the trained ones."""

from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback

from sightline.errors import BadInput

STATE = "ema"
"""The checkpoint's entry with the trained weights; its `state_dict` has the averaged ones."""
BACKBONE = "backbone."
HALF = (torch.float16, torch.bfloat16)


class WeightEMA(Callback):
    """Averages the backbone's weights and its batch norm's running statistics after every step of the optimizer.

    Of the average so far a share of `decay` stays, but never more than (1 + n) / (10 + n) at the nth step, as in
    TensorFlow's ExponentialMovingAverage: the average starts as the weights themselves, and of a short run it holds
    the last tenth or so. Counters are copied; 16-bit weights have an average of 32 bits.
    """

    def __init__(self, decay: float) -> None:
        self.decay = decay
        self._num_updates = self._last_step = 0
        self._average: dict[str, torch.Tensor] = {}
        self._loaded: dict[str, torch.Tensor] | None = None
        self._trained: dict[str, torch.Tensor] | None = None
        """What is trained, while the average stands in for it."""
        self._tensors: dict[str, torch.Tensor] = {}
        """The network's own, looked up once: a `state_dict()` for every step takes 1 ms."""

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Lightning has filled the network with the average by now.

        Raises: BadInput for a checkpoint without trained weights beside it.
        """
        if STATE not in checkpoint:
            raise BadInput("model.ema_decay: this checkpoint has no average of the weights; set it to null to go on")
        state = checkpoint[STATE]
        self._num_updates = state["num_updates"]
        self._loaded = {name: checkpoint["state_dict"][BACKBONE + name].clone() for name in state["trained"]}
        _fill(_tensors(pl_module), state["trained"])

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start the average, once the weights are on their device and in their precision."""
        tensors = _tensors(pl_module)
        if self._loaded is None:
            self._num_updates = 0
        start = self._loaded or tensors
        self._average = {
            name: start[name].detach().to(tensor.device, _dtype_of_average(tensor), copy=True)
            for name, tensor in tensors.items()
        }
        self._loaded = self._trained = None

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._last_step, self._tensors = trainer.global_step, _tensors(pl_module)

    @torch.no_grad()
    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if trainer.global_step == self._last_step:  # in the middle of an accumulation
            return
        self._last_step = trainer.global_step
        self._num_updates += 1
        kept = min(self.decay, (1 + self._num_updates) / (10 + self._num_updates))
        averages, values = [], []
        for name, tensor in self._tensors.items():
            average = self._average[name]
            if tensor.is_floating_point():
                averages.append(average)
                values.append(tensor.to(average.dtype))
            else:
                average.copy_(tensor)
        torch._foreach_lerp_(averages, values, 1 - kept)  # pyright: ignore[reportPrivateImportUsage]

    @torch.no_grad()
    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self._average:
            tensors = _tensors(pl_module)
            self._trained = {name: tensor.clone() for name, tensor in tensors.items()}
            _fill(tensors, self._average)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Before the best checkpoint is saved: Lightning calls those callbacks last."""
        if self._trained is not None:
            _fill(_tensors(pl_module), self._trained)
            self._trained = None

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        state = checkpoint["state_dict"]
        trained = self._trained or {name: state[BACKBONE + name] for name in self._average}
        checkpoint[STATE] = {"num_updates": self._num_updates, "trained": trained}
        checkpoint["state_dict"] = {**state, **{BACKBONE + name: value for name, value in self._average.items()}}


def _tensors(module: pl.LightningModule) -> dict[str, torch.Tensor]:
    """Parameters and buffers of the backbone as they are, not copies."""
    backbone: Any = module.backbone
    return backbone.state_dict()


@torch.no_grad()
def _fill(tensors: dict[str, torch.Tensor], values: dict[str, torch.Tensor]) -> None:
    for name, value in values.items():
        tensors[name].copy_(value)


def _dtype_of_average(tensor: torch.Tensor) -> torch.dtype:
    """32 bits for averages of 16-bit weights, where a small share would be rounded away."""
    return torch.float32 if tensor.dtype in HALF else tensor.dtype
