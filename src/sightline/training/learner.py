"""The module that a configuration means, ours or one of own code, and its batches."""

from typing import TYPE_CHECKING

from sightline.config import TrainConfig, is_own
from sightline.data.training_data import TrainingData
from sightline.errors import BadInput
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

        _check_validation(cfg, opened, world_size)
        learner = build_own_learner(cfg, opened, is_main=rank == 0)
        datamodule = opened.make_datamodule(cfg, learner.spec)
        datamodule.set_rank(rank, world_size)
        return learner, datamodule
    from sightline.models.learner import Learner

    classifier, datamodule = build_training(cfg, opened, rank, world_size)
    monitor = classifier.recipe.monitor
    mode = mode_of(monitor or "", cfg.evaluation.modes())
    return Learner(classifier, classifier.spec, classifier.architecture, monitor, mode), datamodule


def _check_validation(cfg: TrainConfig, opened: TrainingData, world_size: int) -> None:
    """Raises: BadInput where one of several processes would have no image of the last batch: own code averages them."""
    count, size, limit = opened.num_images["val"], cfg.data.batch_size, cfg.trainer.limit_val_batches
    if world_size == 1 or not isinstance(size, int) or (isinstance(limit, int) and limit * size <= count):
        return
    if 0 < (rest := count % size) <= size - size // world_size:
        raise BadInput(
            f"data.batch_size={size}: of the last batch of validation ({rest} of {count} images) one of {world_size} "
            f"processes gets none, which a module of your own cannot average; set trainer.limit_val_batches="
            f"{max(1, count // size)}, or another data.batch_size"
        )
