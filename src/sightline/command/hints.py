"""What to type instead of a key or an option that there is not: found among all keys, and in the words of others."""

import difflib
import functools
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import Field
from glob import has_magic, iglob
from pathlib import Path
from typing import Any

from sightline.config import TASKS
from sightline.config.registration import all_keys
from sightline.runs.override_text import in_shell, key_of, unquoted
from sightline.runs.project import CONFIGS

SYNONYMS: dict[str, str] = {
    # how long, how many, how large
    "trainer.max_epochs={}": "epochs epoch num_epochs n_epochs n_epoch",
    "trainer.max_steps={}": "steps num_steps max_iters",
    "model.lr={}": "learning_rate lr0 lr_max base_lr",
    "data.batch_size={}": "batch bs train_batch_size",
    "batch_size={}": "batch bs",
    "data.image_size={}": "imgsz img_size input_size resolution size",
    "trainer.accumulate_grad_batches={}": "accumulate accumulation_steps grad_accum",
    "trainer.gradient_clip_val={}": "grad_clip clip_grad clip_grad_norm max_grad_norm",
    "seed={}": "random_state",
    "data.num_folds={}": "k_folds kfold n_folds",
    "hparams_search=optuna hydra.sweeper.n_trials={}": "n_trials num_trials",
    # the network
    "model.name={}": "arch architecture backbone encoder model_name net network",
    "pattern={}": "arch architecture backbone model_name name",
    "model.drop_rate={}": "dropout drop",
    "model.drop_path_rate={}": "drop_path stochastic_depth",
    "model.label_smoothing={}": "smoothing",
    "model.ema_decay=0.999": "ema model_ema",
    "model.freeze=none": "freeze=false freeze_backbone=false",
    "model.freeze=gradual": "freeze=gradual",
    "model.freeze=backbone": "freeze freeze_backbone frozen",
    "model.loss={}": "criterion",
    # the optimizer and its schedule
    "model.optimizer.weight_decay={}": "weight_decay wd",
    "model/optimizer=sgd model.optimizer.momentum={}": "momentum",
    "model/optimizer={}": "optim opt",
    "model/scheduler={}": "lr_scheduler sched schedule",
    "model/scheduler=warmup_cosine": "cos_lr cosine",
    "model/scheduler=warmup_cosine model.scheduler.warm_up=0.05": "warmup warmup_epochs warmup_steps warmup_ratio",
    # the images
    "data={}": "dataset dataset_name",
    "data.root={}": "data_dir data_path data_root datadir dataset dataset_path train_dir train_path path folder data",
    "images={}": "source input inputs file files image img path folder photos data_dir data_path dataset data",
    "data.val_fraction={}": "val_split val_size valid_pct validation_split",
    "data.test_fraction={}": "test_split test_size",
    "augmentation=light": "augment=true aug=true",
    "augmentation=none": "augment=false aug=false",
    "augmentation={}": "augment aug transforms",
    "augmentation.horizontal_flip={}": "hflip fliplr",
    "test_time_augmentation=flip": "tta",
    # the machine
    "trainer.accelerator=cpu": "gpus=0 gpu=false device=cpu cpu",
    "trainer.accelerator=gpu": "gpu=true cuda device=cuda device=gpu",
    "trainer.accelerator=mps": "mps device=mps",
    "accelerator=cpu": "gpus=0 gpu=false device=cpu cpu",
    "accelerator=gpu": "gpu gpus cuda device",
    "trainer.devices=[{}]": "device gpu",
    "trainer.devices={}": "gpus num_gpus nproc_per_node world_size",
    "data.num_workers={}": "workers n_workers",
    "num_workers={}": "workers n_workers",
    "trainer.precision=32-true": "precision=32 amp=false fp16=false half=false",
    "trainer.precision=bf16-mixed": "precision=bf16 bf16",
    "trainer.precision=16-mixed": "precision=16 amp fp16 half",
    "precision=32-true": "precision=32 amp=false fp16=false half=false",
    "precision=bf16-mixed": "bf16",
    "precision=16-mixed": "amp fp16 half",
    # what is done, and where it goes
    "debug=one_batch": "fast_dev_run fdr dry_run",
    "stages=[fit,explain]": "test=false",
    "stages=[fit,test]": "explain=false",
    "stages=[fit,test,explain]": "test train=true explain=true",
    "python src/evaluate.py run=RUN": "train=false",
    "callbacks=early_stopping": "early_stopping early_stop",
    "callbacks=early_stopping callbacks.early_stopping.patience={}": "patience",
    "checkpoint.average_best={}": "save_top_k",
    "resume={}": "ckpt_path checkpoint ckpt",
    "run={}": "ckpt_path checkpoint ckpt model weights model_path model_dir run_dir",
    "output={}": "output_dir out_dir save_dir outdir default_root_dir log_dir",
    "paths.runs={}": "project runs_dir",
    "name={}": "task_name experiment_name exp_name run_name",
}
"""What to type for words of Lightning, fastai, Ultralytics, timm's scripts and the public Lightning-Hydra template,
some of them with one value only; `{}` stands for the value. The first answer whose key the task has counts."""

OPTIONS: dict[str, str] = {
    "model.name={}": "model",
    "trainer.accelerator={}": "trainer=cpu trainer=gpu trainer=mps trainer=tpu",
    "trainer.accelerator=gpu": "trainer=cuda",
    "trainer=ddp trainer.accelerator=cpu trainer.devices=2": "trainer=ddp_sim",
    "debug=one_batch": "debug=default debug=fdr debug=fast_dev_run debug=true",
    "debug=profile": "debug=profiler",
    "hparams_search=optuna": "hparams_search=mnist_optuna hparams_search=true",
    "augmentation=light": "augmentation=true augmentation=default",
    "augmentation=none": "augmentation=false",
}
"""The same for options that a group lacks; a group alone stands for any of them."""
UNNEEDED: dict[str, str] = dict.fromkeys(
    ("numclasses", "nclasses", "nc"), "the number of classes follows from the data; leave it out"
)
"""Words of others, as `_bare` writes them, that need no key here, and why."""
NEAR = 0.75
"""How alike a misspelt word and a suggestion are at least, as difflib counts."""


@functools.cache
def groups_of(task: str) -> dict[str, list[str]]:
    """The configuration groups that a task's file names in its defaults, and those below them, with their options."""
    import yaml

    defaults = (
        yaml.safe_load((CONFIGS / f"{task}.yaml").read_text(encoding="utf-8"))["defaults"] if task in TASKS else []
    )
    names = [name for entry in defaults if isinstance(entry, dict) for name in entry if " " not in name]
    folders = [folder for name in names for folder in (CONFIGS / name, *sorted((CONFIGS / name).glob("*/")))]
    options = {folder.relative_to(CONFIGS).as_posix(): _options(folder) for folder in folders}
    return {group: found for group, found in options.items() if found}


def _options(folder: Path) -> list[str]:
    return sorted(file.stem for file in folder.glob("*.yaml"))


@functools.cache
def keys_of(task: str) -> dict[str, Field[Any]]:
    """Every key of a task that its schema knows, with its field."""
    return dict(all_keys(TASKS[task])) if task in TASKS else {}


def is_known(task: str, key: str) -> bool:
    """Whether a key is one of the task, lies below one that holds anything, or is Hydra's own."""
    is_below = any(key.startswith(f"{name}.") for name in keys_of(task))
    return is_below or key in keys_of(task) or key in groups_of(task) or key.startswith(("hydra.", "hydra/"))


def what_is_meant(task: str, key: str, value: str) -> list[str]:
    """Arguments, as one types them, that surely say what `KEY=VALUE` means: there is no such key."""
    section, _, word = key.rpartition(".")
    word = word.replace("-", "_").lower()
    if (answer := _answer(SYNONYMS, task, word, value)) and key_of(answer) != key:
        return [answer]
    meant = [name for name in keys_of(task) if _bare(name) == _bare(word) and not _is_group(task, name)]
    meant = [name for name in meant if name.rpartition(".")[0] == section] or meant
    meant += [group for group, options in groups_of(task).items() if _bare(group) == _bare(word) and value in options]
    return [in_shell(f"{name}={value}") for name in meant]


def hint_for_key(task: str, key: str, value: str = "…", siblings: Iterable[str] = ()) -> str | None:
    """The end of `KEY=VALUE: no such key`: what to type, or which key is spelt like it; None without an idea.

    `value` is the text that was typed; `siblings` are the names that there are beside the key.
    """
    if meant := what_is_meant(task, key, value):
        return f"; type {' or '.join(meant)}"
    section, _, word = key.rpartition(".")
    if reason := UNNEEDED.get(_bare(word)):
        return f"; {reason}"
    for group, options in groups_of(task).items():
        if _bare(group) == _bare(word):
            return f"; type {group}=OPTION, one of {', '.join(options)}"
    near = _near(word, [f"{section}.{name}".lstrip(".") for name in siblings])
    is_open = any(section == name or section.startswith(f"{name}.") for name in keys_of(task))
    if near := near or ([] if is_open else _near(word, keys_of(task))):
        return f" (did you mean {' or '.join(in_shell(f'{name}={value}') for name in near)}?)"
    return f"; to add it type {in_shell(f'+{key}={value}')}" if is_open else None


def option_meant(task: str, group: str, option: str) -> str | None:
    """The argument, as one types it, that surely says what `GROUP=OPTION` means: there is no such option."""
    if group == "data" and ("/" in unquoted(option) or is_there(unquoted(option))):
        return in_shell(f"data.root={option}")
    return _answer(OPTIONS, task, group, option)


def hint_for_option(task: str, group: str, option: str, options: Sequence[str]) -> str:
    """The end of `GROUP=OPTION: no such option`: what to type, and the options that there are."""
    hint = ""
    if meant := option_meant(task, group, option):
        hint = f"; type {meant}"
    elif near := difflib.get_close_matches(unquoted(option), options, n=3, cutoff=NEAR):
        hint = f" (did you mean {' or '.join(f'{group}={each}' for each in near)}?)"
    return f"{hint}; there are: {', '.join(options)}"


def _answer(table: Mapping[str, str], task: str, word: str, value: str) -> str | None:
    """The first answer to `word=value`, else to `word`, that the task takes."""
    for words in (f"{word}={unquoted(value).lower()}", word):
        for answer, known in table.items():
            if words in known.split() and _takes(task, answer.split()[0], value):
                return " ".join(in_shell(each.replace("{}", value)) for each in answer.split())
    return None


def _takes(task: str, answer: str, value: str) -> bool:
    """Whether the task has the key of an answer, or the group and its option."""
    key, _, option = answer.partition("=")
    if key in groups_of(task):
        return option.replace("{}", value) in groups_of(task)[key]
    return answer == "python" or is_known(task, key)


def _is_group(task: str, key: str) -> bool:
    return key.replace(".", "/") in groups_of(task)


def _bare(name: str) -> str:
    """The last part of a key or a group, without what people leave out."""
    return re.split(r"[./]", name)[-1].replace("_", "").lower()


def _near(word: str, names: Iterable[str]) -> list[str]:
    by_word: dict[str, list[str]] = {}
    for name in names:
        by_word.setdefault(name.rpartition(".")[2], []).append(name)
    near = difflib.get_close_matches(word, by_word, n=2, cutoff=NEAR)
    return [name for each in near for name in by_word[each]]


def is_there(path: str) -> bool:
    """Whether a text names something on this disk, or is a pattern of such names; a text may have any length."""
    path = os.path.expanduser(path)  # noqa: PTH111
    return os.path.lexists(path) or (has_magic(path) and next(iglob(path, recursive=True), None) is not None)  # noqa: PTH207
