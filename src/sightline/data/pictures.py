"""Loose pictures, files or images in memory, as batches for a trained model."""

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from sightline.data import arrays
from sightline.data.deep_greys import describe_other_depth, is_deep
from sightline.data.loader import make_loader
from sightline.data.transforms import UnreadableImage, decode_for, naming, prepare, with_depth_of
from sightline.task_spec import MAX_PIXELS, TaskSpec

log = logging.getLogger(__name__)

Picture = Path | arrays.Picture
"""A file, an image of Pillow's, or an array `(H, W, C)` of any numbers."""
Prepared = torch.Tensor | UnreadableImage


class PictureDataset(Dataset[tuple[int, Prepared, bool]]):
    """Each picture's number with its prepared pixels, or with the error where it cannot be read, and whether it has
    more than 8 bits."""

    def __init__(self, pictures: Sequence[Picture], spec: TaskSpec, max_pixels: int = MAX_PIXELS) -> None:
        self.pictures, self.spec, self.max_pixels = pictures, spec, max_pixels

    def __len__(self) -> int:
        return len(self.pictures)

    def __getitem__(self, index: int) -> tuple[int, Prepared, bool]:
        picture, spec = self.pictures[index], self.spec
        try:
            with naming(picture if isinstance(picture, Path) else f"picture {index}"):
                image = decode_for(picture, spec, self.max_pixels) if isinstance(picture, Path) else picture
                whole = with_depth_of(image, spec)
        except UnreadableImage as error:
            return index, error, False
        has_more = image.dtype != np.uint8 if isinstance(image, np.ndarray) else is_deep(image.mode)
        return index, torch.from_numpy(np.ascontiguousarray(prepare(whole, spec))), has_more


class PictureBatches:
    """Batches `(B, image_size, image_size, C)` of the pictures that can be read, in their order.

    `unreadable` has the others' numbers with the error, as they occur; `watch` wraps the loader, as a
    progress bar does. A single batch is read without workers. After the last one a line says how many pictures are of
    another depth than those of the training.
    """

    def __init__(
        self,
        pictures: Sequence[Picture],
        spec: TaskSpec,
        *,
        batch_size: int = 64,
        num_workers: int = 0,
        max_pixels: int = MAX_PIXELS,
    ) -> None:
        workers = num_workers if len(pictures) > batch_size else 0
        self.spec = spec
        self.loader: DataLoader[tuple[int, Prepared, bool]] = make_loader(
            PictureDataset(pictures, spec, max_pixels), batch_size=batch_size, num_workers=workers, collate_fn=list
        )
        self.watch: Callable[[DataLoader], Iterable[list[tuple[int, Prepared, bool]]]] = iter
        self.unreadable: dict[int, UnreadableImage] = {}

    def __iter__(self) -> Iterator[torch.Tensor]:
        num_read, num_deep = 0, 0
        for chunk in self.watch(self.loader):
            self.unreadable |= {number: pixels for number, pixels, _ in chunk if isinstance(pixels, UnreadableImage)}
            images = [pixels for _, pixels, _ in chunk if isinstance(pixels, torch.Tensor)]
            num_read, num_deep = num_read + len(images), num_deep + sum(deep for *_, deep in chunk)
            if images:
                yield torch.stack(images)
        if text := describe_other_depth(self.spec.value_range, num_deep, num_read):
            log.warning("%s", text)
