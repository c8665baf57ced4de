"""What a table of predictions holds, counted while it is written, and what is said of it at the end."""

import logging
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sightline.data.predicted_classes import Row
from sightline.runs.file_names import to_name
from sightline.serving.prediction_files import read_table

log = logging.getLogger(__name__)
SHOWN = 10
"""Rows that are kept in memory, to be printed."""


@dataclass(frozen=True)
class Certainty:
    """How far the answers of a model can be believed."""

    threshold: float | None = None
    target_accuracy: float | None = None
    """The share of answers at the threshold and above that were right on validation; None where nobody says."""
    is_calibrated: bool = True
    """False where the probabilities are known not to be."""


@dataclass
class PredictResult:
    """A table of predictions, and what is to be said of it."""

    run_dir: Path
    table: Path
    base: Path
    """The folder that the table's files are named below."""
    certainty: Certainty = Certainty()
    num_images: int = 0
    """That have an answer."""
    num_unsure: int = 0
    unreadable: list[Path] = field(default_factory=list)
    """Files without an answer."""
    first: list[Row] = field(default_factory=list)

    @property
    def files(self) -> list[Path]:
        """The files that have an answer, read from the table."""
        return [self.base / to_name(row.file) for row in read_table(self.table) if row.error is None]

    def watch(self, rows: Iterable[Row]) -> Iterator[Row]:
        """The rows, counted on their way."""
        for row in rows:
            if row.error is not None:
                self.unreadable.append(self.base / to_name(row.file))
            else:
                self.num_images += 1
                self.num_unsure += bool(row.unsure)
                if len(self.first) < SHOWN:
                    self.first.append(row)
            yield row

    @property
    def counts(self) -> dict[str, Any]:
        """For run.json."""
        threshold = self.certainty.threshold
        unsure = {} if threshold is None else {"threshold": threshold, "num_below_threshold": self.num_unsure}
        return {"num_images": self.num_images, "num_unreadable": len(self.unreadable), **unsure}

    def lines(self) -> Iterator[str]:
        """What people want to see of it."""
        for row in self.first:
            name, probability = row.ranked[0]
            yield f"{probability:6.1%}  {name}  {row.file.rpartition('/')[2]}"
        if self.num_images > len(self.first):
            yield f"… and {self.num_images - len(self.first)} more in {self.table.name}"
        if self.unreadable:
            yield f"skipped {len(self.unreadable)} file(s) that cannot be read; run.json names them"
        unsure = "" if self.certainty.threshold is None else f", {self.num_unsure} unsure"
        note = "" if self.certainty.is_calibrated else ", uncalibrated"
        yield f"results: {self.table} ({self.num_images} image(s){unsure}{note})"

    def warn_of_unsure(self) -> None:
        """A line of the log says how many answers are uncertain, and what that means."""
        threshold, right = self.certainty.threshold, self.certainty.target_accuracy
        if threshold is not None and self.num_unsure:
            above = f", above which {100 * right:.3g} % were right on validation" if right else ""
            below = f"(confidence below {100 * threshold:.3g} %{above})"
            log.info("%d of %d photos are uncertain %s", self.num_unsure, self.num_images, below)


def certainty_of(said: Mapping[str, Any]) -> Certainty:
    """As a part's note has it."""
    return Certainty(said.get("threshold"), said.get("target_accuracy"), said.get("is_calibrated", True))
