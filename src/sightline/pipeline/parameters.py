"""The parameters of a pipeline on SageMaker: what a start changes without a new definition. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sightline.errors import BadInput
from sightline.runs.override_text import override

INTEGER, FLOAT, STRING = "Integer", "Float", "String"
NUMBERS = {INTEGER: int, FLOAT: float}
MAX_TEXT = 1024
"""Letters of a value that SageMaker takes."""


@dataclass(frozen=True)
class Parameter:
    """One value that steps take from the start of an execution."""

    name: str
    key: str | None
    """Of the configuration; null: `start` computes it."""
    kind: str = STRING
    step: str = "train"
    """Takes it as an override; empty: it is an argument of requests."""
    choices: tuple[str, ...] = ()
    is_group: bool = False
    """Whether the key chooses a file of configs/."""


PARAMETERS = (
    Parameter("Model", "model.name"),
    Parameter("BatchSize", "data.batch_size", INTEGER),
    Parameter("Optimizer", "model/optimizer", is_group=True),
    Parameter("LearningRate", "model.lr", FLOAT),
    Parameter("Augmentation", "augmentation", is_group=True),
    Parameter("Epochs", "trainer.max_epochs", INTEGER),
    Parameter("ImageSize", "data.image_size", INTEGER),
    Parameter("Seed", "seed", INTEGER),
    Parameter("MinAccuracy", "pipeline.min_accuracy", FLOAT, step="gate"),
    Parameter("TrainingInstanceType", "launch.instance_type", step=""),
    Parameter("ProcessingInstanceType", "pipeline.processing_instance_type", step=""),
    Parameter("ApprovalStatus", "pipeline.approval", step="", choices=("PendingManualApproval", "Approved")),
    Parameter("DataLocation", "data.root", step=""),
    Parameter("DataSha256", None, step=""),
    Parameter("Champion", "pipeline.champion", step=""),
    Parameter("Annotations", "pipeline.annotations", step=""),
)
STATUS = {"pending": "PendingManualApproval", "approved": "Approved"}
"""Of a version: how we call it, and how SageMaker does."""


def find_parameter(name: str) -> Parameter:
    return next(each for each in PARAMETERS if each.name == name)


def of_step(step: str) -> list[Parameter]:
    """Those that are overrides of a step, in their order."""
    return [each for each in PARAMETERS if each.step == step]


def declare(parameter: Parameter, value: Any) -> dict[str, Any]:
    """An entry of `Parameters`; a value that is no number, like auto or null, makes it a text.

    Raises: BadInput for a text that is too long.
    """
    is_number = isinstance(value, int | float) and not isinstance(value, bool) and parameter.kind in NUMBERS
    kind = parameter.kind if is_number else STRING
    default = NUMBERS[kind](value) if kind in NUMBERS else as_text(value) if parameter.step else str(value)
    if isinstance(default, str) and len(default) > MAX_TEXT:
        raise BadInput(f"{parameter.key}: {len(default)} letters, and a parameter of SageMaker has {MAX_TEXT} at most")
    choices = {"EnumValues": list(parameter.choices)} if parameter.choices else {}
    return {"Name": parameter.name, "Type": kind, "DefaultValue": default, **choices}


def as_text(value: Any) -> str:
    """A value as the right side of an override, as Hydra reads it back."""
    return override("", value)[1:]


def get(name: str) -> dict[str, str]:
    """The variable of a parameter."""
    return {"Get": f"Parameters.{name}"}


def join(*values: Any, on: str = "") -> dict[str, Any]:
    """A text of pieces, variables among them."""
    return {"Std:Join": {"On": on, "Values": list(values)}}


def as_string(declared: Mapping[str, Any]) -> dict[str, Any]:
    """The variable of a declared parameter where a text is wanted."""
    variable = get(declared["Name"])
    return variable if declared["Type"] == STRING else join(variable)


def sent_value(declared: Mapping[str, Any], value: Any) -> str:
    """A value of a start, as SageMaker takes it: a text, whatever the type.

    Raises: BadInput where the type of the parameter is another.
    """
    kind = declared["Type"]
    if kind in NUMBERS:
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if not is_number or (kind == INTEGER and int(value) != value):
            words = "a whole number" if kind == INTEGER else "a number"
            raise BadInput(
                f"{declared['Name']}={as_text(value)}: the parameter is {words}"
                f" in the pipeline that SageMaker has (its default is {declared['DefaultValue']}); "
                "upsert makes it what is typed"
            )
        return str(NUMBERS[kind](value))
    return as_text(value)


def names_of(declared: Sequence[Mapping[str, Any]]) -> str:
    return ", ".join(str(each["Name"]) for each in declared)
