"""The choice of images to explain."""

import hashlib
from collections.abc import Sequence

import numpy as np


def order_by_name(names: Sequence[str], seed: int) -> np.ndarray:
    """Indices of images in an order that depends on their names and the seed alone, int `(N,)`."""
    digests = [hashlib.sha256(f"{seed}/{name}".encode("utf-8", "surrogateescape")).digest() for name in names]
    return np.array(sorted(range(len(names)), key=digests.__getitem__), np.int64)


def choose_fixed(labels: np.ndarray, count: int) -> list[int]:
    """Indices of the first images of every class in turn, the classes in their order."""
    rounds = np.zeros(len(labels), np.int64)
    for label in set(labels.tolist()):
        members = np.flatnonzero(labels == label)
        rounds[members] = np.arange(len(members))
    return np.lexsort((labels, rounds))[:count].tolist()


def choose_representative(
    labels: np.ndarray, predicted: np.ndarray, confidences: np.ndarray, count: int, seed: int
) -> list[int]:
    """Indices of images: right and sure, wrong and sure, right and unsure, wrong and unsure in turn, over all classes.

    Sure is at or above the median confidence. Each time the class comes first that has been chosen least; where a kind
    is used up the next one takes its turn.
    """
    generator = np.random.default_rng(seed)
    is_right, is_sure = labels == predicted, confidences >= np.median(confidences)
    kinds = [is_right & is_sure, ~is_right & is_sure, is_right & ~is_sure, ~is_right & ~is_sure]
    order = generator.permutation(len(labels))
    num_chosen = np.zeros(int(labels.max()) + 1, np.int64)
    is_free = np.ones(len(labels), bool)
    chosen: list[int] = []
    for number in range(min(count, len(labels))):
        rotated = (kinds[(number + step) % len(kinds)] for step in range(len(kinds)))
        members = next(found for kind in rotated if len(found := order[(kind & is_free)[order]]))
        index = int(members[np.argmin(num_chosen[labels[members]])])
        chosen.append(index)
        is_free[index] = False
        num_chosen[labels[index]] += 1
    return chosen
