"""The configuration of train.py and find_lr.py."""

from dataclasses import dataclass, field
from typing import Any

from sightline.config.constraints import Needs, key
from sightline.config.instantiation import check_targets
from sightline.config.schema.augmentation import AugmentationConfig
from sightline.config.schema.data import DataConfig, PathsConfig
from sightline.config.schema.evaluation import EvaluationConfig
from sightline.config.schema.explanation import ExplanationConfig
from sightline.config.schema.export import ExportConfig
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
from sightline.config.schema.rules import check_across_sections, check_processes, is_early_stopping
from sightline.config.schema.trainer import (
    PRECISION,
    PRECISIONS,
    RUNTIME,
    RUNTIMES,
    CheckpointConfig,
    DivergenceConfig,
    LrFinderConfig,
    TrainerConfig,
)
from sightline.errors import BadInput
from sightline.task_spec import VIEWS

STAGES = ("fit", "test", "explain", "export")
USUAL_STAGES = ("fit", "test", "explain")
EXPORTED = Needs("export in stages", lambda cfg: "export" in cfg.stages, may_stay=True)
EXPLAINED = Needs("explain in stages", lambda cfg: "explain" in cfg.stages, may_stay=True)
IMAGES = Needs("another data.source than synthetic", lambda cfg: cfg.data.source != "synthetic", may_stay=True)
OF_IMAGES = (IMAGES, OUR_IMAGES)
IN_A_PIPELINE = Needs("pipeline.py", lambda cfg: hasattr(cfg, "pipeline"))


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
    stages: list[str] = key(list(USUAL_STAGES), "what is done, from the fit on", choices=STAGES)
    min_accuracy: float | None = key(
        None,
        "what a pipeline asks of the lower bound of test/accuracy, by the experiment; null: nothing",
        minimum=0,
        maximum=1,
        needs=IN_A_PIPELINE,
    )
    optimized_metric: str = key("val/accuracy", "what a sweep looks at, of all that a run reports", chooses=True)
    test_time_augmentation: str = key(
        "none", "answers are averages over views: flip, shifts, zooms, flip_and_…", choices=VIEWS
    )
    precision: str = key("32-true", f"{PRECISION}; of the training itself: trainer.precision", choices=PRECISIONS)
    runtime: str = key("auto", RUNTIME, choices=RUNTIMES)
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
    export: ExportConfig = field(default_factory=ExportConfig, metadata={"needs": EXPORTED})
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
        check_across_sections(self)
        check_targets(self.callbacks, "callbacks")
        check_targets(self.logger, "logger")
        self.evaluation.check_splits(("test", "val"))

    def can_stop_early(self) -> bool:
        """Whether early stopping, where there is one, can have more validations than it waits for."""
        trainer = self.trainer
        if not isinstance(trainer.max_epochs, int) or trainer.max_epochs < 1 or trainer.val_check_interval is not None:
            return True
        num_validations = trainer.max_epochs // (trainer.check_val_every_n_epoch or 1)
        nodes = [each for each in self.callbacks.values() if each and is_early_stopping(each)]
        return all(each.get("patience", 3) < num_validations for each in nodes)


@dataclass
class FindLrConfig(TrainConfig):
    """A training run of which only the learning rate is sought."""

    lr_finder: LrFinderConfig = field(default_factory=LrFinderConfig)

    def check(self) -> None:
        super().check()
        if is_own(self.module):
            raise BadInput("module: find_lr.py sweeps our own training step; try train.py -m model.lr=0.01,0.001")
