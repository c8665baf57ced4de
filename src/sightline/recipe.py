"""What a run's recipe adds to Lightning's trainer."""

from typing import TYPE_CHECKING

from omegaconf import DictConfig

if TYPE_CHECKING:  # imported inside functions: bad input is refused before torch loads
    import pytorch_lightning as pl


def recipe_callbacks(cfg: DictConfig) -> "list[pl.Callback]":
    """Callbacks for the options of the recipe that are on."""
    from sightline.callbacks.weight_ema import WeightEMA

    callbacks: list[pl.Callback] = []
    if cfg.model.ema_decay is not None:
        callbacks.append(WeightEMA(cfg.model.ema_decay))
    return callbacks
