"""Where predictions are written: a new run folder, the one in which they go on, or the folder that parts share."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sightline.config import PredictConfig
from sightline.errors import BadInput
from sightline.runs.files import read_json
from sightline.runs.record import open_folder
from sightline.serving.parts import Part, check_same, name_computation
from sightline.serving.prediction_files import Journal

RECORDS = "records"
"""In a folder that parts share: a run.json for each."""


@dataclass(frozen=True)
class Place:
    """The files of one part, or of the whole; `is_new` until its folder is there."""

    folder: Path
    record: Path
    """The folder of its run.json."""
    part: Part
    format: str
    is_new: bool = False

    @classmethod
    def find(
        cls, cfg: PredictConfig, part: Part, name: str, computed_with: Mapping[str, Any], *, is_job: bool
    ) -> "Place":
        """Where this part of a computation is written; the same command finds the same place again.

        Raises: BadInput for a folder in which other things lie.
        """
        runs = Path(cfg.paths.runs)
        if part.count == 1:
            folder = Path(cfg.output or runs).expanduser().absolute()
            place = cls(folder, folder, part, cfg.format)
            goes_on = cfg.output is not None and place.journal.is_file()
            return place if goes_on and read_json(folder / "run.json").get("status") != "finished" else place._new()
        shared = runs / "predict" / name / f"parts-{name_computation(computed_with)}-of-{part.count}"
        folder = Path(cfg.output or shared).expanduser().absolute()
        record = folder if is_job else folder / RECORDS / part.stem
        place = cls(folder, record, part, cfg.format)
        is_ours = is_job or (folder / RECORDS).is_dir() or not folder.is_dir()
        if not is_ours and (strangers := sorted(each.name for each in folder.iterdir() if each.name[0] != ".")):
            raise BadInput(
                f"output={cfg.output}: other things lie in this folder, like {strangers[0]}; name a new or an empty one"
            )
        return place

    def _new(self) -> "Place":
        return Place(self.folder, self.record, self.part, self.format, is_new=True)

    def opened(self, cfg: PredictConfig, name: str) -> "Place":
        """The same with folders that are there.

        Raises: BadInput where they cannot be made.
        """
        if self.is_new:
            folder = open_folder(Path(cfg.paths.runs), "predict", name, cfg.output)
            return Place(folder, folder, self.part, self.format)
        try:
            self.record.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise BadInput(f"output={self.folder}: cannot make this folder ({error.strerror}); name another") from error
        return self

    @property
    def table(self) -> Path:
        return self.folder / f"{self.part.stem}.{self.format}"

    @property
    def note(self) -> Path:
        """Beside the table of a part: what its rows were computed with and which they are."""
        return self.folder / f"{self.part.stem}.json"

    @property
    def journal(self) -> Path:
        return self.folder / f"{self.part.stem}.partial.jsonl"

    def finished(self, computed_with: Mapping[str, Any]) -> dict[str, Any] | None:
        """The note of a part that is there already.

        Raises: BadInput where it was computed with something else.
        """
        if self.part.count == 1 or not (self.table.is_file() and self.note.is_file()):
            return None
        note = read_json(self.note)
        check_same(self.table, note, computed_with)
        return note

    def rows_done(self, computed_with: Mapping[str, Any]) -> int:
        """How many rows a process that was stopped has left.

        Raises: BadInput where they were computed with something else.
        """
        if self.is_new:
            return 0
        journal = Journal(self.journal, computed_with)
        if (before := journal.computed_before()) is not None:
            check_same(self.journal, before, computed_with)
        return journal.count()
