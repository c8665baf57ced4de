"""A classifier from its configuration, with a batch size that fits."""

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, TypeVar

from sightline.config import TrainConfig, is_own, where_raised, with_value
from sightline.data.augmentation import check_typed_augmentation
from sightline.data.training_data import TrainingData
from sightline.errors import BadInput
from sightline.runs.guesses import Guess, announce
from sightline.runs.override_text import key_of
from sightline.training.recipe import build_recipe, smallest_size

if TYPE_CHECKING:  # imported inside functions: bad input is refused before torch loads
    from torch import nn

    from sightline.data.datamodule import ImageDataModule
    from sightline.models.backbones import Architecture
    from sightline.models.classifier import Classifier
    from sightline.task_spec import TaskSpec

log = logging.getLogger(__name__)
Training = TypeVar("Training", bound=TrainConfig)
IMG_SIZE = "+model.arguments.img_size"
"""With a plus, as it is typed: no configuration has it."""


def with_batch_size(cfg: TrainConfig, opened: TrainingData) -> TrainConfig:
    """The configuration with the batch size that fits into memory, as if it had been given.

    Raises: BadInput when not even two images fit.
    """
    from sightline.models.inference import choose_device, choose_precision
    from sightline.training.batch_size import find_batch_size

    num_images = opened.num_images["train"]
    device = choose_device(cfg.trainer.accelerator)
    precision = choose_precision(cfg.trainer.precision, device)
    any_lr = with_value(cfg, "model.lr", 1e-3) if cfg.model.lr == "auto" else cfg
    size = find_batch_size(build_classifier(any_lr, opened), device=device, precision=precision, most=num_images)
    if size is None:
        raise BadInput(
            f"data.batch_size=auto data.image_size={cfg.data.image_size}: not even two images fit into memory; "
            "use a smaller data.image_size or model.name"
        )
    log.info("data.batch_size=auto: %d images fit (%d steps an epoch)", size, num_images // size)
    return with_value(cfg, "data.batch_size", size)


def with_img_size(cfg: Training) -> tuple[Training, list[Guess]]:
    """The configuration with timm's `img_size` for a network that is made for another size, as most transformers are.

    Raises: BadInput when timm knows no such network.
    """
    from sightline.models.backbones import check_name, made_for_size

    model, size = cfg.model, cfg.data.image_size
    if model._target_ is not None or is_own(cfg.module):
        return cfg, []
    check_name(model.name)
    own = made_for_size(model.name, model.timm_arguments(), size)
    if own is None:
        return cfg, []
    guess = Guess(IMG_SIZE, size, f"{model.name} is made for images of {own} px, and data.image_size={size}")
    announce([guess])
    return with_value(cfg, "model.arguments", {**model.arguments, "img_size": size}), [guess]


def check_network(cfg: TrainConfig) -> None:
    """What can be known of the device and the network before any image is read.

    Raises: BadInput when either is not there, or weights or arguments do not fit.
    """
    from sightline.models.backbones import check_fit
    from sightline.models.inference import choose_device, choose_precision
    from sightline.models.own_network import check_own_network

    try:
        choose_precision(cfg.trainer.precision, choose_device(cfg.trainer.accelerator))
    except BadInput as error:
        raise BadInput(f"trainer.{error}") from error
    if is_own(cfg.module):
        return
    if cfg.model._target_ is None:
        check_fit(cfg.model.name, cfg.model.timm_arguments(), cfg.model.weights_file())
    else:
        check_own_network(cfg.model._target_, cfg.model.arguments)


def build_training(
    cfg: TrainConfig, opened: TrainingData, rank: int = 0, world_size: int = 1
) -> "tuple[Classifier, ImageDataModule]":
    """The classifier, and batches for this rank."""
    from sightline.models.backbones import num_parameters

    classifier = build_classifier(cfg, opened)
    datamodule = opened.make_datamodule(cfg, classifier.spec)
    datamodule.set_rank(rank, world_size)
    classifier.check_optimizer()
    architecture, network, arguments = classifier.architecture, classifier.backbone, cfg.model.timm_arguments()
    settings = f" with {arguments}" if arguments else ""
    log.info(
        "%s%s: %s parameters, weights: %s",
        architecture.name,
        settings,
        f"{num_parameters(network):,}",
        architecture.weights_origin,
    )
    if opened.channels == 3:
        _warn_of_other_statistics(cfg, network)
    if cfg.model.compile:
        classifier.compile_backbone(cfg.model.compile_mode)
    return classifier, datamodule


def _warn_of_other_statistics(cfg: TrainConfig, network: "nn.Module") -> None:
    """Weights expect the colours that they were trained with; `data.mean` and `data.std` go before these."""
    from sightline.models.backbones import input_statistics

    data, (mean, std) = cfg.data, input_statistics(network)
    has_weights = cfg.model.pretrained or cfg.model.weights_file() is not None
    if has_weights and data.mean and data.std and (tuple(data.mean), tuple(data.std)) != (mean, std):
        log.warning(
            "data.mean=%s data.std=%s: are used, though %s's published weights were trained with %s and %s; "
            "leave both out to have these",
            data.mean,
            data.std,
            cfg.model.name,
            [*mean],
            [*std],
        )


def build_classifier(cfg: TrainConfig, opened: TrainingData) -> "Classifier":
    from sightline.models.backbones import Architecture, create_backbone, create_with_weights, with_channels
    from sightline.models.classifier import Classifier

    model, num_classes, weights = cfg.model, len(opened.class_names), cfg.model.weights_file()
    if model._target_ is None:
        network, architecture = create_backbone(
            model.name,
            num_classes,
            arguments=with_channels(model.name, model.timm_arguments(), opened.channels),
            pretrained=model.pretrained is True,
            weights=weights,
        )
    else:
        code = {"target": model._target_, "channels": opened.channels, "code": cfg.code_sha256}
        own = Architecture(model.name, num_classes, model.arguments, **code)
        network, architecture = create_with_weights(own, weights)
    spec = make_task_spec(cfg, opened, network)
    _check_input(network, architecture, spec, spec.image_size)
    if (smallest := smallest_size(cfg)) < spec.image_size:
        _check_input(network, architecture, spec, smallest)
    recipe = build_recipe(cfg, spec, opened.class_counts())
    return Classifier(network, spec, architecture, recipe, channels_last=model.channels_last)


def make_task_spec(cfg: TrainConfig, opened: TrainingData, network: "nn.Module") -> "TaskSpec":
    from sightline.models.backbones import grey_statistics, input_statistics

    statistics = grey_statistics(network) if opened.channels == 1 else input_statistics(network)
    return spec_of(cfg, opened, *statistics)


def spec_of(cfg: TrainConfig, opened: TrainingData, mean: Sequence[float], std: Sequence[float]) -> "TaskSpec":
    """What goes into the network and comes out; `data.mean` and `data.std` go before the statistics that are given."""
    from sightline.task_spec import TaskSpec

    data = cfg.data
    mean, std = (data.mean, data.std) if data.mean and data.std else (mean, std)
    pixels = (data.image_size, tuple(mean), tuple(std), data.interpolation, data.crop)
    return TaskSpec(
        tuple(opened.class_names),
        *pixels,
        views=cfg.test_time_augmentation,
        value_range=opened.value_range,
        channels=opened.channels,
        bit_depth=opened.bit_depth,
        display_bands=None if data.display_bands is None else tuple(data.display_bands),
    )


def check_augmentation(cfg: TrainConfig, opened: TrainingData, overrides: Sequence[str]) -> None:
    """Raises: BadInput for a change that was typed and that images of these channels and this depth cannot have."""
    typed = {key for word in overrides if (key := key_of(word))}
    halves = [0.5] * opened.channels
    check_typed_augmentation(cfg, spec_of(cfg, opened, halves, halves), typed)


def _check_input(network: "nn.Module", architecture: "Architecture", spec: "TaskSpec", size: int) -> None:
    """One image through the network: a size that it cannot take shows here, before anything is written.

    Raises: BadInput when it does not take it, or answers with anything but logits.
    """
    import torch

    images = torch.zeros(1, spec.channels, size, size)
    try:
        with torch.inference_mode():
            outputs = network.eval()(images)
    except Exception as error:
        if architecture.target is not None:
            raise BadInput(
                f"model._target_={architecture.target}: does not take images {tuple(images.shape)} "
                f"({where_raised(error)}); change that code, or data.image_size={spec.image_size}"
            ) from error
        if not isinstance(error, RuntimeError | AssertionError | ValueError):
            raise
        published = getattr(network, "pretrained_cfg", {}).get("input_size")
        made_for = f"data.image_size={published[-1]}" if published else "the size that the model was made for"
        grows = f" augmentation.start_size, which begins with {size} px" if size < spec.image_size else ""
        channels = "" if spec.channels == 3 else f" data.channels={spec.channels}"
        raise BadInput(
            f"data.image_size={spec.image_size}{grows}{channels}: {architecture.name} does not take such images "
            f"({error}); change it to {made_for}, or choose another model.name"
        ) from error
    finally:
        network.train()
    wanted, found = (1, spec.num_classes), getattr(outputs, "shape", None)
    if not isinstance(outputs, torch.Tensor) or tuple(outputs.shape) != wanted:
        what = type(outputs).__name__ if found is None else str(tuple(found))
        raise BadInput(
            f"model._target_={architecture.target}: returned {what} for images {tuple(images.shape)}, and must return "
            f"the logits of {spec.num_classes} classes, {wanted}; take `num_classes` as an argument, which is given"
        )
