"""TensorBoard's table of hyperparameters over all trials of a sweep."""

import os
import shutil
from typing import TYPE_CHECKING, Any

from sightline.sweeping.settings import Settings
from sightline.sweeping.study import is_counted

if TYPE_CHECKING:
    import optuna


def write_hyperparameter_table(study: "optuna.Study", settings: Settings) -> None:
    """Write `tensorboard/<trial>/` anew: parameters and final metrics. Does not need torch."""
    from tensorboard.compat.proto.event_pb2 import Event  # pyright: ignore[reportAttributeAccessIssue]
    from tensorboard.compat.proto.summary_pb2 import Summary  # pyright: ignore[reportAttributeAccessIssue]
    from tensorboard.plugins.hparams.summary_v2 import hparams_pb
    from tensorboard.summary.writer.event_file_writer import EventFileWriter

    folder = settings.folder / f".tensorboard-{os.getpid()}"
    for trial in study.get_trials(deepcopy=False):
        if not is_counted(trial) or not trial.values:
            continue
        begun = trial.datetime_start.timestamp() if trial.datetime_start else 0.0
        writer = EventFileWriter(str(folder / str(trial.number)))
        params = {key: _plain(value) for key, value in trial.params.items()}
        table = hparams_pb(params, trial_id=str(trial.number), start_time_secs=begun)
        writer.add_event(Event(summary=table, wall_time=begun))
        for metric, value in zip(settings.metrics, trial.values, strict=False):
            point = Summary(value=[Summary.Value(tag=metric, simple_value=value)])
            writer.add_event(Event(summary=point, step=trial.number, wall_time=begun))
        writer.close()
    whole = settings.folder / "tensorboard"
    shutil.rmtree(whole, ignore_errors=True)
    try:
        folder.replace(whole)
    except OSError:  # nothing to show, or another sweep of this study was faster
        shutil.rmtree(folder, ignore_errors=True)


def _plain(value: Any) -> bool | float | str:
    return value if isinstance(value, bool | int | float) else str(value)
