"""The modules that a training imports: loaded once, in a process that every trial is a fork of."""

from importlib.util import find_spec

PRELOADED = (
    "torch torchvision timm torchmetrics pytorch_lightning albumentations tensorboard sklearn.metrics filelock jinja2 "
    "matplotlib.pyplot torch.utils.tensorboard sightline.command sightline.training.train sightline.models.classifier "
    "sightline.models.losses sightline.models.views sightline.models.checkpoint sightline.training.batch_size "
    "torch.utils.serialization.config sightline.data.datamodule sightline.data.audit.report "
    "sightline.data.datasets sightline.data.samplers sightline.evaluation.gates "
    "sightline.evaluation.measurement sightline.evaluation.robustness "
    "sightline.callbacks.resumable sightline.callbacks.rollback sightline.callbacks.best_checkpoints "
    "sightline.callbacks.gradual_unfreezing sightline.callbacks.progressive_resizing sightline.callbacks.weight_ema "
    "sightline.callbacks.epoch_table sightline.callbacks.plain_progress sightline.callbacks.terminal_progress "
    "sightline.callbacks.tensorboard_images "
    "sightline.callbacks.log_continuation sightline.callbacks.throughput sightline.training.checkpoint_averaging"
).split()
IF_INSTALLED = ("s3fs",)
"""Modules that Lightning imports when it writes a checkpoint, if they are installed."""


def preloaded() -> list[str]:
    return [*PRELOADED, *(name for name in IF_INSTALLED if find_spec(name))]
