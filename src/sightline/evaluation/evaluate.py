"""Measure a trained model on a split: the one way to a run's test numbers, in training and afterwards."""

import json
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sightline.config import SPLITS, to_plain, validate_choice, validate_evaluation, validate_loading
from sightline.data.sources import localise
from sightline.data.splits import Manifest, find_test_images
from sightline.errors import BadInput
from sightline.preparation import OpenedData, StreamedData, open_shards, shard_cache
from sightline.run_record import RunRecord, open_folder, write_json

if TYPE_CHECKING:
    import torch
    from omegaconf import DictConfig
    from torch.utils.data import DataLoader

    from sightline.data.shard_stores import ShardCache
    from sightline.evaluation.predictions import Runner
    from sightline.evaluation.subject import Section, Subject
    from sightline.task_spec import TaskSpec

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class EvaluateResult:
    metrics: dict[str, float]
    run_dir: Path


def evaluate(cfg: "DictConfig") -> EvaluateResult:
    """Measure a finished run on its own split, exactly as training did, or on any folder with `test/<class>/…`.

    Raises: BadInput before anything is written; GateNotMet when everything is.
    """
    validate_loading(cfg)
    validate_choice("split", cfg.split, SPLITS)
    validate_evaluation(cfg.evaluation, (cfg.split,))
    from sightline.evaluation.gates import check_gates
    from sightline.evaluation.measurement import build_evaluators, measure_subject
    from sightline.evaluation.predictions import predict_split
    from sightline.evaluation.subject import Subject

    evaluators = build_evaluators(cfg.evaluation)
    model = _open_model(cfg, cfg.run)
    other = None if cfg.against is None else _open_model(cfg, cfg.against)
    if other is not None:
        _check_same_classes(cfg.against, model, other)
    images = _find_images(cfg, model)
    loader = _make_loader(cfg, model, images, cfg.split)
    name = model.trained.get("name", "model")
    output = open_folder(Path(cfg.paths.runs), "evaluate", name, cfg.output)
    with RunRecord(output, **_facts(cfg, model, images)):
        runner = _calibrated(cfg, model)
        predictions = predict_split(runner, loader, _limit(cfg, model, cfg.split))
        manifest = images.manifest if isinstance(images, OpenedData) else model.manifest
        subject = Subject(predictions, runner, cfg.split, loader, manifest, cfg.evaluation.seed)
        further = [] if other is None else [_compare(cfg, subject, other, images)]
        gates = {key: float(value) for key, value in cfg.evaluation.gates.items()}
        metrics = measure_subject(output, subject, evaluators, name=name, gates=gates, further=further)
        write_json(output / "metrics.json", metrics)
        check_gates(metrics, gates)
    return EvaluateResult(metrics, output)


@dataclass(frozen=True)
class _Model:
    """A saved model, what its run recorded, and how it runs."""

    path: Path
    folder: Path | None
    trained: dict[str, Any]
    runner: "Runner"

    @property
    def spec(self) -> "TaskSpec":
        return self.runner.spec

    @property
    def settings(self) -> dict[str, Any]:
        """The configuration of the run."""
        return self.trained.get("config", {})

    @property
    def manifest(self) -> Manifest | None:
        table = self.folder / "manifest.csv" if self.folder else None
        return Manifest.load(table, Path(self.trained["data"]["root"])) if table and table.is_file() else None


def _open_model(cfg: "DictConfig", run: str) -> _Model:
    from sightline.evaluation.predictions import Runner
    from sightline.models.checkpoint import find_run, load_model, run_folder
    from sightline.models.inference import choose_device, choose_precision

    path = find_run(run, Path(cfg.paths.runs))
    saved = load_model(path)
    folder = run_folder(path)
    trained = json.loads((folder / "run.json").read_text(encoding="utf-8")) if folder else {}
    device = choose_device(cfg.accelerator, preferred=trained.get("device"))
    precision = choose_precision(cfg.precision or trained.get("precision") or "auto", device)
    channels_last = trained.get("config", {}).get("model", {}).get("channels_last", True)
    return _Model(path, folder, trained, Runner(saved.network, saved.spec, device, precision, channels_last))


def _check_same_classes(against: str, model: _Model, other: _Model) -> None:
    mine, theirs = model.spec.class_names, other.spec.class_names
    if mine != theirs:
        differing = ", ".join(sorted(set(mine) ^ set(theirs))[:5]) or "the same in another order"
        raise BadInput(
            f"against={against}: the two models know different classes ({differing}); give a run of the same classes"
        )


def _make_loader(
    cfg: "DictConfig", model: _Model, images: OpenedData | StreamedData, split: str
) -> "DataLoader[tuple[torch.Tensor, torch.Tensor]]":
    data = model.settings.get("data", {})
    return split_loader(
        images,
        split,
        model.spec,
        cache=shard_cache(cfg.paths.cache),
        batch_size=cfg.data.batch_size or data.get("batch_size", 64),
        num_workers=data.get("num_workers", 2) if cfg.data.num_workers is None else cfg.data.num_workers,
    )


def _limit(cfg: "DictConfig", model: _Model, split: str) -> int | float | None:
    """The limit of batches that training had, where its own images are measured."""
    is_own = cfg.data.root is None or split == "val"
    return model.settings.get("trainer", {}).get(f"limit_{split}_batches") if is_own else None


def _facts(cfg: "DictConfig", model: _Model, images: OpenedData | StreamedData) -> dict[str, Any]:
    return {
        "task": "evaluate",
        "name": model.trained.get("name"),
        "run": str(model.path),
        "config": to_plain(cfg),
        "device": str(model.runner.device),
        "precision": model.runner.precision,
        "data": images.describe(),
    }


def _calibrated(cfg: "DictConfig", model: _Model) -> "Runner":
    """The model's runner; calibrated now, and stored with the model, if it is not yet or another accuracy is wanted."""
    from sightline.evaluation.measurement import with_calibration
    from sightline.evaluation.predictions import predict_split

    known, target = model.spec.calibration, cfg.evaluation.target_accuracy
    if known is not None and target in (None, known.target_accuracy):
        return model.runner
    try:
        images = _find_own_images(model.folder, model.trained, "val")
    except BadInput as error:
        log.warning("not calibrated: the validation images of the run are needed for that (%s)", error)
        return model.runner
    validation = predict_split(model.runner, _make_loader(cfg, model, images, "val"), _limit(cfg, model, "val"))
    runner = with_calibration(model.runner, validation, target)
    kept = next((place for place in (model.path, model.path / "model") if (place / "task_spec.json").is_file()), None)
    if kept is not None:
        runner.spec.save(kept / "task_spec.json")
        log.info("temperature %.4f and threshold are stored in %s", runner.spec.temperature, kept / "task_spec.json")
    return runner


def _compare(cfg: "DictConfig", subject: "Subject", other: _Model, images: OpenedData | StreamedData) -> "Section":
    """The other model on the same images."""
    from sightline.evaluation.comparison import compare
    from sightline.evaluation.predictions import Predictions, predict_split

    theirs = predict_split(other.runner, _make_loader(cfg, other, images, cfg.split), _limit(cfg, other, cfg.split))
    if len(theirs) != len(subject.predictions):
        raise BadInput(
            f"against={cfg.against}: it was trained with another limit of batches; measure a folder with data.root"
        )
    return compare(subject, Predictions(theirs.logits, subject.labels), str(other.path))


def _find_images(cfg: "DictConfig", model: _Model) -> OpenedData | StreamedData:
    """The images of the folder that the configuration names, or those of the run itself."""
    data = model.settings.get("data", {})
    if cfg.data.root is None:
        return _find_own_images(model.folder, model.trained, cfg.split)
    if cfg.split != "test":
        raise BadInput(f"split={cfg.split}: with data.root the split is test; drop one of the two")
    root = localise(cfg.data.root, Path(cfg.paths.cache))
    return OpenedData(find_test_images(root, model.spec.class_names, data.get("class_pattern")))


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
