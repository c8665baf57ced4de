"""The number of channels of a data set: found in the facts about its files, which then must have as many."""

from collections import Counter

import numpy as np

from sightline.config import DataConfig
from sightline.data.arrays import read_header
from sightline.data.audit.inspection import STATUSES, Inspection
from sightline.data.audit.value_range import Looked
from sightline.data.levels import OtherChannels, are_alike, check_channels
from sightline.data.manifest import Manifest
from sightline.runs.guesses import Guess

OTHER_CHANNELS = STATUSES.index("other_channels")
USUAL = 3
"""Channels that nobody needs to be told of."""


def choose_channels(data: DataConfig, looked: Looked) -> tuple[int, tuple[Guess, ...]]:
    """The channels that the configuration gives, else those found, as a guess unless they are the usual ones.

    Greys alone have 1, greys and colours 3; where most images have another number of bands, it is that.
    """
    if data.channels != "auto":
        return int(data.channels), ()
    found = Counter(looked.facts["channels"][looked.facts["status"] == 0].tolist())
    num_pictures = found.pop(1, 0), found.pop(3, 0)
    channels, count = max(found.items(), key=lambda item: (item[1], -item[0]), default=(0, 0))
    if count <= sum(num_pictures):
        channels, count = (3 if num_pictures[1] or not count + sum(num_pictures) else 1), sum(num_pictures)
    if channels == USUAL:
        return channels, ()
    are = "are greys" if channels == 1 else f"have {channels} channels"
    return channels, (Guess("data.channels", channels, f"{count} of {looked.words} images {are}"),)


def mark_other_channels(inspection: Inspection, manifest: Manifest, channels: int) -> None:
    """Files whose channels are not those of the data set become bad ones."""
    facts = inspection.facts
    odd = (facts["status"] == 0) & (facts["channels"] != channels) & (facts["channels"] != 0)
    if channels in (1, 3):
        odd &= ~np.isin(facts["channels"], (1, 3))
    for row in np.flatnonzero(odd).tolist():
        if are_alike(read_header(manifest.file(row), channels).channels, channels):  # of an array with another axis
            continue
        try:
            check_channels(int(facts["channels"][row]), channels)
        except OtherChannels as error:
            facts["status"][row] = OTHER_CHANNELS
            inspection.details[str(manifest.paths[row])] = str(error)
