"""Classify photos with a trained model, here or where it is deployed."""

import logging
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sightline.config import PredictConfig, to_plain, validate_task, with_own_code
from sightline.data.collection.named_pictures import FileList, name_pictures
from sightline.data.predicted_classes import Row
from sightline.errors import BadInput
from sightline.registry.names import with_local_runs
from sightline.runs.file_names import fit_name, to_name, to_text
from sightline.runs.files import read_json, write_json
from sightline.runs.folder import find_run
from sightline.runs.invocation import UNTOLD, Invocation
from sightline.runs.override_text import typed
from sightline.runs.record import RunRecord
from sightline.serving.answering import Answering, open_answering, warn_of
from sightline.serving.merge import merge
from sightline.serving.parts import Part, alone
from sightline.serving.predict_result import PredictResult, certainty_of
from sightline.serving.prediction_files import Journal, check_format, read_table, write_table
from sightline.serving.prediction_place import Place

if TYPE_CHECKING:
    from omegaconf import DictConfig

log = logging.getLogger(__name__)


def predict(cfg: "DictConfig | PredictConfig", invocation: Invocation = UNTOLD) -> PredictResult:
    """Write `predictions.csv` and, with `pictures`, each photo with its class as the title.

    Rows go into a journal as they come, which a killed process leaves: the same command with the same folder goes on
    behind them. One of several parts writes a file of its own, and is not computed twice.
    """
    cfg = with_local_runs(validate_task(cfg, PredictConfig))
    if cfg.merge is not None:
        return merge(cfg, invocation)
    check_format(cfg.format)
    pictures = name_pictures(cfg.images, Path(cfg.paths.cache))
    if cfg.run is not None:
        find_run(cfg.run, Path(cfg.paths.runs))  # before torch loads, which takes seconds
    cfg, code = with_own_code(cfg, invocation)
    answering = open_answering(cfg, invocation.serve_token)
    part = Part(cfg.part, cfg.num_parts)
    files, listed = part.of(pictures.files), {"list_sha256": pictures.files.sha256(), "num_listed": len(pictures.files)}
    computed_with = {**answering.computed_with, **listed}
    place = Place.find(cfg, part, answering.name, computed_with, is_job=invocation.is_job)
    if (note := place.finished(computed_with)) is not None:
        return _finished(place, files.base, note)
    done = place.rows_done(computed_with)
    pictures.fetch(files if cfg.pictures else files[done:])
    chunks = answering.rows(files[done:])
    first = next(chunks, [])
    if place.is_new and cfg.run is not None and len(first) == len(files) and all(row.error for row in first):
        raise BadInput(
            f"images={cfg.images}: none of the {len(files)} file(s) can be read, the first is {first[0].error}"
        )
    place = place.opened(cfg, answering.name)
    facts = {"task": "predict", **answering.facts, "config": to_plain(cfg)}
    earlier = read_json(place.record / "run.json")
    with alone(place.journal), RunRecord(place.record, invocation, earlier=earlier, **facts) as record:
        code.save(record)
        with Journal(place.journal, computed_with) as journal:
            if journal.done != done:
                raise BadInput(f"{place.journal}: another process has added rows to it; name another output")
            try:
                _write_down(journal, chain([first], chunks), len(files))
            except BaseException:
                with_folder = "" if cfg.output or part.count > 1 else f" with {typed('output', str(place.folder))}"
                log.info("%d of %d rows are kept; the same command%s goes on", journal.done, len(files), with_folder)
                raise
        result = PredictResult(place.folder, place.table, files.base, answering.certainty)
        if cfg.pictures:
            _draw_pictures(place.folder / "pictures", journal.rows(), files, answering)
        write_table(place.table, result.watch(journal.rows()), with_errors=part.count > 1 or answering.names_errors)
        if part.count > 1:
            write_json(place.note, {**computed_with, **_note(place, files, answering, result)})
        place.journal.unlink()
        unreadable = [to_text(str(file)) for file in result.unreadable]
        record.update(**result.counts, unreadable=unreadable)
    result.warn_of_unsure()
    return result


def _write_down(journal: Journal, chunks: Iterator[list[Row]], total: int) -> None:
    """Rows into the journal, as they come."""
    from rich.progress import Progress

    warned = 0
    with Progress(transient=True) as bar:
        task = bar.add_task("Predicting", total=total, completed=journal.done)
        for rows in chunks:
            journal.add(rows)
            warned = warn_of(rows, warned)
            bar.advance(task, len(rows))


def _note(place: Place, files: FileList, answering: Answering, result: PredictResult) -> dict[str, Any]:
    """What stands beside the table of a part, besides what it was computed with."""
    return {
        "part": place.part.number,
        "num_parts": place.part.count,
        "num_images": len(files),
        "files_sha256": files.sha256(),
        "num_unsure": result.num_unsure,
        "names_errors": answering.names_errors,
        "base": to_text(str(files.base)),
        "name": answering.name,
        **vars(answering.certainty),
    }


def _finished(place: Place, base: Path, note: dict[str, Any]) -> PredictResult:
    """The result of a part that is there."""
    log.info("%s is there already", place.part)
    result = PredictResult(place.folder, place.table, base, certainty_of(note))
    for _ in result.watch(read_table(place.table)):
        pass
    result.num_unsure = note["num_unsure"]
    return result


def _draw_pictures(folder: Path, rows: Iterator[Row], files: FileList, answering: Answering) -> None:
    """Each picture that has an answer, with it as the title."""
    from rich.progress import track

    from sightline.data.transforms import UnreadableImage
    from sightline.serving.pictures import draw_titled

    for row in track(rows, "Drawing", len(files), transient=True):
        if row.error is not None:
            continue
        name, probability = row.ranked[0]
        path = folder / row.file
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            shown = answering.show(files.base / to_name(row.file))
        except UnreadableImage as error:  # of a kind that an endpoint reads and this machine does not
            log.warning("not drawn: %s", error)
            continue
        draw_titled(shown, name, f"{probability:.1%}").save(path.with_name(fit_name(path.name, ".png")))
