"""Words of other libraries, misspelt keys and options that there are not: one line with what to type."""

import pytest
from tests.conftest import compose_config

from sightline.command import hint_for_key, hint_for_option
from sightline.command.hints import OPTIONS, SYNONYMS, groups_of, is_known
from sightline.config import TASKS, refuse_unknown_keys
from sightline.runs.override_text import key_of

TYPED = [
    ("lr", "0.1", "model.lr=0.1"),
    ("learning_rate", "0.1", "model.lr=0.1"),
    ("epochs", "5", "trainer.max_epochs=5"),
    ("max_epochs", "5", "trainer.max_epochs=5"),
    ("trainer.epochs", "5", "trainer.max_epochs=5"),
    ("imgsz", "64", "data.image_size=64"),
    ("img_size", "64", "data.image_size=64"),
    ("batch", "8", "data.batch_size=8"),
    ("batch_size", "8", "data.batch_size=8"),
    ("batch-size", "8", "data.batch_size=8"),
    ("bs", "8", "data.batch_size=8"),
    ("ckpt_path", "a.ckpt", "resume=a.ckpt"),
    ("fast_dev_run", "true", "debug=one_batch"),
    ("gpus", "2", "trainer.devices=2"),
    ("gpus", "0", "trainer.accelerator=cpu"),
    ("devices", "2", "trainer.devices=2"),
    ("device", "0", "trainer.devices=[0]"),
    ("device", "cpu", "trainer.accelerator=cpu"),
    ("accelerator", "gpu", "trainer.accelerator=gpu"),
    ("precision", "16", "trainer.precision=16-mixed"),
    ("workers", "4", "data.num_workers=4"),
    ("num_workers", "4", "data.num_workers=4"),
    ("data.workers", "4", "data.num_workers=4"),
    ("weight_decay", "0.01", "model.optimizer.weight_decay=0.01"),
    ("optimizer", "adam", "model/optimizer=adam"),
    ("optimizer.lr", "0.1", "model.lr=0.1"),
    ("scheduler", "cosine", "model/scheduler=cosine"),
    ("pretrained", "true", "model.pretrained=true"),
    ("arch", "resnet34", "model.name=resnet34"),
    ("dataset", "gtsrb", "data=gtsrb"),
    ("dataset", "/photos", "data.root=/photos"),
    ("data_dir", "/my photos", "'data.root=/my photos'"),
    ("data.data_dir", "/photos", "data.root=/photos"),
    ("data.path", "/photos", "data.root=/photos"),
    ("train", "false", "python src/evaluate.py run=RUN"),
    ("test", "false", "stages=[fit,explain]"),
    ("test", "true", "stages=[fit,test,explain]"),
    ("patience", "3", "callbacks=early_stopping callbacks.early_stopping.patience=3"),
    ("callbacks.early_stopping.patience", "3", "callbacks=early_stopping callbacks.early_stopping.patience=3"),
    ("freeze", "true", "model.freeze=backbone"),
    ("freeze", "10", "model.freeze=backbone"),
    ("freeze", "false", "model.freeze=none"),
    ("dropout", "0.2", "model.drop_rate=0.2"),
    ("momentum", "0.9", "model/optimizer=sgd model.optimizer.momentum=0.9"),
    ("label_smoothing", "0.1", "model.label_smoothing=0.1"),
    ("mixup", "0.2", "augmentation.mixup=0.2"),
    ("path.runs", "/x", "paths.runs=/x"),
    ("task_name", "a", "name=a"),
    ("cache", "off", "paths.cache=off or data.cache=off"),
]


@pytest.mark.parametrize(("key", "value", "argument"), TYPED)
def test_words_of_others(key: str, value: str, argument: str) -> None:
    for task in ("train", "find_lr"):
        assert hint_for_key(task, key, value) == f"; type {argument}"


@pytest.mark.parametrize(
    ("task", "key", "value", "hint"),
    [
        ("predict", "batch", "8", "; type batch_size=8"),
        ("predict", "workers", "2", "; type num_workers=2"),
        ("predict", "source", "a.jpg", "; type images=a.jpg"),
        ("predict", "model", "runs/x", "; type run=runs/x"),
        ("predict", "device", "cpu", "; type accelerator=cpu"),
        ("evaluate", "weights", "a.ckpt", "; type run=a.ckpt"),
        ("evaluate", "data", "/photos", "; type data.root=/photos"),
        ("evaluate", "epochs", "5", None),
        ("models", "arch", "vit*", "; type 'pattern=vit*'"),
        ("train", "optimizer", "magic", "; type model/optimizer=OPTION, one of adam, adamw, lamb, muon, rmsprop, sgd"),
        ("train", "data.image_szie", "64", " (did you mean data.image_size=64?)"),
        ("train", "trainer.patince_steps", "64", " (did you mean divergence.patience_steps=64?)"),
        ("train", "model.optimizer.beta", "1", "; to add it type +model.optimizer.beta=1"),
        ("train", "num_classes", "3", "; the number of classes follows from the data; leave it out"),
        ("train", "model.nc", "3", "; the number of classes follows from the data; leave it out"),
        ("train", "nonsense", "1", None),
        ("nothing", "epochs", "1", None),
    ],
)
def test_other_tasks_and_other_mistakes(task: str, key: str, value: str, hint: str | None) -> None:
    assert hint_for_key(task, key, value) == hint


@pytest.mark.parametrize(
    ("group", "option", "hint"),
    [
        ("model", "resnet34", "; type model.name=resnet34; there are: "),
        ("trainer", "gpu", "; type trainer.accelerator=gpu; there are: ddp, "),
        ("debug", "fdr", "; type debug=one_batch; there are: limit, "),
        ("logger", "wandb", "; there are: csv, none, tensorboard"),
        ("callbacks", "rich_progress_bar", "; there are: early_stopping, "),
        ("data", "/my photos", "; type 'data.root=/my photos'; there are: bikes, "),
        ("experiment", "gtsbr", " (did you mean experiment=gtsrb?); there are: bikes, "),
    ],
)
def test_options_that_there_are_not(group: str, option: str, hint: str) -> None:
    assert hint_for_option("train", group, option, groups_of("train")[group]).startswith(hint)


def test_every_answer_is_an_argument_of_some_task() -> None:
    for answer in (*SYNONYMS, *OPTIONS):
        first, *others = answer.split()
        assert first == "python" or any(is_known(task, key_of(first)) for task in TASKS), answer
        assert first == "python" or all(is_known("train", key_of(each)) for each in others), answer


def test_answers_that_say_all_compose() -> None:
    for answer in (*SYNONYMS, *OPTIONS):
        words = answer.replace("{}", "1").split()
        if is_known("train", key_of(words[0])) and not words[0].endswith("=1"):
            refuse_unknown_keys(compose_config("train", *words))
