"""The channels and the range of values of a data set: found in the facts about its files, or in a sample of them."""

import logging
import math
from pathlib import Path
from typing import NamedTuple

import numpy as np

from sightline.config import DataConfig
from sightline.data.arrays import Header, read, read_header
from sightline.data.audit.inspection import FACTS
from sightline.data.decoding import values_of
from sightline.data.deep_greys import DEEP_MODES, describe_other_depth, extent
from sightline.data.levels import are_alike
from sightline.data.manifest import TEST, Manifest
from sightline.errors import BadInput
from sightline.runs.guesses import Guess
from sightline.task_spec import TaskSpec, ValueRange

log = logging.getLogger(__name__)
SAMPLED = 200
"""Files that are looked at where the audit is skipped."""
OUTLYING = 0.005
"""Share of the images whose values may lie beyond either end: a few odd files do not make all others dark."""
FEW_LEVELS = 32
"""A middle image that fills fewer of the 256 levels is said: somebody else's files may stretch the range."""


class Looked(NamedTuple):
    """Facts about files, from which follows what the data set is."""

    rows: np.ndarray
    """Of the manifest."""
    facts: np.ndarray
    """Of `inspection.FACTS`, one for each row."""
    words: str
    """How many they are, in words."""


def look_at_files(data: DataConfig, manifest: Manifest, facts: np.ndarray) -> Looked:
    """The facts of all files, or where the audit is skipped those of a sample, which is read here."""
    if data.audit != "skip":
        return Looked(np.arange(len(manifest)), facts, f"{len(manifest)}")
    rows = _spread(len(manifest))
    return Looked(rows, _sample(manifest, rows, data.max_pixels), f"a sample of {len(rows)}")


def choose_value_range(
    data: DataConfig, manifest: Manifest, looked: Looked, *, greys_alone: bool = False
) -> tuple[ValueRange | None, tuple[Guess, ...]]:
    """The range that the configuration gives, else the one found, as a guess; None where no image is deep.

    It is found in training and validation images (in all where none of those is deep), so that nothing of the test set
    goes into it. With `greys_alone` Pillow's deep greys count, and no deep colours or bands.

    Raises: BadInput for a given range that no image would obey.
    """
    facts = looked.facts
    is_good = facts["status"] == 0
    deep = facts["is_deep"] & is_good
    if greys_alone:
        deep &= np.isin(facts["mode"], [mode.encode() for mode in DEEP_MODES])
    if data.value_range != "auto":
        low, high = data.value_range
        if not deep.any() and data.audit != "skip":
            raise BadInput(
                f"data.value_range=[{low:g},{high:g}]: it is for images of more than 8 bits, and no image has more; "
                "drop it"
            )
        return (low, high), ()
    if not deep.any():
        return None, ()
    learnt = deep & (manifest.splits[looked.rows] != TEST)
    chosen = facts[learnt if learnt.any() else deep]
    lowest = float(np.quantile(chosen["low"], OUTLYING, method="lower"))
    highest = float(np.quantile(chosen["high"], 1 - OUTLYING, method="higher"))
    low, high = _in_short(lowest, highest) if lowest < highest else (lowest, lowest + max(1.0, abs(lowest)))
    _warn_of_few_levels(chosen, (low, high))
    num_others = int(is_good.sum() - deep.sum())
    others = f"; the {num_others} of 8 bits stay 0 to 255" if num_others else ""
    kind = "are greys of" if (facts["channels"][deep] == 1).all() else "have"
    because = f"{deep.sum()} of {looked.words} images {kind} more than 8 bits, with values in this range{others}"
    return (low, high), (Guess("data.value_range", [low, high], because),)


def check_depth(manifest: Manifest, spec: TaskSpec) -> None:
    """Say what becomes of images whose depth is not that of the training, by the headers of a sample.

    Raises: BadInput where most have a number of channels that the model cannot take.
    """
    files = [manifest.file(row) for row in _spread(len(manifest))]
    headers = [header for file in files if (header := _read_header(file, spec.channels)) is not None]
    others = [header.channels for header in headers if not are_alike(header.channels, spec.channels)]
    if 2 * len(others) > len(headers):
        raise BadInput(
            f"data.root={manifest.root}: {len(others)} of {len(headers)} images have {others[0]} channels, and the "
            f"model was trained on {spec.channels}; name images that it can take"
        )
    num_deep = sum(header.is_deep for header in headers)
    if text := describe_other_depth(spec.value_range, num_deep, len(headers)):
        log.warning("%s: of a sample, %s", manifest.root, text)


def _spread(count: int) -> np.ndarray:
    """Some of so many rows, spread over all of them."""
    return np.unique(np.linspace(0, count - 1, min(SAMPLED, count), dtype=int))


def _sample(manifest: Manifest, rows: np.ndarray, max_pixels: int) -> np.ndarray:
    """What the headers say, and the range of deep ones, of some files; status 1 of those that cannot be read, which
    others name."""
    facts = np.zeros(len(rows), FACTS)
    for number, row in enumerate(rows):
        header, file = _read_header(manifest.file(row)), manifest.file(row)
        if header is None:
            facts["status"][number] = 1
            continue
        facts["mode"][number], facts["channels"][number] = header.mode.encode(), header.channels
        facts["width"][number], facts["height"][number] = header.width, header.height
        facts["is_deep"][number] = header.is_deep
        if header.is_deep:
            try:
                picture = read(file, max_pixels)
                values = picture if isinstance(picture, np.ndarray) else values_of(picture)
                facts["low"][number], facts["high"][number] = extent(values)
            except Exception:  # noqa: BLE001 (Pillow's plugins raise many kinds)
                facts["status"][number] = 1
    return facts


def _read_header(file: Path, channels: int | None = None) -> Header | None:
    try:
        return read_header(file, channels)
    except Exception:  # noqa: BLE001 (Pillow's plugins raise many kinds)
        return None


def _in_short(low: float, high: float) -> ValueRange:
    """Whole numbers as they are; others to a thousandth of the range or finer."""
    if low.is_integer() and high.is_integer() and max(abs(low), abs(high)) < 2**53:
        return int(low), int(high)
    digits = 3 - math.floor(math.log10(high - low))
    return round(low, digits), round(high, digits)


def _warn_of_few_levels(facts: np.ndarray, value_range: ValueRange) -> None:
    low, high = value_range
    levels = np.median(facts["high"].astype(float) - facts["low"]) / (high - low) * 255
    if levels < FEW_LEVELS:
        log.warning(
            "data.value_range=[%g,%g]: half of the deep images fill fewer than %d of its 256 levels; if the widest of "
            "them are odd files, remove them or set data.value_range to the range of the others",
            *(low, high, np.floor(levels) + 1),
        )


def with_value_range(facts: np.ndarray, value_range: ValueRange) -> np.ndarray:
    """Facts in which brightness and contrast of deep images are those within the range; 0 for less than one level."""
    black, white = value_range
    facts, deep = facts.copy(), facts["high"] > facts["low"]
    names = ("low", "high", "brightness", "contrast")
    low, high, brightness, contrast = (facts[name][deep].astype(float) for name in names)
    levels = 255 / (white - black)
    share = (high - low) / 255  # of one level from low to high
    is_seen = (high.clip(black, white) - low.clip(black, white)) * levels >= 1
    facts["brightness"][deep] = ((low + brightness * share - black) * levels).clip(0, 255)
    facts["contrast"][deep] = np.where(is_seen, (contrast * share * levels).clip(0.01, 127.5), 0)
    return facts
