"""Hydra's door to the sweeping room: the space of a command and its configuration, checked first."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from hydra.core.config_store import ConfigStore
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf

log = logging.getLogger(__name__)
PRELOADED = (
    "torch torchvision timm torchmetrics pytorch_lightning albumentations tensorboard sklearn.metrics filelock "
    "matplotlib.pyplot torch.utils.tensorboard sightline.command sightline.training.train sightline.models.classifier "
    "sightline.models.losses sightline.models.views sightline.models.checkpoint sightline.training.batch_size "
    "torch.utils.serialization.config sightline.data.datamodule sightline.data.audit.report "
    "sightline.data.datasets sightline.data.samplers sightline.evaluation.measurement sightline.evaluation.robustness "
    "sightline.callbacks.resumable sightline.callbacks.rollback sightline.callbacks.best_checkpoints "
    "sightline.callbacks.gradual_unfreezing sightline.callbacks.progressive_resizing sightline.callbacks.weight_ema "
    "sightline.callbacks.epoch_table sightline.callbacks.plain_progress sightline.callbacks.tensorboard_images "
    "sightline.callbacks.log_continuation sightline.callbacks.throughput sightline.training.checkpoint_averaging"
).split()
"""What a training imports."""
IF_INSTALLED = ("s3fs",)
"""What Lightning imports when it writes a checkpoint, where it is there."""


def preloaded() -> list[str]:
    return [*PRELOADED, *(name for name in IF_INSTALLED if find_spec(name))]


@dataclass
class SightlineSweeperConfig:
    _target_: str = "hydra_plugins.sightline_plugins.sweeper.SightlineSweeper"
    _recursive_: bool = False
    study_name: str = "${name}"  # names the folder runs/sweeps/<study_name>
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
    """Takes what `hydra.sweeper` says; `sightline.sweeping` does the work."""

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

        from hydra_plugins.sightline_plugins.composition import check, command_to_go_on
        from hydra_plugins.sightline_plugins.words import split_words, whole_nodes
        from sightline.config import validate_choice
        from sightline.launch.backend import Slots, make_backend
        from sightline.metrics import FINAL_METRICS
        from sightline.sweeping.sweep import sweep

        configure_log(self.config.hydra.job_logging, self.config.hydra.verbose)
        searched, words = split_words(arguments)
        self.said |= whole_nodes(self.config.hydra.overrides.hydra, ("sampler", "pruner", "metrics", "params"))
        launch = self._launch()
        settings = self._settings(searched, words, launch)
        if "optimized_metric" in self.config:
            for metric in settings.metrics:
                validate_choice("hydra.sweeper.metrics", metric, FINAL_METRICS)
        places = Slots(settings.n_parallel, self.said["preload"])
        backend = make_backend(self.said["backend"], settings.folder, places, launch)

        def check_trial(overrides: list[str]) -> None:
            from hydra_plugins.sightline_plugins.places import check_hosts

            assert self.hydra_context is not None
            cfg = check(self.hydra_context, self.config, [*words, *overrides[len(settings.fixed) :]])
            check_hosts(cfg, launch or {})

        for point in settings.space.corners():
            check_trial(settings.overrides(point))
        if (launch or {}).get("dry_run"):
            return _print_first(settings, backend)
        with command_to_go_on():
            results = sweep(settings, backend, check_trial)
        _conclude(results, settings.folder)
        return results

    def _launch(self) -> dict[str, Any] | None:
        """The settings of the place where trials run, where it has some.

        Raises: BadInput for those that are missing, or for code that no commit has.
        """
        from hydra_plugins.sightline_plugins.places import changes_of_source, check_launch, launch_settings

        if OmegaConf.select(self.config, "launch.backend") is None:
            return None
        settings = check_launch(launch_settings(self.config))
        changes_of_source(settings)
        return settings

    def _settings(self, searched: dict[str, Any], words: Sequence[str], launch: dict[str, Any] | None) -> Any:
        from hydra_plugins.sightline_plugins.composition import script
        from hydra_plugins.sightline_plugins.places import REMOTE, remote_overrides
        from sightline.errors import BadInput
        from sightline.launch.job import STAYS_HERE, key_of, with_absolute_paths
        from sightline.runs.record import git_commit
        from sightline.sweeping.settings import Settings, direction_of
        from sightline.sweeping.space import parse_space

        said, cfg = self.said, self.config
        here = Path.cwd()
        given = [word for word in words if key_of(word).split(".")[0] not in (*STAYS_HERE, "output", "stages")]
        if said["backend"] in REMOTE:
            given = remote_overrides(given, cfg, launch or {})
        else:
            given = with_absolute_paths(given, here)
        fixed = [*given, *(["stages=[fit]"] if "stages" in cfg else [])]
        values = {key_of(word): word.partition("=")[2] for word in words}
        choices = cfg.hydra.runtime.choices
        metrics = said["metrics"] or {cfg.optimized_metric: direction_of(cfg.optimized_metric)}
        known = "n_trials n_parallel storage sampler pruner enqueue warm_start time_budget_minutes max_failures".split()
        known += ["cost_budget_usd", "allow_new_space", "refit", "refit_seeds"]
        if said["refit"] and "stages" not in cfg:
            raise BadInput("hydra.sweeper.refit=true: this program has no stages to test in; set it to false")
        return Settings(
            name=said["study_name"],
            folder=Path(cfg.paths.runs).absolute() / "sweeps" / said["study_name"],
            script=script(),
            fixed=tuple(fixed),
            space=parse_space(said["params"] | searched, {k: v for k, v in values.items() if k not in searched}),
            metrics=metrics,
            commit=git_commit(Path(__file__).parent)[0],
            experiment=choices.get("experiment"),
            groups=frozenset(key for key in choices if not key.startswith("hydra/")),
            **{key: said[key] for key in known},
        )


def _print_first(settings: Any, backend: Any) -> None:
    """The request of a trial at one corner of the space; which points follow is the sampler's to say."""
    import json

    from sightline.launch.job import Job, job_name

    words = (*settings.overrides(next(settings.space.corners())), f"output={settings.run_folder(0)}")
    job = Job(job_name(settings.name, "0"), settings.script, words, settings.commit)
    print(json.dumps(backend.plan(job), indent=2, ensure_ascii=False))


def _conclude(results: dict[str, Any], folder: Path) -> None:
    """Say what came out, and raise what a command must fail for."""
    from sightline.metrics import REFIT_TABLE
    from sightline.sweeping.refit import describe_spread

    counts = results["num_trials"]
    counted = ", ".join(f"{count} {state}" for state, count in counts.items())
    if results["ended_by"] == "failures":
        raise RuntimeError(f"hydra.sweeper.max_failures is reached ({counted}): the reasons are in {folder}/trials.csv")
    if results["best_params"] is None and results["ended_by"] == "finished":
        raise RuntimeError(f"no trial came to an end ({counted}): the reasons are in {folder}/trials.csv")
    if results["ended_by"] != "finished":
        how = "the same command goes on" if results["ended_by"] == "time budget" else "with a higher one it goes on"
        log.warning("the %s is spent: %s; %s", results["ended_by"], counted, how)
    print(f"trials: {counted}")
    if results["best_params"] is not None:
        words = " ".join(f"{key}={value}" for key, value in results["best_params"].items())
        print(f"best: trial {results['best_trial']}, {results['best_value']}: {words}")
    for name, values in results.get("refit", {}).get("metrics", {}).items():
        if name in REFIT_TABLE:
            print(f"{name}: {describe_spread(values)}")
    print(f"results: {folder}")
