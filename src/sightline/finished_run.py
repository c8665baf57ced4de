"""A finished run as other tasks find it: its model, its settings and its images. Loads torch inside functions."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sightline.config import EvaluateConfig, ExplainConfig
from sightline.data.collection.sources import localise
from sightline.data.manifest import Manifest
from sightline.data.opening import image_cache, open_shards, shard_cache
from sightline.data.splitting import find_test_images
from sightline.data.training_data import FolderData, ShardData, TrainingData
from sightline.errors import BadInput

if TYPE_CHECKING:
    import torch
    from torch.utils.data import DataLoader

    from sightline.models.checkpoint import SavedModel
    from sightline.task_spec import TaskSpec


RunTask = EvaluateConfig | ExplainConfig
"""Configurations of the tasks that use a finished run and its images."""


@dataclass(frozen=True)
class FinishedRun:
    """A saved model, what its run recorded, and how it runs."""

    path: Path
    folder: Path | None
    trained: dict[str, Any]
    saved: "SavedModel"
    device: "torch.device"
    precision: str

    @property
    def spec(self) -> "TaskSpec":
        return self.saved.spec

    @property
    def name(self) -> str:
        """Of the experiment."""
        return self.trained.get("name") or "model"

    @property
    def settings(self) -> dict[str, Any]:
        """The configuration of the run."""
        return self.trained.get("config", {})

    @property
    def channels_last(self) -> bool:
        return self.settings.get("model", {}).get("channels_last", True)

    @property
    def manifest(self) -> Manifest | None:
        table = self.folder / "manifest.csv" if self.folder else None
        return Manifest.load(table, Path(self.trained["data"]["root"])) if table and table.is_file() else None


def open_finished_run(cfg: RunTask, run: str, precision: str | None = None) -> FinishedRun:
    """The model that `run=` names, on the device and in the precision of its training unless told otherwise.

    Raises: BadInput when there is none.
    """
    from sightline.models.checkpoint import find_run, load_model, run_folder
    from sightline.models.inference import choose_device, choose_precision

    path = find_run(run, Path(cfg.paths.runs))
    saved = load_model(path)
    folder = run_folder(path)
    trained = json.loads((folder / "run.json").read_text(encoding="utf-8")) if folder else {}
    if "data" in trained and cfg.data.own_root is not None:
        trained["data"]["root"] = cfg.data.own_root
    device = choose_device(cfg.accelerator, preferred=trained.get("device"))
    chosen = choose_precision(precision or trained.get("precision") or "auto", device)
    return FinishedRun(path, folder, trained, saved, device, chosen)


def find_images(cfg: RunTask, run: FinishedRun) -> TrainingData:
    """The images of the folder that the configuration names, or those of the run itself."""
    if cfg.data.root is None:
        return find_own_images(cfg, run, cfg.split)
    if cfg.split != "test":
        raise BadInput(f"split={cfg.split}: with data.root the split is test; drop one of the two")
    root = localise(cfg.data.root, Path(cfg.paths.cache))
    class_pattern = run.settings.get("data", {}).get("class_pattern")
    return FolderData(find_test_images(root, run.spec.class_names, class_pattern))  # not hashed: no cache knows them


def find_own_images(cfg: RunTask, run: FinishedRun, split: str) -> TrainingData:
    """The images that the run kept the manifest of, with every file of the split as it was then.

    Raises: BadInput when the run is not here, had none, or they have changed.
    """
    folder, trained, cache = run.folder, run.trained, Path(cfg.paths.cache)
    table = folder / "manifest.csv" if folder else None
    if table is None or not table.is_file():
        raise BadInput("data.root: this model came without its run folder; name a folder that holds test/<class>/…")
    if trained["data"]["num_images"][split] == 0:
        raise BadInput(
            f"split={split}: the run {folder} had no {split} images; measure others with data.root=FOLDER "
            "(with test/<class>/… in it), or another split with split=val"
        )
    if trained["config"]["data"]["source"] == "shards":
        return _open_same_shards(trained["data"], cache)
    manifest = Manifest.load(table, Path(trained["data"]["root"]))
    if changed := manifest.find_changed(split):
        raise BadInput(
            f"data.root={manifest.root}: {len(changed)} {split} image(s) are gone or differ from those of the run, "
            f"the first is {changed[0]}; restore them, or measure this folder as it is with data.root={manifest.root}"
        )
    decoded = None if trained["config"]["data"].get("cache") == "off" else image_cache(cache)
    return FolderData(manifest, cache=decoded)


def _open_same_shards(data: dict[str, Any], cache: Path) -> ShardData:
    opened = open_shards(data["root"], shard_cache(cache))
    if opened.info.sha256 != data["sha256"]:
        raise BadInput(
            f"data.root={data['root']}: the shards there were packed from other images than those of the run; "
            "restore them, or measure a folder with data.root=FOLDER"
        )
    return opened


def make_loader_of(
    cfg: RunTask, run: FinishedRun, images: TrainingData, split: str
) -> "DataLoader[tuple[torch.Tensor, torch.Tensor]]":
    """Batches of a split in the manifest's order, without augmentation, from decoded images where there are some."""
    data, chosen = run.settings.get("data", {}), cfg.data
    return images.make_loader(
        split,
        run.spec,
        batch_size=chosen.batch_size or data.get("batch_size", 64),
        num_workers=chosen.num_workers,
        usual_workers=data.get("num_workers", 2),
    )


def _are_own(cfg: RunTask, split: str) -> bool:
    """Whether the images of a split are those of the run."""
    return cfg.data.root is None or split == "val"


def batch_limit(cfg: RunTask, run: FinishedRun, split: str) -> int | float | None:
    """The limit of batches that training had, where its own images are measured."""
    return run.settings.get("trainer", {}).get(f"limit_{split}_batches") if _are_own(cfg, split) else None
