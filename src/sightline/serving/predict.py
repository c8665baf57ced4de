"""Classify a file or a folder of photos with a trained model."""

import csv
import json
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sightline.config import PredictConfig, to_plain, validate_task
from sightline.data.collection.image_files import find_files
from sightline.errors import BadInput
from sightline.runs.record import RunRecord, open_folder

if TYPE_CHECKING:
    import torch
    from omegaconf import DictConfig
    from torch.utils.data import DataLoader

    from sightline.serving.predictor import Prepared
    from sightline.task_spec import TaskSpec

log = logging.getLogger(__name__)
TOP = 5


@dataclass(frozen=True)
class PredictResult:
    """Files with their most probable classes, and those that could not be read."""

    files: list[Path]
    classes: list[list[tuple[str, float]]]
    unreadable: list[Path]
    run_dir: Path


def predict(cfg: "DictConfig | PredictConfig") -> PredictResult:
    """Write `predictions.csv` and, with `pictures`, each photo with its class as the title."""
    cfg = validate_task(cfg, PredictConfig)
    given = Path(cfg.images).expanduser().absolute()
    files = _find(given)
    from sightline.models.checkpoint import find_run, load_model, run_folder
    from sightline.models.inference import keep_freed_memory
    from sightline.serving.predictor import Predictor, file_loader

    keep_freed_memory()
    path = find_run(cfg.run, Path(cfg.paths.runs))
    folder = run_folder(path)
    trained = json.loads((folder / "run.json").read_text(encoding="utf-8")) if folder else {}
    precision = cfg.precision or trained.get("precision") or "auto"
    predictor = Predictor(load_model(path), cfg.accelerator, precision)
    reader = _Reader(file_loader(files, predictor.spec, batch_size=cfg.batch_size, num_workers=cfg.num_workers))
    batches = iter(reader)
    first = next(batches, None)
    if first is None:
        raise BadInput(f"images={given}: none of the {len(files)} file(s) can be read, the first is {files[0]}")
    output = open_folder(Path(cfg.paths.runs), "predict", trained.get("name", "model"), cfg.output)
    facts: dict[str, Any] = {
        "task": "predict",
        "name": trained.get("name"),
        "run": str(path),
        "config": to_plain(cfg),
        "device": str(predictor.device),
        "precision": predictor.precision,
    }
    with RunRecord(output, **facts) as record:
        probabilities = predictor.predict_batches(chain([first], batches))
        unreadable = set(reader.unreadable)
        readable = [file for file in files if file not in unreadable]
        classes = _most_probable(probabilities, predictor.spec.class_names)
        base = given if given.is_dir() else given.parent
        _write_csv(output / "predictions.csv", [file.relative_to(base) for file in readable], classes)
        if cfg.pictures:
            _draw_pictures(output / "pictures", base, readable, classes)
        record.update(num_images=len(readable), unreadable=[str(file) for file in reader.unreadable])
        record.update(**_count_unsure(predictor.spec, classes))
    return PredictResult(readable, classes, reader.unreadable, output)


def _count_unsure(spec: "TaskSpec", classes: Sequence[Sequence[tuple[str, float]]]) -> dict[str, Any]:
    """How many answers lie below the model's threshold; nothing where it has none."""
    calibration = spec.calibration
    if calibration is None or calibration.threshold is None:
        return {}
    threshold = calibration.threshold
    unsure = sum(ranked[0][1] < threshold for ranked in classes)
    if unsure:
        log.info(
            "%d of %d answers are below the threshold %.4f, above which %.4g of validation's were right",
            unsure,
            len(classes),
            threshold,
            calibration.target_accuracy,
        )
    return {"threshold": threshold, "num_below_threshold": unsure}


def _find(given: Path) -> list[Path]:
    if given.is_file():
        return [given]
    if not given.is_dir():
        raise BadInput(f"images={given}: no such file or folder")
    files = list(find_files(given))
    if not files:
        raise BadInput(f"images={given}: no images found in this folder")
    return files


class _Reader:
    """Batches of the files that can be read; the others are named in `unreadable` as they are met."""

    def __init__(self, loader: "DataLoader[tuple[Path, Prepared]]") -> None:
        self.loader = loader
        self.unreadable: list[Path] = []

    def __iter__(self) -> Iterator["torch.Tensor"]:
        import torch
        from rich.progress import track

        for chunk in track(self.loader, "Predicting", total=len(self.loader), transient=True):
            for file, pixels in chunk:
                if not isinstance(pixels, torch.Tensor):
                    log.warning("skipped %s", pixels)
                    self.unreadable.append(file)
            images = [pixels for _, pixels in chunk if isinstance(pixels, torch.Tensor)]
            if images:
                yield torch.stack(images)


def _most_probable(probabilities: "torch.Tensor", class_names: Sequence[str]) -> list[list[tuple[str, float]]]:
    values, indices = probabilities.topk(min(TOP, len(class_names)), dim=1)
    rows = zip(indices.tolist(), values.tolist(), strict=True)
    return [[(str(class_names[i]), float(value)) for i, value in zip(*row, strict=True)] for row in rows]


def _write_csv(path: Path, files: Sequence[Path], classes: Sequence[Sequence[tuple[str, float]]]) -> None:
    ranks = ["", *(f"_{rank}" for rank in range(2, TOP + 1))]
    with path.open("w", newline="", encoding="utf-8") as table:
        writer = csv.writer(table)
        writer.writerow(("file", *(name + rank for rank in ranks for name in ("class", "probability"))))
        for file, ranked in zip(files, classes, strict=True):
            cells = [cell for name, probability in ranked for cell in (name, f"{probability:.6f}")]
            writer.writerow((file.as_posix(), *cells, *[""] * (2 * TOP - len(cells))))


def _draw_pictures(
    folder: Path, base: Path, files: Sequence[Path], classes: Sequence[Sequence[tuple[str, float]]]
) -> None:
    from rich.progress import track

    from sightline.serving.pictures import draw_titled

    for file, ranked in track(list(zip(files, classes, strict=True)), "Drawing", transient=True):
        path = folder / file.relative_to(base)
        path.parent.mkdir(parents=True, exist_ok=True)
        name, probability = ranked[0]
        draw_titled(file, f"{name}  {probability:.1%}").save(path.with_name(path.name + ".png"))
