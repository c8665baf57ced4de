"""Baselines of integrated gradients: images without information, where the path begins."""

import numpy as np
import torch
from PIL import Image, ImageFilter

from sightline.data.transforms import normalise
from sightline.task_spec import TaskSpec

NUM_RANDOM = 4
BLUR = 0.1
"""Standard deviation of the blurred baseline, as a share of the image's side."""


def make_baselines(kind: str, pixels: torch.Tensor, spec: TaskSpec, seed: int) -> list[torch.Tensor]:
    """Normalised `(N, C, H, W)` for prepared images `(N, H, W, C)`; several where maps are averaged over them."""
    if kind == "random_average":
        generator = torch.Generator().manual_seed(seed)
        shape = (NUM_RANDOM, *pixels.shape)
        noise = torch.randint(0, spec.max_level + 1, shape, generator=generator, dtype=pixels.dtype)
        return [normalise(each, spec) for each in noise]
    if kind == "blurred":
        return [normalise(torch.stack([_blur(image) for image in pixels]), spec)]
    level = torch.zeros(spec.channels) if kind == "black" else spec.max_level * torch.tensor(spec.mean)
    return [normalise(level.round().to(pixels.dtype).expand(pixels.shape), spec)]


def _blur(image: torch.Tensor) -> torch.Tensor:
    radius, levels = BLUR * max(image.shape[:2]), image.numpy()
    if levels.dtype == np.uint8 and levels.shape[2] == 3:
        return torch.from_numpy(np.array(Image.fromarray(levels).filter(ImageFilter.GaussianBlur(radius))))
    import cv2  # Pillow blurs no 16 bits, and no more than four bands

    blurred = cv2.GaussianBlur(levels, (0, 0), radius, borderType=cv2.BORDER_REPLICATE)
    return torch.from_numpy(blurred.reshape(levels.shape))
