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
    """Normalised `(N, 3, H, W)` for uint8 images `(N, H, W, 3)`; several where maps are averaged over them."""
    if kind == "random_average":
        generator = torch.Generator().manual_seed(seed)
        shape = (NUM_RANDOM, *pixels.shape)
        noise = torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8)
        return [normalise(each, spec) for each in noise]
    if kind == "blurred":
        return [normalise(torch.stack([_blur(image) for image in pixels]), spec)]
    color = torch.zeros(3) if kind == "black" else 255 * torch.tensor(spec.mean)
    return [normalise(color.round().to(torch.uint8).expand(pixels.shape), spec)]


def _blur(image: torch.Tensor) -> torch.Tensor:
    radius = BLUR * max(image.shape[:2])
    return torch.from_numpy(np.array(Image.fromarray(image.numpy()).filter(ImageFilter.GaussianBlur(radius))))
