"""The configurations of pipeline.py and of gate.py, one of its steps."""

from dataclasses import dataclass, field
from typing import Any

from omegaconf import MISSING

from sightline.config.constraints import key, validate_choice
from sightline.config.schema.data import PathsConfig
from sightline.config.schema.evaluation import read_bounds
from sightline.config.schema.train import TrainConfig
from sightline.errors import BadInput

STEPS = ("merge", "prepare", "train", "export", "evaluate", "explain", "gate", "register")
"""Of a pipeline, in their order; `merge` where there are annotations."""
AGAINST = ("no_worse", "better")
SERVED = ("fp32", "int8")


@dataclass
class GateConfig:
    """What a candidate must be to be registered."""

    gate: bool | None = key(True, "null: the numbers are recorded, and nothing is refused for them")
    min_accuracy: float | None = key(
        None, "the lower bound of test/accuracy must reach it; null: no threshold", minimum=0, maximum=1
    )
    gates: Any = key(None, "{metric: bound} of further metrics; the most that it may be where less is better")
    against: str = key("no_worse", "what the candidate must be beside the champion", choices=AGAINST)
    max_loss: float = key(0.005, "of accuracy that counts as no worse: half a point", minimum=0, maximum=1)
    allow_test_changes: bool = key(False, "true: val or test may differ from the champion's")

    def bounds(self) -> dict[str, float]:
        """The bound of every metric that has a gate, the threshold's included."""
        threshold = {} if self.min_accuracy is None else {"test/accuracy_low": self.min_accuracy}
        return {**threshold, **self.further_bounds()}

    def further_bounds(self) -> dict[str, float]:
        """Those of `gates`.

        Raises: BadInput when they are not numbers by name.
        """
        return read_bounds("pipeline.gates", self.gates)


@dataclass
class PipelineSettings(GateConfig):
    """From data to a registered model."""

    min_accuracy: float | None = key(
        "${min_accuracy}",
        "the lower bound of test/accuracy must reach it; null: no threshold",
        minimum=0,
        maximum=1,
    )
    name: str | None = key(None, "of the pipeline where a service keeps it; null: sightline-<experiment>")
    description: str = key("", "for whoever finds it in the console")
    tags: Any = key(None, "{key: value} of everything that the pipeline starts")
    model: str | None = key(None, "the name in the registry; null: that of the experiment")
    champion: str = key(
        "auto",
        "auto: the version in production, else the newest approved; none; or a run, like registry:NAME/3",
        path="run",
    )
    precision: str = key("fp32", "of the exported model that will be served, and is evaluated", choices=SERVED)
    annotations: str | None = key(
        None, "a folder or s3://… of annotations; they are merged into the next version of data.version", path="path"
    )
    explain_images: str | None = key(
        None, "a folder or s3://… of images to explain; null: twelve of the test set, the same each time", path="path"
    )
    approval: str = key("pending", "status of a new version", choices=("pending", "approved"))
    rerun: list[str] = key([], f"steps that are run again whatever is known of them: {', '.join(STEPS)}")
    ignore_code: bool = key(False, "true: a step that other code finished is not run again for that")
    processing_instance_type: str = key("ml.m5.xlarge", "SageMaker's machine for every step but train")
    processing_volume_gb: int = key(50, "of its disk", minimum=1)
    processing_max_run_minutes: float = key(120, "of a step but train on SageMaker; then it has failed", minimum=1)
    cache_days: int = key(30, "SageMaker runs no step again whose inputs it has seen so lately; 0: always", minimum=0)
    serving_image: str | None = key(None, "of the version that SageMaker registers; null: that of make image-serve")

    def check(self) -> None:
        for step in self.rerun:
            validate_choice("pipeline.rerun", step, STEPS)
        if not isinstance(self.tags, dict | None):
            raise BadInput(f"pipeline.tags={self.tags}: must be texts by key, like {{team: vision}}")
        if self.champion == "none" and self.against == "better":
            raise BadInput("pipeline.against=better pipeline.champion=none: there is nothing to be better than")


@dataclass
class PipelineConfig(TrainConfig):
    """A training run, and what leads from it to a registered model."""

    pipeline: PipelineSettings = field(default_factory=PipelineSettings)

    def check(self) -> None:
        super().check()
        if self.pipeline.precision == "int8" and self.export.int8 is False:
            raise BadInput(
                "pipeline.precision=int8 export.int8=false: there would be nothing to serve; drop one of them"
            )


@dataclass
class GateTaskConfig:
    """An evaluated model, held to its gate, and packed for the registry."""

    run: str = key(MISSING, "the folder of the exported run", path="run")
    evaluated: str = key(MISSING, "the folder of its evaluation, with against=CHAMPION where there is one", path="path")
    explained: str | None = key(None, "the folder of its explanations", path="path")
    registered_as: str | None = key(None, "its name in the registry; null: that of the run")
    champion: str | None = key(None, "what the champion is called, like digits/2; null: as the evaluation was told")
    previous: str | None = key(None, "the champion's manifest.csv, which val and test are compared with", path="path")
    fails: bool = key(True, "exit with code 4 where the gate is not met; false: gate.json alone says so")
    pipeline: GateConfig = field(default_factory=GateConfig)
    output: str | None = key(None, "the folder of the results, instead of a new one below paths.runs", path="stays")
    paths: PathsConfig = field(default_factory=PathsConfig)
    launch: dict[str, Any] = key({}, "where the task is started; empty where it runs")
