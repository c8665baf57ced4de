"""The sums of the numbers that a module logs for an epoch: Lightning leaves them out of its checkpoints."""

from typing import Any

import pytorch_lightning as pl
import torch

PARTS = ("value", "cumulated_batch_size")


def epoch_means(trainer: pl.Trainer) -> dict[str, dict[str, Any]]:
    """The sums so far, by Lightning's key; numbers alone, torchmetrics' objects keep their own."""
    results = trainer.fit_loop.epoch_loop._results
    return {
        key: {name: getattr(metric, name) for name in PARTS if hasattr(metric, name)}
        for key, metric in results.items()
        if metric.is_tensor and metric.meta.on_epoch and metric._update_count
    }


def add_epoch_means(trainer: pl.Trainer, saved: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Add saved sums to those that have begun anew, to the same bits; returns those that have not begun yet."""
    results = trainer.fit_loop.epoch_loop._results
    for key in [key for key in saved if key in results and results[key]._update_count]:
        metric = results[key]
        for name, earlier in saved.pop(key).items():
            now = getattr(metric, name)
            earlier = earlier.to(now.device)
            if metric.meta.is_max_reduction:
                added = torch.maximum(earlier, now)
            elif metric.meta.is_min_reduction:
                added = torch.minimum(earlier, now)
            else:
                added = earlier + now
            setattr(metric, name, added)
    return saved
