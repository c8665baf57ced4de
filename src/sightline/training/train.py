"""Train a classifier: the pure core. Needs a composed configuration and nothing else."""

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sightline.config import (
    TrainConfig,
    check_processes,
    save_yaml,
    to_plain,
    validate,
    with_own_code,
    with_value,
)
from sightline.data.opening import check_root, open_data
from sightline.data.training_data import TrainingData
from sightline.data.versions.checkout import with_data_version
from sightline.distributed.process_group import ProcessGroup
from sightline.distributed.rank import Rank, all_devices, rank_from_environment, silence_other_ranks
from sightline.runs.invocation import UNTOLD, Invocation
from sightline.runs.override_text import key_of
from sightline.runs.record import RunRecord, now
from sightline.training.build import check_augmentation, with_batch_size
from sightline.training.find_lr import save_sweep, with_lr
from sightline.training.fine_tuning import found_before, with_max_epochs, with_network
from sightline.training.finish import BEST, finish
from sightline.training.learner import build_learner
from sightline.training.prerequisites import check_export_installed
from sightline.training.resume import Start, find_run_to_continue, open_run, resume_fingerprint
from sightline.training.statistics import with_statistics
from sightline.training.trainer import FitPlan, plan_fit, run_fit

if TYPE_CHECKING:  # imported inside functions: bad input is refused before torch loads
    import pytorch_lightning as pl
    from omegaconf import DictConfig

    from sightline.models.learner import Learner
    from sightline.training.lr_finder import LrSweep

log = logging.getLogger(__name__)
EVENTS = ("found", "divergence", "rollbacks", "warnings")
"""What run.json keeps when a run goes on."""


@dataclass(frozen=True)
class TrainResult:
    metrics: dict[str, float]
    checkpoint: Path | None
    run_dir: Path


def train(cfg: "DictConfig | TrainConfig", invocation: Invocation = UNTOLD) -> TrainResult:
    """Fit a classifier, keep its best checkpoint, and measure that one on validation and once on test.

    With several devices this process fits together with others; the first one writes and measures, and the result of
    another one has no metrics.

    Raises: BadInput before anything is written when the configuration or the data cannot work.
    """
    cfg, rank = _with_devices(validate(cfg), invocation)
    _say_which_precision(cfg, invocation)
    cfg, code = with_own_code(cfg, invocation)
    check_root(cfg)
    cfg = with_data_version(cfg)
    check_export_installed(cfg)
    before = found_before(find_run_to_continue(cfg))
    cfg, guesses = with_network(cfg, before)
    processes = ProcessGroup(rank, train, cfg, invocation)
    with processes.main_process_first():
        opened = open_data(cfg, before)
        cfg, measured = with_statistics(cfg, opened, before)
    check_augmentation(cfg, opened, invocation.overrides)
    import pytorch_lightning as pl

    from sightline.evaluation.gates import check_gates
    from sightline.evaluation.measurement import build_evaluators
    from sightline.models.inference import keep_freed_memory, set_tf32
    from sightline.models.own_metrics import check_metrics

    build_evaluators(cfg.evaluation)  # what is wrong with them shows before anything is written
    check_metrics(cfg.evaluation.metrics, len(opened.class_names))
    keep_freed_memory()
    set_tf32(cfg.model.tf32)
    cfg, more = with_max_epochs(cfg, opened.num_images["train"])
    guesses += [*measured, *more]
    cfg, found, sweep = _with_found(cfg, opened, before)
    found |= {guess.key: guess.value for guess in guesses}
    found |= {"data.channels": opened.channels, "data.bit_depth": opened.bit_depth}
    pl.seed_everything(cfg.seed, verbose=False)
    learner, datamodule = build_learner(cfg, opened, rank.rank, rank.world_size)
    _check_own_methods(cfg, learner)
    plan = plan_fit(cfg, rank, learner, datamodule)
    data = {"name": cfg.data.name, **opened.describe()}
    facts = resume_fingerprint(cfg, plan.precision, data)
    with _open_first(plan, facts, invocation) as (start, record):
        if start is not None and record is not None:
            save_yaml(cfg, start.folder / "config.yaml")
            record.update(data=data, model=plan.learner.describe(), **({"found": found} if found else {}))
            record.add_guesses([*guesses, *opened.guesses])
            code.save(record)
            if sweep is not None:
                save_sweep(start.folder, sweep, cfg.model.name)
            opened.save(start.folder)
        with processes.join(plan.device):
            start, record, trainer = _fit(plan, start, record, facts)
        metrics = finish(plan, opened, trainer, record) if rank.is_main else {}
        if rank.is_main:
            check_gates(metrics, cfg.evaluation.bounds(), cfg.evaluation.modes())
    return TrainResult(metrics, start.folder / BEST, start.folder)


def _with_devices(cfg: TrainConfig, invocation: Invocation) -> tuple[TrainConfig, Rank]:
    """The configuration with the number of devices in it, and which of the processes this one is.

    Raises: BadInput when the configuration, the environment and this number do not go together.
    """
    count = cfg.trainer.num_devices()
    if count is None:
        count = all_devices(cfg.trainer.accelerator, invocation.ranks)
        cfg = with_value(cfg, "trainer.devices", count)
    rank = rank_from_environment(count, cfg.trainer.num_nodes, invocation.ranks)
    check_processes(cfg, rank.world_size)
    if not rank.is_main:
        silence_other_ranks()
    return cfg, rank


def _say_which_precision(cfg: TrainConfig, invocation: Invocation) -> None:
    """A line where one was typed, and the other one may be meant."""
    typed = {key_of(word) for word in invocation.overrides}
    if "precision" in typed and "trainer.precision" not in typed:
        log.warning(
            "precision=%s: that is how the finished model is measured; the training's own is trainer.precision=%s",
            cfg.precision,
            cfg.trainer.precision,
        )


def _check_own_methods(cfg: TrainConfig, learner: "Learner") -> None:
    """Raises: BadInput for a method of own code that cannot explain what is trained."""
    if "explain" in cfg.stages and (own := cfg.explanation.own_methods()) and learner.not_measured is None:
        from sightline.explanation.own_method import check_own_methods

        check_own_methods(own, learner.module, learner.spec)


@contextmanager
def _open_first(
    plan: FitPlan, facts: dict[str, Any], invocation: Invocation
) -> Iterator[tuple[Start | None, RunRecord | None]]:
    """The first process's run and its record; the others get to know them when all meet."""
    if not plan.rank.is_main:
        yield None, None
        return
    from sightline.callbacks.checkpoint_files import drop_unneeded

    with open_run(plan.cfg, facts, invocation) as start:
        with _record(plan, start, invocation) as record:
            yield start, record
        drop_unneeded(start.folder / "checkpoints", plan.cfg.checkpoint.keep)


def _fit(
    plan: FitPlan, start: Start | None, record: RunRecord | None, facts: dict[str, Any]
) -> "tuple[Start, RunRecord, pl.Trainer]":
    """Fit together with the other processes, each of which gets the first one's start."""
    from sightline.distributed.agreement import of_the_first

    start = of_the_first(start)
    assert start is not None
    record = record or _record(plan, start, UNTOLD)
    trainer = run_fit(plan, start, record, facts)
    if not of_the_first((start.folder / BEST).is_file()):
        log.warning("training ended before its first validation: the last checkpoint stands in for the best")
        trainer.save_checkpoint(start.folder / BEST)
    return start, record, trainer


def _with_found(
    cfg: TrainConfig, opened: TrainingData, before: Mapping[str, Any]
) -> "tuple[TrainConfig, dict[str, Any], LrSweep | None]":
    """The configuration with what `auto` stands for, the same by key, and how a learning rate was found.

    A run that goes on keeps the rate that it had found `before`.
    """
    found, sweep = {}, None
    if cfg.data.batch_size == "auto":
        cfg = with_batch_size(cfg, opened)
        found["data.batch_size"] = cfg.data.batch_size
    if cfg.model.lr == "auto":
        earlier = before.get("model.lr")
        cfg, sweep = with_lr(cfg, opened) if earlier is None else (with_value(cfg, "model.lr", earlier), None)
        found["model.lr"] = cfg.model.lr
    return cfg, found, sweep


def _record(plan: FitPlan, start: Start, invocation: Invocation) -> RunRecord:
    cfg = plan.cfg
    happened = {name: start.earlier[name] for name in EVENTS if name in start.earlier}
    resumed = list(start.earlier.get("resumed", []))
    if start.earlier or start.checkpoint:
        changed = {"changed": {key: list(pair) for key, pair in start.changed.items()}} if start.changed else {}
        resumed.append({"from_step": start.step, "at": now(), **changed})
    return RunRecord(
        start.folder,
        invocation,
        earlier=start.earlier,
        writes=plan.rank.is_main,
        task="train",
        name=cfg.name,
        config=to_plain(cfg),
        seed=cfg.seed,
        precision=plan.precision,
        resumed=resumed,
        **happened,
    )
