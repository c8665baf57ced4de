"""The configuration of train.py and find_lr.py, and the rules that hold across its sections."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sightline.config.constraints import Needs, key
from sightline.config.instantiation import check_targets
from sightline.config.schema.augmentation import AugmentationConfig
from sightline.config.schema.data import NOT_FILES, DataConfig, PathsConfig
from sightline.config.schema.evaluation import EvaluationConfig
from sightline.config.schema.explanation import ExplanationConfig
from sightline.config.schema.model import ModelConfig
from sightline.config.schema.own_code import (
    CODE_SHA256,
    DATAMODULE,
    EXTENSIONS,
    MODULE,
    OUR_DATA,
    OUR_IMAGES,
    OUR_MODULE,
    TRUST_CODE,
    check_own_code,
    is_own,
)
from sightline.config.schema.trainer import (
    STRATEGIES,
    CheckpointConfig,
    DivergenceConfig,
    LrFinderConfig,
    TrainerConfig,
)
from sightline.errors import BadInput
from sightline.metrics import FINAL_METRICS, mode_of
from sightline.task_spec import VIEWS

STAGES = ("fit", "test", "explain")
EXPLAINED = Needs("explain in stages", lambda cfg: "explain" in cfg.stages, may_stay=True)
IMAGES = Needs("another data.source than synthetic", lambda cfg: cfg.data.source != "synthetic", may_stay=True)
OF_IMAGES = (IMAGES, OUR_IMAGES)


@dataclass
class TrainConfig:
    """A training run."""

    name: str = key(
        "${data.name}",
        "of the experiment: names the run folder",
        pattern=r"[\w.-]+",
        hint="names a folder, so use letters, digits, '.', '_' and '-' alone",
    )
    seed: int = key(0, "of weights, order and augmentation", minimum=0)
    stages: list[str] = key(list(STAGES), "what is done, from the fit on", choices=STAGES)
    optimized_metric: str = key(
        "val/accuracy", f"what a sweep looks at: {', '.join(FINAL_METRICS)}, or of evaluation.metrics", chooses=True
    )
    test_time_augmentation: str = key(
        "none", "answers are averages over views: flip, shifts, zooms, flip_and_…", choices=VIEWS
    )
    output: str | None = key(None, "the run folder itself, instead of a new one below paths.runs", path="stays")
    resume: str | None = key(
        "auto", "go on with the run in output; or with this run folder or checkpoint; null: never", path="run"
    )
    extensions: str | None = key(None, EXTENSIONS, path="path")
    trust_code: bool = key(False, TRUST_CODE)
    code_sha256: dict[str, str] = key({}, CODE_SHA256)
    paths: PathsConfig = field(default_factory=PathsConfig)
    module: dict[str, Any] = key({"_target_": None}, MODULE, open=True)
    datamodule: dict[str, Any] = key({"_target_": None}, DATAMODULE, open=True)
    data: DataConfig = field(default_factory=DataConfig, metadata={"needs": OUR_DATA})
    model: ModelConfig = field(default_factory=ModelConfig, metadata={"needs": OUR_MODULE})
    augmentation: AugmentationConfig = field(default_factory=AugmentationConfig, metadata={"needs": OF_IMAGES})
    trainer: TrainerConfig = field(default_factory=TrainerConfig)
    checkpoint: CheckpointConfig = field(default_factory=CheckpointConfig)
    divergence: DivergenceConfig = field(default_factory=DivergenceConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    explanation: ExplanationConfig = field(default_factory=ExplanationConfig, metadata={"needs": EXPLAINED})
    callbacks: dict[str, Any] = key(
        {},
        "Lightning callbacks beyond the ones every run has",
        needs=Needs(
            "trainer.max_epochs above its patience (early stopping)", lambda cfg: cfg.can_stop_early(), may_stay=True
        ),
    )
    logger: dict[str, Any] = key({}, "Lightning loggers")
    launch: dict[str, Any] = key({}, "where the run is started; empty where it runs")

    def check(self) -> None:
        if "fit" not in self.stages:
            raise BadInput(
                f"stages={self.stages}: there is no model without fit; measure an existing run with evaluate.py run=RUN"
            )
        if self.seed >= 2**32:
            raise BadInput(f"seed={self.seed}: must be below 2**32")
        if (count := self.trainer.num_devices()) is not None:
            check_processes(self, count * self.trainer.num_nodes)
        check_own_code(self)
        _check_classes(self)
        _check_with_validation(self)
        _check_device_cache(self)
        _check_growing_images(self)
        _check_plateau(self)
        _check_gates(self)
        check_views(self.test_time_augmentation, self.data.orientation_matters)
        check_targets(self.callbacks, "callbacks")
        check_targets(self.logger, "logger")
        self.evaluation.check_splits(("test", "val"))

    def can_stop_early(self) -> bool:
        """Whether early stopping, where there is one, can have more validations than it waits for."""
        trainer = self.trainer
        if not isinstance(trainer.max_epochs, int) or trainer.max_epochs < 1 or trainer.val_check_interval is not None:
            return True
        num_validations = trainer.max_epochs // (trainer.check_val_every_n_epoch or 1)
        nodes = [each for each in self.callbacks.values() if each and _is_early_stopping(each)]
        return all(each.get("patience", 3) < num_validations for each in nodes)


@dataclass
class FindLrConfig(TrainConfig):
    """A training run of which only the learning rate is sought."""

    lr_finder: LrFinderConfig = field(default_factory=LrFinderConfig)

    def check(self) -> None:
        super().check()
        if is_own(self.module):
            raise BadInput("module: find_lr.py sweeps our own training step; try train.py -m model.lr=0.01,0.001")


def check_views(kind: str, orientation_matters: bool) -> None:
    """Raises: BadInput for views that would change a class."""
    if "flip" in kind and orientation_matters:
        raise BadInput(
            f"test_time_augmentation={kind}: a mirror image has another class, as data.orientation_matters=true says; "
            "use shifts, zooms or none"
        )


def check_processes(cfg: TrainConfig, world_size: int) -> None:
    """Check what so many processes can do together.

    Raises: BadInput with the key, the value and the change to make.
    """
    if world_size == 1:
        return
    trainer, size, together = cfg.trainer, cfg.data.batch_size, f"with {world_size} devices"
    if not isinstance(trainer.strategy, dict) and trainer.strategy not in STRATEGIES:
        raise BadInput(f"trainer.strategy={trainer.strategy}: {together} must be one of {', '.join(STRATEGIES)}")
    if isinstance(size, str):
        raise BadInput(
            f"data.batch_size=auto: not {together}; look for it with trainer.devices=1, and multiply it by {world_size}"
        )
    if size % world_size:
        raise BadInput(
            f"data.batch_size={size}: is of all devices together and must be a multiple of {world_size}, like "
            f"data.batch_size={max(1, round(size / world_size)) * world_size}"
        )
    for name, value, is_set, usual in (
        ("model.lr", cfg.model.lr, cfg.model.lr == "auto", "a number (see find_lr.py)"),
        ("model.freeze", cfg.model.freeze, cfg.model.freeze == "gradual", "backbone"),
        ("data.device_cache", cfg.data.device_cache, cfg.data.device_cache, "false"),
        ("trainer.overfit_batches", trainer.overfit_batches, trainer.overfit_batches, "0"),
    ):
        if is_set:
            raise BadInput(f"{name}={value}: not {together}; set trainer.devices=1, or {name}={usual}")
    if trainer.sync_batchnorm and trainer.accelerator == "cpu":
        raise BadInput("trainer.sync_batchnorm=true: needs GPUs; set it to false, or choose a model without batch norm")


def _check_classes(cfg: TrainConfig) -> None:
    """Balancing needs classes, and an order that is ours."""
    model, data = cfg.model, cfg.data
    for name, value, off in (
        ("data.sampler", data.sampler, "shuffled"),
        ("model.class_weights", model.class_weights, "none"),
    ):
        if value != off and data.source == "synthetic":
            raise BadInput(f"{name}={value}: random pixels have no classes to balance; set {name}={off}")
    if data.sampler != "shuffled" and data.source == "shards":
        raise BadInput(
            f"data.sampler={data.sampler}: shards have an order of their own; set model.class_weights=balanced instead"
        )


def _check_with_validation(cfg: TrainConfig) -> None:
    if not cfg.data.with_validation:
        return
    if cfg.data.source in NOT_FILES:
        raise BadInput(f"data.with_validation=true data.source={cfg.data.source}: needs images as files")
    if cfg.checkpoint.average_best > 1:
        raise BadInput(
            f"data.with_validation=true checkpoint.average_best={cfg.checkpoint.average_best}: none is left to "
            "say which are the best; set checkpoint.average_best=1"
        )
    if _is_plateau(cfg):
        raise BadInput("data.with_validation=true: model/scheduler=plateau follows validation; choose another")


def _is_early_stopping(node: Mapping[str, Any]) -> bool:
    return str(node.get("_target_")).endswith(".EarlyStopping")


def _check_plateau(cfg: TrainConfig) -> None:
    """The scheduler looks at the metric that decides which checkpoint is the best, and in its direction."""
    mode, monitor = cfg.model.scheduler.get("mode"), cfg.checkpoint.monitor
    wanted = mode_of(monitor, cfg.evaluation.modes())
    if mode is not None and _is_plateau(cfg) and mode != wanted:
        raise BadInput(
            f"model.scheduler.mode={mode}: it follows checkpoint.monitor={monitor}, whose mode is {wanted}; "
            "leave it out, or choose another checkpoint.monitor"
        )


def _is_plateau(cfg: TrainConfig) -> bool:
    return str(cfg.model.scheduler.get("_target_")).endswith("ReduceLROnPlateau")


def _check_gates(cfg: TrainConfig) -> None:
    gates = [name for name in cfg.evaluation.bounds() if name.startswith("test/")]
    if gates and "test" not in cfg.stages:
        raise BadInput(
            f"evaluation.gates: {gates[0]} is not measured with stages=[{','.join(cfg.stages)}]; add test to "
            "stages, or leave the gate out"
        )


def _check_device_cache(cfg: TrainConfig) -> None:
    if not cfg.data.device_cache:
        return
    if cfg.data.source in NOT_FILES:
        raise BadInput(f"data.device_cache=true data.source={cfg.data.source}: needs images in files; set it to false")
    augmentation = cfg.augmentation
    if augmentation.crop_scale is not None or augmentation.horizontal_flip > 0 or augmentation.transforms:
        raise BadInput(
            "data.device_cache=true: this augmentation changes images on the processor, where they no longer pass; "
            "use augmentation=none, or one that changes whole batches (augmentation.batch), or set it to false"
        )


def _check_growing_images(cfg: TrainConfig) -> None:
    start_size = cfg.augmentation.start_size
    if start_size < 1 and cfg.model.compile:
        raise BadInput(
            f"model.compile=true augmentation.start_size={start_size}: each size would be compiled "
            "anew; set one of them back (false, 1)"
        )
    max_epochs = cfg.trainer.max_epochs or 0
    if start_size < 1 and not isinstance(max_epochs, str) and max_epochs < 1:
        raise BadInput(f"augmentation.start_size={start_size}: grows over the epochs; set trainer.max_epochs")
