"""The rules of a training run that hold across the sections of its configuration."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from sightline.config.schema.data import NOT_FILES
from sightline.config.schema.trainer import STRATEGIES
from sightline.errors import BadInput
from sightline.metrics import mode_of

if TYPE_CHECKING:
    from sightline.config.schema.train import TrainConfig


def check_across_sections(cfg: "TrainConfig") -> None:
    """Raises: BadInput for keys of different sections that do not go together."""
    _check_classes(cfg)
    _check_with_validation(cfg)
    _check_device_cache(cfg)
    _check_growing_images(cfg)
    _check_plateau(cfg)
    _check_gates(cfg)
    check_views(cfg.test_time_augmentation, cfg.data.orientation_matters)


def check_views(kind: str, orientation_matters: bool) -> None:
    """Raises: BadInput for views that would change a class."""
    if "flip" in kind and orientation_matters:
        raise BadInput(
            f"test_time_augmentation={kind}: a mirror image has another class, as data.orientation_matters=true says; "
            "use shifts, zooms or none"
        )


def check_processes(cfg: "TrainConfig", world_size: int) -> None:
    """Check what so many processes can do together.

    Raises: BadInput with the key, the value and the change to make.
    """
    if world_size == 1:
        return
    trainer, size, together = cfg.trainer, cfg.data.batch_size, f"with {world_size} devices"
    if not isinstance(trainer.strategy, dict) and trainer.strategy not in STRATEGIES:
        raise BadInput(f"trainer.strategy={trainer.strategy}: {together} must be one of {', '.join(STRATEGIES)}")
    if isinstance(size, str):
        raise BadInput(
            f"data.batch_size=auto: not {together}; look for it with trainer.devices=1, and multiply it by {world_size}"
        )
    if size % world_size:
        raise BadInput(
            f"data.batch_size={size}: is of all devices together and must be a multiple of {world_size}, like "
            f"data.batch_size={max(1, round(size / world_size)) * world_size}"
        )
    for name, value, is_set, usual in (
        ("model.lr", cfg.model.lr, cfg.model.lr == "auto", "a number (see find_lr.py)"),
        ("model.freeze", cfg.model.freeze, cfg.model.freeze == "gradual", "backbone"),
        ("data.device_cache", cfg.data.device_cache, cfg.data.device_cache, "false"),
        ("trainer.overfit_batches", trainer.overfit_batches, trainer.overfit_batches, "0"),
    ):
        if is_set:
            raise BadInput(f"{name}={value}: not {together}; set trainer.devices=1, or {name}={usual}")
    if trainer.sync_batchnorm and trainer.accelerator == "cpu":
        raise BadInput("trainer.sync_batchnorm=true: needs GPUs; set it to false, or choose a model without batch norm")


def _check_classes(cfg: "TrainConfig") -> None:
    """Balancing needs classes, and an order that is ours."""
    model, data = cfg.model, cfg.data
    for name, value, off in (
        ("data.sampler", data.sampler, "shuffled"),
        ("model.class_weights", model.class_weights, "none"),
    ):
        if value != off and data.source == "synthetic":
            raise BadInput(f"{name}={value}: random pixels have no classes to balance; set {name}={off}")
    if data.sampler != "shuffled" and data.source == "shards":
        raise BadInput(
            f"data.sampler={data.sampler}: shards have an order of their own; set model.class_weights=balanced instead"
        )


def _check_with_validation(cfg: "TrainConfig") -> None:
    if not cfg.data.with_validation:
        return
    if cfg.data.source in NOT_FILES:
        raise BadInput(f"data.with_validation=true data.source={cfg.data.source}: needs images as files")
    if cfg.checkpoint.average_best > 1:
        raise BadInput(
            f"data.with_validation=true checkpoint.average_best={cfg.checkpoint.average_best}: none is left to "
            "say which are the best; set checkpoint.average_best=1"
        )
    if _is_plateau(cfg):
        raise BadInput("data.with_validation=true: model/scheduler=plateau follows validation; choose another")


def is_early_stopping(node: Mapping[str, Any]) -> bool:
    return str(node.get("_target_")).endswith(".EarlyStopping")


def _check_plateau(cfg: "TrainConfig") -> None:
    """The scheduler looks at the metric that decides which checkpoint is the best, and in its direction."""
    mode, monitor = cfg.model.scheduler.get("mode"), cfg.checkpoint.monitor
    wanted = mode_of(monitor, cfg.evaluation.modes())
    if mode is not None and _is_plateau(cfg) and mode != wanted:
        raise BadInput(
            f"model.scheduler.mode={mode}: it follows checkpoint.monitor={monitor}, whose mode is {wanted}; "
            "leave it out, or choose another checkpoint.monitor"
        )


def _is_plateau(cfg: "TrainConfig") -> bool:
    return str(cfg.model.scheduler.get("_target_")).endswith("ReduceLROnPlateau")


def _check_gates(cfg: "TrainConfig") -> None:
    gates = [name for name in cfg.evaluation.bounds() if name.startswith("test/")]
    if gates and "test" not in cfg.stages:
        raise BadInput(
            f"evaluation.gates: {gates[0]} is not measured with stages=[{','.join(cfg.stages)}]; add test to "
            "stages, or leave the gate out"
        )


def _check_device_cache(cfg: "TrainConfig") -> None:
    if not cfg.data.device_cache:
        return
    if cfg.data.source in NOT_FILES:
        raise BadInput(f"data.device_cache=true data.source={cfg.data.source}: needs images in files; set it to false")
    augmentation = cfg.augmentation
    if augmentation.crop_scale is not None or augmentation.horizontal_flip > 0 or augmentation.transforms:
        raise BadInput(
            "data.device_cache=true: this augmentation changes images on the processor, where they no longer pass; "
            "use augmentation=none, or one that changes whole batches (augmentation.batch), or set it to false"
        )


def _check_growing_images(cfg: "TrainConfig") -> None:
    start_size = cfg.augmentation.start_size
    if start_size < 1 and cfg.model.compile:
        raise BadInput(
            f"model.compile=true augmentation.start_size={start_size}: each size would be compiled "
            "anew; set one of them back (false, 1)"
        )
    max_epochs = cfg.trainer.max_epochs or 0
    if start_size < 1 and not isinstance(max_epochs, str) and max_epochs < 1:
        raise BadInput(f"augmentation.start_size={start_size}: grows over the epochs; set trainer.max_epochs")
