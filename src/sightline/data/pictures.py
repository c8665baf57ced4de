"""Loose pictures, files or images in memory, as batches for a trained model."""

import logging
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch

from sightline.data import arrays
from sightline.data.deep_greys import describe_other_depth, is_deep
from sightline.data.transforms import UnreadableImage, decode_for, naming, prepare, with_depth_of
from sightline.task_spec import MAX_PIXELS, TaskSpec

log = logging.getLogger(__name__)

Picture = Path | arrays.Picture
"""A file, an image of Pillow's, or an array `(H, W, C)` of any numbers."""
Prepared = torch.Tensor | UnreadableImage
BATCHES_AHEAD = 2
"""That are decoded while one is answered."""


class PictureBatches:
    """Batches `(B, image_size, image_size, C)` of the pictures that can be read, in their order.

    `unreadable` has the others' numbers with the error, as they occur. Threads decode them, some batches ahead: they
    hand over what they read without a copy, and Pillow decodes beside what else the process does. After the last batch
    a line says how many pictures are of another depth than those of the training.
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
        """`num_workers` is the number of threads; with 0, and for a single batch, there is none."""
        self.pictures, self.spec, self.max_pixels = pictures, spec, max_pixels
        self.batch_size, self.num_threads = batch_size, num_workers if len(pictures) > batch_size else 0
        self.unreadable: dict[int, UnreadableImage] = {}

    def read(self, index: int) -> tuple[int, Prepared, bool]:
        """A picture's number with its prepared pixels, or with the error where it cannot be read, and whether it has
        more than 8 bits."""
        picture, spec = self.pictures[index], self.spec
        try:
            with naming(picture if isinstance(picture, Path) else f"picture {index}"):
                image = decode_for(picture, spec, self.max_pixels) if isinstance(picture, Path) else picture
                whole = with_depth_of(image, spec)
        except UnreadableImage as error:
            return index, error, False
        has_more = image.dtype != np.uint8 if isinstance(image, np.ndarray) else is_deep(image.mode)
        return index, torch.from_numpy(np.ascontiguousarray(prepare(whole, spec))), has_more

    def _chunks(self) -> Iterator[list[tuple[int, Prepared, bool]]]:
        """What each batch is made of."""
        count, size = len(self.pictures), self.batch_size
        numbers = [range(start, min(start + size, count)) for start in range(0, count, size)]
        if not self.num_threads:
            yield from ([self.read(number) for number in chunk] for chunk in numbers)
            return
        pool, ahead = ThreadPoolExecutor(self.num_threads, "decode"), deque()
        try:
            for chunk in numbers:
                ahead.append([pool.submit(self.read, number) for number in chunk])
                if len(ahead) > BATCHES_AHEAD:
                    yield [each.result() for each in ahead.popleft()]
            while ahead:
                yield [each.result() for each in ahead.popleft()]
        finally:
            pool.shutdown(wait=False, cancel_futures=True)

    def __iter__(self) -> Iterator[torch.Tensor]:
        num_read, num_deep = 0, 0
        for chunk in self._chunks():
            self.unreadable |= {number: pixels for number, pixels, _ in chunk if isinstance(pixels, UnreadableImage)}
            images = [pixels for _, pixels, _ in chunk if isinstance(pixels, torch.Tensor)]
            num_read, num_deep = num_read + len(images), num_deep + sum(deep for *_, deep in chunk)
            if images:
                yield torch.stack(images)
        if text := describe_other_depth(self.spec.value_range, num_deep, num_read):
            log.warning("%s", text)
