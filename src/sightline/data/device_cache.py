"""A whole data set in the memory of the device, decoded: a batch is one gathering there."""

from collections.abc import Sequence

import numpy as np
import torch
from torch.utils.data import Dataset

from sightline.data.datasets import Batch, ImageDataset, Key, draw, dtype_of, shape_of
from sightline.data.loader import make_loader


class DeviceDataset(Dataset[Batch]):
    """The batches of an `ImageDataset` that changes no pixels on the processor, to the last bit."""

    is_on_device = True

    def __init__(self, dataset: ImageDataset, device: torch.device, *, num_workers: int = 0) -> None:
        """Reads every image once, with `num_workers` processes."""
        assert dataset.augmentation is None, "augmented on the processor, an image is another in each epoch"
        self.dataset, spec = dataset, dataset.spec
        self.images = torch.empty((len(dataset), *shape_of(spec)), dtype=dtype_of(spec), device=device)
        self.labels = torch.from_numpy(dataset.images.labels.astype(np.int64)).to(device)
        start = 0
        for batch in make_loader(dataset, batch_size=256, num_workers=num_workers):
            pixels = batch[0]
            self.images[start : start + len(pixels)] = pixels.to(device, non_blocking=True)
            start += len(pixels)

    def __len__(self) -> int:
        return len(self.dataset)

    def name(self, index: int) -> str:
        """The path of an image below the data's root."""
        return self.dataset.name(index)

    def __getitems__(self, keys: Sequence[Key]) -> Batch:
        pairs = [key if isinstance(key, tuple) else (0, key) for key in keys]
        rows = torch.tensor([index % len(self) for _, index in pairs], device=self.images.device)
        batch = _gather(self.images, rows), self.labels[rows]
        if not self.dataset.num_draws:
            return batch
        drawn = draw(self.dataset.num_draws, self.dataset.seed, pairs)
        return *batch, drawn.to(self.images.device)


def _gather(images: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
    """Some of the images; CUDA indexes no uint16, and the bits do not care."""
    if images.dtype != torch.uint16:
        return images[rows]
    return images.view(torch.int16)[rows].view(torch.uint16)
