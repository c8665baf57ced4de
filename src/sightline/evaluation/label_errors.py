"""Label errors: images whose label is more likely wrong than the prediction."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class LabelError:
    """A suspected label error: the image's index, the class that it seems to be, and the probabilities of both."""

    index: int
    suggested: int
    label_probability: float
    suggested_probability: float


def find_label_errors(probabilities: np.ndarray, labels: np.ndarray) -> list[LabelError]:
    """Label errors by confident learning, the surest first (Northcutt et al., arXiv:1911.00068).

    `probabilities` `(N, num_classes)`, `labels` `(N,)`, of images that the model was not trained on.

    A class is credible for an image when its probability reaches the mean that the class has among the images of that
    label; an image has a label error when the likeliest credible class is not its label.
    """
    num_classes = probabilities.shape[1]
    counts = np.bincount(labels, minlength=num_classes)
    own = probabilities[np.arange(len(labels)), labels]
    thresholds = np.bincount(labels, own, num_classes) / np.maximum(counts, 1)
    thresholds[counts == 0] = np.inf  # nothing is known of a class without images
    credible = np.where(probabilities >= thresholds, probabilities, -1.0)
    suggested = credible.argmax(axis=1)
    is_error = (credible.max(axis=1) > 0) & (suggested != labels)
    margins = probabilities[np.arange(len(labels)), suggested] - own
    rows = np.flatnonzero(is_error & (margins > 0))
    return [
        LabelError(int(row), int(suggested[row]), float(own[row]), float(probabilities[row, suggested[row]]))
        for row in rows[np.argsort(-margins[rows], kind="stable")]
    ]
