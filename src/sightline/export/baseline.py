"""What a model said of its validation images, and how they look: what is seen in use is compared with it."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from sightline.data.manifest import Manifest
    from sightline.export.agreement import Answers

FILE = "baseline.npz"


def look(images: np.ndarray, max_level: int) -> np.ndarray:
    """Brightness, contrast and sharpness, float32 `(B, 3)`, of prepared images `(B, H, W, C)` of levels to `max_level`.

    They are the mean over pixels and channels, the standard deviation of grey (the mean over channels), and the
    standard deviation of grey's Laplacian (its four neighbours minus four times itself), all of levels in 0..1.
    """
    grey = images.astype(np.float32).mean(axis=3) / np.float32(max_level)
    around = grey[:, :-2, 1:-1] + grey[:, 2:, 1:-1] + grey[:, 1:-1, :-2] + grey[:, 1:-1, 2:]
    laplacian = (around - 4 * grey[:, 1:-1, 1:-1]).reshape(len(grey), -1)
    sharpness = laplacian.std(axis=1) if laplacian.shape[1] else np.zeros(len(grey))
    return np.stack([grey.mean(axis=(1, 2)), grey.std(axis=(1, 2)), sharpness], axis=1).astype(np.float32)


def sizes(manifest: "Manifest | None", count: int) -> np.ndarray:
    """Width and height of the first `count` validation images as their files have them, int32 `(count, 2)`.

    Zeros where there are no files of their own, as in shards.
    """
    from itertools import islice

    from sightline.data.arrays import read_header

    found = np.zeros((count, 2), np.int32)
    for row, path in enumerate(islice(() if manifest is None else manifest.select("val").paths, count)):
        header = read_header(path)
        found[row] = header.width, header.height
    return found


def save_baseline(path: Path, answers: "Answers", looks: Sequence[np.ndarray], size: np.ndarray) -> None:
    """Write the arrays of N validation images, as docs/export.md lists them."""
    brightness, contrast, sharpness = np.concatenate(looks).T
    np.savez_compressed(
        path,
        features=answers.features.astype(np.float16),
        confidence=answers.probabilities.max(axis=1).astype(np.float32),
        predicted=answers.predicted.astype(np.int32),
        label=answers.labels.astype(np.int32),
        brightness=brightness,
        contrast=contrast,
        sharpness=sharpness,
        size=size,
    )
