"""Transforms of single images beside albumentations': any function or object that takes an array and returns one."""

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import albumentations as A  # noqa: N812
import numpy as np

from sightline.config import build_part, locate, where_raised
from sightline.errors import BadInput
from sightline.task_spec import TaskSpec


class OwnTransform(A.ImageOnlyTransform):
    """A callable among albumentations' transforms: `(H, W, C)` to the same shape and type.

    With an argument `generator` it gets a `numpy.random.Generator`, whose draws follow from seed, epoch and image.
    """

    def __init__(self, change: Callable[..., np.ndarray], what: str) -> None:
        super().__init__(p=1.0)
        self.change, self.what = change, what
        self.draws = "generator" in inspect.signature(change).parameters

    def apply(self, img: np.ndarray, **params: Any) -> np.ndarray:
        """Raises: BadInput for another shape or type than the image's."""
        given = {"generator": self.random_generator} if self.draws else {}
        changed: Any = self.change(img, **given)
        found = (getattr(changed, "shape", None), getattr(changed, "dtype", type(changed).__name__))
        if not isinstance(changed, np.ndarray) or found != (img.shape, img.dtype):
            raise BadInput(
                f"{self.what}: returned {found[1]} {found[0] or ''} for {img.dtype} {img.shape}, and must return an "
                "array of the same shape and type"
            )
        return changed


def is_of_albumentations(node: Mapping[str, Any], key: str) -> bool:
    """Whether a node names a class of albumentations', or one that is derived from its."""
    target = locate(str(node["_target_"]), key)
    return inspect.isclass(target) and issubclass(target, A.BasicTransform | A.BaseCompose)


def build_transforms(nodes: Mapping[str, Any], spec: TaskSpec) -> dict[str, Any]:
    """The objects of `augmentation.transforms` by name, in their order.

    Raises: BadInput as `build_transform` does.
    """
    found = {name: build_transform(name, node, spec) for name, node in nodes.items() if node is not None}
    return {str(name): each for name, each in found.items()}


def build_transform(name: str, node: Mapping[str, Any], spec: TaskSpec) -> Any:
    """An albumentations object, as it is or around a callable, which has been tried on a black image.

    Raises: BadInput when it cannot be made, or does not take the image.
    """
    key = f"augmentation.transforms.{name}"
    made = build_part(node, key)
    if isinstance(made, A.BasicTransform | A.BaseCompose):
        return made
    what = f"{key} ({node['_target_']})"
    own = OwnTransform(made, what)
    kind = np.uint8 if spec.max_level == 255 else np.float32
    black = np.zeros((spec.image_size, spec.image_size, spec.channels), kind)
    try:
        own.apply(black)
    except BadInput:
        raise
    except Exception as error:
        raise BadInput(
            f"{what}: does not take an image {black.dtype} {black.shape} ({where_raised(error)}); change that code"
        ) from error
    return own
