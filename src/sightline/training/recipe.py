"""How a network is trained, from the configuration: what every option of the recipe turns into."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sightline.config import TrainConfig, build, is_own, locate, taken_by_name
from sightline.errors import BadInput
from sightline.metrics import mode_of
from sightline.registry.names import find_registered, is_registered
from sightline.runs.folder import find_run
from sightline.task_spec import TaskSpec

if TYPE_CHECKING:  # imported inside functions: bad input is refused before torch loads
    import pytorch_lightning as pl

    from sightline.models.classifier import Recipe
    from sightline.models.distillation import Teacher

log = logging.getLogger(__name__)


def build_recipe(cfg: TrainConfig, spec: TaskSpec, class_counts: Sequence[int]) -> "Recipe":
    """What the classifier trains with; `class_counts` are the training images of each class, if there are any.

    Raises: BadInput when an optimizer, a scheduler or a teacher cannot be made.
    """
    from sightline.models.classifier import Recipe
    from sightline.models.losses import make_loss, weights_of_classes
    from sightline.models.mixing import Mixing
    from sightline.models.own_loss import build_own_loss, check_own_loss
    from sightline.models.own_metrics import build_metrics

    model, mixing = cfg.model, cfg.augmentation
    weights = None if model.class_weights == "none" else weights_of_classes(model.class_weights, class_counts)
    mixes, chance_loss = mixing.mixup > 0 or mixing.cutmix > 0, None
    if isinstance(model.loss, dict):
        loss = build_own_loss(
            model.loss, spec.num_classes, class_weights=weights, label_smoothing=model.label_smoothing
        )
        chance_loss = check_own_loss(loss, model.loss["_target_"], spec.num_classes, takes_shares=mixes)
    else:
        loss = make_loss(
            model.loss,
            label_smoothing=model.label_smoothing,
            class_weights=weights,
            focal_gamma=model.focal_gamma,
            target_threshold=model.bce_target_threshold,
        )
    return Recipe(
        _build_optimizer(cfg),
        _build_scheduler(cfg),
        loss,
        chance_loss=chance_loss,
        metrics=build_metrics(cfg.evaluation.metrics, spec.num_classes),
        freeze=model.freeze,
        monitor=None if cfg.data.with_validation else cfg.checkpoint.monitor,
        mixing=Mixing(mixing.mixup, mixing.cutmix, mixing.mix_probability) if mixes else None,
        teacher=None if model.teacher is None else _open_teacher(cfg, spec),
        norm_weight_decay=model.norm_weight_decay,
        layer_lr_decay=model.layer_lr_decay,
        fast_convolutions=model.fast_convolutions,
    )


def recipe_callbacks(cfg: TrainConfig) -> "list[pl.Callback]":
    """Callbacks for the options of the recipe that are on."""
    from sightline.callbacks.best_checkpoints import BestCheckpoints
    from sightline.callbacks.gradual_unfreezing import GradualUnfreezing
    from sightline.callbacks.progressive_resizing import ProgressiveResizing
    from sightline.callbacks.weight_ema import WeightEMA

    callbacks: list[pl.Callback] = []
    is_ours = not is_own(cfg.module)
    if is_ours and cfg.model.freeze == "gradual":
        callbacks.append(GradualUnfreezing(cfg.model.unfreeze_every_epochs))
    if is_ours and cfg.augmentation.start_size < 1:
        callbacks.append(ProgressiveResizing(cfg.augmentation.start_size))
    if cfg.checkpoint.average_best > 1:
        monitor = cfg.checkpoint.monitor
        mode = mode_of(monitor, cfg.evaluation.modes())
        callbacks.append(BestCheckpoints(cfg.checkpoint.average_best, monitor, mode))
    if is_ours and cfg.model.ema_decay is not None:
        callbacks.append(WeightEMA(cfg.model.ema_decay))
    return callbacks


def smallest_size(cfg: TrainConfig) -> int:
    """Side of the images that the first epoch trains on, in pixels."""
    from sightline.callbacks.progressive_resizing import size_in

    max_epochs = cfg.trainer.max_epochs or 1
    assert not isinstance(max_epochs, str), "auto stands for a number by now"
    return size_in(0, max_epochs, cfg.data.image_size, cfg.augmentation.start_size)


def _build_optimizer(cfg: TrainConfig) -> Any:
    node, changes = cfg.model.optimizer, {}
    if cfg.trainer.gradient_clip_val and "fused" in node:
        changes["fused"] = False  # Lightning refuses to clip the gradients of a fused optimizer in mixed precision
    return _build_partial("optimizer", {**node, **changes}, lr=cfg.model.lr)


def _build_scheduler(cfg: TrainConfig) -> Any:
    node, changes = cfg.model.scheduler, {}
    if node["_target_"].endswith("ReduceLROnPlateau"):
        changes["mode"] = mode_of(cfg.checkpoint.monitor, cfg.evaluation.modes())
    return _build_partial("scheduler", {**node, **changes}, max_lr=cfg.model.lr)


def _build_partial(part: str, node: dict[str, Any], **offered: Any) -> Any:
    """An optimizer or a scheduler that lacks its first argument; `offered` are given where it takes them.

    Raises: BadInput when there is none, or it does not take the arguments, which may be of the chosen option.
    """
    key = f"model.{part}"
    taken = taken_by_name(locate(node["_target_"], key), offered)
    try:
        return build({**taken, **node, "_partial_": True}, key)
    except BadInput as error:
        chosen = f"; to begin without the arguments of another model/{part} add ~model/{part}"
        raise BadInput(f"{error}{chosen if 'does not take' in str(error) else ''}") from error


def find_teacher(cfg: TrainConfig) -> Path:
    """Raises: BadInput where there is no such run."""
    if is_registered(teacher := str(cfg.model.teacher)):
        return find_registered(teacher, cfg.paths.registry, Path(cfg.paths.cache), "model.teacher")
    try:
        return find_run(teacher, Path(cfg.paths.runs))
    except BadInput as error:
        raise BadInput(f"model.teacher={cfg.model.teacher}: {error}") from error


def _open_teacher(cfg: TrainConfig, spec: TaskSpec) -> "Teacher":
    from sightline.models.checkpoint import CodeOfRun, load_model
    from sightline.models.distillation import Teacher

    model, path = cfg.model, find_teacher(cfg)
    try:
        saved = load_model(path, CodeOfRun(cfg.extensions, cfg.trust_code))
    except BadInput as error:
        raise BadInput(f"model.teacher={model.teacher}: {error}") from error
    log.info("teacher: %s (%s, %d classes)", path, saved.architecture.name, saved.spec.num_classes)
    return Teacher(saved.network, saved.spec, spec, weight=model.teacher_weight, temperature=model.teacher_temperature)
