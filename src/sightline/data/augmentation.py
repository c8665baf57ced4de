"""The augmentations that a configuration names, of single images and of whole batches. Loads torch inside functions."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from sightline.config import BatchAugmentationConfig, TrainConfig, build_each
from sightline.errors import BadInput
from sightline.task_spec import TaskSpec

if TYPE_CHECKING:
    from sightline.data.batch_augmentation import BatchAugmentation, BatchTransform
    from sightline.data.transforms import Augmentation


class Augmentations(NamedTuple):
    """What changes training images."""

    source: TaskSpec
    """What single images are prepared for: larger ones than the model sees where batches are cropped."""
    num_draws: int
    """Random numbers that travel with each image for the changes of batches."""
    of_images: "Augmentation"
    of_batches: "BatchAugmentation | None"


def make_augmentations(cfg: TrainConfig, spec: TaskSpec) -> Augmentations:
    from sightline.data.batch_augmentation import source_of

    of_batches = make_batch_augmentation(cfg, spec)
    source, num_draws = source_of(spec, of_batches)
    return Augmentations(source, num_draws, make_augmentation(cfg, source), of_batches)


def make_augmentation(cfg: TrainConfig, spec: TaskSpec) -> "Augmentation":
    """The changes of single images that a configuration names, without what would change a class."""
    from sightline.data.transforms import Augmentation

    transforms = build_each(cfg.augmentation.transforms, "augmentation.transforms")
    return Augmentation(
        spec,
        crop_scale=cfg.augmentation.crop_scale,
        crop_ratio=cfg.augmentation.crop_ratio,
        horizontal_flip=cfg.augmentation.horizontal_flip,
        transforms=transforms,
        orientation_matters=cfg.data.orientation_matters,
    )


def make_batch_augmentation(cfg: TrainConfig, spec: TaskSpec) -> "BatchAugmentation | None":
    """The changes of whole batches that a configuration names, without what would change a class."""
    from sightline.data.batch_augmentation import BatchAugmentation, RandomView

    batch = cfg.augmentation.batch
    if batch == BatchAugmentationConfig():
        return None
    view = RandomView(
        tuple(batch.crop_scale),
        tuple(batch.crop_ratio),
        batch.rotate_degrees,
        batch.shear_degrees,
    )
    pairs = dict(cfg.data.mirror_classes) or None
    return BatchAugmentation(
        spec,
        view,
        source_size=batch.source_size,
        horizontal_flip=0.0 if cfg.data.orientation_matters and pairs is None else batch.horizontal_flip,
        mirror_classes=pairs,
        before=_build_steps(batch.before, "augmentation.batch.before"),
        after=_build_steps(batch.after, "augmentation.batch.after"),
    )


def _build_steps(nodes: Mapping[str, Any], key: str) -> "list[BatchTransform]":
    """Raises: BadInput for what is no change of a batch."""
    from sightline.data.batch_augmentation import BatchTransform

    steps = build_each(nodes, key)
    for name, step in steps.items():
        if not isinstance(step, BatchTransform):
            raise BadInput(
                f"{key}.{name} ({nodes[name]['_target_']}): is no batch transform; that has `num_draws`, `p` and "
                "`__call__(images, draws)`"
            )
    return [*steps.values()]
