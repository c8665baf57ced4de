"""The schema of what is ours, and the rules that hold across keys. Never imports torch: bad input must fail fast."""

import copy
import difflib
import inspect
import re
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, fields, is_dataclass
from functools import partial
from pathlib import Path
from typing import Any

from hydra.core.config_store import ConfigStore
from omegaconf import MISSING, DictConfig, OmegaConf

from sightline.errors import BadInput
from sightline.metrics import FINAL_METRICS, FIT_METRICS
from sightline.runs.project import home
from sightline.task_spec import CROPS, INTERPOLATIONS, VIEWS

STAGES = ("fit", "test", "explain")
SPLITS = ("train", "val", "test")
FREEZE = ("none", "backbone", "gradual")
LOSSES = ("cross_entropy", "bce", "focal")
CLASS_WEIGHTS = ("none", "balanced", "effective")
SAMPLERS = ("shuffled", "balanced")
COMPILE_MODES = ("default", "reduce-overhead", "max-autotune", "max-autotune-no-cudagraphs")
SOURCES = ("folder", "digits", "gtsrb", "intel", "cifar100", "dogs", "shards", "synthetic")
AUDITS = ("auto", "skip")
CACHES = ("auto", "always", "off")
ON_BAD_FILE = ("error", "skip")
ON_LEAK = ("warn", "error")
ON_DIVERGENCE = ("stop", "rollback")
PRECISIONS = ("auto", "32-true", "bf16-mixed", "16-mixed", "bf16-true", "16-true", "64-true")
STRATEGIES = ("auto", "ddp", "ddp_find_unused_parameters_false", "ddp_find_unused_parameters_true")
"""How several processes may train one network."""
METHODS = ("integrated_gradients", "grad_cam", "occlusion", "smooth_grad")
BASELINES = ("black", "blurred", "mean", "random_average")
EXPLAINED = ("prediction", "label", "both")
ALONE_ONLY = {
    "model.lr": ("auto", "a number (see find_lr.py)"),
    "model.freeze": ("gradual", "backbone"),
    "data.device_cache": (True, "false"),
    "trainer.overfit_batches": (None, "0"),
}
"""What is for one device alone (None: any value), and what to set for several."""
TARGET_PACKAGES = ("torch", "timm", "pytorch_lightning", "torchmetrics", "albumentations", "sightline")
"""Packages that a `_target_` may name."""


@dataclass
class PathsConfig:
    data: str = MISSING  # data sets are looked for, and made, here
    cache: str = MISSING  # downloads, decoded images and audits: all of it can be made again
    inputs: str = MISSING  # of a job: a folder for each place that came with it
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
    mirror_classes: dict[str, str] = field(default_factory=dict)  # but for these: a class, and that of its mirror image
    batch_size: int | str = 64  # of all devices together; auto: the largest power of two that fits into memory
    num_workers: int = 2
    group_pattern: str | None = None  # regular expression; images whose paths agree in its brackets stay together
    groups_span_classes: bool = False  # true: the same group in two classes is one (a patient), not two (a counter)
    val_fraction: float = 0.15  # of the groups of each class, where there is no val/
    test_fraction: float = 0.15  # the same where there is no test/; 0 makes none
    num_folds: int | None = None  # cross-validation: all but test is dealt into so many parts …
    fold: int = 0  # … and this one is validation
    with_validation: bool = False  # train on the validation images too; then the last epoch is the one that is kept
    manifest: str = "auto"  # the split as a file; auto: root/manifest.csv where there is one; none: split anew
    audit: str = "auto"  # look at every file at first use; skip: do not
    on_bad_file: str = "error"  # skip: leave bad files out, and say so in run.json …
    max_bad_fraction: float = 0.01  # … while they are no more than this share
    on_leak: str = "warn"  # of images in two splits
    sampler: str = "shuffled"  # balanced: as many training images of one class as of another
    cache: str = "auto"  # decoded images on disk; auto: if they fit; always; off: decode the files in every epoch
    cache_gb: float = 50.0  # the most that all caches may take
    device_cache: bool = False  # all decoded images of training and validation in the memory of the device
    num_synthetic: int = 1024  # images that source=synthetic pretends to have


@dataclass
class ModelConfig:
    name: str = MISSING  # any timm backbone
    arguments: dict[str, Any] = field(default_factory=dict)  # of timm.create_model
    arguments_for: dict[str, dict[str, Any]] = field(default_factory=dict)  # the same, for the model of that name alone
    pretrained: bool = False  # weights from timm's hub
    weights: str | None = None  # local safetensors file; beats `pretrained`
    drop_rate: float = 0.0  # dropout before the head, as timm's argument of that name
    drop_path_rate: float = 0.0  # stochastic depth: how often the last block is left out
    freeze: str = "none"  # backbone: train the head alone; gradual: then one more stage every …
    unfreeze_every_epochs: int = 1
    lr: float | int | str = 1e-3  # auto: found by a short training whose rate grows, and recorded
    loss: str = "cross_entropy"
    label_smoothing: float = 0.0
    focal_gamma: float = 2.0  # of loss=focal
    bce_target_threshold: float | None = None  # of loss=bce: mixed shares above it count as 1, the others as 0
    class_weights: str = "none"  # of the loss; balanced: one over a class's number of images; effective: milder
    norm_weight_decay: bool = True  # false: no weight decay on norms and biases
    layer_lr_decay: float | None = None  # the learning rate of each layer is that share of the one above it
    ema_decay: float | None = None  # validate and save an average of the weights; 0.999 for a few thousand steps
    teacher: str | None = None  # a run whose answers this one learns from, too
    teacher_weight: float = 0.5  # their share of the loss
    teacher_temperature: float = 2.0
    channels_last: bool = True
    compile: bool = False
    compile_mode: str | None = None  # of torch.compile: reduce-overhead (CUDA graphs), max-autotune
    tf32: bool = True  # on a GPU, 32-bit products with a mantissa of 10 bits; false: of 23
    optimizer: dict[str, Any] = field(default_factory=dict)
    scheduler: dict[str, Any] = field(default_factory=dict)


@dataclass
class BatchAugmentationConfig:
    source_size: int | None = None  # side of the images that are handed over, in pixels; null: the image size
    crop_scale: list[float] = field(default_factory=lambda: [1.0, 1.0])  # share of the area; above 1: with a border
    crop_ratio: list[float] = field(default_factory=lambda: [1.0, 1.0])  # width to height, from and to
    rotate_degrees: float = 0.0  # at most, either way
    shear_degrees: float = 0.0  # at most, either way
    horizontal_flip: float = 0.0  # probability
    before: dict[str, Any] = field(default_factory=dict)  # batch transforms of the colours, before the crop
    after: dict[str, Any] = field(default_factory=dict)  # batch transforms after it


@dataclass
class AugmentationConfig:
    crop_scale: list[float] | None = None  # random resized crop: share of the area, from and to
    crop_ratio: list[float] = field(default_factory=lambda: [0.75, 4 / 3])  # its width to height, from and to
    horizontal_flip: float = 0.0  # probability
    transforms: dict[str, Any] = field(default_factory=dict)  # albumentations objects, applied in this order
    mixup: float = 0.0  # alpha of the share of one image in another; 0: none
    cutmix: float = 0.0  # the same of the area that one image covers of another
    mix_probability: float = 1.0  # of a batch
    start_size: float = 1.0  # of the first epoch's training images, as a share of data.image_size
    batch: BatchAugmentationConfig = field(default_factory=BatchAugmentationConfig)  # changes of whole batches


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
    average_best: int = 1  # keep so many of the best, and export their average where validation finds it no worse
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
class EvaluationConfig:
    """What is measured after the predictions of a split, and what must hold of it."""

    target_accuracy: float | None = None  # of the answers that are not rejected; null: the model's own, at first 0.95
    gates: Any = None  # {metric: the least it may be}; where less is better, the most
    seed: int = 0  # of resampling and of corruptions
    evaluators: dict[str, Any] = field(default_factory=dict)  # sections of the report, in this order


@dataclass
class ExplanationConfig:
    """Which parts of an image made the model say what it says."""

    methods: list[str] = field(default_factory=lambda: ["integrated_gradients", "grad_cam"])
    num_images: int = 12  # chosen over the classes: right and wrong, sure and unsure
    target: str = "prediction"  # the class that is explained; label, or both where they differ
    baseline: str = "black"  # where integrated gradients begin; blurred, mean (colour) or random_average
    tolerance: float = 0.01  # completeness error at which an image of integrated gradients is done …
    min_steps: int = 16  # … after so many gradients at least …
    max_steps: int = 1024  # … or marked, after so many
    memory_gb: float | None = None  # the most that gradients and activations may take; null: a quarter of what is free
    seed: int = 0


@dataclass
class TrainConfig:
    name: str = "${data.name}"  # of the experiment: names the run folder
    seed: int = 0
    stages: list[str] = field(default_factory=lambda: list(STAGES))
    optimized_metric: str = "val/accuracy"
    test_time_augmentation: str = "none"  # answers are averages over views: flip, shifts, zooms, flip_and_…
    output: str | None = None  # the run folder itself, instead of a new one below paths.runs
    resume: str | None = "auto"  # go on with the run in output; or with this run folder or checkpoint; null: never
    paths: PathsConfig = field(default_factory=PathsConfig)
    data: DataConfig = field(default_factory=DataConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    augmentation: AugmentationConfig = field(default_factory=AugmentationConfig)
    trainer: TrainerConfig = field(default_factory=TrainerConfig)
    checkpoint: CheckpointConfig = field(default_factory=CheckpointConfig)
    divergence: DivergenceConfig = field(default_factory=DivergenceConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    explanation: ExplanationConfig = field(default_factory=ExplanationConfig)
    callbacks: dict[str, Any] = field(default_factory=dict)  # Lightning callbacks beyond the ones every run has
    logger: dict[str, Any] = field(default_factory=dict)  # Lightning loggers
    launch: dict[str, Any] = field(default_factory=dict)  # where the run is started; empty where it runs


@dataclass
class LrFinderConfig:
    lowest: float = 1e-6
    highest: float = 10.0
    num_steps: int = 120  # of the sweep; it ends earlier when the loss is lost


@dataclass
class FindLrConfig(TrainConfig):
    lr_finder: LrFinderConfig = field(default_factory=LrFinderConfig)


@dataclass
class RunDataConfig:
    """What evaluation may change about the data of a finished run; null keeps what the run used."""

    root: str | None = None
    own_root: str | None = None  # where the run's own images lie now; null: where they lay
    batch_size: int | None = None
    num_workers: int | None = None


@dataclass
class EvaluateConfig:
    run: str = MISSING  # a run folder, its model/ folder or a checkpoint
    against: str | None = None  # another one, to compare with on the same images
    split: str = "test"
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    data: RunDataConfig = field(default_factory=RunDataConfig)
    accelerator: str = "auto"
    precision: str | None = None  # null: what the run used
    test_time_augmentation: str | None = None  # null: what the run used
    output: str | None = None
    paths: PathsConfig = field(default_factory=PathsConfig)
    launch: dict[str, Any] = field(default_factory=dict)


@dataclass
class ExplainConfig:
    run: str = MISSING  # a run folder, its model/ folder or a checkpoint
    images: str | None = None  # a folder, searched through, or one file; null: images of the split
    split: str = "test"
    explanation: ExplanationConfig = field(default_factory=ExplanationConfig)
    data: RunDataConfig = field(default_factory=RunDataConfig)
    accelerator: str = "auto"
    output: str | None = None
    paths: PathsConfig = field(default_factory=PathsConfig)
    launch: dict[str, Any] = field(default_factory=dict)


@dataclass
class PrepareConfig:
    data: DataConfig = field(default_factory=DataConfig)
    fetch: bool = True  # download the data set when it is not here and its source has an address
    pin: bool = True  # write the split to data.root/manifest.csv, so that images added later do not move it
    shards: str | None = None  # also pack the images into shards that stream from here, a folder or s3://bucket/prefix
    output: str | None = None
    paths: PathsConfig = field(default_factory=PathsConfig)
    launch: dict[str, Any] = field(default_factory=dict)


@dataclass
class ModelsConfig:
    pattern: str = "resnet*"  # `*` and `?` stand for letters; without them: names that contain it
    limit: int = 40  # the most models to describe
    image_size: int | None = None  # null: what each was made for
    time: bool = False  # also measure images per second, on this machine
    batch_size: int = 32  # for that
    accelerator: str = "auto"
    precision: str = "auto"
    output: str | None = None  # a folder for models.csv


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
    launch: dict[str, Any] = field(default_factory=dict)


@dataclass
class JobsConfig:
    into: str | None = None  # where fetch puts a run folder; null: paths.runs/jobs/<name>
    paths: PathsConfig = field(default_factory=PathsConfig)
    launch: dict[str, Any] = field(default_factory=dict)


def _register() -> None:
    store = ConfigStore.instance()
    tasks = {"train": TrainConfig, "evaluate": EvaluateConfig, "predict": PredictConfig, "prepare": PrepareConfig}
    tasks |= {"explain": ExplainConfig, "find_lr": FindLrConfig, "models": ModelsConfig, "jobs": JobsConfig}
    for name, schema in tasks.items():
        store.store(name=f"{name}_schema", node=schema)
    OmegaConf.register_new_resolver("project_root", lambda: str(home()), replace=True)


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
    _check_recipe(cfg)
    for key in ("model.optimizer", "model.scheduler", "augmentation", "callbacks", "logger"):
        check_targets(OmegaConf.select(cfg, key), key)
    validate_evaluation(cfg.evaluation, ("test", "val"))
    validate_explanation(cfg.explanation)


def validate_lr_finder(finder: DictConfig) -> None:
    """Raises: BadInput with the key, the value and the change to make."""
    if not 0 < finder.lowest < finder.highest:
        raise BadInput(
            f"lr_finder.lowest={finder.lowest} lr_finder.highest={finder.highest}: "
            "both must be above 0, and the first the smaller"
        )
    if finder.num_steps < 20:
        raise BadInput(f"lr_finder.num_steps={finder.num_steps}: must be 20 or more; 120 is usual")


def validate_models(cfg: DictConfig) -> None:
    """Raises: BadInput with the key, the value and the change to make."""
    validate_choice("precision", cfg.precision, PRECISIONS)
    for key, least in (("limit", 1), ("batch_size", 2), ("image_size", 8)):
        if cfg[key] is not None and cfg[key] < least:
            raise BadInput(f"{key}={cfg[key]}: must be {least} or more")


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


def validate_evaluation(evaluation: DictConfig, splits: Iterable[str]) -> None:
    """Check the evaluation group for a task that measures one of `splits`.

    Raises: BadInput with the key, the value and the change to make.
    """
    if evaluation.target_accuracy is not None and not 0 < evaluation.target_accuracy < 1:
        raise BadInput(f"evaluation.target_accuracy={evaluation.target_accuracy}: must be between 0 and 1, like 0.95")
    if not 0 <= evaluation.seed < 2**32:
        raise BadInput(f"evaluation.seed={evaluation.seed}: must be from 0 to below 2**32")
    for name in gates_of(evaluation):
        if name.split("/")[0] not in splits:
            raise BadInput(
                f"evaluation.gates: {name} is not a metric of {' or '.join(splits)}; "
                f"name one like {next(iter(splits))}/accuracy"
            )
    if not any(node is not None for node in evaluation.evaluators.values()):
        raise BadInput("evaluation.evaluators: none is left; choose evaluation=default, short or full")
    check_targets(evaluation.evaluators, "evaluation.evaluators")


def validate_explain(cfg: DictConfig) -> None:
    """Check the keys of explain.py.

    Raises: BadInput with the key, the value and the change to make.
    """
    _check_required(cfg)
    validate_choice("split", cfg.split, SPLITS)
    validate_explanation(cfg.explanation)
    if cfg.images is not None and cfg.data.root is not None:
        raise BadInput(f"images={cfg.images} data.root={cfg.data.root}: both name the images; drop one of the two")
    if cfg.images is not None and cfg.explanation.target != "prediction":
        raise BadInput(
            f"explanation.target={cfg.explanation.target}: images={cfg.images} have no labels; set it to prediction"
        )


def validate_explanation(explanation: DictConfig) -> None:
    """Check the explanation group.

    Raises: BadInput with the key, the value and the change to make.
    """
    if not explanation.methods:
        raise BadInput(f"explanation.methods=[]: nothing to do; name some of {', '.join(METHODS)}")
    for method in explanation.methods:
        validate_choice("explanation.methods", method, METHODS)
    validate_choice("explanation.target", explanation.target, EXPLAINED)
    validate_choice("explanation.baseline", explanation.baseline, BASELINES)
    if explanation.tolerance <= 0:
        raise BadInput(f"explanation.tolerance={explanation.tolerance}: must be above 0, like 0.01 for one percent")
    for key, least in (("num_images", 1), ("min_steps", 2), ("max_steps", explanation.min_steps), ("seed", 0)):
        if explanation[key] < least:
            raise BadInput(f"explanation.{key}={explanation[key]}: must be {least} or more")
    if explanation.memory_gb is not None and explanation.memory_gb < 0.05:
        raise BadInput(f"explanation.memory_gb={explanation.memory_gb}: must be 0.05 or more, or null")


def gates_of(evaluation: DictConfig) -> dict[str, float]:
    """The bound of every metric that has one.

    Raises: BadInput when they are not numbers by name.
    """
    gates = {} if evaluation.gates is None else evaluation.gates
    try:
        return {str(name): float(bound) for name, bound in gates.items()}
    except (AttributeError, TypeError, ValueError) as error:
        raise BadInput(
            f"evaluation.gates={gates}: must be numbers by metric, like '{{test/accuracy: 0.9}}' in quotes"
        ) from error


def refuse_unknown_keys(cfg: DictConfig, prefix: str = "") -> None:
    """Look for keys that no typed section knows: Hydra lets `+key=value` add them, and nothing would ever read them.

    Raises: BadInput with the first.
    """
    section = OmegaConf.get_type(cfg)
    known = [each.name for each in fields(section)] if section and is_dataclass(section) else None
    for key in cfg:
        name = f"{prefix}{key}"
        if known is not None and key not in known:
            raise BadInput(f"{name}: no such key{did_you_mean(str(key), known, prefix)}; leave it out")
        node = cfg._get_node(key)  # as it is: reading `cfg[key]` would look for values that are not given yet
        if isinstance(node, DictConfig) and not (node._is_none() or node._is_missing() or node._is_interpolation()):
            refuse_unknown_keys(node, f"{name}.")


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
    validate_choice("model.loss", cfg.model.loss, LOSSES)
    validate_choice("model.class_weights", cfg.model.class_weights, CLASS_WEIGHTS)
    if cfg.model.compile_mode is not None:
        validate_choice("model.compile_mode", cfg.model.compile_mode, COMPILE_MODES)
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
        "checkpoint.average_best": 1,
    }
    for key, least in at_least.items():
        if (value := OmegaConf.select(cfg, key)) < least:
            raise BadInput(f"{key}={value}: must be {least} or more")
    if cfg.seed >= 2**32:
        raise BadInput(f"seed={cfg.seed}: must be below 2**32")
    lr = cfg.model.lr
    if lr != "auto" and (isinstance(lr, str) or lr <= 0):
        raise BadInput(f"model.lr={lr}: must be a number above 0, or auto")
    if cfg.checkpoint.every_minutes is not None and cfg.checkpoint.every_minutes <= 0:
        raise BadInput(
            f"checkpoint.every_minutes={cfg.checkpoint.every_minutes}: must be above 0, or null to save after epochs"
        )
    _check_recipe_numbers(cfg)
    _check_trainer(cfg.trainer)
    _check_divergence(cfg.divergence)
    _check_with_validation(cfg)


def _check_with_validation(cfg: DictConfig) -> None:
    if not cfg.data.with_validation:
        return
    if cfg.data.source in ("shards", "synthetic"):
        raise BadInput(f"data.with_validation=true data.source={cfg.data.source}: needs images as files")
    if cfg.checkpoint.average_best > 1:
        raise BadInput(
            f"data.with_validation=true checkpoint.average_best={cfg.checkpoint.average_best}: none is left to "
            "say which are the best; set checkpoint.average_best=1"
        )
    if str(cfg.model.scheduler.get("_target_")).endswith("ReduceLROnPlateau"):
        raise BadInput("data.with_validation=true: model/scheduler=plateau follows validation; choose another")


def _check_recipe_numbers(cfg: DictConfig) -> None:
    below_one = ("model.label_smoothing", "model.drop_rate", "model.drop_path_rate")
    for key in below_one:
        if not 0 <= (value := OmegaConf.select(cfg, key)) < 1:
            raise BadInput(f"{key}={value}: must be from 0 to below 1")
    for key, example in (
        ("model.ema_decay", 0.999),
        ("model.layer_lr_decay", 0.75),
        ("model.bce_target_threshold", 0.2),
    ):
        if (value := OmegaConf.select(cfg, key)) is not None and not 0 < value < 1:
            raise BadInput(f"{key}={value}: must be between 0 and 1, like {example}, or null for none")
    for key in ("model.focal_gamma", "augmentation.mixup", "augmentation.cutmix"):
        if (value := OmegaConf.select(cfg, key)) < 0:
            raise BadInput(f"{key}={value}: must be 0 or more")
    for key in ("augmentation.mix_probability", "model.teacher_weight"):
        if not 0 <= (value := OmegaConf.select(cfg, key)) <= 1:
            raise BadInput(f"{key}={value}: must be from 0 to 1")
    if cfg.model.teacher_temperature <= 0:
        raise BadInput(f"model.teacher_temperature={cfg.model.teacher_temperature}: must be above 0, like 2")
    if cfg.model.unfreeze_every_epochs < 1:
        raise BadInput(f"model.unfreeze_every_epochs={cfg.model.unfreeze_every_epochs}: must be 1 or more")
    if not 0.1 <= cfg.augmentation.start_size <= 1:
        raise BadInput(
            f"augmentation.start_size={cfg.augmentation.start_size}: must be a share from 0.1 to 1, like 0.5"
        )


def _check_recipe(cfg: DictConfig) -> None:
    """Options that do not go together."""
    model, data = cfg.model, cfg.data
    for key, value, off in (
        ("data.sampler", data.sampler, "shuffled"),
        ("model.class_weights", model.class_weights, "none"),
    ):
        if value != off and data.source == "synthetic":
            raise BadInput(f"{key}={value}: random pixels have no classes to balance; set {key}={off}")
    if data.sampler == "balanced" and data.source == "shards":
        raise BadInput(
            "data.sampler=balanced: shards have an order of their own; set model.class_weights=balanced instead"
        )
    if cfg.augmentation.start_size < 1 and model.compile:
        raise BadInput(
            f"model.compile=true augmentation.start_size={cfg.augmentation.start_size}: each size would be compiled "
            "anew; set one of them back (false, 1)"
        )
    check_views(cfg.test_time_augmentation, data.orientation_matters)
    if data.device_cache:
        _check_device_cache(cfg)
    if cfg.augmentation.start_size < 1 and (cfg.trainer.max_epochs or 0) < 1:
        raise BadInput(
            f"augmentation.start_size={cfg.augmentation.start_size}: grows over the epochs; set trainer.max_epochs"
        )


def check_views(kind: str, orientation_matters: bool) -> None:
    """Raises: BadInput with the key, the value and the change to make."""
    validate_choice("test_time_augmentation", kind, VIEWS)
    if "flip" in kind and orientation_matters:
        raise BadInput(
            f"test_time_augmentation={kind}: a mirror image has another class, as data.orientation_matters=true says; "
            "use shifts, zooms or none"
        )


def _check_device_cache(cfg: DictConfig) -> None:
    if cfg.data.source in ("shards", "synthetic"):
        raise BadInput(f"data.device_cache=true data.source={cfg.data.source}: needs images in files; set it to false")
    augmentation = cfg.augmentation
    if augmentation.crop_scale is not None or augmentation.horizontal_flip > 0 or augmentation.transforms:
        raise BadInput(
            "data.device_cache=true: this augmentation changes images on the processor, where they no longer pass; "
            "use augmentation=none, or one that changes whole batches (augmentation.batch), or set it to false"
        )


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
    for key, (alone, usual) in ALONE_ONLY.items():
        if (value := OmegaConf.select(cfg, key)) == alone or (alone is None and value):
            raise BadInput(f"{key}={value}: not {together}; set trainer.devices=1, or {key}={usual}")
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
        ("sampler", SAMPLERS),
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
    _check_crop(augmentation, "augmentation", most=1.0)
    _check_crop(augmentation.batch, "augmentation.batch", most=4.0)
    size = augmentation.batch.source_size
    if size is not None and size < 1:
        raise BadInput(f"augmentation.batch.source_size={size}: must be a number of pixels, or null for the image size")
    for key, most in (("rotate_degrees", 180), ("shear_degrees", 60)):
        if not 0 <= augmentation.batch[key] <= most:
            raise BadInput(f"augmentation.batch.{key}={augmentation.batch[key]}: must be from 0 to {most}")


def _check_crop(node: DictConfig, key: str, most: float) -> None:
    scale, ratio = node.crop_scale, node.crop_ratio
    if scale is not None and not (len(scale) == 2 and 0 < scale[0] <= scale[1] <= most):
        raise BadInput(
            f"{key}.crop_scale={list(scale)}: must be two shares of the area up to {most:g}, like [0.35,1.0]"
        )
    if not (len(ratio) == 2 and 0 < ratio[0] <= ratio[1]):
        raise BadInput(f"{key}.crop_ratio={list(ratio)}: must be two ratios, like [0.75,1.33]")
    if not 0 <= node.horizontal_flip <= 1:
        raise BadInput(f"{key}.horizontal_flip={node.horizontal_flip}: must be a probability, 0 to 1")


def _check_model(cfg: DictConfig) -> None:
    model = cfg.model
    if model.weights is not None and not Path(model.weights).expanduser().is_file():
        raise BadInput(f"model.weights={model.weights}: no such file; give the path of a safetensors file")
    if model.freeze != "none" and not model.pretrained and model.weights is None:
        raise BadInput(
            f"model.freeze={model.freeze}: with random weights the frozen backbone knows nothing; "
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


def with_value(cfg: DictConfig, key: str, value: Any) -> DictConfig:
    """A copy of the configuration in which a key has another value."""
    cfg = copy.deepcopy(cfg)
    OmegaConf.update(cfg, key, value)
    return cfg


def model_arguments(model: DictConfig) -> dict[str, Any]:
    """Arguments of `timm.create_model`: those for the model of this name, then those for any."""
    rates = {name: model[name] for name in ("drop_rate", "drop_path_rate") if model[name] > 0}
    return {**rates, **to_plain(model.arguments_for).get(model.name, {}), **to_plain(model.arguments)}


def command_line_overrides() -> list[str]:
    """What the command said beyond its name; empty in a notebook."""
    from hydra.core.hydra_config import HydraConfig

    return list(HydraConfig.get().overrides.task) if HydraConfig.initialized() else []


def to_plain(cfg: DictConfig) -> dict[str, Any]:
    """The resolved configuration as dictionaries, lists, strings and numbers."""
    plain = OmegaConf.to_container(cfg, resolve=True, enum_to_str=True)
    assert isinstance(plain, dict)
    return {str(key): value for key, value in plain.items()}
