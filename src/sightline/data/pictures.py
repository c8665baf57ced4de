"""Loose pictures, files or images in memory, as batches for a trained model."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset

from sightline.data.loader import make_loader
from sightline.data.transforms import UnreadableImage, load_rgb, prepare, to_rgb
from sightline.task_spec import TaskSpec

Picture = Path | Image.Image
Prepared = torch.Tensor | UnreadableImage


class PictureDataset(Dataset[tuple[int, Prepared]]):
    """Each picture's number with its prepared pixels, or with the error where it cannot be read."""

    def __init__(self, pictures: Sequence[Picture], spec: TaskSpec) -> None:
        self.pictures, self.spec = pictures, spec

    def __len__(self) -> int:
        return len(self.pictures)

    def __getitem__(self, index: int) -> tuple[int, Prepared]:
        picture = self.pictures[index]
        try:
            image = to_rgb(picture) if isinstance(picture, Image.Image) else load_rgb(picture)
        except UnreadableImage as error:
            return index, error
        return index, torch.from_numpy(np.ascontiguousarray(prepare(image, self.spec)))


class PictureBatches:
    """Batches uint8 `(B, image_size, image_size, 3)` of the pictures that can be read, in their order.

    `unreadable` has the others' numbers with the error, as they occur; `watch` wraps the loader, as a
    progress bar does. A single batch is read without workers.
    """

    def __init__(
        self, pictures: Sequence[Picture], spec: TaskSpec, *, batch_size: int = 64, num_workers: int = 0
    ) -> None:
        workers = num_workers if len(pictures) > batch_size else 0
        dataset = PictureDataset(pictures, spec)
        self.loader: DataLoader[tuple[int, Prepared]] = make_loader(
            dataset, batch_size=batch_size, num_workers=workers, collate_fn=list
        )
        self.watch: Callable[[DataLoader], Iterable[list[tuple[int, Prepared]]]] = iter
        self.unreadable: dict[int, UnreadableImage] = {}

    def __iter__(self) -> Iterator[torch.Tensor]:
        for chunk in self.watch(self.loader):
            self.unreadable |= {number: pixels for number, pixels in chunk if isinstance(pixels, UnreadableImage)}
            images = [pixels for _, pixels in chunk if isinstance(pixels, torch.Tensor)]
            if images:
                yield torch.stack(images)
