"""The LightningModule around a backbone."""

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytorch_lightning as pl
import torch
from torch import nn
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau
from torchmetrics import MeanMetric
from torchmetrics.classification import MulticlassAccuracy

from sightline.distributed.agreement import mean
from sightline.errors import BadInput
from sightline.models.backbones import ModelCard, head_modules
from sightline.models.metrics import classification_metrics
from sightline.task_spec import TaskSpec

Batch = tuple[torch.Tensor, torch.Tensor]
TOTAL_STEPS = ("total_steps", "T_max", "total_iters")
"""What torch's schedulers call the length of training."""


@dataclass(frozen=True)
class Recipe:
    """How a network is trained.

    `optimizer` takes the parameters; `scheduler` takes the optimizer and, if it has such an argument, the number of
    steps, which then comes from the trainer, and it moves at every step. Other schedulers move once an epoch.
    """

    optimizer: Callable[..., torch.optim.Optimizer]
    scheduler: Callable[..., LRScheduler | ReduceLROnPlateau]
    label_smoothing: float = 0.0
    freeze: str = "none"
    monitor: str = "val/accuracy"


class Classifier(pl.LightningModule):
    """Trains a backbone on normalised images `(B, 3, H, W)` and labels `(B,)`."""

    def __init__(
        self, backbone: nn.Module, spec: TaskSpec, card: ModelCard, recipe: Recipe, *, channels_last: bool = True
    ) -> None:
        super().__init__()
        self.backbone, self.spec, self.card, self.recipe = backbone, spec, card, recipe
        self.memory_format = torch.channels_last if channels_last else torch.contiguous_format
        self.backbone.to(memory_format=self.memory_format)  # pyright: ignore[reportCallIssue]  (torch's stub lacks it)
        self.loss = nn.CrossEntropyLoss(label_smoothing=recipe.label_smoothing)
        self.train_loss, self.val_loss = MeanMetric(), MeanMetric()
        self.train_accuracy = MulticlassAccuracy(spec.num_classes, average="micro", validate_args=False)
        self.val_metrics = classification_metrics(spec.num_classes, "val")
        self.freezes = recipe.freeze == "backbone"
        if self.freezes:
            self._freeze_backbone()
        self.train()  # Lightning starts from the modes that it finds

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Logits `(B, num_classes)`."""
        return self.backbone(images.to(self.dtype, memory_format=self.memory_format))

    def training_step(self, batch: Batch, batch_idx: int) -> dict[str, torch.Tensor]:
        """The loss to minimise, and `mean_loss`, that of the whole batch over all processes."""
        images, labels = batch
        logits = self(images)
        loss = self.loss(logits, labels)
        self.train_loss.update(loss.detach(), len(labels))
        self.train_accuracy.update(logits.detach(), labels)
        mean_loss = mean(loss.detach())
        self.log("train/step_loss", mean_loss, on_step=True, on_epoch=False, prog_bar=True)
        self.log("train/loss", self.train_loss, on_step=False, on_epoch=True)
        self.log("train/accuracy", self.train_accuracy, on_step=False, on_epoch=True)
        return {"loss": loss, "mean_loss": mean_loss}

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        images, labels = batch
        if len(labels):  # of several processes some have no part in the last batch
            logits = self(images).float()
            self.val_loss.update(nn.functional.cross_entropy(logits, labels), len(labels))
            self.val_metrics.update(logits, labels)
        self.log("val/loss", self.val_loss)
        self.log_dict(dict(self.val_metrics.items()), prog_bar=False)

    def configure_optimizers(self) -> Any:
        optimizer = self.recipe.optimizer(self._trained_parameters())
        name = self._step_argument()
        length = {} if self._is_given(name) else self._length(name, int(self.trainer.estimated_stepping_batches))
        moves = {
            "scheduler": self.recipe.scheduler(optimizer, **length),
            "interval": "step" if name else "epoch",
            "monitor": self.recipe.monitor,
        }
        return {"optimizer": optimizer, "lr_scheduler": moves}

    def check_optimizer(self) -> None:
        """Raises: BadInput when the optimizer or the scheduler refuses its settings."""
        name = self._step_argument()
        try:
            optimizer = self.recipe.optimizer(self._trained_parameters())
            self.recipe.scheduler(optimizer, **({} if self._is_given(name) else {name: 100}))
        except (TypeError, ValueError) as error:
            raise BadInput(f"model.optimizer or model.scheduler: {error}; change that setting") from error

    def train(self, mode: bool = True) -> "Classifier":
        """Frozen batch norm keeps the statistics it came with."""
        super().train(mode)
        if self.freezes:
            for module in self.backbone.modules():
                if isinstance(module, nn.modules.batchnorm._BatchNorm):
                    module.eval()
        return self

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["task_spec"], checkpoint["model_card"] = self.spec.to_dict(), self.card.to_dict()

    def _trained_parameters(self) -> list[nn.Parameter]:
        return [parameter for parameter in self.parameters() if parameter.requires_grad]

    def _length(self, name: str, num_steps: int) -> dict[str, float]:
        """The scheduler's number of steps; OneCycleLR divides by nothing when its warm-up is exactly one of them."""
        share = getattr(self.recipe.scheduler, "keywords", {}).get("pct_start")
        if share is None or share * num_steps != 1:
            return {name: num_steps}
        return {name: num_steps, "pct_start": share * 1.001}

    def _step_argument(self) -> str:
        """What the scheduler calls the number of steps; nothing when it does not count steps."""
        taken = inspect.signature(self.recipe.scheduler).parameters
        return next((name for name in TOTAL_STEPS if name in taken), "")

    def _is_given(self, name: str) -> bool:
        """Whether the configuration has set an argument of the scheduler, or there is none to set."""
        return not name or name in getattr(self.recipe.scheduler, "keywords", {})

    def _freeze_backbone(self) -> None:
        prefixes = tuple(f"{name}." for name in head_modules(self.backbone))
        for name, parameter in self.backbone.named_parameters():
            parameter.requires_grad = name.startswith(prefixes)
