"""A finished run as tasks, notebooks and programs find it: its model, its record and its images.

Loads torch inside functions.
"""

import csv
import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

from sightline.config import (
    SPLITS,
    EvaluateConfig,
    ExplainConfig,
    ExportTaskConfig,
    find_code_of_run,
    is_own,
    open_code,
    targets_of,
)
from sightline.data.audit.value_range import check_depth
from sightline.data.collection.digits import write_digits
from sightline.data.collection.image_files import TABLE_KEYS, LayoutRule, find_files, parts_told
from sightline.data.collection.sources import localise
from sightline.data.collection.tables import is_table
from sightline.data.manifest import Manifest
from sightline.data.opening import image_cache, open_shards, open_test_images, shard_cache
from sightline.data.training_data import FolderData, ShardData, TrainingData
from sightline.errors import BadInput
from sightline.registry.names import find_registered, is_registered
from sightline.registry.version import read_version
from sightline.runs.files import read_json
from sightline.runs.folder import find_run, run_folder
from sightline.runs.project import home
from sightline.task_spec import MAX_PIXELS, NOT_YET

if TYPE_CHECKING:
    import numpy as np
    import torch
    from PIL import Image
    from torch.utils.data import DataLoader

    from sightline.data.pictures import Picture
    from sightline.models.checkpoint import SavedModel
    from sightline.models.runtimes import Placement, Runtime
    from sightline.task_spec import TaskSpec

    Pictures = str | Path | Image.Image | np.ndarray | Iterable[str | Path | Image.Image | np.ndarray]

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Prediction:
    """What a model says of one picture."""

    label: str
    """The most probable class."""
    probability: float
    probabilities: dict[str, float]
    """Of every class, in the order of `task_spec.class_names`; they sum to 1."""
    is_unsure: bool
    """Whether the probability lies below the threshold of the calibration, where the model has one."""
    file: Path | None
    """None: a picture that was not a file."""


@dataclass(frozen=True, eq=False)
class Predictions(Sequence[Prediction]):
    """What a model says of N pictures, in their order; `predictions[i]` is a `Prediction`."""

    class_names: tuple[str, ...]
    probabilities: "np.ndarray"
    """Float32 `(N, num_classes)`."""
    files: list[Path | None]
    """N of them; None: a picture that was not a file."""
    unreadable: list[Path]
    """The files of a folder that cannot be read; they have no row."""
    threshold: float | None = None
    is_calibrated: bool = True
    """Whether the probabilities are: False for a checkpoint that no calibration was measured of."""

    def __len__(self) -> int:
        return len(self.files)

    @overload
    def __getitem__(self, index: int) -> Prediction: ...
    @overload
    def __getitem__(self, index: slice) -> list[Prediction]: ...
    def __getitem__(self, index: int | slice) -> Prediction | list[Prediction]:
        if isinstance(index, slice):
            return [self[each] for each in range(*index.indices(len(self)))]
        row = self.probabilities[index]
        best = int(row.argmax())
        by_class = dict(zip(self.class_names, map(float, row), strict=True))
        probability = float(row[best])
        is_unsure = self.threshold is not None and probability < self.threshold
        return Prediction(self.class_names[best], probability, by_class, is_unsure, self.files[index])


RunTask = EvaluateConfig | ExplainConfig
"""Configurations of the tasks that use a finished run and its images, or others …"""
OwnTask = RunTask | ExportTaskConfig
"""… and of those that use its own images."""


@dataclass(frozen=True)
class FinishedRun:
    """A saved model, what its run recorded, and how it runs."""

    path: Path
    """The run folder, model folder or checkpoint that the model came from."""
    folder: Path | None
    """The run folder; None for a model that came without it."""
    trained: dict[str, Any]
    """`run.json`."""
    saved: "SavedModel"
    device: "torch.device"
    precision: str
    uncalibrated: str | None = None
    """Why its probabilities are not calibrated; None where they are."""
    asked_runtime: str = "auto"
    """What is to compute: `auto`, `torch`, `compiled` or `onnx`."""
    cache: Path | None = None
    """Where a graph is kept that `onnx` makes."""

    @classmethod
    def open(
        cls,
        path: str | Path,
        device: str = "auto",
        precision: str = "32-true",
        data_root: str | Path | None = None,
        runs: str | Path | None = None,
        extensions: str | Path | None = None,
        trust_code: bool = False,
        runtime: str = "auto",
    ) -> "FinishedRun":
        """Open a run folder, its `model/` folder, a checkpoint, `latest` (the newest training), a path below `runs`, or
        `registry:NAME[/VERSION|/production|/staging]` of the registry in `runs`.

        A run of evaluate, explain or predict stands for the run whose model it used; a checkpoint takes the calibration
        of its run where that is of the same weights. A line of the log says what was opened. `device` is `auto` (that
        of the training where it is here), `cpu`, `gpu`, `cuda` or `mps`, `precision` Lightning's name, or `int8`: the
        exported model of that precision, with its own calibration. `data_root` is where the run's own images lie now,
        `runs` the project's runs folder unless given. `extensions` is the folder of the run's own code (None: where it
        lay); code that has changed since is refused without `trust_code`. `runtime` says what computes: `torch`,
        `compiled`, `onnx`, or `auto`, which is the exported model on a processor where it is there and agrees, else
        torch.

        Raises: BadInput when there is no model there, or no such device, or nothing that computes so on it, or its code
        is not to be trusted.
        """
        place, cache = home() / "runs" if runs is None else Path(runs), home() / "data" / ".cache"
        local = find_registered(str(path), str(place / "registry"), cache) if is_registered(path) else path
        found = find_run(local, place)
        from sightline.models.checkpoint import CodeOfRun, load_model
        from sightline.models.inference import choose_device, choose_precision
        from sightline.models.runtimes import INT8, Placement, check_runtime, open_int8

        folder = run_folder(found)
        trained = read_json(folder / "run.json") if folder else {}
        if "data" in trained and data_root is not None:
            trained["data"]["root"] = str(data_root)
        found_device = choose_device(device, preferred=trained.get("device"))
        chosen = choose_precision(precision, found_device)
        check_runtime(runtime, Placement(found_device, chosen))
        saved, uncalibrated = _with_calibration(load_model(found, CodeOfRun(extensions, trust_code)), folder, trained)
        if chosen == INT8:
            saved = replace(saved, spec=open_int8(saved).spec)
        if saved.spec.kind != "single":
            raise BadInput(f"run={path}: its model tells {NOT_YET}; give one of a single class an image")
        run = cls(found, folder, trained, saved, found_device, chosen, uncalibrated, runtime, cache)
        log.info("run: %s", run)
        return run

    def __str__(self) -> str:
        """The path, and in brackets the network, the number of classes and how the run ended."""
        path, here = self.path, Path.cwd()
        ended = self.trained.get("finished")
        when = f" {datetime.fromisoformat(ended).astimezone():%Y-%m-%d %H:%M}" if ended else ""
        status = f"{self.trained.get('status')}{when}" if self.trained else "without its run folder"
        facts = f"{self.saved.architecture.name}, {self.task_spec.num_classes} classes, {status}"
        return f"{path.relative_to(here) if path.is_relative_to(here) else path} ({facts})"

    def warn_if_uncalibrated(self) -> None:
        if self.uncalibrated is not None:
            log.warning("uncalibrated: %s", self.uncalibrated)

    @cached_property
    def metrics(self) -> dict[str, float]:
        """`metrics.json`: what the run measured at its end, by `split/metric`; empty without the run folder."""
        return read_json(self.folder / "metrics.json") if self.folder else {}

    @cached_property
    def history(self) -> list[dict[str, float]]:
        """`metrics.csv`: a dictionary an epoch, with `epoch`, `step` and the metrics that it has."""
        table = self.folder / "metrics.csv" if self.folder else None
        if table is None or not table.is_file():
            return []
        with table.open(newline="", encoding="utf-8") as file:
            return [
                {name: int(text) if name in ("epoch", "step") else float(text) for name, text in row.items() if text}
                for row in csv.DictReader(file)
            ]

    @property
    def task_spec(self) -> "TaskSpec":
        """Classes, image size, normalisation and calibration: all that answers depend on beside the network."""
        return self.saved.spec

    def predict(
        self, pictures: "Pictures", *, batch_size: int = 64, num_workers: int = 0, max_pixels: int | None = None
    ) -> Predictions:
        """Classify pictures as `predict.py` does: a folder (searched through), or one or several files, Pillow images
        or arrays `(H, W, C)` of any numbers; an array `(N, H, W, C)` is N pictures, one `(H, W)` a grey one.

        C is the model's number of channels, or 1 or 3, which stand for each other. Values of more than 8 bits are
        spread over the model's value range.

        Files of more than `max_pixels` are not opened (None: than the training allowed).

        Raises: BadInput for what is no picture, a folder without any, and a file that was named and cannot be read.
        """
        from sightline.data.pictures import PictureBatches

        is_folder = isinstance(pictures, str | Path) and Path(pictures).expanduser().is_dir()
        found = _as_pictures(pictures, self.task_spec.channels)
        files = [each if isinstance(each, Path) else None for each in found]
        workers = num_workers if None not in files else 0  # images in memory would only be handed to and fro
        loading = {"batch_size": batch_size, "num_workers": workers, "max_pixels": max_pixels or self.max_pixels}
        batches = PictureBatches(found, self.task_spec, **loading)
        probabilities = self.predict_batches(batches) if found else None
        if batches.unreadable and (not is_folder or probabilities is None):
            raise BadInput(str(next(iter(batches.unreadable.values()))))
        if probabilities is None:
            shape = f"(H, W, {self.task_spec.channels})"
            raise BadInput(f"{pictures}: no images found; give a folder, files, Pillow images or arrays {shape}")
        self.warn_if_uncalibrated()
        calibration = self.task_spec.calibration
        return Predictions(
            self.task_spec.class_names,
            probabilities.numpy(),
            [file for number, file in enumerate(files) if number not in batches.unreadable],
            [file for number in sorted(batches.unreadable) if (file := files[number]) is not None],
            calibration.threshold if calibration else None,
            calibration is not None,
        )

    def predict_batches(self, batches: "Iterable[torch.Tensor]") -> "torch.Tensor | None":
        """Probabilities float32 `(N, num_classes)` of prepared batches `(B, size, size, C)`.

        None without a batch. They are calibrated unless `uncalibrated` says why not.
        """
        from itertools import chain

        from sightline.models.runtimes import compute_logits

        rest = iter(batches)
        if (first := next(rest, None)) is None:
            return None
        logits = compute_logits(self.runtime, chain([first], rest))
        return (logits / self.task_spec.temperature).softmax(dim=1)

    @cached_property
    def runtime(self) -> "Runtime":
        """What computes the model with its own views."""
        return self.make_runtime(self.task_spec.views)

    def make_runtime(self, views: str) -> "Runtime":
        """What computes the model with these views; by `auto` torch where a data module of own code may give floats."""
        from functools import partial

        from sightline.data.transforms import normalise
        from sightline.models.runtimes import make_runtime

        saved = replace(self.saved, spec=replace(self.task_spec, views=views))
        takes_floats = self.asked_runtime == "auto" and is_own(self.settings.get("datamodule", {}))
        asked = "torch" if takes_floats else self.asked_runtime
        return make_runtime(asked, saved, self.placement, partial(normalise, spec=saved.spec))

    @property
    def placement(self) -> "Placement":
        """Where and how it is computed."""
        from sightline.models.runtimes import Placement

        return Placement(self.device, self.precision, self.channels_last, self.cache)

    def describe_model(self) -> dict[str, Any]:
        """For `model` of run.json: the network, and of a registered version its name."""
        version = read_version(self.folder) if self.folder else None
        return {**self.saved.architecture.to_dict(), **({"registry": version.spelled()} if version else {})}

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
    def max_pixels(self) -> int:
        """Of an image that is opened, as the training allowed."""
        return self.settings.get("data", {}).get("max_pixels", MAX_PIXELS)

    @property
    def manifest(self) -> Manifest | None:
        table = self.folder / "manifest.csv" if self.folder else None
        return Manifest.load(table, Path(self.trained["data"]["root"])) if table and table.is_file() else None


def _with_calibration(
    saved: "SavedModel", folder: Path | None, trained: dict[str, Any]
) -> "tuple[SavedModel, str | None]":
    """The model, calibrated; or why it is not.

    Calibration follows the fit, so no checkpoint holds it: one with the weights of its run's `model/` takes it there.
    """
    from sightline.models.backbones import state_dict_sha256
    from sightline.task_spec import TaskSpec

    if saved.spec.calibration is not None:
        return saved, None
    if not saved.path.is_file():
        return saved, f"{saved.path} has no calibration; evaluate.py run={saved.path} adds one"
    if folder is None:
        return saved, f"{saved.path} lies in no run folder, which would hold the calibration; name the run itself"
    exported = folder / "model"
    calibration = TaskSpec.load(exported / "task_spec.json").calibration if exported.is_dir() else None
    if calibration is None:
        return saved, f"{folder} has no calibration yet"
    if state_dict_sha256(saved.network.state_dict()) != read_json(exported / "model.json")["sha256"]:
        if trained.get("averaged", {}).get("used", False):
            return saved, f"the calibration is of the average in model/, not of {saved.path.name}"
        if saved.path.name == "best.ckpt":
            return saved, f"best.ckpt is newer than model/, which is calibrated; finish the training: resume={folder}"
        return saved, f"the calibration is of best.ckpt, not of {saved.path.name}"
    return replace(saved, spec=replace(saved.spec, calibration=calibration)), None


def _as_pictures(given: "Pictures", channels: int) -> list["Picture"]:
    """Files, Pillow images and arrays `(H, W, C)` that a model of so many channels takes, whatever they were given as.

    Raises: BadInput for what is no picture.
    """
    import numpy as np
    from PIL import Image

    if isinstance(given, str | Path):
        path = Path(given).expanduser()
        if not path.exists():
            raise BadInput(f"{given}: no such file or folder")
        return list(find_files(path)) if path.is_dir() else [path]
    if isinstance(given, Image.Image):
        return [given]
    if isinstance(given, np.ndarray):
        return _split_array(given, channels)
    found = []
    for each in given:
        if isinstance(each, str | Path) and Path(each).expanduser().is_dir():
            raise BadInput(f"{each}: a folder among several pictures; give it alone, or its files")
        found += _as_pictures(each, channels)
    return found


def _split_array(given: "np.ndarray", channels: int) -> list["Picture"]:
    """The pictures in an array of one, `(H, W)` or `(H, W, C)`, or of several, `(N, H, W, C)`."""
    from sightline.data.arrays import as_picture
    from sightline.data.levels import are_alike

    is_picture = given.dtype.kind in "buif" and given.ndim in (2, 3, 4) and given.size > 0
    stack = given[None, ..., None] if given.ndim == 2 else given[None] if given.ndim == 3 else given
    if not is_picture or not are_alike(stack.shape[-1], channels):
        greys = ", or greys (H, W)" if channels in (1, 3) else ""
        is_first = is_picture and given.ndim > 2 and given.shape[-3] == channels
        move = "; move its channels to the end: np.moveaxis(array, -3, -1)" if is_first else ""
        raise BadInput(
            f"array {given.dtype} {given.shape}: this model takes numbers (H, W, {channels}), or (N, H, W, {channels})"
            f"{greys}{move}"
        )
    return [as_picture(each) for each in stack]


def find_images(cfg: RunTask, run: FinishedRun) -> TrainingData:
    """The images of the folder that the configuration names, or those of the run itself."""
    if cfg.data.root is None:
        return find_own_images(cfg, run, cfg.split)
    if cfg.split != "test":
        raise BadInput(f"split={cfg.split}: with data.root the split is test; drop one of the two")
    layout = _layout_rule(cfg, run)
    root = localise(cfg.data.root, Path(cfg.paths.cache), layout)
    images = open_test_images(root, run.task_spec.class_names, layout)
    _refuse_own(str(cfg.data.root), images.manifest, run, is_version=images.version is not None)
    check_depth(images.manifest, run.task_spec)
    return replace(images, max_pixels=cfg.data.max_pixels or run.max_pixels)


def _refuse_own(root: str, test: Manifest, run: FinishedRun, *, is_version: bool) -> None:
    """Raises: BadInput for images that are none of test for the run, as a table without splits may name them all.

    Those of a version are known by their bytes, wherever they were checked out.
    """
    own = run.manifest
    if own is None or not (is_version or own.root.resolve() == test.root.resolve()):
        return
    is_known = own.splits != SPLITS.index("test")
    if is_version:
        bytes_known = {each.tobytes() for each in own.digests[is_known]}
        shared = [path for path, each in zip(test.paths, test.digests, strict=True) if each.tobytes() in bytes_known]
    else:
        known = set(own.paths[is_known])
        shared = [path for path in test.paths if path in known]
    if shared:
        raise BadInput(
            f"data.root={root}: the run trained on, or chose its checkpoint by, {len(shared)} of these {len(test)} "
            f"images, the first is {shared[0]}; name others, or drop data.root to measure the run's own test images"
        )


def _layout_rule(cfg: RunTask, run: FinishedRun) -> LayoutRule:
    """How the run was told that its images lie, and its table is read, but for what the command tells."""
    of_run = run.settings.get("data", {})
    told = {key: {**of_run.get(key, {}), **parts_told(getattr(cfg.data, key))} for key in TABLE_KEYS}
    if not is_table(str(cfg.data.root)):
        told |= {key: of_run.get(key) for key in ("class_pattern", "name_pattern")}
    return LayoutRule.of({**told, "tables": cfg.data.tables})


def find_own_images(cfg: OwnTask, run: FinishedRun, split: str) -> TrainingData:
    """The images that the run kept the manifest of, with every file of the split as it was then.

    Raises: BadInput when the run is not here, had none, or they have changed.
    """
    folder, trained, cache = run.folder, run.trained, Path(cfg.paths.cache)
    if folder is not None and is_own(run.settings.get("datamodule", {})):
        return _open_same_datamodule(cfg, run, folder, split)
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
    manifest = Manifest.load(table, _find_root(run, cache))
    if changed := manifest.find_changed(split):
        raise BadInput(
            f"data.root={manifest.root}: {len(changed)} {split} image(s) are gone or differ from those of the run, "
            f"the first is {changed[0]}; restore them, or measure this folder as it is with data.root={manifest.root}"
        )
    decoded = None if trained["config"]["data"].get("cache") == "off" else image_cache(cache)
    return FolderData(manifest, cache=decoded, max_pixels=cfg.data.max_pixels or run.max_pixels)


def _open_same_datamodule(cfg: OwnTask, run: FinishedRun, folder: Path, split: str) -> TrainingData:
    """The data module of the run, whose code is held to what the run's record states.

    Raises: BadInput when it has no such split, or is not what it was.
    """
    from sightline.data.own_datamodule import open_own_data

    settings, targets = run.settings, targets_of(run.settings["datamodule"], "datamodule")
    place = find_code_of_run(folder, trusts=cfg.trust_code) if cfg.extensions is None else Path(cfg.extensions)
    open_code(targets, place, known=settings.get("code_sha256", {}), record=folder, trusts=cfg.trust_code)
    opened = open_own_data(settings)
    if not opened.has(split):
        raise BadInput(f"split={split}: {opened.of} of the run {folder} has no {split} images; name another split")
    before = run.trained["data"].get("sha256")
    if opened.class_names != run.task_spec.class_names or opened.fingerprint != before:
        raise BadInput(
            f"{opened.of}: its data are not those of the run {folder} (fingerprint {before}, now {opened.fingerprint}, "
            f"{len(opened.class_names)} classes); put them back, or measure others with data.root=FOLDER"
        )
    return opened


def _find_root(run: FinishedRun, cache: Path) -> Path:
    """Where the run's images lie; what was unpacked or copied for it, and is gone from the cache, comes anew."""
    root = Path(run.trained["data"]["root"])
    if (version := run.trained["data"].get("version")) is not None and not root.is_dir():
        return _check_out_anew(run, version, cache)
    if not root.exists() and run.settings.get("data", {}).get("source") == "digits":  # any machine can make them
        root = cache / "digits"
        write_digits(root)
        return root
    origin = str(root) if root.is_file() else run.settings.get("data", {}).get("root", "")
    if root.is_dir() or not (root.is_file() or "://" in origin or Path(origin).expanduser().exists()):
        return root
    found = localise(origin, cache, LayoutRule.of(run.settings["data"]))
    return found if found.is_dir() else found.parent


def _check_out_anew(run: FinishedRun, version: dict[str, Any], cache: Path) -> Path:
    """The folder of the version that a run was trained on, which is gone from the cache."""
    from sightline.data.versions.checkout import cached_checkout
    from sightline.data.versions.store import open_versions

    place, spelled = run.settings["paths"]["data_versions"], f"{version['name']}/{version['version']}"
    versions = open_versions(place, cache)
    found = versions.find(spelled)
    if found.sha256 != version["sha256"]:
        raise BadInput(
            f"{place}: {spelled} there is not the one of the run (sha256 {found.sha256[:12]}…, the run's "
            f"{version['sha256'][:12]}…); say where the run's images lie now with data.own_root=FOLDER"
        )
    return cached_checkout(versions, found)


def _open_same_shards(data: dict[str, Any], cache: Path) -> ShardData:
    opened = open_shards(data["root"], shard_cache(cache))
    if opened.info.sha256 != data["sha256"]:
        raise BadInput(
            f"data.root={data['root']}: the shards there were packed from other images than those of the run; "
            "restore them, or measure a folder with data.root=FOLDER"
        )
    return opened


def make_loader_of(
    cfg: OwnTask, run: FinishedRun, images: TrainingData, split: str
) -> "DataLoader[tuple[torch.Tensor, torch.Tensor]]":
    """Batches of a split in the manifest's order, without augmentation, from decoded images where there are some."""
    data, chosen = run.settings.get("data", {}), cfg.data
    return images.make_loader(
        split,
        run.task_spec,
        batch_size=chosen.batch_size or data.get("batch_size", 64),
        num_workers=chosen.num_workers,
        usual_workers=data.get("num_workers", 2),
    )


def _are_own(cfg: OwnTask, split: str) -> bool:
    """Whether the images of a split are those of the run."""
    return cfg.data.root is None or split == "val"


def batch_limit(cfg: OwnTask, run: FinishedRun, split: str) -> int | float | None:
    """The limit of batches that training had, where its own images are measured."""
    return run.settings.get("trainer", {}).get(f"limit_{split}_batches") if _are_own(cfg, split) else None
