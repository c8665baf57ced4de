"""Images decoded once into a memory-mapped file, shared by every worker, trial and run of this machine."""

import contextlib
import hashlib
import json
import logging
import math
import os
import shutil
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from sightline.data.arrays import Picture, read_header
from sightline.data.levels import by_band
from sightline.data.manifest import Selection
from sightline.data.parallel import map_chunks
from sightline.data.transforms import RESAMPLING, load, prepare
from sightline.errors import BadInput
from sightline.task_spec import MAX_PIXELS, TaskSpec

log = logging.getLogger(__name__)
VERSION = 2
"""Part of every key: raise it when the same settings give other pixels."""
SHARE_OF_MEMORY, SHARE_OF_DISK = 0.5, 0.5
"""Beyond these shares of what is free, `auto` reads the files instead."""
SAMPLED = 200


@dataclass(frozen=True)
class Pixels:
    """The size and margin at which a store keeps images.

    Without a margin, those that evaluation sees: `(image_size, image_size, C)`. With one, the whole image, made no
    smaller than `margin` on its short side: what random crops are cut from.
    """

    spec: TaskSpec
    margin: int | None = None
    max_pixels: int = MAX_PIXELS

    @classmethod
    def for_crops(
        cls, spec: TaskSpec, scale: Sequence[float], ratio: Sequence[float], max_pixels: int = MAX_PIXELS
    ) -> "Pixels":
        """With room for the smallest crop: no crop is enlarged but where the original would be too."""
        narrowest = min(ratio[0], 1 / ratio[1], 1.0)
        return cls(spec, math.ceil(spec.image_size / math.sqrt(scale[0] * narrowest)), max_pixels)

    def of(self, path: str | Path) -> np.ndarray:
        """`(height, width, C)` of the spec's type.

        Raises: UnreadableImage with the path.
        """
        picture = load(path, self.spec, self.max_pixels)
        return prepare(picture, self.spec) if self.margin is None else self._whole(picture)

    def _whole(self, picture: Picture) -> np.ndarray:
        if isinstance(picture, Image.Image):
            pixels = np.asarray(picture.resize(*self._resize(picture.size)))
            return pixels[..., None] if pixels.ndim == 2 else pixels
        size, resampling = self._resize(picture.shape[1::-1])
        return (
            picture if size == picture.shape[1::-1] else by_band(picture, lambda band, _: band.resize(size, resampling))
        )

    @property
    def num_bytes(self) -> int:
        """Of a pixel."""
        return self.spec.channels * self.spec.bit_depth // 8

    def shape(self, size: tuple[int, int]) -> tuple[int, int]:
        """Height and width of what is kept of an image of this width and height."""
        if self.margin is None:
            return self.spec.image_size, self.spec.image_size
        width, height = self._resize(size)[0]
        return height, width

    def _resize(self, size: tuple[int, int]) -> tuple[tuple[int, int], Image.Resampling]:
        assert self.margin is not None
        factor = min(1.0, self.margin / min(size))
        width, height = (max(1, round(side * factor)) for side in size)
        return (width, height), RESAMPLING[self.spec.interpolation]

    def key(self, digests: np.ndarray) -> str:
        """The name of a store: a hash of the files' bytes and what changes pixels, not of classes and splits."""
        spec = asdict(self.spec)
        kept = {name: spec[name] for name in ("image_size", "interpolation", "crop")}
        if self.spec.crop == "pad":
            kept["mean"] = self.spec.mean  # the colour of the border
        if self.spec.value_range is not None:
            kept["value_range"] = self.spec.value_range
        kept |= {name: spec[name] for name, usual in (("channels", 3), ("bit_depth", 8)) if spec[name] != usual}
        facts = json.dumps([VERSION, self.margin, kept], sort_keys=True)
        return hashlib.sha256(facts.encode() + digests.tobytes()).hexdigest()[:32]


class ImageStore:
    """Decoded images in a memory-mapped file; reading one is a copy of its bytes."""

    def __init__(self, folder: Path) -> None:
        facts = json.loads((folder / "store.json").read_text(encoding="utf-8"))
        self.folder, self.shape = folder, tuple(facts["shape"]) if facts["shape"] else None
        kind, self.channels = np.dtype(facts.get("dtype", "uint8")), facts.get("channels", 3)
        self._levels = np.memmap(folder / "pixels.bin", kind, "r")
        self._offsets = np.load(folder / "offsets.npy", mmap_mode="r")
        self._shapes = np.load(folder / "shapes.npy", mmap_mode="r")
        if self._levels.nbytes != facts["bytes"] or len(self._shapes) != facts["num_images"]:
            raise ValueError(f"{folder}: not as it was written")
        self._equal = self._levels.reshape(-1, *self.shape, self.channels) if self.shape else None

    def __len__(self) -> int:
        return len(self._shapes)

    def __getitem__(self, index: int) -> np.ndarray:
        """`(height, width, C)`, read-only."""
        if self._equal is not None:
            return self._equal[index]
        height, width = self._shapes[index]
        start, count = self._offsets[index] // self._levels.itemsize, int(height) * int(width) * self.channels
        return self._levels[start : start + count].reshape(height, width, self.channels)

    def read(self, indices: np.ndarray) -> np.ndarray:
        """`(B, height, width, C)` of a store whose images are of one size."""
        assert self._equal is not None
        return self._equal[indices]


class ImageCache:
    """A folder of stores, no larger than a limit: the one that was not used for longest makes room."""

    def __init__(self, folder: Path, *, limit_gb: float, mode: str = "auto", num_workers: int | None = None) -> None:
        self.folder, self.limit, self.mode, self.num_workers = folder, limit_gb * 1e9, mode, num_workers

    def find(self, images: Selection, pixels: Pixels) -> ImageStore | None:
        """The images' store, if an earlier run has built it and it can be read."""
        folder = self.folder / pixels.key(images.manifest.digests[images.rows])
        try:
            store = ImageStore(folder)
        except (OSError, ValueError, KeyError):
            return None
        with contextlib.suppress(OSError):  # somebody else's, to read alone
            os.utime(folder / "store.json")
        return store

    def store(self, images: Selection, pixels: Pixels) -> ImageStore | None:
        """The images' store, built now unless an earlier run has; None where the files are to be read instead.

        Processes that want the same store at the same time build it once; a build that was killed leaves nothing.
        """
        if self.mode == "off" or len(images) == 0:
            return None
        from filelock import FileLock

        folder = self.folder / pixels.key(images.manifest.digests[images.rows])
        if (store := _open(folder)) is not None:
            return store
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with FileLock(folder.with_suffix(".lock")):
                if (store := _open(folder)) is not None:  # another process has built it meanwhile
                    return store
                if not self._has_room(images, pixels):
                    return None
                self._build(images, pixels, folder)
        except OSError as error:
            if self.mode == "always":
                raise BadInput(
                    f"data.cache=always: {self.folder} cannot be written ({error}); set paths.cache"
                ) from error
            log.warning("no cache in %s (%s): images are decoded from their files in every epoch", self.folder, error)
            return None
        return ImageStore(folder)

    def _has_room(self, images: Selection, pixels: Pixels) -> bool:
        import psutil

        needed = _estimate_bytes(images, pixels)
        free_disk, free_memory = shutil.disk_usage(self.folder).free, psutil.virtual_memory().available
        if self.mode == "always":
            if needed > free_disk:
                raise BadInput(
                    f"data.cache=always: the decoded images take {needed / 1e9:.1f} GB, and {self.folder} has "
                    f"{free_disk / 1e9:.1f} GB left; set paths.cache to a larger disk, or data.cache=off"
                )
            return True
        most = min(self.limit, SHARE_OF_DISK * free_disk, SHARE_OF_MEMORY * free_memory)
        if needed > most:
            log.info(
                "data.cache=auto: %.1f GB of decoded images are more than the %.1f GB that fit; the files are read",
                needed / 1e9,
                most / 1e9,
            )
        return needed <= most

    def _build(self, images: Selection, pixels: Pixels, folder: Path) -> None:
        for old in self.folder.glob(f".{folder.name}-*"):  # of a build that was killed: we hold the lock
            shutil.rmtree(old)
        partial_folder = self.folder / f".{folder.name}-{os.getpid()}"
        partial_folder.mkdir()
        try:
            start = time.monotonic()
            num_bytes = _write_store(images, pixels, partial_folder, self.num_workers)
            self._make_room(num_bytes)
            partial_folder.rename(folder)
        except BaseException:
            shutil.rmtree(partial_folder, ignore_errors=True)
            raise
        seconds = time.monotonic() - start
        log.info("cached %s images, %.2f GB, in %.1f s", f"{len(images):,}", num_bytes / 1e9, seconds)

    def _make_room(self, num_bytes: float) -> None:
        """Remove the least recently used stores; processes that have them mapped can still read them."""
        finished = (path for path in self.folder.glob("*/store.json") if not path.parent.name.startswith("."))
        stores = sorted(finished, key=lambda path: path.stat().st_mtime)
        sizes = [json.loads(path.read_text(encoding="utf-8"))["bytes"] for path in stores]
        excess = num_bytes + sum(sizes) - self.limit
        for path, size in zip(stores, sizes, strict=True):
            if excess <= 0:
                break
            shutil.rmtree(path.parent, ignore_errors=True)
            excess -= size


def _open(folder: Path) -> ImageStore | None:
    """The store of a folder, marked as used now, or None when there is none or it is damaged."""
    if not folder.is_dir():
        return None
    try:
        store = ImageStore(folder)
        os.utime(folder / "store.json")
    except PermissionError:
        return ImageStore(folder)  # somebody else's cache: to read alone
    except (OSError, ValueError, KeyError) as error:
        log.warning("%s is damaged (%s): building it anew", folder, error)
        shutil.rmtree(folder, ignore_errors=True)
        return None
    return store


def _estimate_bytes(images: Selection, pixels: Pixels) -> float:
    """Estimated bytes of a store, from the headers of some images."""
    chosen = np.unique(np.linspace(0, len(images) - 1, min(SAMPLED, len(images)), dtype=int))
    sizes = []
    for index in chosen:
        try:
            header = read_header(images.path(index), pixels.spec.channels)
            sizes.append(math.prod(pixels.shape((header.width, header.height))) * pixels.num_bytes)
        except Exception:  # noqa: BLE001 (Pillow's plugins raise many kinds; building the store will name it)
            continue
    return float(np.mean(sizes)) * len(images) if sizes else 0.0


def _write_store(images: Selection, pixels: Pixels, folder: Path, num_workers: int | None) -> int:
    """Decode every image into the folder's files and return their size in bytes."""
    shapes = np.empty((len(images), 2), np.uint32)
    done = 0
    paths = _PathList(images)
    with (folder / "pixels.bin").open("wb") as file:
        decode = partial(_decode, pixels=pixels)
        for part, data in map_chunks(decode, paths, title="decoding images", num_workers=num_workers):
            shapes[done : done + len(part)] = part
            file.write(data)
            done += len(part)
        file.flush()
        os.fsync(file.fileno())
    sizes = shapes.astype(np.int64).prod(axis=1) * pixels.num_bytes
    np.save(folder / "shapes.npy", shapes)
    np.save(folder / "offsets.npy", np.cumsum(sizes) - sizes)
    is_equal = pixels.margin is None
    facts: dict[str, Any] = {
        "num_images": len(images),
        "bytes": int(sizes.sum()),
        "shape": [pixels.spec.image_size] * 2 if is_equal else None,
        "version": VERSION,
        "dtype": pixels.spec.dtype,
        "channels": pixels.spec.channels,
    }
    (folder / "store.json").write_text(json.dumps(facts), encoding="utf-8")
    return facts["bytes"]


class _PathList(Sequence[str]):
    """The paths of a selection, made when they are asked for."""

    def __init__(self, images: Selection) -> None:
        self.images = images

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [str(self.images.path(number)) for number in range(*index.indices(len(self)))]
        return str(self.images.path(index))


def _decode(paths: Sequence[str], pixels: Pixels) -> tuple[list[tuple[int, int]], bytes]:
    arrays = [pixels.of(path) for path in paths]
    return [array.shape[:2] for array in arrays], b"".join(array.tobytes() for array in arrays)
