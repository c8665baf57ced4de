"""Classify photos with a trained model."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sightline.config import PredictConfig, to_plain, validate_task, with_own_code
from sightline.data.collection.image_files import find_named
from sightline.data.display import load_displayed
from sightline.data.predicted_classes import most_probable, write_predictions
from sightline.errors import BadInput
from sightline.finished_run import FinishedRun
from sightline.runs.file_names import fit_name, to_text
from sightline.runs.folder import find_run
from sightline.runs.invocation import UNTOLD, Invocation
from sightline.runs.record import RunRecord, open_folder

if TYPE_CHECKING:
    from omegaconf import DictConfig
    from PIL import Image

    from sightline.task_spec import TaskSpec

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class PredictResult:
    """Files with their most probable classes, and those that could not be read."""

    files: list[Path]
    classes: list[list[tuple[str, float]]]
    unreadable: list[Path]
    run_dir: Path
    is_calibrated: bool
    """Whether the probabilities are."""


def predict(cfg: "DictConfig | PredictConfig", invocation: Invocation = UNTOLD) -> PredictResult:
    """Write `predictions.csv` and, with `pictures`, each photo with its class as the title."""
    cfg = validate_task(cfg, PredictConfig)
    files, base = find_named(cfg.images)
    find_run(cfg.run, Path(cfg.paths.runs))  # before torch loads, which takes seconds
    cfg, code = with_own_code(cfg, invocation)
    from rich.progress import track

    from sightline.data.pictures import PictureBatches
    from sightline.models.inference import keep_freed_memory

    keep_freed_memory()
    places = {"runs": cfg.paths.runs, "extensions": cfg.extensions}
    how = {"precision": cfg.precision, "runtime": cfg.runtime}
    run = FinishedRun.open(cfg.run, cfg.accelerator, **how, **places, trust_code=cfg.trust_code)
    run = replace(run, cache=Path(cfg.paths.cache))
    max_pixels = cfg.data.max_pixels or run.max_pixels
    loading = {"batch_size": cfg.batch_size, "num_workers": cfg.num_workers}
    batches = PictureBatches(files, run.task_spec, max_pixels=max_pixels, **loading)
    batches.watch = lambda loader: track(loader, "Predicting", total=len(loader), transient=True)
    rest = iter(batches)
    first = next(rest, None)
    if first is None:
        raise BadInput(
            f"images={cfg.images}: none of the {len(files)} file(s) can be read, the first is {batches.unreadable[0]}"
        )
    output = open_folder(Path(cfg.paths.runs), "predict", run.name, cfg.output)
    facts: dict[str, Any] = {
        "task": "predict",
        "name": run.trained.get("name"),
        "run": str(run.path),
        "config": to_plain(cfg),
        "device": str(run.device),
        "precision": run.precision,
        "runtime": run.runtime.name,
        "calibrated": run.uncalibrated is None,
    }
    run.warn_if_uncalibrated()
    with RunRecord(output, invocation, **facts) as record:
        code.save(record)
        probabilities = run.predict_batches(chain([first], rest))
        assert probabilities is not None
        for error in batches.unreadable.values():
            log.warning("skipped %s", error)
        unreadable = [files[number] for number in sorted(batches.unreadable)]
        readable = [file for number, file in enumerate(files) if number not in batches.unreadable]
        classes = most_probable(probabilities, run.task_spec.class_names)
        write_predictions(output / "predictions.csv", [file.relative_to(base) for file in readable], classes)
        if cfg.pictures:
            spec = run.task_spec
            bands = {"channels": spec.channels, "display_bands": spec.display_bands}
            load = partial(load_displayed, value_range=spec.value_range, max_pixels=max_pixels, **bands)
            _draw_pictures(output / "pictures", base, readable, classes, load)
        record.update(num_images=len(readable), unreadable=[to_text(str(file)) for file in unreadable])
        record.update(**_count_unsure(run.task_spec, classes))
    return PredictResult(readable, classes, unreadable, output, run.uncalibrated is None)


def _count_unsure(spec: "TaskSpec", classes: Sequence[Sequence[tuple[str, float]]]) -> dict[str, Any]:
    """How many answers lie below the model's threshold; nothing where it has none."""
    calibration = spec.calibration
    if calibration is None or calibration.threshold is None:
        return {}
    threshold = calibration.threshold
    unsure = sum(ranked[0][1] < threshold for ranked in classes)
    if unsure:
        log.info(
            "%d of %d photos are uncertain (confidence below %.3g %%, above which %.3g %% were right on validation)",
            unsure,
            len(classes),
            100 * threshold,
            100 * calibration.target_accuracy,
        )
    return {"threshold": threshold, "num_below_threshold": unsure}


def _draw_pictures(
    folder: Path,
    base: Path,
    files: Sequence[Path],
    classes: Sequence[Sequence[tuple[str, float]]],
    load: "Callable[[Path], Image.Image]",
) -> None:
    from rich.progress import track

    from sightline.serving.pictures import draw_titled

    for file, ranked in track(list(zip(files, classes, strict=True)), "Drawing", transient=True):
        path = folder / to_text(str(file.relative_to(base)))
        path.parent.mkdir(parents=True, exist_ok=True)
        name, probability = ranked[0]
        draw_titled(load(file), name, f"{probability:.1%}").save(path.with_name(fit_name(path.name, ".png")))
