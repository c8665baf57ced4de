"""The Hydra sweeper: the search space of a command and its configuration, checked before the first trial."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hydra.core.config_store import ConfigStore
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf

from sightline.sweeping.preloading import preloaded

log = logging.getLogger(__name__)


@dataclass
class SightlineSweeperConfig:
    _target_: str = "hydra_plugins.sightline_plugins.sweeper.SightlineSweeper"
    _recursive_: bool = False
    study_name: str | None = None  # names the folder runs/sweeps/<study_name>; null: data, model and space
    n_trials: int = 20  # finished ones, over all starts: complete, pruned and failed
    n_parallel: Any = "${oc.select:launch.n_parallel,1}"  # so many trials at once
    params: dict[str, Any] = field(default_factory=dict)  # key: {interval|range|choice: […], log, step, when}
    metrics: Any = None  # metric: maximize|minimize; null: optimized_metric, by its name
    sampler: Any = None  # any of Optuna's by _target_; null: TPE
    pruner: Any = None  # any of Optuna's by _target_; null: none
    enqueue: list[Any] = field(default_factory=list)  # points to try first
    warm_start: str | None = None  # begin with the best of this earlier study: its name or folder
    storage: str | None = None  # an SQL URL that several machines share; null: study.journal in the sweep's folder
    time_budget_minutes: float | None = None  # of this start; then the running trials stop, and can go on
    cost_budget_usd: float | None = None  # of the study, by the list price; the same follows
    max_failures: int | None = None  # so many failed trials end the sweep; null: no number does
    refit: bool = False  # at the end train the best on train + validation, with several seeds, and test it
    refit_seeds: int = 3
    allow_new_space: bool = False  # go on with a study whose space or settings were others
    backend: str = "${oc.select:launch.backend,local_process}"  # where trials run
    preload: list[str] = field(default_factory=preloaded)  # imported once for all trials; []: each anew


ConfigStore.instance().store(
    group="hydra/sweeper", name="sightline", node=SightlineSweeperConfig, provider="sightline_plugins"
)


class SightlineSweeper(Sweeper):
    """Turns `hydra.sweeper` into the settings of `sightline.sweeping`, which does the work."""

    config: Any

    def __init__(self, **said: Any) -> None:
        self.said: dict[str, Any] = {
            key: OmegaConf.to_container(value, resolve=True) if OmegaConf.is_config(value) else value
            for key, value in said.items()
        }

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        self.hydra_context, self.task_function, self.config = hydra_context, task_function, config

    def sweep(self, arguments: list[str]) -> Any:
        """Raises: BadInput, Interrupted; RuntimeError when too many trials failed, or all of them."""
        from hydra.core.utils import configure_log

        from hydra_plugins.sightline_plugins.command_line import split_overrides, typed_keys, whole_nodes
        from hydra_plugins.sightline_plugins.composition import (
            check,
            check_prerequisites,
            composed_values,
            refuse_idle,
        )
        from sightline.command import invocation
        from sightline.config import is_own, validate_choice
        from sightline.launch.submission import print_plans
        from sightline.metrics import FINAL_METRICS
        from sightline.runs.guesses import announce
        from sightline.sweeping.refit import REFIT_OVERRIDES
        from sightline.sweeping.space import to_overrides
        from sightline.sweeping.sweep import conclude, first_job, sweep

        configure_log(self.config.hydra.job_logging, self.config.hydra.verbose)
        announce(invocation().guesses)
        searched, fixed = split_overrides(arguments)
        self.said |= whole_nodes(self.config.hydra.overrides.hydra, ("sampler", "pruner", "metrics", "params"))
        assert self.hydra_context is not None
        space = self._space(searched, typed_keys(fixed))
        first = check(self.hydra_context, self.config, [*fixed, *to_overrides(next(space.corners()))])
        self.said["study_name"] = self.said["study_name"] or self._name_study(first, space, typed_keys(fixed))
        submission = self._open_submission()
        settings = self._settings(space, fixed, submission)
        if "optimized_metric" in self.config and not is_own(self.config.module):  # which logs what it likes
            own = first.evaluation.metrics if "evaluation" in first else {}
            known = (*FINAL_METRICS, *(f"val/{name}" for name in own))
            for metric in settings.metrics:
                validate_choice("hydra.sweeper.metrics", metric, known)

        def check_trial(overrides: list[str]) -> tuple[DictConfig, list[str]]:
            assert self.hydra_context is not None
            words = [*fixed, *overrides[len(settings.fixed) :]]
            cfg = check(self.hydra_context, self.config, words)
            submission.overrides(overrides, composed_values(cfg), Path(cfg.paths.runs).absolute())
            check_prerequisites(cfg, submission)
            return cfg, words

        refuse_idle(check_trial(settings.overrides(point)) for point in settings.space.corners())
        if settings.refit:
            check_trial([*settings.overrides(next(settings.space.corners())), *REFIT_OVERRIDES])
        if submission.settings.dry_run:
            return print_plans([submission.plan(first_job(settings))])
        with submission.command_to_go_on():
            results = sweep(settings, submission.backend, check_trial)
        conclude(results, settings.folder)
        return results

    def _open_submission(self) -> Any:
        """The backend of the trials; without `launch.backend`, processes of this machine.

        Raises: BadInput for settings that are missing, or for code that no commit has.
        """
        from sightline.command import invocation
        from sightline.config import to_plain
        from sightline.launch.submission import Submission

        named = OmegaConf.select(self.config, "launch.backend")
        launch = {} if named is None else to_plain(self.config.launch)
        n_parallel = max(1, self.said["n_parallel"])  # the settings of the sweep say what is wrong with it
        said = {**launch, "backend": self.said["backend"], "n_parallel": n_parallel, "preload": self.said["preload"]}
        return Submission.open(said, self._folder(), invocation())

    def _folder(self) -> Path:
        return Path(self.config.paths.runs).absolute() / "sweeps" / self.said["study_name"]

    def _space(self, searched: Mapping[str, Any], typed: Mapping[str, str]) -> Any:
        """What is searched: the keys of the file and of the command line, without those that are typed with one value.

        Raises: BadInput for a key that is typed with one value and with several, or when nothing is left.
        """
        from sightline.sweeping.space import parse_space
        from sightline.sweeping.typed_keys import find_fixed

        params, choices = self.said["params"] | searched, self.config.hydra.runtime.choices
        network = OmegaConf.select(self.config, "model._target_")
        if network is not None and "model.name" not in searched and params.pop("model.name", None) is not None:
            log.info("model.name is not searched: the network is %s", network)
        fixed = find_fixed(params, searched, typed)
        return parse_space(params, {key: choices.get(key, OmegaConf.select(self.config, key)) for key in fixed})

    def _name_study(self, cfg: DictConfig, space: Any, typed: Mapping[str, str]) -> str:
        """By data, model and space; without the model where models are searched, or a name is typed for both."""
        from sightline.config import is_own
        from sightline.runs.override_text import key_of
        from sightline.sweeping.typed_keys import name_study

        choices, model = self.config.hydra.runtime.choices, None
        if "module" in cfg and is_own(cfg.module):
            model = cfg.module._target_.rpartition(".")[2]
        elif "model" in cfg and "name" not in typed and not {"model", "model.name"} & {*space.keys}:
            is_by_name = key_of(typed.get("model.name", "")) == "model.name" or choices.get("model") == "default"
            model = cfg.model.name if is_by_name else choices.get("model")
        return name_study(cfg.get("name") or cfg.data.name, model, choices.get("hparams_search"))

    def _settings(self, space: Any, fixed: Sequence[str], submission: Any) -> Any:
        from hydra_plugins.sightline_plugins.command_line import typed_keys
        from hydra_plugins.sightline_plugins.composition import composed_values, own_modes
        from sightline.errors import BadInput
        from sightline.launch.overrides import without_submitter
        from sightline.runs.override_text import key_of
        from sightline.sweeping.settings import Settings, direction_of
        from sightline.sweeping.typed_keys import refuse_unused

        said, cfg = self.said, self.config
        waits = OmegaConf.select(cfg, "launch.wait", default=True)
        typed = typed_keys([*fixed, *cfg.hydra.overrides.hydra])
        refuse_unused(typed, waits=waits, names_metrics=bool(said["metrics"]), refits=said["refit"])
        given = [each for each in without_submitter(fixed) if key_of(each) not in ("output", "stages")]
        given = submission.overrides(given, composed_values(cfg), Path(cfg.paths.runs).absolute())
        choices = cfg.hydra.runtime.choices
        known = "n_trials n_parallel storage sampler pruner enqueue warm_start time_budget_minutes max_failures".split()
        known += ["cost_budget_usd", "allow_new_space", "refit", "refit_seeds"]
        if said["refit"] and "stages" not in cfg:
            raise BadInput("hydra.sweeper.refit=true: this program has no stages to test in; set it to false")
        return Settings(
            name=said["study_name"],
            folder=self._folder(),
            script=submission.program,
            fixed=(*given, *(["stages=[fit]"] if "stages" in cfg else [])),
            space=space,
            metrics=said["metrics"] or {cfg.optimized_metric: direction_of(cfg.optimized_metric, own_modes(cfg))},
            commit=submission.commit,
            experiment=choices.get("experiment"),
            groups=frozenset(key for key in choices if not key.startswith("hydra/")),
            runs=Path(cfg.paths.runs).absolute(),
            **{key: said[key] for key in known},
        )
