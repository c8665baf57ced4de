"""The tables of parts put together, when none of them and none of their rows lacks."""

from pathlib import Path

from sightline.config import PredictConfig, to_plain
from sightline.runs.files import read_json
from sightline.runs.invocation import UNTOLD, Invocation
from sightline.runs.record import RunRecord, open_folder
from sightline.serving.parts import find_parts
from sightline.serving.predict_result import PredictResult, certainty_of
from sightline.serving.prediction_files import write_table


def merge(cfg: PredictConfig, invocation: Invocation = UNTOLD) -> PredictResult:
    """Write `predictions.…` of all parts below the folders that `merge` names, in the format that they have.

    It lies in the folder of the parts, or in `output`, or in a new run folder where there are several folders.

    Raises: BadInput that names the part, and what is wrong with it; then nothing is written.
    """
    places = [cfg.merge] if isinstance(cfg.merge, str) else list(cfg.merge)
    parts = find_parts(places)
    first, top = parts[0], Path(places[0]).expanduser().absolute()
    for each in parts:
        for _ in each.rows():
            pass
    earlier = read_json(top / "run.json")
    is_there = len(places) == 1 and top.is_dir() and (not earlier or "merged" in earlier)
    folder = (
        top if is_there and not cfg.output else open_folder(Path(cfg.paths.runs), "predict", first.name, cfg.output)
    )
    certainty = certainty_of(first.note)
    result = PredictResult(folder, folder / f"predictions{first.table.suffix}", Path(first.note["base"]), certainty)
    facts = {"task": "predict", "config": to_plain(cfg), "merged": [str(each.table) for each in parts]}
    same = {key: first.note[key] for key in ("model", "precision", "runtime", "list_sha256") if key in first.note}
    with RunRecord(folder, invocation, **facts, **same) as record:
        rows = result.watch(row for each in parts for row in each.rows())
        write_table(result.table, rows, with_errors=first.note["names_errors"])
        result.num_unsure = sum(each.note["num_unsure"] for each in parts)
        record.update(**result.counts, unreadable=[str(file) for file in result.unreadable])
    result.warn_of_unsure()
    return result
