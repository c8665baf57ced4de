"""The schema of what is ours, and the rules that hold across keys. Never imports torch: bad input must fail fast."""

import difflib
import inspect
import re
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from hydra.core.config_store import ConfigStore
from omegaconf import MISSING, DictConfig, OmegaConf

from sightline.errors import BadInput
from sightline.task_spec import CROPS, INTERPOLATIONS

STAGES = ("fit", "test")
SPLITS = ("train", "val", "test")
FREEZE = ("none", "backbone")
SOURCES = ("folder", "digits", "gtsrb", "intel", "cifar100", "dogs", "shards", "synthetic")
AUDITS = ("auto", "skip")
CACHES = ("auto", "always", "off")
ON_BAD_FILE = ("error", "skip")
ON_LEAK = ("warn", "error")
ON_DIVERGENCE = ("stop", "rollback")
PRECISIONS = ("auto", "32-true", "bf16-mixed", "16-mixed", "bf16-true", "16-true", "64-true")
FIT_METRICS = tuple(
    f"val/{name}" for name in ("loss", "accuracy", "top5_accuracy", "macro_precision", "macro_recall", "macro_f1")
)
"""What validation reports in every epoch."""
FINAL_METRICS = (
    *FIT_METRICS,
    "val/accuracy_low",
    "val/accuracy_high",
    "train/loss",
    "train/accuracy",
    "train/images_per_second",
    "train/seconds",
    "num_parameters",
)
"""What a run reports at its end, the test set left out."""
STRATEGIES = ("auto", "ddp", "ddp_find_unused_parameters_false", "ddp_find_unused_parameters_true")
"""How several processes may train one network."""
TARGET_PACKAGES = ("torch", "timm", "pytorch_lightning", "torchmetrics", "albumentations", "sightline")
"""Packages that a `_target_` may name."""


@dataclass
class PathsConfig:
    data: str = MISSING  # data sets are looked for, and made, here
    cache: str = MISSING  # downloads, decoded images and audits: all of it can be made again
    runs: str = MISSING  # run folders are made here


@dataclass
class DataConfig:
    name: str = MISSING
    source: str = "folder"  # whatever root holds; or a data set that we can fetch, shards, or synthetic (random pixels)
    root: str = MISSING  # holds train/<class>/… and perhaps val/ and test/; or a .csv, .lst, archive or s3:// address
    origin: str = ""  # where to get the data when root is missing
    classes: list[str] | None = None  # of cifar100: those to write, by name; null: all
    class_pattern: str | None = None  # regular expression; its brackets hold the class in a class folder's name
    image_size: int = 224  # side of the square that the model sees, in pixels
    interpolation: str = "bicubic"
    crop: str = "crop"
    mean: list[float] | None = None  # per RGB channel, 0..1; null: what the backbone was made for
    std: list[float] | None = None
    orientation_matters: bool = False  # true: no flip, transpose or quarter turn, they would change the class
    batch_size: int | str = 64  # of all devices together; auto: the largest power of two that fits into memory
    num_workers: int = 2
    group_pattern: str | None = None  # regular expression; images whose paths agree in its brackets stay together
    groups_span_classes: bool = False  # true: the same group in two classes is one (a patient), not two (a counter)
    val_fraction: float = 0.15  # of the groups of each class, where there is no val/
    test_fraction: float = 0.15  # the same where there is no test/; 0 makes none
    num_folds: int | None = None  # cross-validation: all but test is dealt into so many parts …
    fold: int = 0  # … and this one is validation
    manifest: str = "auto"  # the split as a file; auto: root/manifest.csv where there is one; none: split anew
    audit: str = "auto"  # look at every file at first use; skip: do not
    on_bad_file: str = "error"  # skip: leave bad files out, and say so in run.json …
    max_bad_fraction: float = 0.01  # … while they are no more than this share
    on_leak: str = "warn"  # of images in two splits
    cache: str = "auto"  # decoded images on disk; auto: if they fit; always; off: decode the files in every epoch
    cache_gb: float = 50.0  # the most that all caches may take
    num_synthetic: int = 1024  # images that source=synthetic pretends to have


@dataclass
class ModelConfig:
    name: str = MISSING  # any timm backbone
    arguments: dict[str, Any] = field(default_factory=dict)  # of timm.create_model
    arguments_for: dict[str, dict[str, Any]] = field(default_factory=dict)  # the same, for the model of that name alone
    pretrained: bool = False  # weights from timm's hub
    weights: str | None = None  # local safetensors file; beats `pretrained`
    freeze: str = "none"  # backbone: train the head alone
    lr: float = 1e-3
    label_smoothing: float = 0.0
    channels_last: bool = True
    compile: bool = False
    optimizer: dict[str, Any] = field(default_factory=dict)
    scheduler: dict[str, Any] = field(default_factory=dict)


@dataclass
class AugmentationConfig:
    crop_scale: list[float] | None = None  # random resized crop: share of the area, from and to
    crop_ratio: list[float] = field(default_factory=lambda: [0.75, 4 / 3])  # its width to height, from and to
    horizontal_flip: float = 0.0  # probability
    transforms: dict[str, Any] = field(default_factory=dict)  # albumentations objects, applied in this order


@dataclass
class TrainerConfig:
    """Arguments of `pytorch_lightning.Trainer`, by Lightning's own names; `precision: auto` is ours."""

    accelerator: str = "auto"
    strategy: str = "auto"
    devices: Any = 1  # processes on each machine, one a device; auto: all GPUs; or a list that names them, like [2]
    num_nodes: int = 1  # machines
    precision: str = "auto"
    max_epochs: int | None = 10
    min_epochs: int | None = None
    max_steps: int = -1
    min_steps: int | None = None
    max_time: str | None = None  # DD:HH:MM:SS
    limit_train_batches: int | float | None = None
    limit_val_batches: int | float | None = None
    limit_test_batches: int | float | None = None
    overfit_batches: int | float = 0.0
    val_check_interval: int | float | None = None
    check_val_every_n_epoch: int | None = 1
    num_sanity_val_steps: int = 0
    log_every_n_steps: int = 10
    enable_progress_bar: bool = True
    enable_model_summary: bool = False
    accumulate_grad_batches: int = 1
    gradient_clip_val: int | float | None = None
    gradient_clip_algorithm: str | None = None
    deterministic: bool | str | None = None  # true, false or "warn"
    benchmark: bool | None = None
    inference_mode: bool = True
    use_distributed_sampler: bool = True
    profiler: str | None = None
    detect_anomaly: bool = False
    sync_batchnorm: bool = False


@dataclass
class CheckpointConfig:
    monitor: str = "val/accuracy"  # the metric that decides which checkpoint is the best
    every_minutes: float | None = 10.0  # also write last.ckpt this often within an epoch; null: after epochs alone


@dataclass
class DivergenceConfig:
    """What happens when the loss becomes nan or infinite, or explodes."""

    action: str = "stop"  # rollback: go on from the last checkpoint with a smaller learning rate …
    max_rollbacks: int = 3  # … so often at the most …
    lr_factor: float = 0.3  # … each time multiplied by this
    explosion_factor: float = 20.0  # exploded: above so many times the loss of guessing, as a median of five batches
    patience_steps: int | None = 500  # warn once when the loss has not fallen over so many batches; null: never


@dataclass
class TrainConfig:
    name: str = "${data.name}"  # of the experiment: names the run folder
    seed: int = 0
    stages: list[str] = field(default_factory=lambda: list(STAGES))
    optimized_metric: str = "val/accuracy"
    output: str | None = None  # the run folder itself, instead of a new one below paths.runs
    resume: str | None = "auto"  # go on with the run in output; or with this run folder or checkpoint; null: never
    paths: PathsConfig = field(default_factory=PathsConfig)
    data: DataConfig = field(default_factory=DataConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    augmentation: AugmentationConfig = field(default_factory=AugmentationConfig)
    trainer: TrainerConfig = field(default_factory=TrainerConfig)
    checkpoint: CheckpointConfig = field(default_factory=CheckpointConfig)
    divergence: DivergenceConfig = field(default_factory=DivergenceConfig)
    callbacks: dict[str, Any] = field(default_factory=dict)  # Lightning callbacks beyond the ones every run has
    logger: dict[str, Any] = field(default_factory=dict)  # Lightning loggers


@dataclass
class RunDataConfig:
    """What evaluation may change about the data of a finished run; null keeps what the run used."""

    root: str | None = None
    batch_size: int | None = None
    num_workers: int | None = None


@dataclass
class EvaluateConfig:
    run: str = MISSING  # a run folder, its model/ folder or a checkpoint
    split: str = "test"
    data: RunDataConfig = field(default_factory=RunDataConfig)
    accelerator: str = "auto"
    precision: str | None = None  # null: what the run used
    output: str | None = None
    paths: PathsConfig = field(default_factory=PathsConfig)


@dataclass
class PrepareConfig:
    data: DataConfig = field(default_factory=DataConfig)
    fetch: bool = True  # download the data set when it is not here and its source has an address
    pin: bool = True  # write the split to data.root/manifest.csv, so that images added later do not move it
    shards: str | None = None  # also pack the images into shards that stream from here, a folder or s3://bucket/prefix
    output: str | None = None
    paths: PathsConfig = field(default_factory=PathsConfig)


@dataclass
class PredictConfig:
    run: str = MISSING
    images: str = MISSING  # a folder, searched through, or one file
    pictures: bool = False  # also save each photo with its class as the title
    batch_size: int = 64
    num_workers: int = 2
    accelerator: str = "auto"
    precision: str | None = None
    output: str | None = None
    paths: PathsConfig = field(default_factory=PathsConfig)


def _register() -> None:
    store = ConfigStore.instance()
    tasks = {"train": TrainConfig, "evaluate": EvaluateConfig, "predict": PredictConfig, "prepare": PrepareConfig}
    for name, schema in tasks.items():
        store.store(name=f"{name}_schema", node=schema)
    project = Path(__file__).resolve().parents[2]
    OmegaConf.register_new_resolver("project_root", lambda: str(project), replace=True)


_register()


def validate(cfg: DictConfig) -> None:
    """Check the rules of a training run that no single type can express.

    Raises: BadInput with the key, the value and the change to make.
    """
    _check_required(cfg)
    _check_choices(cfg)
    _check_numbers(cfg)
    validate_data(cfg.data)
    _check_augmentation(cfg.augmentation)
    _check_model(cfg)
    if (count := num_devices(cfg.trainer)) is not None:
        check_processes(cfg, count * cfg.trainer.num_nodes)
    for key in ("model.optimizer", "model.scheduler", "augmentation.transforms", "callbacks", "logger"):
        check_targets(OmegaConf.select(cfg, key), key)


def validate_preparation(cfg: DictConfig) -> None:
    """Check the keys of a task that looks at data.

    Raises: BadInput with the key, the value and the change to make.
    """
    _check_required(cfg)
    validate_data(cfg.data)


def validate_loading(cfg: DictConfig) -> None:
    """Check the keys of a task that uses a finished run.

    Raises: BadInput with the key, the value and the change to make.
    """
    _check_required(cfg)
    if cfg.precision is not None:
        validate_choice("precision", cfg.precision, PRECISIONS)
    for key, least in (("batch_size", 1), ("num_workers", 0)):
        where = key if key in cfg else f"data.{key}"
        value = OmegaConf.select(cfg, where)
        if value is not None and value < least:
            raise BadInput(f"{where}={value}: must be {least} or more")


def validate_choice(key: str, value: str, allowed: Iterable[str]) -> None:
    allowed = list(allowed)
    if value not in allowed:
        raise BadInput(f"{key}={value}: must be one of {', '.join(allowed)}{did_you_mean(value, allowed)}")


def did_you_mean(word: str, known: Iterable[str], prefix: str = "") -> str:
    """` (did you mean X?)` for the nearest known words, or nothing when none is near."""
    near = difflib.get_close_matches(word, list(known), n=3, cutoff=0.6)
    return f" (did you mean {' or '.join(prefix + match for match in near)}?)" if near else ""


def _check_required(cfg: DictConfig) -> None:
    if missing := sorted(OmegaConf.missing_keys(cfg)):
        changes = " ".join(f"{key}=…" for key in missing)
        raise BadInput(f"{', '.join(missing)}: no value is set; add {changes} to the command")


def _check_choices(cfg: DictConfig) -> None:
    if not cfg.stages:
        raise BadInput(f"stages=[]: nothing to do; name some of {', '.join(STAGES)}")
    for stage in cfg.stages:
        validate_choice("stages", stage, STAGES)
    if "fit" not in cfg.stages:
        raise BadInput(
            f"stages={list(cfg.stages)}: there is no model without fit; "
            "measure an existing run with evaluate.py run=RUN"
        )
    validate_choice("model.freeze", cfg.model.freeze, FREEZE)
    validate_choice("trainer.precision", cfg.trainer.precision, PRECISIONS)
    for key in ("optimized_metric", "checkpoint.monitor"):
        if (metric := OmegaConf.select(cfg, key)).startswith("test/"):
            raise BadInput(f"{key}={metric}: nothing may be chosen on the test set; name the metric of val/ instead")
    validate_choice("checkpoint.monitor", cfg.checkpoint.monitor, FIT_METRICS)
    validate_choice("optimized_metric", cfg.optimized_metric, FINAL_METRICS)
    if not re.fullmatch(r"[\w.-]+", cfg.name):
        raise BadInput(f"name={cfg.name}: names a folder, so use letters, digits, '.', '_' and '-' alone")


def _check_numbers(cfg: DictConfig) -> None:
    size = cfg.data.batch_size
    if size != "auto" and (isinstance(size, str) or size < 1):
        raise BadInput(f"data.batch_size={size}: must be a number, 1 or more, or auto")
    at_least = {
        "data.image_size": 8,
        "data.num_workers": 0,
        "data.num_synthetic": 1,
        "seed": 0,
        "trainer.accumulate_grad_batches": 1,
    }
    for key, least in at_least.items():
        if (value := OmegaConf.select(cfg, key)) < least:
            raise BadInput(f"{key}={value}: must be {least} or more")
    if cfg.seed >= 2**32:
        raise BadInput(f"seed={cfg.seed}: must be below 2**32")
    if cfg.model.lr <= 0:
        raise BadInput(f"model.lr={cfg.model.lr}: must be above 0")
    if cfg.checkpoint.every_minutes is not None and cfg.checkpoint.every_minutes <= 0:
        raise BadInput(
            f"checkpoint.every_minutes={cfg.checkpoint.every_minutes}: must be above 0, or null to save after epochs"
        )
    if not 0 <= cfg.model.label_smoothing < 1:
        raise BadInput(f"model.label_smoothing={cfg.model.label_smoothing}: must be from 0 to below 1")
    _check_trainer(cfg.trainer)
    _check_divergence(cfg.divergence)


def _check_divergence(divergence: DictConfig) -> None:
    validate_choice("divergence.action", divergence.action, ON_DIVERGENCE)
    if divergence.max_rollbacks < 1:
        raise BadInput(
            f"divergence.max_rollbacks={divergence.max_rollbacks}: must be 1 or more; "
            "to have none set divergence.action=stop"
        )
    if not 0 < divergence.lr_factor < 1:
        raise BadInput(f"divergence.lr_factor={divergence.lr_factor}: must be between 0 and 1, like 0.3")
    if divergence.explosion_factor <= 1:
        raise BadInput(f"divergence.explosion_factor={divergence.explosion_factor}: must be above 1, like 20")
    if divergence.patience_steps is not None and divergence.patience_steps < 4:
        raise BadInput(f"divergence.patience_steps={divergence.patience_steps}: must be 4 or more, or null")


def _check_trainer(trainer: DictConfig) -> None:
    if trainer.max_steps < 1 and (trainer.max_steps == 0 or (trainer.max_epochs or -1) < 1):
        raise BadInput(
            f"trainer.max_epochs={trainer.max_epochs} trainer.max_steps={trainer.max_steps}: training would "
            "never end or never begin; set trainer.max_epochs to 1 or more, or trainer.max_steps "
            "(trainer.max_time may end either early)"
        )
    for key in ("limit_train_batches", "limit_val_batches", "limit_test_batches"):
        if (limit := trainer[key]) is not None and (limit <= 0 or (isinstance(limit, float) and limit > 1)):
            raise BadInput(
                f"trainer.{key}={limit}: must be a number of batches, 1 or more, or a share of them up to 1.0"
            )
    if trainer.check_val_every_n_epoch and trainer.check_val_every_n_epoch > (trainer.max_epochs or -1) > 0:
        raise BadInput(
            f"trainer.check_val_every_n_epoch={trainer.check_val_every_n_epoch}: with trainer.max_epochs="
            f"{trainer.max_epochs} there would be no validation to choose the best checkpoint by; make it smaller"
        )
    if trainer.accelerator == "cpu" and trainer.precision.startswith("16-"):
        raise BadInput(
            f"trainer.precision={trainer.precision}: 16-bit floats need a GPU; "
            "with trainer.accelerator=cpu use bf16-mixed or 32-true"
        )


def num_devices(trainer: DictConfig) -> int | None:
    """How many devices a machine is to use; None for all that it has.

    Raises: BadInput when `trainer.devices` says nothing of the kind.
    """
    devices = OmegaConf.to_container(trainer.devices) if OmegaConf.is_config(trainer.devices) else trainer.devices
    if str(devices) in ("auto", "-1"):
        return None
    named = devices if isinstance(devices, list) else str(devices).strip(",").split(",")
    if not named or not all(str(each).strip().isdigit() for each in named) or trainer.num_nodes < 1:
        raise BadInput(
            f"trainer.devices={devices} trainer.num_nodes={trainer.num_nodes}: give numbers, 1 or more, "
            "a list that names devices, like trainer.devices=[0,2], or auto"
        )
    count = len(named) if isinstance(devices, list) or "," in str(devices) else int(named[0])
    if count < 1:
        raise BadInput(f"trainer.devices={devices}: must be 1 or more")
    return count


def check_processes(cfg: DictConfig, world_size: int) -> None:
    """Check what so many processes can do together.

    Raises: BadInput with the key, the value and the change to make.
    """
    if world_size == 1:
        return
    trainer, size, together = cfg.trainer, cfg.data.batch_size, f"with {world_size} devices"
    if trainer.strategy not in STRATEGIES:
        raise BadInput(f"trainer.strategy={trainer.strategy}: {together} must be one of {', '.join(STRATEGIES)}")
    if size == "auto":
        raise BadInput(
            f"data.batch_size=auto: not {together}; look for it with trainer.devices=1, and multiply it by {world_size}"
        )
    if size % world_size:
        raise BadInput(
            f"data.batch_size={size}: is of all devices together and must be a multiple of {world_size}, like "
            f"data.batch_size={max(1, round(size / world_size)) * world_size}"
        )
    if trainer.overfit_batches:
        raise BadInput(f"trainer.overfit_batches={trainer.overfit_batches}: not {together}; set trainer.devices=1")
    if trainer.sync_batchnorm and trainer.accelerator == "cpu":
        raise BadInput("trainer.sync_batchnorm=true: needs GPUs; set it to false, or choose a model without batch norm")


def validate_data(data: DictConfig) -> None:
    """Check the rules of the data group.

    Raises: BadInput with the key, the value and the change to make.
    """
    for key, allowed in (
        ("source", SOURCES),
        ("interpolation", INTERPOLATIONS),
        ("crop", CROPS),
        ("audit", AUDITS),
        ("cache", CACHES),
        ("on_bad_file", ON_BAD_FILE),
        ("on_leak", ON_LEAK),
    ):
        validate_choice(f"data.{key}", data[key], allowed)
    _check_audit(data)
    _check_folds(data)
    _check_splits(data)
    _check_pattern("data.group_pattern", data.group_pattern, "the group", r"(\d+)_\d+")
    _check_pattern("data.class_pattern", data.class_pattern, "the class", r"^\d+\.(.+)$")
    _check_statistics(data)


def _check_audit(data: DictConfig) -> None:
    for key, value in (("on_bad_file", "skip"), ("on_leak", "error")):
        if data.audit == "skip" and data[key] == value:
            raise BadInput(
                f"data.audit=skip data.{key}={value}: only the audit tells; set data.audit=auto or drop data.{key}"
            )
    if not 0 <= data.max_bad_fraction <= 1:
        raise BadInput(f"data.max_bad_fraction={data.max_bad_fraction}: must be a share, 0 to 1")
    if data.cache_gb <= 0:
        raise BadInput(f"data.cache_gb={data.cache_gb}: must be above 0; to have no cache set data.cache=off")


def _check_folds(data: DictConfig) -> None:
    if data.num_folds is None:
        if data.fold != 0:
            raise BadInput(f"data.fold={data.fold}: of how many folds? Add data.num_folds=5, say")
        return
    if data.num_folds < 2:
        raise BadInput(f"data.num_folds={data.num_folds}: must be 2 or more, or null for a single split")
    if not 0 <= data.fold < data.num_folds:
        raise BadInput(
            f"data.fold={data.fold}: with data.num_folds={data.num_folds} must be from 0 to {data.num_folds - 1}"
        )


def _check_splits(data: DictConfig) -> None:
    for key in ("val_fraction", "test_fraction"):
        if not 0 <= data[key] < 1:
            raise BadInput(f"data.{key}={data[key]}: must be from 0 to below 1")
    if data.val_fraction + data.test_fraction >= 1:
        raise BadInput(
            f"data.val_fraction={data.val_fraction} data.test_fraction={data.test_fraction}: "
            "together they leave nothing to train on; make their sum smaller than 1"
        )


def _check_pattern(key: str, pattern: str | None, sought: str, example: str) -> None:
    if pattern is None:
        return
    try:
        groups = re.compile(pattern).groups
    except re.error as error:
        raise BadInput(f"{key}={pattern}: not a regular expression ({error})") from error
    if groups < 1:
        raise BadInput(f"{key}={pattern}: put brackets round the part that names {sought}, like '{key}=\"{example}\"'")


def _check_statistics(data: DictConfig) -> None:
    if (data.mean is None) != (data.std is None):
        raise BadInput(f"data.mean={data.mean} data.std={data.std}: set both or neither")
    for key in ("mean", "std"):
        if data[key] is not None and len(data[key]) != 3:
            raise BadInput(f"data.{key}={list(data[key])}: must be three numbers, for red, green and blue")
    if data.std is not None and min(data.std) <= 0:
        raise BadInput(f"data.std={list(data.std)}: must be above 0")


def _check_augmentation(augmentation: DictConfig) -> None:
    scale = augmentation.crop_scale
    if scale is not None and not (len(scale) == 2 and 0 < scale[0] <= scale[1] <= 1):
        raise BadInput(
            f"augmentation.crop_scale={list(scale)}: must be two shares of the area, like [0.35,1.0], or null"
        )
    ratio = augmentation.crop_ratio
    if not (len(ratio) == 2 and 0 < ratio[0] <= ratio[1]):
        raise BadInput(f"augmentation.crop_ratio={list(ratio)}: must be two ratios, like [0.75,1.33]")
    if not 0 <= augmentation.horizontal_flip <= 1:
        raise BadInput(f"augmentation.horizontal_flip={augmentation.horizontal_flip}: must be a probability, 0 to 1")


def _check_model(cfg: DictConfig) -> None:
    model = cfg.model
    if model.weights is not None and not Path(model.weights).expanduser().is_file():
        raise BadInput(f"model.weights={model.weights}: no such file; give the path of a safetensors file")
    if model.freeze == "backbone" and not model.pretrained and model.weights is None:
        raise BadInput(
            "model.freeze=backbone: with random weights the frozen backbone knows nothing; "
            "add model.weights=FILE or model.pretrained=true, or set model.freeze=none"
        )
    for key in ("optimizer", "scheduler"):
        if "_target_" not in model[key]:
            raise BadInput(f"model.{key}: no _target_ is set; choose one, like model/{key}=… (see --help)")


def check_targets(node: Any, key: str) -> None:
    """Refuse `_target_` values outside the packages that we build objects from; `key` names the node in errors."""
    for target in _targets(node):
        if target.split(".")[0] not in TARGET_PACKAGES:
            raise BadInput(f"{key}: _target_={target}: objects may come from {', '.join(TARGET_PACKAGES)} alone")


def _targets(node: Any) -> Iterator[str]:
    """Every `_target_` in a node, however deep."""
    plain = OmegaConf.to_container(node, resolve=False) if OmegaConf.is_config(node) else node
    children = plain.items() if isinstance(plain, dict) else enumerate(plain) if isinstance(plain, list) else ()
    for key, value in children:
        if key == "_target_":
            yield str(value)
        yield from _targets(value)


def build(node: DictConfig, key: str, **arguments: Any) -> Any:
    """Build the object that a `_target_` node describes; `key` names the node in errors.

    Raises: BadInput for a target outside the allowed packages, one that does not exist, or arguments it does not take.
    """
    from hydra.errors import HydraException
    from hydra.utils import get_object, instantiate

    check_targets(node, key)
    try:
        for target in _targets(node):  # torch.os.system begins with torch and is none of it
            if get_object(target).__module__.split(".")[0] not in TARGET_PACKAGES:
                raise BadInput(f"{key}: _target_={target}: not defined in {', '.join(TARGET_PACKAGES)}")
        with warnings.catch_warnings():  # albumentations warns of arguments it does not know, and goes on
            warnings.filterwarnings("error", message="Argument.* not valid for transform")
            made = instantiate(node, **arguments, _convert_="all")
        if isinstance(made, partial):  # a partial accepts anything until it is called
            inspect.signature(made.func).bind_partial(*made.args, **made.keywords)
    except BadInput:
        raise
    except (HydraException, ImportError, AttributeError, TypeError, ValueError, UserWarning) as error:
        cause = error.__cause__ or error
        raise BadInput(f"{key} ({node.get('_target_')}): {cause}; change or remove that argument") from error
    return made


def model_arguments(model: DictConfig) -> dict[str, Any]:
    """Arguments of `timm.create_model`: those for the model of this name, then those for any."""
    return {**to_plain(model.arguments_for).get(model.name, {}), **to_plain(model.arguments)}


def command_line_overrides() -> list[str]:
    """What the command said beyond its name; empty in a notebook."""
    from hydra.core.hydra_config import HydraConfig

    return list(HydraConfig.get().overrides.task) if HydraConfig.initialized() else []


def to_plain(cfg: DictConfig) -> dict[str, Any]:
    """The resolved configuration as dictionaries, lists, strings and numbers."""
    plain = OmegaConf.to_container(cfg, resolve=True, enum_to_str=True)
    assert isinstance(plain, dict)
    return {str(key): value for key, value in plain.items()}
