"""Guesses: what a program decided because nobody said it, each with the key that says it. Standard library alone."""

import logging
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

from sightline.errors import BadInput
from sightline.runs.override_text import override, typed

log = logging.getLogger(__name__)
GUESSED: dict[str, str] = {
    "extensions": "the code of the project that the working folder lies in, as its pyproject.toml says",
    "+model.arguments.img_size": "the size of the images, for a network that timm makes for another",
    "data": "folder, where data.root or data.version is given without data or experiment",
    "experiment": "photos, where data=folder is trained without an experiment",
    "data.layout": "how the folders of a data set are read, where they are not plainly train/<class>/",
    "data.channels": "how many channels images have, where they are not red, green and blue",
    "data.value_range": "which values of more than 8 bits become black and white, from training and validation images",
    "data.mean": "the mean of each channel, from training images, where no published weights expect another",
    "data.std": "the same of the standard deviation",
    "model.pretrained": "of model.pretrained=auto: whether training begins from published weights",
    "trainer.max_epochs": "of trainer.max_epochs=auto: by the number of training images",
    "data.columns": "which columns of a table hold path, label, split and group",
    "data.table_format": "the encoding and the delimiter of a table, and that its columns have no names",
    "data.table_paths": "how the paths of a table are read so that all of them are files",
    "data.tables": "the tables that lie beside the images of a folder",
}
"""Every key that may be guessed, and what is guessed; docs/data.md has the same list, and a test finds each line."""


@dataclass(frozen=True)
class Guess:
    """A value that a program chose for a key: `value` is what one would type, `because` the reason in plain words."""

    key: str
    value: Any
    because: str

    def __post_init__(self) -> None:
        if self.key not in GUESSED:
            raise ValueError(f"{self.key} is missing from GUESSED, the list of all that is guessed")

    def __str__(self) -> str:
        """The line that is printed, with the argument as it would be typed."""
        return f"guessed {typed(self.key, self.value)} ({self.because})"

    def override(self) -> str:
        """The argument as Hydra reads it."""
        return override(self.key, self.value)

    def to_dict(self) -> dict[str, Any]:
        """For `guesses` of run.json."""
        return asdict(self)


def ambiguous(one: Guess, other: Guess) -> BadInput:
    """The error for two guesses that are possible: it names both and the key that decides."""
    assert one.key == other.key
    return BadInput(
        f"{one.key}: two guesses are possible: {typed(one.key, one.value)} ({one.because}), or "
        f"{typed(other.key, other.value)} ({other.because}); add the one that is right to the command"
    )


def announce(guesses: Iterable[Guess]) -> None:
    """Print each guess in a line."""
    for guess in guesses:
        log.info("%s", guess)
