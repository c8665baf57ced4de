"""No key is typed in vain without a word: every key that needs another has an example, refused or warned of."""

import logging
from typing import Any

import pytest

from sightline.config import TASKS, check_overrides, refuse_idle
from sightline.config.constraints import find_idle, keys_that_need
from sightline.errors import BadInput
from tests.conftest import compose_task, compose_train

FILE = "model.weights=tests/config/test_constraints.py"  # any file that is there
SYNTHETIC, SHARDS = "data=synthetic", "data=shards data.root=packed"
OWN_MODULE, OWN_DATA = "module._target_=my_code.MyModule", "datamodule._target_=my_code.MyData"
STOPPING = "callbacks=early_stopping"
EXAMPLES: dict[str, tuple[str, str, str]] = {
    "augmentation": ("augmentation.mixup=0.2", SYNTHETIC, ""),
    "augmentation.crop_ratio": ("augmentation.crop_ratio=[0.9,1.1]", "augmentation=none", "augmentation=light"),
    "augmentation.horizontal_flip": ("augmentation.horizontal_flip=0.5", "data=digits", "data=intel"),
    "augmentation.batch.horizontal_flip": ("augmentation.batch.horizontal_flip=0.5", "data=digits", "data=gtsrb"),
    "augmentation.cutmix": ("augmentation.cutmix=1", OWN_MODULE, ""),
    "augmentation.mixup": ("augmentation.mixup=1", OWN_MODULE, ""),
    "augmentation.start_size": ("augmentation.start_size=0.5", OWN_MODULE, ""),
    "augmentation.mix_probability": ("augmentation.mix_probability=0.5", "", "augmentation.cutmix=1"),
    "callbacks": (STOPPING, "trainer.max_epochs=5", "trainer.max_epochs=6"),
    "checkpoint.average_best": ("checkpoint.average_best=3", "trainer.max_epochs=1", "trainer.max_epochs=4"),
    "checkpoint.monitor": ("checkpoint.monitor=val/loss", "data.with_validation=true", ""),
    "model.name": ("model.name=resnet18", "model._target_=my_code.Net", ""),
    "checkpoint.mode": ("checkpoint.mode=min", "", OWN_MODULE),
    "data": ("data.sampler=balanced", OWN_DATA, ""),
    "model": ("model.label_smoothing=0.1", OWN_MODULE, ""),
    "data.audit": ("data.audit=skip", SHARDS, ""),
    "data.cache": ("data.cache=always", SHARDS, ""),
    "data.cache_gb": ("data.cache_gb=5", "data.cache=off", f"data.cache=off {SHARDS}"),
    "data.class_pattern": ("data.class_pattern='(.+)'", SHARDS, ""),
    "data.classes": ("data.classes=[a,b]", "", "data=cifar100"),
    "data.group_pattern": ("data.group_pattern='(.+)'", SHARDS, ""),
    "data.groups_span_classes": ("data.groups_span_classes=true", "", "data=gtsrb"),
    "data.layout": ("data.layout=splits", SHARDS, ""),
    "data.manifest": ("data.manifest=none", SHARDS, ""),
    "data.max_bad_fraction": ("data.max_bad_fraction=0.1", "", "data.on_bad_file=skip"),
    "data.max_pixels": ("data.max_pixels=1000", SHARDS, ""),
    "data.name_pattern": ("data.name_pattern='(.+)'", SHARDS, ""),
    "data.num_folds": ("data.num_folds=5", SHARDS, ""),
    "data.num_synthetic": ("data.num_synthetic=64", "", SYNTHETIC),
    "data.on_bad_file": ("data.on_bad_file=skip", SHARDS, ""),
    "data.on_leak": ("data.on_leak=error", SHARDS, ""),
    "data.root": ("data.root=photos", SYNTHETIC, "data=folder"),
    "data.small_classes": ("data.small_classes=leave_out", SHARDS, ""),
    "data.test_fraction": ("data.test_fraction=0.2", SHARDS, ""),
    "data.version": ("data.version=signs/1", SHARDS, ""),
    "data.val_fraction": ("data.val_fraction=0.2", "data.num_folds=5", ""),
    "data.value_range": ("data.value_range=[0,4095]", SYNTHETIC, ""),
    "divergence.lr_factor": ("divergence.lr_factor=0.5", "", "divergence.action=rollback"),
    "divergence.max_rollbacks": ("divergence.max_rollbacks=5", "", "divergence.action=rollback"),
    "evaluation.evaluators": ("evaluation=full", "stages=[fit]", "stages=[fit,test]"),
    "export": ("export.int8=false", "", "stages=[fit,export]"),
    "explanation": ("explanation.num_images=3", "stages=[fit,test]", "stages=[fit,explain]"),
    "explanation.baseline": ("explanation.baseline=mean", "explanation=grad_cam", "explanation=all"),
    "explanation.max_steps": ("explanation.max_steps=64", "explanation=occlusion", ""),
    "explanation.min_steps": ("explanation.min_steps=4", "explanation=smooth_grad", ""),
    "explanation.tolerance": ("explanation.tolerance=0.1", "explanation=grad_cam", ""),
    "min_accuracy": ("min_accuracy=0.9", "", ""),
    "model.arguments_for": ("+model.arguments_for.resnet18.drop_rate=0.2", "model._target_=my_code.Net", ""),
    "model.weights_for": ("model.weights_for={resnet18:null}", "model._target_=my_code.Net", ""),
    "model.bce_target_threshold": ("model.bce_target_threshold=0.2", "model.loss=focal", "model.loss=bce"),
    "model.compile_mode": ("model.compile_mode=max-autotune", "", "model.compile=true"),
    "model.drop_path_rate": ("model.drop_path_rate=0.1", "+model.arguments.drop_path_rate=0.2", ""),
    "model.drop_rate": ("model.drop_rate=0.1", "+model.arguments_for.resnet18.drop_rate=0.2", ""),
    "model.focal_gamma": ("model.focal_gamma=1", "", "model.loss=focal"),
    "model.layer_lr_decay": ("model.layer_lr_decay=0.8", f"{FILE} model.freeze=backbone", ""),
    "model.pretrained": ("model.pretrained=true", FILE, ""),
    "model.teacher_temperature": ("model.teacher_temperature=4", "", "model.teacher=latest"),
    "model.teacher_weight": ("model.teacher_weight=0.7", "", "model.teacher=latest"),
    "model.unfreeze_every_epochs": ("model.unfreeze_every_epochs=2", "", "model.pretrained=true model.freeze=gradual"),
    "model.weights": (FILE, "model.name=resnet50 model.weights_for={resnet50:null}", "model.weights_for={vgg11:null}"),
    "trainer.gradient_clip_algorithm": ("trainer.gradient_clip_algorithm=value", "", "trainer.gradient_clip_val=1"),
    "trainer.limit_test_batches": ("trainer.limit_test_batches=3", "stages=[fit]", ""),
    "trainer.limit_train_batches": ("trainer.limit_train_batches=3", "trainer.overfit_batches=1", ""),
    "trainer.limit_val_batches": ("trainer.limit_val_batches=3", "trainer.overfit_batches=1", ""),
    "trainer.log_every_n_steps": ("trainer.log_every_n_steps=1", "logger=none", "logger=csv"),
    "trainer.min_epochs": ("trainer.min_epochs=3", "", STOPPING),
    "trainer.min_steps": ("trainer.min_steps=3", "", "trainer.max_time=00:01:00:00"),
    "trainer.strategy": ("trainer.strategy=ddp", "trainer.devices=1", "trainer.devices=2"),
    "trainer.sync_batchnorm": ("trainer.sync_batchnorm=true", "", "trainer.devices=auto"),
}
"""By key of a training: what is typed, what it has no effect beside (with the settings of the digits), and one."""
OTHER_TASKS: dict[str, tuple[str, str, str, str]] = {
    "split": ("explain", "split=val", "run=RUN images=photos", "run=RUN"),
    "explanation.choice": ("explain", "explanation.choice=fixed", "run=RUN images=photos", "run=RUN"),
    "explanation.num_images": ("explain", "explanation.num_images=3", "run=RUN images=photos", "run=RUN"),
    "batch_size": ("models", "batch_size=4", "", "time=true"),
    "accelerator": ("models", "accelerator=cpu", "", "time=true"),
    "precision": ("models", "precision=32-true", "", "time=true"),
    "runtime": ("predict", "runtime=onnx", "endpoint=http://a images=photos", "run=RUN images=photos"),
    "connections": ("predict", "connections=2", "run=RUN images=photos", "endpoint=http://a images=photos"),
}
CASES = {key: ("train", *words) for key, words in EXAMPLES.items()} | OTHER_TASKS
MAY_STAY = {
    *("augmentation", "callbacks", "checkpoint.average_best", "checkpoint.monitor", "data.audit", "data.cache"),
    *(
        "data.manifest",
        "data.on_bad_file",
        "data.on_leak",
        "evaluation.evaluators",
        "explanation",
        "export",
        "model.pretrained",
    ),
    *("trainer.limit_test_batches", "trainer.log_every_n_steps", "trainer.strategy", "trainer.sync_batchnorm"),
    *("trainer.min_epochs", "trainer.min_steps"),
}
"""Keys that people leave in a command on purpose: they are warned of."""


def test_every_key_that_needs_another_has_an_example() -> None:
    assert set(CASES) == {key for schema in TASKS.values() for key, _ in keys_that_need(schema)}


@pytest.mark.parametrize("key", CASES)
def test_a_key_without_effect_is_refused_or_warned_of(key: str, caplog: pytest.LogCaptureFixture) -> None:
    task, typed, beside, with_effect = CASES[key]
    words = [*beside.split(), typed]
    cfg: Any = compose_task(task, *words)
    message = f"{typed}: has no effect here, it counts only with "
    with caplog.at_level(logging.WARNING):
        if key in MAY_STAY:
            check_overrides(cfg, words)
        else:
            with pytest.raises(BadInput) as refused:
                check_overrides(cfg, words)
            assert str(refused.value).startswith(message)
            check_overrides(cfg, words, may_stay=True)
    assert any(line.startswith(message) for line in caplog.messages)
    if with_effect:
        words = [*with_effect.split(), typed]
        assert not [each for each in find_idle(compose_task(task, *words), words) if each.override == typed]


def test_what_is_typed_to_be_off_is_no_surprise() -> None:
    words = ["model.layer_lr_decay=null", "model.compile_mode=null", "augmentation.horizontal_flip=0", "data=digits"]
    check_overrides(compose_train(*words), words)
    assert not find_idle(compose_train(*words), words)


def test_what_a_file_says_is_not_typed() -> None:
    """Of an experiment one changes a part."""
    for words in (["experiment=gtsrb_balanced", "model.loss=bce"], ["debug=one_batch", "stages=[fit]"]):
        assert not find_idle(compose_train(*words), words)


def test_of_several_runs_one_effect_is_enough() -> None:
    several = [["model.focal_gamma=1", f"model.loss={loss}"] for loss in ("bce", "focal")]
    runs = [(compose_train(*words), words) for words in several]
    refuse_idle(runs)
    with pytest.raises(BadInput, match="model.focal_gamma=1: has no effect here, it counts only with model.loss=focal"):
        refuse_idle(runs[:1])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            "model.optimizer.lr=1e-4",
            "model.optimizer.lr=0.0001 model.lr=0.003: the learning rate is model.lr, which optimizer and scheduler "
            "follow; set model.lr=0.0001 and leave model.optimizer.lr out",
        ),
        ("model.scheduler.max_lr=0.1", "set model.lr=0.1 and leave model.scheduler.max_lr out"),
        ("model/optimizer=sgd model/scheduler=cosine model.optimizer.lr=1", "set model.lr=1 and leave model.optimizer"),
        (
            "model/scheduler=plateau +model.scheduler.mode=min",
            "follows checkpoint.monitor=val/accuracy, whose mode",
        ),
        (
            "stages=[fit] evaluation.gates={test/accuracy:0.9}",
            "test/accuracy is not measured with stages=[fit]",
        ),
    ],
)
def test_of_two_keys_for_one_thing_the_other_is_refused(words: str, message: str) -> None:
    with pytest.raises(BadInput) as refused:
        compose_train(*words.split())
    assert message in str(refused.value)
