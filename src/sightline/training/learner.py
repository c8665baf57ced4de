"""The module that a configuration means, ours or one of own code, and its batches."""

from typing import TYPE_CHECKING

from sightline.config import TrainConfig, is_own
from sightline.data.training_data import TrainingData
from sightline.metrics import mode_of
from sightline.training.build import build_training

if TYPE_CHECKING:  # imported inside functions: bad input is refused before torch loads
    from sightline.data.datamodule import ImageDataModule
    from sightline.models.learner import Learner


def build_learner(
    cfg: TrainConfig, opened: TrainingData, rank: int = 0, world_size: int = 1
) -> "tuple[Learner, ImageDataModule]":
    """The module that the configuration means, and batches for this rank.

    Raises: BadInput when it cannot be trained.
    """
    if is_own(cfg.module):
        from sightline.training.own_module import build_own_learner

        learner = build_own_learner(cfg, opened, is_main=rank == 0)
        datamodule = opened.make_datamodule(cfg, learner.spec)
        datamodule.set_rank(rank, world_size)
        return learner, datamodule
    from sightline.models.learner import Learner

    classifier, datamodule = build_training(cfg, opened, rank, world_size)
    monitor = classifier.recipe.monitor
    mode = mode_of(monitor or "", cfg.evaluation.modes())
    return Learner(classifier, classifier.spec, classifier.architecture, monitor, mode), datamodule
