"""Test images without classes: they cannot be measured, so a training ends with their predictions."""

import logging
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

from sightline.config import TrainConfig
from sightline.data.predicted_classes import most_probable, write_predictions
from sightline.data.training_data import TrainingData
from sightline.runs.file_names import to_text
from sightline.runs.record import RunRecord

if TYPE_CHECKING:
    from sightline.evaluation.predictions import Runner

log = logging.getLogger(__name__)
TABLE = "test_predictions.csv"


def predict_unlabelled(cfg: TrainConfig, opened: TrainingData, runner: "Runner", record: RunRecord) -> None:
    """Write `test_predictions.csv`, with the columns of predictions.csv."""
    from sightline.data.pictures import PictureBatches

    assert opened.manifest is not None
    files = [opened.manifest.root / name for name in opened.unlabelled]
    assert isinstance(cfg.data.batch_size, int)
    loading = {"batch_size": cfg.data.batch_size, "num_workers": cfg.data.num_workers}
    batches = PictureBatches(files, runner.spec, max_pixels=cfg.data.max_pixels, **loading)
    rest = iter(batches)
    first = next(rest, None)
    rows = []
    if first is not None:
        logits = runner.predict(chain([first], rest))
        rows = most_probable((logits / runner.spec.temperature).softmax(dim=1), runner.spec.class_names)
    for error in batches.unreadable.values():
        log.warning("skipped %s", error)
    names = [Path(name) for number, name in enumerate(opened.unlabelled) if number not in batches.unreadable]
    write_predictions(record.folder / TABLE, names, rows)
    unreadable = [to_text(opened.unlabelled[number]) for number in sorted(batches.unreadable)]
    record.update(test_predictions={"num_images": len(names), "unreadable": unreadable})
    log.info("%d test image(s) without classes: predictions in %s", len(names), record.folder / TABLE)
