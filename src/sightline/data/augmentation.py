"""The augmentations that a configuration names, of single images and of whole batches. Loads torch inside functions."""

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from sightline.config import BatchAugmentationConfig, TrainConfig, build, build_each
from sightline.errors import BadInput
from sightline.task_spec import TaskSpec

if TYPE_CHECKING:
    from sightline.data.batch_augmentation import BatchAugmentation, BatchTransform
    from sightline.data.transforms import Augmentation

log = logging.getLogger(__name__)
NEED_COLOURS = frozenset(
    "ChromaticAberration ColorJitter FancyPCA HEStain HueSaturationValue ISONoise PlanckianJitter RGBShift RandomFog "
    "RandomGravel RandomRain RandomSnow RandomSunFlare Spatter ToGray ToRGB ToSepia".split()
)
"""Albumentations transforms of red, green and blue; some take other images and do nothing."""
NEED_CHANNELS = frozenset(("ChannelDropout", "ChannelShuffle"))
"""Those that need more than one channel."""
PROBE_SIZE = 32
STEP_OF_8_BITS = 257
"""Between two of the 16-bit levels that an image of 8 bits can have."""


class Augmentations(NamedTuple):
    """What changes training images."""

    source: TaskSpec
    """What single images are prepared for: larger ones than the model sees where batches are cropped."""
    num_draws: int
    """Random numbers that travel with each image for the changes of batches."""
    of_images: "Augmentation"
    of_batches: "BatchAugmentation | None"


class LeftOut(NamedTuple):
    """A change that images of the data set's channels and depth cannot have."""

    key: str
    name: str
    """Of its class."""
    reason: str

    def __str__(self) -> str:
        return f"{self.key} ({self.name}) is left out: {self.reason}"


def make_augmentations(cfg: TrainConfig, spec: TaskSpec) -> Augmentations:
    from sightline.data.batch_augmentation import source_of

    for left_out in find_unfit(cfg, spec):
        log.warning("%s", left_out)
    of_batches = make_batch_augmentation(cfg, spec)
    source, num_draws = source_of(spec, of_batches)
    return Augmentations(source, num_draws, make_augmentation(cfg, source), of_batches)


def make_augmentation(cfg: TrainConfig, spec: TaskSpec) -> "Augmentation":
    """The changes of single images that a configuration names, without what would change a class or cannot be."""
    from sightline.data.own_transform import build_transforms
    from sightline.data.transforms import Augmentation

    nodes, _ = _fitting(cfg.augmentation.transforms, "augmentation.transforms", spec)
    return Augmentation(
        spec,
        crop_scale=cfg.augmentation.crop_scale,
        crop_ratio=cfg.augmentation.crop_ratio,
        horizontal_flip=cfg.augmentation.horizontal_flip,
        transforms=build_transforms(nodes, spec),
        orientation_matters=cfg.data.orientation_matters,
    )


def make_batch_augmentation(cfg: TrainConfig, spec: TaskSpec) -> "BatchAugmentation | None":
    """The changes of whole batches that a configuration names, without what would change a class or cannot be."""
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
    before, after = (_fitting_batch(cfg, name, spec)[0] for name in ("before", "after"))
    return BatchAugmentation(
        spec,
        view,
        source_size=batch.source_size,
        horizontal_flip=0.0 if cfg.data.orientation_matters and pairs is None else batch.horizontal_flip,
        mirror_classes=pairs,
        before=before.values(),
        after=after.values(),
    )


def check_typed_augmentation(cfg: TrainConfig, spec: TaskSpec, typed: set[str]) -> None:
    """`typed` are the keys of the command line.

    Raises: BadInput for a change that was asked for by its key and that such images cannot have.
    """
    for left_out in find_unfit(cfg, spec):
        above = left_out.key.rpartition(".")[0]
        if above in typed or any(f"{key}.".startswith(f"{left_out.key}.") for key in typed):
            raise BadInput(f"{left_out.key} ({left_out.name}): {left_out.reason}; drop it")


def find_unfit(cfg: TrainConfig, spec: TaskSpec) -> list[LeftOut]:
    """What the configuration names and images of these channels and this depth cannot have."""
    _, of_images = _fitting(cfg.augmentation.transforms, "augmentation.transforms", spec)
    of_batches = [each for name in ("before", "after") for each in _fitting_batch(cfg, name, spec)[1]]
    return of_images + of_batches


def _is_usual(spec: TaskSpec) -> bool:
    """Whether images are what every change is made for."""
    return spec.channels == 3 and spec.bit_depth == 8


def _fitting(nodes: Mapping[str, Any], key: str, spec: TaskSpec) -> tuple[dict[str, Any], list[LeftOut]]:
    """The nodes of albumentations objects that fit; of one that chooses among others, those that do."""
    fitting, left_out = dict(nodes), []
    if _is_usual(spec):
        return fitting, left_out
    for name, node in nodes.items():
        if node is not None:
            fitting[name], unfit = _without_unfit(node, f"{key}.{name}", spec)
            left_out += unfit
    return fitting, left_out


def _without_unfit(node: Mapping[str, Any], key: str, spec: TaskSpec) -> tuple[dict[str, Any] | None, list[LeftOut]]:
    inner = node.get("transforms")
    if not isinstance(inner, list):
        reason = _why_unfit(node, key, spec)
        return (dict(node), []) if reason is None else (None, [LeftOut(key, _name_of(node), reason)])
    found = [_without_unfit(each, key, spec) for each in inner]
    kept = [each for each, _ in found if each is not None]
    changed = {**node, "transforms": kept}
    if isinstance(node.get("n"), int):
        changed["n"] = min(node["n"], len(kept))
    return changed if kept else None, [each for _, unfit in found for each in unfit]


def _name_of(node: Mapping[str, Any]) -> str:
    return str(node.get("_target_", "")).rpartition(".")[2]


def _why_unfit(node: Mapping[str, Any], key: str, spec: TaskSpec) -> str | None:
    """Why a change cannot be made to such images though it can to the usual ones; None where it can be."""
    from sightline.data.own_transform import is_of_albumentations
    from sightline.data.transforms import quiet_albumentations

    if not is_of_albumentations(node, key):  # it is tried when it is made, and was asked for
        return None
    name, reason = _name_of(node), _why_colours(spec)
    if name in NEED_COLOURS and spec.channels != 3:
        return reason
    if name in NEED_CHANNELS and spec.channels == 1:
        return "it needs more than one channel"
    quiet_albumentations()
    problem = _probe(build({**node, "p": 1}, key), spec.channels, spec.bit_depth)
    if problem is None or _probe(build({**node, "p": 1}, key), 3, 8) is not None:
        return None
    return f"it does not take images of {spec.channels} channel(s) and {spec.bit_depth} bits ({problem})"


def _why_colours(spec: TaskSpec) -> str:
    are = "1 channel" if spec.channels == 1 else f"{spec.channels} channels"
    return f"it needs red, green and blue, and images have {are}"


def _probe(transform: Any, channels: int, bit_depth: int) -> str | None:
    """What goes wrong when the transform changes a random image; None where nothing does."""
    import albumentations as A  # noqa: N812

    from sightline.data.transforms import change_levels

    shape = (PROBE_SIZE, PROBE_SIZE, channels)
    levels = np.random.default_rng(0).integers(0, 2**bit_depth, shape, np.dtype(f"uint{bit_depth}"))
    try:
        changed = change_levels(A.Compose([transform], seed=0), levels)
    except Exception as error:  # noqa: BLE001 (OpenCV's, NumPy's and the library's own)
        return (str(error).strip() or type(error).__name__).splitlines()[0]
    if changed.shape != shape:
        return f"it gives back {changed.shape}"
    is_rounded = bit_depth > 8 and not np.array_equal(changed, levels) and not (changed % STEP_OF_8_BITS).any()
    return "it rounds to 8 bits" if is_rounded else None


def _fitting_batch(cfg: TrainConfig, name: str, spec: TaskSpec) -> tuple[dict[str, Any], list[LeftOut]]:
    """The batch transforms of `augmentation.batch.before` or `after` that fit, and the others."""
    key = f"augmentation.batch.{name}"
    steps = _build_steps(getattr(cfg.augmentation.batch, name), key)
    if _is_usual(spec):
        return steps, []
    reasons = {each: _why_unfit_batch(step, spec) for each, step in steps.items()}
    left_out = [LeftOut(f"{key}.{each}", type(steps[each]).__name__, why) for each, why in reasons.items() if why]
    return {each: step for each, step in steps.items() if not reasons[each]}, left_out


def _why_unfit_batch(step: Any, spec: TaskSpec) -> str | None:
    import torch

    from sightline.data.batch_augmentation import Draws

    if getattr(step, "needs_colours", False):
        return _why_colours(spec) if spec.channels != 3 else None
    images = torch.full((2, spec.channels, PROBE_SIZE, PROBE_SIZE), 0.5)
    try:
        changed = step(images, Draws(torch.full((2, step.num_draws), 0.5)))
    except Exception as error:  # noqa: BLE001 (of anybody's code)
        return f"it does not take images of {spec.channels} channel(s) ({error})"
    return None if changed.shape == images.shape else f"it gives back {tuple(changed.shape)}"


def _build_steps(nodes: Mapping[str, Any], key: str) -> "dict[str, BatchTransform]":
    """Raises: BadInput for what is no change of a batch."""
    from sightline.data.batch_augmentation import BatchTransform

    steps = build_each(nodes, key)
    for name, step in steps.items():
        if not isinstance(step, BatchTransform):
            raise BadInput(
                f"{key}.{name} ({nodes[name]['_target_']}): is no batch transform; that has `num_draws`, `p` and "
                "`__call__(images, draws)`"
            )
    return steps
