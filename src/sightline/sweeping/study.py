"""The Optuna study of a sweep: opened or gone on with, with its sampler, pruner and first points."""

import itertools
import logging
import math
import time
import warnings
import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sightline.errors import BadInput
from sightline.sweeping.settings import Settings
from sightline.sweeping.space import Space, describe_difference

if TYPE_CHECKING:
    import optuna

log = logging.getLogger(__name__)
JOURNAL = "study.journal"
DESCRIPTION = "sweep"
RETIRED, REASON, LOG_TAIL, REUSED, OVERRIDES, OWNER, JOB, PRUNED_AT, COST = (
    "retired reason log_tail reused overrides owner job_id pruned_at cost_usd".split()
)
"""Names of the user attributes of trials."""
MAX_OPENINGS = 5
MAX_FROM_BEFORE = 5
"""Points that `warm_start` takes of an earlier Pareto front."""


def open_study(settings: Settings) -> "optuna.Study":
    """The study that these settings describe: a new one, or the one that began with them.

    Raises: BadInput when the stored one searches something else, or when a part of it cannot be made.
    """
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)
    sampler = make_sampler(settings, 0)  # before anything is written
    pruner = make_pruner(settings)
    points = [settings.space.encode(point) for point in [*settings.enqueue, *_points_from_before(settings)]]
    study = optuna.create_study(
        study_name=settings.name,
        storage=_open_storage(settings.storage, settings.folder / JOURNAL),
        directions=[optuna.study.StudyDirection[direction.upper()] for direction in settings.metrics.values()],
        sampler=sampler,
        pruner=pruner,
        load_if_exists=True,
    )
    _compare(study, settings)
    settings.folder.mkdir(parents=True, exist_ok=True)
    study.set_metric_names(list(settings.metrics))
    for point in points:
        study.enqueue_trial(point, skip_if_exists=True)
    return study


def _open_storage(storage: str | None, journal: Path) -> Any:
    """Optuna's storage: a journal file, or the database of an URL."""
    if storage is None:
        from sightline.sweeping.journal import open_journal

        journal.parent.mkdir(parents=True, exist_ok=True)
        return open_journal(journal)
    import optuna
    from sqlalchemy.exc import IntegrityError, SQLAlchemyError

    for attempt in range(MAX_OPENINGS):
        try:
            return optuna.storages.RDBStorage(storage)
        except (ImportError, SQLAlchemyError, ValueError) as error:
            cause = str(error).splitlines()[0]
            # another sweep makes the tables, or their first rows, at this moment
            is_beginning = isinstance(error, IntegrityError) or "already exists" in cause or "is locked" in cause
            if not is_beginning or attempt == MAX_OPENINGS - 1:
                raise BadInput(f"hydra.sweeper.storage={storage}: {cause}; give an SQL URL, or null") from error
            time.sleep(1.0)
    raise AssertionError


def _compare(study: "optuna.Study", settings: Settings) -> None:
    """Raises: BadInput when the study was made with other metrics, settings or another space."""
    before, now = study.user_attrs.get(DESCRIPTION), settings.describe()
    where = f"hydra.sweeper.study_name={settings.name}: the earlier sweep of this name"
    another = f"to begin another sweep add hydra.sweeper.study_name={_unused_name(settings)}"
    if before is not None and before["metrics"] != now["metrics"]:
        raise BadInput(f"{where} optimises {before['metrics']}, not {now['metrics']}; {another}")
    if before is not None and before != now:
        lines = [line for part in ("space", "settings") for line in describe_difference(before[part], now[part])]
        if not settings.allow_new_space:
            raise BadInput(
                f"{where} searched another space or had other settings: {'; '.join(lines)}. Type what it had to go on "
                f"with it; {another}; to go on with it in the new space add hydra.sweeper.allow_new_space=true"
            )
        _check_kinds(study, settings)
        log.warning("%s goes on with another space: %s", settings.name, "; ".join(lines))
    if before != now:
        study.set_user_attr(DESCRIPTION, now)


def _unused_name(settings: Settings) -> str:
    """The name with a number behind it that no sweep has yet."""
    numbered = (f"{settings.name}-{number}" for number in itertools.count(2))
    return next(name for name in numbered if not settings.folder.with_name(name).exists())


def _check_kinds(study: "optuna.Study", settings: Settings) -> None:
    """Raises: BadInput for a change of a parameter that Optuna does not take within a study."""
    from optuna.distributions import check_distribution_compatibility

    known = {key: kind for trial in study.get_trials(deepcopy=False) for key, kind in trial.distributions.items()}
    for parameter in settings.space.parameters:
        if parameter.key not in known:
            continue
        try:
            check_distribution_compatibility(known[parameter.key], parameter.distribution())
        except ValueError as error:
            raise BadInput(
                f"hydra.sweeper.params.{parameter.key}: within a study the limits of a parameter may change, its kind, "
                f"scale and choices may not ({error}); begin another one with the best of this: "
                f"hydra.sweeper.study_name=NAME hydra.sweeper.warm_start={settings.name}"
            ) from error


def make_sampler(settings: Settings, num_trials: int, salt: str = "") -> "optuna.samplers.BaseSampler":
    """The sampler; its seed changes with the number of trials, or a resumed study would repeat its first points.

    `salt` makes seeds of sweeps that resume at the same moment differ.
    """
    import optuna

    if settings.sampler is None:
        return optuna.samplers.TPESampler()
    node = dict(settings.sampler)
    if num_trials and isinstance(node.get("seed"), int):
        node["seed"] = (node["seed"] + 7919 * num_trials + zlib.crc32(salt.encode())) % 2**32
    if is_grid(settings) and "search_space" not in node:
        node["search_space"] = {parameter.key: parameter.grid() for parameter in settings.space.parameters}
        return _grid_sampler(node)
    return _build(node, "sampler", optuna.samplers.BaseSampler)


def is_grid(settings: Settings) -> bool:
    return str((settings.sampler or {}).get("_target_")).endswith(".GridSampler")


def grid_size(space: Space) -> int:
    return math.prod(len(parameter.grid()) for parameter in space.parameters)


def _grid_sampler(node: dict[str, Any]) -> "optuna.samplers.BaseSampler":
    import optuna

    arguments = {key: value for key, value in node.items() if key not in ("_target_", "search_space")}
    try:
        return optuna.samplers.GridSampler(node["search_space"], **arguments)
    except TypeError as error:
        raise BadInput(f"hydra.sweeper.sampler: {error}; change or remove that argument") from error


def make_pruner(settings: Settings) -> "optuna.pruners.BasePruner":
    import optuna

    if settings.pruner is None:
        return optuna.pruners.NopPruner()
    return _build(dict(settings.pruner), "pruner", optuna.pruners.BasePruner)


def _build(node: Mapping[str, Any], what: str, kind: type) -> Any:
    """An object of Optuna's from its `_target_`.

    Raises: BadInput for a target outside Optuna, one that does not exist, or arguments it does not take.
    """
    from hydra.errors import HydraException
    from hydra.utils import instantiate

    key = f"hydra.sweeper.{what}"
    for target in _targets(node):
        if target.split(".")[0] != "optuna":
            raise BadInput(f"{key}: _target_={target}: must come from optuna, like optuna.{what}s.…")
    try:
        made = instantiate(dict(node), _convert_="all")
    except (HydraException, ImportError, TypeError, ValueError) as error:
        cause = str(error.__cause__ or error).splitlines()[0]
        raise BadInput(
            f"{key} ({node.get('_target_')}): {cause}; change or remove that argument, or write all of it anew: "
            f"{key}={{_target_:{node.get('_target_')}}}"
        ) from error
    if not isinstance(made, kind):
        raise BadInput(f"{key}: _target_={node.get('_target_')}: is no {what}; see optuna.{what}s")
    return made


def _targets(node: Any) -> Iterable[str]:
    if isinstance(node, Mapping):
        yield from (str(value) for key, value in node.items() if key == "_target_")
        for value in node.values():
            yield from _targets(value)


def _points_from_before(settings: Settings) -> list[dict[str, Any]]:
    """The best of an earlier study, as far as this space searches it.

    Raises: BadInput when there is no such study, nothing finished in it, or its best lies outside this space.
    """
    if settings.warm_start is None:
        return []
    import optuna

    given = Path(settings.warm_start).expanduser()
    folder = next((each for each in (given, settings.folder.parent / given) if (each / JOURNAL).is_file()), None)
    where = f"hydra.sweeper.warm_start={settings.warm_start}"
    if folder is None:
        raise BadInput(f"{where}: no such study (looked here and in {settings.folder.parent} for {JOURNAL})")
    storage = _open_storage(None, folder / JOURNAL)
    earlier = optuna.load_study(study_name=optuna.get_all_study_names(storage)[0], storage=storage)
    if not (best := best_trials(earlier)):
        raise BadInput(f"{where}: no trial of it is complete; drop warm_start")
    points = []
    for trial in best[:MAX_FROM_BEFORE]:
        known = {key: value for key, value in trial.params.items() if key in settings.space.keys}
        if not known:
            raise BadInput(f"{where}: it searched {', '.join(trial.params)}, and none of them is searched here")
        points.append(settings.space.decode(known))
        settings.space.check(points[-1], where)
    return points


def best_trials(study: "optuna.Study") -> list["optuna.trial.FrozenTrial"]:
    """The best complete trial, or with several metrics all that no other one beats; the earliest of equals."""
    import optuna

    if not study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.COMPLETE,)):
        return []
    return [study.best_trial] if len(study.directions) == 1 else list(study.best_trials)


def is_counted(trial: "optuna.trial.FrozenTrial") -> bool:
    """Whether a trial is one of `n_trials`: finished, and not given up because its sweep died or changed."""
    return trial.state.is_finished() and not trial.user_attrs.get(RETIRED)
