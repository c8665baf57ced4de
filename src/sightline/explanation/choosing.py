"""Which images to explain."""

import numpy as np


def choose_telling(
    labels: np.ndarray, predicted: np.ndarray, confidences: np.ndarray, count: int, seed: int
) -> list[int]:
    """Indices of images of every class in turn: right and sure, wrong and sure, right and unsure, wrong and unsure.

    Sure is at or above the median confidence. Where a class has none of a kind, another kind of that class is taken.
    """
    generator = np.random.default_rng(seed)
    is_right, is_sure = labels == predicted, confidences >= np.median(confidences)
    kinds = [is_right & is_sure, ~is_right & is_sure, is_right & ~is_sure, ~is_right & ~is_sure]
    classes = generator.permutation(np.unique(labels))
    free = generator.permutation(len(labels)).tolist()
    chosen: list[int] = []
    turn = 0
    while len(chosen) < min(count, len(labels)):
        label = classes[turn % len(classes)]
        first = (turn + turn // len(classes)) % len(kinds)
        members = [index for index in free if labels[index] == label]
        wanted = (index for step in range(len(kinds)) for index in members if kinds[(first + step) % len(kinds)][index])
        index = next(wanted, None)
        if index is not None:
            chosen.append(index)
            free.remove(index)
        turn += 1
    return chosen
