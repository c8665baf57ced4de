"""A LightningModule of own code, made for the data, and what can be known of it before it is trained."""

import copy
import inspect
import io
import logging
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader

from sightline.callbacks.checkpoint_files import STATE
from sightline.config import TrainConfig
from sightline.config.location import where_raised
from sightline.data.training_data import TrainingData
from sightline.data.transforms import normalise
from sightline.errors import BadInput
from sightline.metrics import FINAL_METRICS, mode_of
from sightline.models.backbones import Architecture, num_parameters
from sightline.models.inference import choose_device, choose_precision
from sightline.models.learner import Learner
from sightline.models.own_module import check_own_module, complete_arguments, create_own_module
from sightline.task_spec import TaskSpec
from sightline.training.build import make_task_spec

if TYPE_CHECKING:
    from sightline.data.datamodule import ImageDataModule

log = logging.getLogger(__name__)
NUM_TRIED = 4
"""Images of the validation batch that is tried."""


def offered_arguments(cfg: TrainConfig, class_names: tuple[str, ...], channels: int) -> dict[str, Any]:
    """What the constructor of a module is given where it has arguments of these names; plain values."""
    return {
        "num_classes": len(class_names),
        "class_names": list(class_names),
        "in_chans": channels,
        "image_size": cfg.data.image_size,
        "lr": cfg.model.lr,
    }


def check_module(cfg: TrainConfig) -> None:
    """What can be known of the module before any image is read.

    Raises: BadInput when it is not there, is no LightningModule, or does not take its arguments.
    """
    check_own_module(cfg.module["_target_"], complete_arguments(cfg.module, offered_arguments(cfg, ("a", "b"), 3)))


def build_own_learner(cfg: TrainConfig, opened: TrainingData, *, is_main: bool = True) -> Learner:
    """The module of own code, and whether it gives class logits; the main process tries a batch of validation.

    Raises: BadInput when it cannot be trained, or does not log what decides which checkpoint is the best.
    """
    target, names = str(cfg.module["_target_"]), tuple(opened.class_names)
    arguments = complete_arguments(cfg.module, offered_arguments(cfg, names, opened.channels))
    own: dict[str, Any] = {"target": target, "code": cfg.code_sha256, "channels": opened.channels, "is_module": True}
    architecture = Architecture(target.rpartition(".")[2], len(names), arguments, **own)
    module = create_own_module(target, arguments)
    _check_hyperparameters(module, target)
    spec = make_task_spec(cfg, opened, module)
    reason = _why_not_measured(module, spec, target)
    log.info("%s: %s parameters; model.* and mixing of images do not count", target, f"{num_parameters(module):,}")
    if reason is not None:
        log.warning(
            "%s: %s; it is trained, but no model/ is written, and test and explain are left out", target, reason
        )
        if cfg.checkpoint.average_best > 1:
            raise BadInput(
                f"checkpoint.average_best={cfg.checkpoint.average_best}: an average is judged by its answers, and of "
                f"{target} {reason}; set it to 1"
            )
    monitor, logged = None if cfg.data.with_validation else cfg.checkpoint.monitor, ()
    if _has(module, "validation_step"):
        logged = _try_validation(module, cfg, opened, spec) if is_main else ()
        if is_main:
            _check_monitors(cfg, logged, monitor)
    else:
        log.warning("%s: has no validation_step; the last epoch is the one that is kept", target)
        monitor = None
    _check_optimized(cfg, logged, reason)
    mode = cfg.checkpoint.mode or mode_of(monitor or "")
    return Learner(module, spec, architecture, monitor, mode, True, logged, reason)


def _has(module: pl.LightningModule, hook: str) -> bool:
    return getattr(type(module), hook) is not getattr(pl.LightningModule, hook)


def _check_hyperparameters(module: pl.LightningModule, target: str) -> None:
    """Lightning writes them into checkpoints, which are opened without pickle.

    Raises: BadInput for what is no plain value.
    """
    for name, value in module.hparams.items():
        buffer = io.BytesIO()
        try:
            torch.save(value, buffer)
            buffer.seek(0)
            torch.load(buffer, weights_only=True)
        except Exception as error:  # pickle's errors have no common base
            raise BadInput(
                f"module._target_={target}: save_hyperparameters() keeps {name} ({type(value).__name__}), and "
                f"checkpoints hold plain values alone; leave it out with save_hyperparameters(ignore=[{name!r}])"
            ) from error


def _why_not_measured(module: pl.LightningModule, spec: TaskSpec, target: str) -> str | None:
    """Why the module's answers are no class logits, by two black images through its forward; None: they are.

    Raises: BadInput when it takes no images of this size.
    """
    taken = list(inspect.signature(module.forward).parameters.values())
    if len([each for each in taken if each.default is each.empty and each.kind is each.POSITIONAL_OR_KEYWORD]) > 1:
        return f"forward takes more than images ({', '.join(each.name for each in taken)})"
    was_training = {each: each.training for each in module.modules()}
    try:
        with torch.inference_mode():
            answers = module.eval()(torch.zeros(2, spec.channels, spec.image_size, spec.image_size))
    except NotImplementedError:
        return "has no forward"
    except (RuntimeError, AssertionError, ValueError) as error:
        raise BadInput(
            f"data.image_size={spec.image_size}: forward of {target} does not take images (2, {spec.channels}, "
            f"{spec.image_size}, {spec.image_size}) ({where_raised(error)}); change that size, or the module"
        ) from error
    except Exception as error:  # noqa: BLE001  (what is made in `setup`, say, is not there yet)
        return f"forward fails before training ({where_raised(error)})"
    finally:
        for each, was in was_training.items():
            each.training = was
    if not isinstance(answers, torch.Tensor):
        return f"forward returns {type(answers).__name__}, and no tensor of logits"
    if answers.shape != (2, spec.num_classes):
        return f"forward returns {tuple(answers.shape)} for two images, and no logits (2, {spec.num_classes})"
    return None


def _try_validation(
    module: pl.LightningModule, cfg: TrainConfig, opened: TrainingData, spec: TaskSpec
) -> tuple[str, ...]:
    """The names that a copy of the module logs for a validation batch, run by itself.

    Raises: BadInput when its validation fails.
    """
    loader = opened.make_loader("val", spec, batch_size=NUM_TRIED, num_workers=0)
    images, labels = next(iter(loader))
    batches = DataLoader([(normalise(images, spec), labels)], batch_size=None)  # pyright: ignore[reportArgumentType]
    with _alone(cfg) as trainer:
        try:
            trainer.validate(copy.deepcopy(module), batches, verbose=False)
        except Exception as error:  # whatever own code does
            raise BadInput(
                f"module._target_={cfg.module['_target_']}: validation of one batch fails ({where_raised(error)}); "
                "correct it"
            ) from error
        return tuple(trainer.callback_metrics)


@contextmanager
def _alone(cfg: TrainConfig, **arguments: Any) -> Iterator[pl.Trainer]:
    """A trainer for this process by itself, on the device and with the precision of the configuration."""
    device = choose_device(cfg.trainer.accelerator)
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings(action="ignore"):
        yield pl.Trainer(
            accelerator=device.type,
            devices=1,
            precision=choose_precision(cfg.trainer.precision, device),  # pyright: ignore[reportArgumentType]
            default_root_dir=folder,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            inference_mode=False,
            **arguments,
        )


def measure_itself(cfg: TrainConfig, learner: Learner, datamodule: "ImageDataModule", best: Path) -> dict[str, float]:
    """What the module itself measured of its best checkpoint: on validation in the fit, and now by its `test_step`."""
    checkpoint = torch.load(best, map_location="cpu", weights_only=True)
    found = checkpoint[STATE]["callback_metrics"]
    metrics = {name: float(found[name]) for name in learner.logged if name in found}
    if "test" in cfg.stages and datamodule.test is not None and _has(learner.module, "test_step"):
        learner.module.load_state_dict(checkpoint["state_dict"])
        with _alone(cfg, limit_test_batches=cfg.trainer.limit_test_batches) as trainer:
            trainer.test(learner.module, datamodule=datamodule, verbose=False)
            metrics |= {name: float(value) for name, value in trainer.callback_metrics.items()}
    return metrics


def _check_optimized(cfg: TrainConfig, logged: tuple[str, ...], reason: str | None) -> None:
    """Raises: BadInput for a metric of validation that a sweep would look for in vain."""
    name, usual = cfg.optimized_metric, TrainConfig().optimized_metric
    known = {*logged, usual, *((*FINAL_METRICS, *cfg.evaluation.metrics_of("val")) if reason is None else ())}
    if name.startswith("val") and name not in known:
        raise BadInput(
            f"optimized_metric={name}: {cfg.module['_target_']} has no such metric; it has {', '.join(logged)}"
        )


def _check_monitors(cfg: TrainConfig, logged: tuple[str, ...], monitor: str | None) -> None:
    """Raises: BadInput for a metric of validation that something waits for, and that is not logged."""
    said = f"it logs {', '.join(logged)} there" if logged else "it logs nothing there; add self.log(NAME, value)"
    callbacks = {name: node for name, node in cfg.callbacks.items() if isinstance(node, Mapping)}
    waited = {"checkpoint.monitor": monitor}
    waited |= {f"callbacks.{name}.monitor": node.get("monitor") for name, node in callbacks.items()}
    for key, name in waited.items():
        if name is not None and name not in logged and not str(name).startswith("train"):
            raise BadInput(
                f"{key}={name}: {cfg.module['_target_']} does not log that in validation; {said}"
                f"{f', like {key}={logged[0]}' if logged else ''}"
            )
