"""The LightningModule around a backbone."""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import pytorch_lightning as pl
import torch
from torch import nn
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau
from torchmetrics import MeanMetric, Metric
from torchmetrics.classification import MulticlassAccuracy

from sightline.config.location import where_raised
from sightline.distributed.agreement import mean
from sightline.errors import BadInput
from sightline.models.backbones import Architecture, head_modules
from sightline.models.cpu.depthwise import speed_up_strided_depthwise
from sightline.models.cpu.small_maps import speed_up_small_maps
from sightline.models.distillation import Teacher
from sightline.models.metrics import classification_metrics
from sightline.models.mixing import Mixing
from sightline.models.parameter_groups import parameter_groups, stages
from sightline.task_spec import TaskSpec

Batch = tuple[torch.Tensor, torch.Tensor]
TOTAL_STEPS = ("total_steps", "T_max", "total_iters", "num_training_steps")
"""Arguments of torch's and others' schedulers for the number of steps."""


@dataclass(frozen=True)
class Recipe:
    """How a network is trained.

    `optimizer` takes the parameters; `scheduler` takes the optimizer and, if it has such an argument, the number of
    steps, which then comes from the trainer, and it moves at every step. Other schedulers move once an epoch. `loss`
    takes logits and labels, or each image's shares of the classes.
    """

    optimizer: Callable[..., torch.optim.Optimizer]
    scheduler: Callable[..., LRScheduler | ReduceLROnPlateau]
    loss: Callable[[torch.Tensor, torch.Tensor], torch.Tensor] = field(default_factory=nn.CrossEntropyLoss)
    chance_loss: float | None = None  # of guessing; None: the logarithm of the number of classes
    freeze: str = "none"
    monitor: str | None = "val/accuracy"  # None: no validation decides, the last epoch is kept
    mixing: Mixing | None = None
    teacher: Teacher | None = None
    norm_weight_decay: bool = True
    layer_lr_decay: float | None = None
    fast_convolutions: bool = True
    metrics: Mapping[str, Metric] = field(default_factory=dict)  # of validation, beyond ours


class Classifier(pl.LightningModule):
    """Trains a backbone on normalised images `(B, 3, H, W)` and labels `(B,)`."""

    def __init__(
        self,
        backbone: nn.Module,
        spec: TaskSpec,
        architecture: Architecture,
        recipe: Recipe,
        *,
        channels_last: bool = True,
    ) -> None:
        super().__init__()
        self.backbone, self.spec, self.architecture, self.recipe = backbone, spec, architecture, recipe
        self.memory_format = torch.channels_last if channels_last else torch.contiguous_format
        if recipe.fast_convolutions:
            speed_up_strided_depthwise(self.backbone)
            speed_up_small_maps(self.backbone)
        self.backbone.to(memory_format=self.memory_format)  # pyright: ignore[reportCallIssue]  (torch's stub lacks it)
        self.loss = recipe.loss
        self.train_size = spec.image_size
        self.schedule_from = 0  # the step at which the schedule begins, of a run that is trained on
        self.is_compiled, self._largest_batch = False, 0
        self.validation_forward: Callable[[torch.Tensor], torch.Tensor] | None = None
        """What computes logits in validation, where another runtime than torch does."""
        self.train_loss, self.val_loss = MeanMetric(), MeanMetric()
        self.train_accuracy = MulticlassAccuracy(spec.num_classes, average="micro", validate_args=False)
        self.val_metrics = classification_metrics(spec.num_classes, "val")
        self.further_metrics = nn.ModuleDict({f"val/{name}": each for name, each in recipe.metrics.items()})
        self.freezes = recipe.freeze != "none"
        if recipe.freeze == "backbone":
            self._freeze_backbone()
        self.train()  # Lightning starts from the modes that it finds

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Logits `(B, num_classes)`."""
        return self.backbone(images.to(self.dtype, memory_format=self.memory_format))

    def training_step(self, batch: Batch, batch_idx: int) -> dict[str, torch.Tensor]:
        """The loss to minimise, and `mean_loss`, that of the whole batch over all processes."""
        images, labels = batch
        loss, logits, labels = self.objective(images, labels)
        self.train_loss.update(loss.detach(), len(labels))
        self.train_accuracy.update(logits.detach(), labels)
        mean_loss = mean(loss.detach())
        self.log("train/step_loss", mean_loss, on_step=True, on_epoch=False, prog_bar=True)
        self.log("train/loss", self.train_loss, on_step=False, on_epoch=True)
        self.log("train/accuracy", self.train_accuracy, on_step=False, on_epoch=True)
        return {"loss": loss, "mean_loss": mean_loss}

    def objective(self, images: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """What training minimises, the logits `(B, num_classes)`, and the labels `(B,)` of what was mostly seen."""
        if self.train_size != images.shape[-1]:
            size = (self.train_size, self.train_size)
            images = nn.functional.interpolate(images, size=size, mode="bilinear", antialias=True)
        targets, teacher = labels, self.recipe.teacher
        if self.recipe.mixing is not None:
            images, targets = self.recipe.mixing(images, labels, self.spec.num_classes)
            labels = targets.argmax(1)
        logits = self(images)
        loss = self.loss(logits, targets)
        return loss if teacher is None else teacher.blend(loss, logits, images), logits, labels

    def compile_backbone(self, mode: str | None = None, backend: str | Callable[..., Any] = "inductor") -> None:
        """Compile for batches of one size: a smaller last one of a validation is filled up to it."""
        self.backbone.compile(mode=mode, backend=backend, dynamic=False)
        self.is_compiled = True

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        images, labels = batch
        if len(labels):  # of several processes some have no part in the last batch
            logits = self._forward_filled(images).float()
            self.val_loss.update(nn.functional.cross_entropy(logits, labels), len(labels))
            self.val_metrics.update(logits, labels)
            for metric in self.further_metrics.values():
                metric.update(logits, labels)  # pyright: ignore[reportCallIssue]
        self.log("val/loss", self.val_loss)
        self.log_dict(dict(self.val_metrics.items()), prog_bar=False)
        for name, metric in self.further_metrics.items():
            self.log(name, metric)  # pyright: ignore[reportArgumentType]

    def _forward_filled(self, images: torch.Tensor) -> torch.Tensor:
        """Logits `(B, num_classes)`, from a batch of the usual size when the network is compiled for that."""
        if self.validation_forward is not None:
            return self.validation_forward(images.to(self.dtype, memory_format=self.memory_format)).to(images.device)
        count = len(images)
        self._largest_batch = max(self._largest_batch, count)
        if not self.is_compiled or count == self._largest_batch:
            return self(images)
        filled = images.new_zeros((self._largest_batch, *images.shape[1:]))
        filled[:count] = images
        return self(filled)[:count]

    def configure_optimizers(self) -> Any:
        optimizer = self.make_optimizer()
        name = self._step_argument()
        num_steps = int(self.trainer.estimated_stepping_batches) - self.schedule_from
        length = {} if self._is_given(name) else self._length(name, num_steps)
        moves = {
            "scheduler": self.recipe.scheduler(optimizer, **length, **self._peaks(optimizer)),
            "interval": "step" if name else "epoch",
            "monitor": self.recipe.monitor,
        }
        return {"optimizer": optimizer, "lr_scheduler": moves}

    @property
    def counts_steps(self) -> bool:
        """Whether the scheduler has to know how many steps there will be."""
        return not self._is_given(self._step_argument())

    def check_optimizer(self) -> None:
        """Raises: BadInput when the optimizer or the scheduler refuses its settings, or is none."""
        name = self._step_argument()
        try:
            optimizer: Any = self.make_optimizer()
            if not isinstance(optimizer, torch.optim.Optimizer):
                raise BadInput(_explain_kind("optimizer", self.recipe.optimizer, optimizer, "torch.optim.Optimizer"))
            length = {} if self._is_given(name) else {name: 100}
            scheduler: Any = self.recipe.scheduler(optimizer, **length, **self._peaks(optimizer))
        except BadInput:
            raise
        except Exception as error:  # whatever own code raises
            raise BadInput(f"model.optimizer or model.scheduler: {where_raised(error)}; change that setting") from error
        if not isinstance(scheduler, LRScheduler | ReduceLROnPlateau):
            kinds = "torch.optim.lr_scheduler.LRScheduler"
            raise BadInput(_explain_kind("scheduler", self.recipe.scheduler, scheduler, kinds))

    def train(self, mode: bool = True) -> "Classifier":
        """As in torch, but frozen batch norm stays in eval mode and keeps its statistics."""
        super().train(mode)
        if self.freezes:
            for module in self.backbone.modules():
                is_norm = isinstance(module, nn.modules.batchnorm._BatchNorm)
                if is_norm and not any(parameter.requires_grad for parameter in module.parameters()):
                    module.eval()
        return self

    def train_last_stages(self, count: int) -> None:
        """Freeze all but the head and the stages nearest to it, `count` in all."""
        trained = set().union(*stages(self.backbone)[-count:])
        for name, parameter in self.backbone.named_parameters():
            parameter.requires_grad = name in trained
        self.train()

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["task_spec"], checkpoint["architecture"] = self.spec.to_dict(), self.architecture.to_dict()

    def make_optimizer(self) -> torch.optim.Optimizer:
        recipe = self.recipe
        if recipe.norm_weight_decay and recipe.layer_lr_decay is None:
            return recipe.optimizer([parameter for parameter in self.parameters() if parameter.requires_grad])
        groups = parameter_groups(
            self.backbone,
            recipe.optimizer,
            norm_weight_decay=recipe.norm_weight_decay,
            layer_lr_decay=recipe.layer_lr_decay,
        )
        return recipe.optimizer(groups)

    def _peaks(self, optimizer: torch.optim.Optimizer) -> dict[str, list[float]]:
        """OneCycleLR's highest rate for each group: by itself it would give them all the same."""
        peak = getattr(self.recipe.scheduler, "keywords", {}).get("max_lr")
        if peak is None or self.recipe.layer_lr_decay is None:
            return {}
        rates = [group["lr"] for group in optimizer.param_groups]
        return {"max_lr": [peak * rate / max(rates) for rate in rates]}

    def _length(self, name: str, num_steps: int) -> dict[str, float]:
        """The scheduler's number of steps; OneCycleLR divides by zero when its warm-up is exactly one step."""
        share = getattr(self.recipe.scheduler, "keywords", {}).get("pct_start")
        if share is None or share * num_steps != 1:
            return {name: num_steps}
        return {name: num_steps, "pct_start": share * 1.001}

    def _step_argument(self) -> str:
        """The scheduler's argument for the number of steps; None when it does not count steps."""
        taken = inspect.signature(self.recipe.scheduler).parameters
        return next((name for name in TOTAL_STEPS if name in taken), "")

    def _is_given(self, name: str) -> bool:
        """Whether the configuration has set an argument of the scheduler, or there is none to set."""
        return not name or name in getattr(self.recipe.scheduler, "keywords", {})

    def _freeze_backbone(self) -> None:
        prefixes = tuple(f"{name}." for name in head_modules(self.backbone))
        heads = [name for name, _ in self.backbone.named_parameters() if name.startswith(prefixes)]
        if not heads:
            raise BadInput(
                f"model.freeze={self.recipe.freeze}: {self.architecture.name} has no linear layer or convolution; "
                "give it get_classifier(), which returns its head, or set model.freeze=none"
            )
        for name, parameter in self.backbone.named_parameters():
            parameter.requires_grad = name.startswith(prefixes)


def _explain_kind(part: str, target: Any, made: Any, wanted: str) -> str:
    made_by = getattr(target, "func", target)
    name = f"{made_by.__module__}.{made_by.__qualname__}"
    return f"model.{part} ({name}): returned {type(made).__name__}, and no {wanted}; name a callable that returns one"
