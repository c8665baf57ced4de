"""Measure a trained model on a split: the one way to a run's test numbers, in training and afterwards."""

import json
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sightline.config import SPLITS, check_views, to_plain, validate_choice, validate_loading
from sightline.data.sources import localise
from sightline.data.splits import Manifest, find_test_images
from sightline.errors import BadInput
from sightline.preparation import OpenedData, StreamedData, open_shards, shard_cache
from sightline.run_record import RunRecord, open_folder, write_json

if TYPE_CHECKING:
    import torch
    from omegaconf import DictConfig
    from torch import nn
    from torch.utils.data import DataLoader

    from sightline.data.shard_stores import ShardCache
    from sightline.evaluation.evaluators import Predictions
    from sightline.task_spec import TaskSpec

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class EvaluateResult:
    metrics: dict[str, float]
    run_dir: Path


def evaluate(cfg: "DictConfig") -> EvaluateResult:
    """Measure a finished run on its own split, exactly as training did, or on any folder with `test/<class>/…`."""
    validate_loading(cfg)
    validate_choice("split", cfg.split, SPLITS)
    from sightline.models.checkpoint import find_run, load_model, run_folder
    from sightline.models.inference import choose_device, choose_precision
    from sightline.models.views import with_views

    path = find_run(cfg.run, Path(cfg.paths.runs))
    saved = load_model(path)
    folder = run_folder(path)
    trained = json.loads((folder / "run.json").read_text(encoding="utf-8")) if folder else {}
    images = _find_images(cfg, saved.spec.class_names, folder, trained)
    device = choose_device(cfg.accelerator, preferred=trained.get("device"))
    precision = choose_precision(cfg.precision or trained.get("precision") or "auto", device)
    settings = trained.get("config", {})
    data = settings.get("data", {})
    views = cfg.test_time_augmentation or settings.get("test_time_augmentation", "none")
    check_views(views, data.get("orientation_matters", False))
    is_own = cfg.data.root is None
    loader = split_loader(
        images,
        cfg.split,
        saved.spec,
        cache=shard_cache(cfg.paths.cache),
        batch_size=cfg.data.batch_size or data.get("batch_size", 64),
        num_workers=data.get("num_workers", 2) if cfg.data.num_workers is None else cfg.data.num_workers,
    )
    output = open_folder(Path(cfg.paths.runs), "evaluate", trained.get("name", "model"), cfg.output)
    facts: dict[str, Any] = {
        "task": "evaluate",
        "name": trained.get("name"),
        "run": str(path),
        "config": to_plain(cfg),
        "device": str(device),
        "precision": precision,
        "data": images.describe(),
    }
    with RunRecord(output, **facts):
        predictions = predict_split(
            with_views(saved.network, views),
            loader,
            saved.spec,
            device=device,
            precision=precision,
            channels_last=settings.get("model", {}).get("channels_last", True),
            limit=settings.get("trainer", {}).get(f"limit_{cfg.split}_batches") if is_own else None,
        )
        metrics = write_evaluation(output, predictions, saved.spec.class_names, cfg.split)
        write_json(output / "metrics.json", metrics)
    return EvaluateResult(metrics, output)


def _find_images(
    cfg: "DictConfig", class_names: tuple[str, ...], folder: Path | None, trained: dict[str, Any]
) -> OpenedData | StreamedData:
    """The images of the folder that the configuration names, or those of the run itself."""
    data = trained.get("config", {}).get("data", {})
    if cfg.data.root is None:
        return _find_own_images(folder, trained, cfg.split)
    if cfg.split != "test":
        raise BadInput(f"split={cfg.split}: with data.root the split is test; drop one of the two")
    root = localise(cfg.data.root, Path(cfg.paths.cache))
    return OpenedData(find_test_images(root, class_names, data.get("class_pattern")))


def _find_own_images(folder: Path | None, trained: dict[str, Any], split: str) -> OpenedData | StreamedData:
    """The images that the run kept the manifest of, with every file of the split as it was then."""
    table = folder / "manifest.csv" if folder else None
    if table is None or not table.is_file():
        raise BadInput("data.root: this model came without its run folder; name a folder that holds test/<class>/…")
    if trained["data"]["num_images"][split] == 0:
        raise BadInput(
            f"split={split}: the run {folder} had no {split} images; measure others with data.root=FOLDER "
            "(with test/<class>/… in it), or another split with split=val"
        )
    if trained["config"]["data"]["source"] == "shards":
        return _open_same_shards(trained["data"])
    manifest = Manifest.load(table, Path(trained["data"]["root"]))
    if changed := manifest.find_changed(split):
        raise BadInput(
            f"data.root={manifest.root}: {len(changed)} {split} image(s) are gone or differ from those of the run, "
            f"the first is {changed[0]}; restore them, or measure this folder as it is with data.root={manifest.root}"
        )
    return OpenedData(manifest)


def _open_same_shards(data: dict[str, Any]) -> StreamedData:
    opened = open_shards(data["root"])
    if opened.info.sha256 != data["sha256"]:
        raise BadInput(
            f"data.root={data['root']}: the shards there were packed from other images than those of the run; "
            "restore them, or measure a folder with data.root=FOLDER"
        )
    return opened


def split_loader(
    images: OpenedData | StreamedData,
    split: str,
    spec: "TaskSpec",
    *,
    batch_size: int,
    num_workers: int,
    cache: "ShardCache | None" = None,
) -> "DataLoader[tuple[torch.Tensor, torch.Tensor]]":
    """Batches of a split in the manifest's order, without augmentation."""
    from sightline.data.datamodule import ImageDataset
    from sightline.data.loader import make_loader

    if isinstance(images, StreamedData):
        from sightline.data.shard_loading import ShardDataset, make_shard_loader

        shards = ShardDataset(images.location, split, spec, cache=cache)
        return make_shard_loader(shards, batch_size=batch_size, num_workers=num_workers)
    dataset = ImageDataset(images.manifest.select(split), spec)
    return make_loader(dataset, batch_size=batch_size, num_workers=num_workers)


def predict_split(
    network: "nn.Module",
    loader: "DataLoader[tuple[torch.Tensor, torch.Tensor]]",
    spec: "TaskSpec",
    *,
    device: "torch.device",
    precision: str,
    channels_last: bool = True,
    limit: int | float | None = None,
) -> "Predictions":
    """Logits and labels of what a loader yields, with a progress bar in a terminal.

    `limit` is a number of batches or, below 1, a share of them, as in Lightning's `limit_test_batches`.
    """
    import torch
    from rich.progress import track

    from sightline.data.transforms import normalise
    from sightline.evaluation.evaluators import Predictions
    from sightline.models.inference import run_network

    labels: list[torch.Tensor] = []

    def images() -> Iterator["torch.Tensor"]:
        total = _num_batches(len(loader), limit)
        for batch, batch_labels in track(islice(loader, total), "Evaluating", total=total, transient=True):
            labels.append(batch_labels.cpu())
            yield batch

    logits = run_network(
        network,
        images(),
        device=device,
        precision=precision,
        prepare=lambda batch: normalise(batch, spec),
        channels_last=channels_last,
    )
    return Predictions(logits, torch.cat(labels))


def _num_batches(available: int, limit: int | float | None) -> int:
    if limit is None:
        return available
    return max(1, int(limit * available) if isinstance(limit, float) else min(limit, available))


def write_evaluation(
    folder: Path, predictions: "Predictions", class_names: tuple[str, ...], split: str
) -> dict[str, float]:
    """Write the confusion matrix and the table of classes (CSV and PNG) and return the split's metrics."""
    from sightline.evaluation import figures
    from sightline.evaluation.evaluators import confusion_matrix, measure, per_class

    metrics = measure(predictions, split)
    matrix, scores = confusion_matrix(predictions), per_class(predictions, class_names)
    title = f"{split}: accuracy {metrics[f'{split}/accuracy']:.4f} on {len(predictions.labels):,} images"
    figures.write_confusion_matrix(folder / "confusion_matrix.csv", matrix, class_names)
    figures.draw_confusion_matrix(matrix, class_names, title).savefig(folder / "confusion_matrix.png", dpi=110)
    figures.write_per_class(folder / "per_class.csv", scores)
    figures.draw_per_class(scores, title).savefig(folder / "per_class.png", dpi=110)
    return metrics
