"""Sightline: image-classification research with Lightning and Hydra.

`FinishedRun`, `train`, `evaluate`, `explain`, `open_data` and `pipeline` are for notebooks and programs:
docs/python.md.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sightline.data.training_data import TrainingData
    from sightline.evaluation.evaluate import EvaluateResult
    from sightline.explanation.explain import ExplainResult
    from sightline.finished_run import FinishedRun
    from sightline.training.train import TrainResult

__all__ = ["FinishedRun", "evaluate", "explain", "open_data", "pipeline", "train"]


def __getattr__(name: str) -> Any:
    if name != "FinishedRun":
        raise AttributeError(f"module 'sightline' has no attribute '{name}'")
    from sightline.finished_run import FinishedRun

    return FinishedRun


def train(experiment: str | None = None, overrides: Sequence[str] = ()) -> "TrainResult":
    """`python src/train.py experiment=… override …`, here in this process: `metrics`, `checkpoint` and `run_dir`.

    Without an experiment it is `digits`, or with `resume=RUN` that of the run.

    Raises: BadInput, or Hydra's own error for a key that there is not, before anything is written.
    """
    from sightline.command import Invocation, compose, read_overrides, with_settings_of_run
    from sightline.config import check_overrides, validate
    from sightline.runs.guesses import announce
    from sightline.training.train import train

    given = [f"experiment={experiment}", *overrides] if experiment else overrides
    read, guesses = read_overrides("train", given)
    announce(guesses)
    composed, invocation = with_settings_of_run(
        compose("train", read), Invocation(overrides=tuple(read), guesses=tuple(guesses))
    )
    cfg = validate(composed)
    check_overrides(cfg, read)
    return train(cfg, invocation)


def evaluate(run: "str | Path | FinishedRun", overrides: Sequence[str] = ()) -> "EvaluateResult":
    """`python src/evaluate.py run=… override …`, here in this process: `metrics` and `run_dir`.

    Raises: BadInput before anything is written; GateNotMet when everything is.
    """
    from sightline.evaluation.evaluate import evaluate

    return evaluate(_compose_for(run, "evaluate", overrides))


def explain(run: "str | Path | FinishedRun", overrides: Sequence[str] = ()) -> "ExplainResult":
    """`python src/explain.py run=… override …`, here in this process: `metrics`, `unreadable` and `run_dir`.

    Raises: BadInput before anything is written.
    """
    from sightline.explanation.explain import explain

    return explain(_compose_for(run, "explain", overrides))


def open_data(data: str = "folder", root: str | Path | None = None, overrides: Sequence[str] = ()) -> "TrainingData":
    """The images of `data=NAME`, or of a folder, split and audited as for training.

    Raises: BadInput when there are none, or they are not fit to train on.
    """
    from sightline.command import compose, read_overrides
    from sightline.config import validate
    from sightline.data.opening import open_data

    cfg = compose("train", read_overrides("train", [f"data={data}", *overrides])[0])
    if root is not None:
        cfg.data.root = str(root)
    return open_data(validate(cfg))


def _compose_for(run: "str | Path | FinishedRun", task: str, overrides: Sequence[str]) -> Any:
    from sightline.command import compose, read_overrides
    from sightline.config import TASKS, check_overrides, validate_task

    cfg = compose(task, read_overrides(task, overrides)[0])
    cfg.run = str(run if isinstance(run, str | Path) else run.path)
    cfg = validate_task(cfg, TASKS[task])
    check_overrides(cfg, overrides)
    return cfg


def pipeline(experiment: str | None = None, overrides: Sequence[str] = ()) -> dict[str, Any]:
    """`python src/pipeline.py definition experiment=… override …`: SageMaker's definition, as a dictionary.

    Raises: BadInput, or Hydra's own error for a key that there is not; nothing is written or sent.
    """
    from sightline.pipeline.definition import define

    return define(experiment, overrides)
