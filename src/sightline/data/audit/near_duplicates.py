"""Near duplicates: images that look alike, found by perceptual hashes and confirmed by their thumbnails."""

from collections.abc import Callable, Sequence
from functools import partial
from itertools import combinations, pairwise

import numpy as np
from PIL import Image

from sightline.data.arrays import read
from sightline.data.levels import by_band, in_8_bits
from sightline.data.manifest import Manifest
from sightline.data.parallel import map_chunks
from sightline.data.transforms import UnreadableImage, naming
from sightline.task_spec import ValueRange

MAX_BITS = 4
"""Perceptual hashes of near duplicates differ in at most so many of 64 bits."""
MAX_DIFFERENCE, MAX_BRIGHTER = 0.3, 32
"""Edges of near duplicates' thumbnails differ by at most this share, their colours by so many levels of 255.

Measured: half the size gives 0.2, JPEG of quality 30 gives 0.2, the same sign seen twice 0.2 to 0.3; signs that say 60
and 80 before the same sky 0.4. Without the edges, the sky decides.
"""
MIN_CONTRAST = 2
"""Standard deviation in levels of 255; the hash of a flatter image is noise, so that only exact copies of it count."""
NEIGHBOURS = 100
"""Among very many alike hashes an image is compared with so many that are nearest to it in brightness."""
THUMBNAIL = 16


def find_alike(
    manifest: Manifest,
    facts: np.ndarray,
    contents: list[np.ndarray],
    load: Callable[[str], Image.Image | np.ndarray],
    num_workers: int | None,
    wanted: Callable[[np.ndarray], np.ndarray] | None = None,
) -> list[np.ndarray]:
    """Sets of images that look alike, as indices into `contents`, which has the rows of each set of equal images.

    `facts` has a row for each image of the manifest, and `load` reads one, in RGB or uint8 `(H, W, bands)`. Pairs with
    close perceptual hashes and alike thumbnails are linked where they are of different groups; a set is what the links
    connect. `wanted` tells of pairs `(P, 2)` of contents which are looked at.
    """
    if not contents:
        return []
    facts = facts[np.array([rows[0] for rows in contents])]
    owners = _owners(manifest.groups, contents)
    usable = np.flatnonzero(facts["contrast"] >= MIN_CONTRAST)
    pairs = find_close_hashes(facts["perceptual"][usable], facts["brightness"][usable], owners[usable])
    pairs = usable[pairs]
    pairs = pairs if wanted is None else pairs[wanted(pairs)]
    candidates = np.unique(pairs)
    paths = [str(manifest.file(contents[number][0])) for number in candidates]
    read = partial(_read_thumbnails, load=load)
    chunks = list(map_chunks(read, paths, title="comparing images", num_workers=num_workers))
    if not chunks:
        return []
    alike = pairs[_is_alike(np.concatenate(chunks), np.searchsorted(candidates, pairs))]
    return _connect(alike, len(contents))


def _owners(groups: np.ndarray, contents: list[np.ndarray]) -> np.ndarray:
    """For each content the group that all its images belong to, or a negative number of its own."""
    owners = groups[np.array([rows[0] for rows in contents])].astype(np.int64)
    for number, rows in enumerate(contents):
        if len(rows) > 1 and (groups[rows] != groups[rows[0]]).any():
            owners[number] = -1 - number
    return owners


def find_close_hashes(hashes: np.ndarray, brightness: np.ndarray, owners: np.ndarray) -> np.ndarray:
    """Pairs `(P, 2)` of different owners whose hashes differ in at most MAX_BITS bits.

    Of six bands of bits at most four can differ, so two of them agree: sorted by each pair of bands, close hashes are
    neighbours, also a million of them.
    """
    edges = np.linspace(0, 64, MAX_BITS + 3).round().astype(int).tolist()
    bands = np.array([sum(1 << bit for bit in range(low, high)) for low, high in pairwise(edges)], np.uint64)
    found = [np.empty((0, 2), np.int64)]
    for first, second in combinations(range(len(bands)), 2):
        keys = hashes & (bands[first] | bands[second])
        order = np.lexsort((brightness, keys))
        earlier = np.delete(bands[:second], first)
        starts = np.arange(len(keys))
        for step in range(1, NEIGHBOURS + 1):
            starts = starts[: np.searchsorted(starts, len(keys) - step)]
            starts = starts[keys[order[starts]] == keys[order[starts + step]]]
            if not len(starts):
                break
            pairs = np.sort(np.stack([order[starts], order[starts + step]], axis=1), axis=1)
            found.append(pairs[_is_close(hashes[pairs], owners[pairs], earlier)])
    pairs = np.concatenate(found)
    return pairs[np.lexsort((pairs[:, 1], pairs[:, 0]))]


def _is_close(hashes: np.ndarray, owners: np.ndarray, earlier: np.ndarray) -> np.ndarray:
    """Which pairs `(P, 2)` are close, have two owners, and agree in no earlier band, where they were found before."""
    bits = hashes[:, 0] ^ hashes[:, 1]
    is_close = (np.bitwise_count(bits) <= MAX_BITS) & (owners[:, 0] != owners[:, 1])
    is_close[is_close] = ((bits[is_close, None] & earlier) != 0).all(axis=1)
    return is_close


def load_bands(path: str, channels: int, value_range: ValueRange | None, max_pixels: int) -> np.ndarray:
    """All bands of an image file, uint8 `(H, W, channels)`.

    Raises: UnreadableImage with the path.
    """
    with naming(path):
        values = read(path, max_pixels, channels=channels, bit_depth=8 if value_range is None else 16)
        return in_8_bits(np.atleast_3d(np.asarray(values)), value_range)


def _read_thumbnails(paths: Sequence[str], load: Callable[[str], Image.Image | np.ndarray]) -> np.ndarray:
    """uint8 `(N, THUMBNAIL, THUMBNAIL, C)`; zeros for a file that is gone by now."""
    thumbnails: list[np.ndarray | None] = []
    for path in paths:
        try:
            thumbnails.append(_thumbnail(load(path)))
        except UnreadableImage:
            thumbnails.append(None)
    some = next((each for each in thumbnails if each is not None), np.zeros((THUMBNAIL, THUMBNAIL, 3), np.uint8))
    return np.stack([np.zeros_like(some) if each is None else each for each in thumbnails])


def _thumbnail(image: Image.Image | np.ndarray) -> np.ndarray:
    def reduce(band: Image.Image, number: int = 0) -> Image.Image:
        return band.resize((THUMBNAIL, THUMBNAIL), Image.Resampling.BOX)

    return by_band(image, reduce) if isinstance(image, np.ndarray) else np.asarray(reduce(image))


def _is_alike(thumbnails: np.ndarray, pairs: np.ndarray) -> np.ndarray:
    """Whether the two images of each pair have nearly the same edges and colours; of more bands, in each of them."""
    channels = thumbnails.shape[-1]
    if channels > 3:
        return np.all([_is_alike(thumbnails[..., [band]], pairs) for band in range(channels)], axis=0)
    is_alike = np.zeros(len(pairs), bool)
    for start in range(0, len(pairs), 4096):
        part = slice(start, start + 4096)
        one, other = (thumbnails[side].astype(np.float32) for side in pairs[part].T)
        shift = np.abs((one - other).mean(axis=(1, 2))).max(axis=1)
        one, other = _edges(one), _edges(other)
        strength = np.minimum(np.abs(one).mean(axis=1), np.abs(other).mean(axis=1))
        difference = np.abs(one - other).mean(axis=1)
        is_alike[part] = (difference <= MAX_DIFFERENCE * strength) & (shift <= MAX_BRIGHTER)
    return is_alike


def _edges(images: np.ndarray) -> np.ndarray:
    """Differences of neighbouring pixels, one row an image."""
    return np.concatenate([np.diff(images, axis=axis).reshape(len(images), -1) for axis in (1, 2)], axis=1)


def _connect(pairs: np.ndarray, size: int) -> list[np.ndarray]:
    """The sets that pairs chain together, in the order of their first members."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    graph = coo_array((np.ones(len(pairs), bool), tuple(pairs.T)), shape=(size, size))
    _, part = connected_components(graph, directed=False)
    members = np.unique(pairs)
    return group_rows(members, part[members].astype(np.uint64)[:, None])


def group_rows(rows: np.ndarray, keys: np.ndarray) -> list[np.ndarray]:
    """Rows with equal keys `(N, K)`, each set ascending, in the order of their first rows."""
    order = np.lexsort((rows, *keys.T))
    is_first = np.r_[True, (keys[order][1:] != keys[order][:-1]).any(axis=1)][: len(rows)]
    sets = np.split(rows[order], np.flatnonzero(is_first)[1:]) if len(rows) else []
    return sorted(sets, key=lambda members: int(members[0]))
