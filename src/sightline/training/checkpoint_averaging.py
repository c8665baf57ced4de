"""The average of a run's best checkpoints, where validation finds it no worse (Izmailov et al., arXiv:1803.05407)."""

import copy
import logging
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sightline.config import TrainConfig
from sightline.metrics import mode_of

if TYPE_CHECKING:  # imported inside functions: bad input is refused before torch loads
    import pytorch_lightning as pl
    import torch
    from torch import nn

    from sightline.data.datamodule import ImageDataModule
    from sightline.models.checkpoint import SavedModel

log = logging.getLogger(__name__)


def average_if_better(
    cfg: TrainConfig, best: "SavedModel", datamodule: "ImageDataModule", trainer: "pl.Trainer"
) -> "tuple[nn.Module, dict[str, Any]]":
    """The average of the best checkpoints, or the best alone where validation finds the average worse."""
    from sightline.callbacks.best_checkpoints import BestCheckpoints
    from sightline.models.inference import autocast

    kept = next(each for each in trainer.checkpoint_callbacks if isinstance(each, BestCheckpoints))
    paths = sorted(path for path in map(Path, kept.scores) if path.is_file())
    monitor, device = cfg.checkpoint.monitor, trainer.strategy.root_device
    if len(paths) < 2:
        return best.network, {"checkpoints": [path.name for path in paths], "used": False}
    averaged = average_checkpoints(paths)
    datamodule.seek(0, 0)
    batches = (_augmented(datamodule, batch, device) for batch in datamodule.train_dataloader())
    with autocast(str(trainer.precision), device):
        measure_batch_norm(averaged, batches, device)
    score, alone = (_score(cfg, network, best, datamodule, trainer) for network in (averaged, best.network))
    is_used = score <= alone if mode_of(monitor, cfg.evaluation.modes()) == "min" else score >= alone
    log.info("average of %d checkpoints: %s %.4f, the best alone %.4f", len(paths), monitor, score, alone)
    facts = {"checkpoints": [path.name for path in paths], "monitor": monitor, "score": score, "best": alone}
    return (averaged if is_used else best.network), {**facts, "used": is_used}


def _augmented(
    datamodule: "ImageDataModule", batch: "tuple[torch.Tensor, ...]", device: "torch.device"
) -> "torch.Tensor":
    """The images of a batch as training saw them, made outside of the network's precision."""
    import torch

    with torch.autocast(device.type, enabled=False):
        return datamodule.on_after_batch_transfer(tuple(column.to(device) for column in batch), 0)[0]


def _score(
    cfg: TrainConfig, network: "nn.Module", best: "SavedModel", datamodule: "ImageDataModule", trainer: "pl.Trainer"
) -> float:
    """The monitored metric on validation."""
    from sightline.evaluation.measurement import measure_further
    from sightline.evaluation.predictions import Runner, predict_split
    from sightline.evaluation.scores import measure
    from sightline.models.inference import choose_precision

    device = trainer.strategy.root_device
    precision = choose_precision(cfg.precision, device)
    copied = copy.deepcopy(network)  # it may be put into 16 bits
    runner = Runner(copied, best.spec, device, precision, cfg.model.channels_last)
    predictions = predict_split(runner, datamodule.measured("val"), cfg.trainer.limit_val_batches)
    found = {**measure(predictions, "val"), **measure_further(predictions, "val", cfg.evaluation)}
    return found[cfg.checkpoint.monitor]


def average_checkpoints(paths: Sequence[Path]) -> "nn.Module":
    """A network whose weights are the mean of those of the checkpoints; counters are the first one's."""
    from sightline.models.checkpoint import IMPORTED, load_model

    first, *others = (load_model(path, IMPORTED).network for path in paths)
    state = first.state_dict()
    for network in others:
        for name, tensor in network.state_dict().items():
            if tensor.is_floating_point():
                state[name] += tensor
    for tensor in state.values():
        if tensor.is_floating_point():
            tensor /= len(paths)
    return first


def measure_batch_norm(network: "nn.Module", batches: "Iterable[torch.Tensor]", device: "torch.device") -> "nn.Module":
    """Means and variances that the averaged weights have: those of one pass over training images, not averages."""
    from torch.optim.swa_utils import update_bn

    update_bn(batches, network.to(device), device)  # pyright: ignore[reportArgumentType]  (any iterable will do)
    return network.eval()
