"""What a model card says of a run, from the files in its folder."""

import csv
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from sightline.data.collection.adapters import DATA_SETS
from sightline.errors import BadInput
from sightline.evaluation.intervals import wilson
from sightline.runs.files import read_json
from sightline.task_spec import TaskSpec

MOST_FOR_CONFUSIONS = 1000
"""Classes: a larger confusion matrix is a file that takes seconds to read."""
FEW_IMAGES = 30
"""With fewer the interval of a class's recall is wider than 0.2, whatever it is."""


@dataclass(frozen=True)
class ClassResult:
    """How one class fared."""

    name: str
    num_images: int
    num_right: int
    num_answered: int
    """How many images were called this class."""
    f1: float

    @property
    def recall(self) -> float:
        """0 where there are no images of the class."""
        return self.num_right / self.num_images if self.num_images else 0.0

    @property
    def recall_interval(self) -> str:
        return share_of(self.num_right, self.num_images) if self.num_images else "no images"

    @property
    def precision_interval(self) -> str:
        return share_of(self.num_right, self.num_answered) if self.num_answered else "never named"


def share_of(count: int, total: int) -> str:
    """`0.9474 (0.8271 to 0.9854)`: a share with its 95 % interval (Wilson)."""
    low, high = wilson(count, total)
    return f"{count / total:.4f} ({low:.4f} to {high:.4f})"


@dataclass(frozen=True)
class RunFiles:
    """The files of a finished training that a card is made from."""

    folder: Path

    @classmethod
    def open(cls, folder: Path) -> "RunFiles":
        """Raises: BadInput for a folder that holds no finished training with a model."""
        if not (folder / "run.json").is_file() or not (folder / "model" / "model.json").is_file():
            raise BadInput(f"run={folder}: no training with a model; a model card needs its run.json and its model/")
        return cls(folder)

    @cached_property
    def record(self) -> dict[str, Any]:
        return read_json(self.folder / "run.json")

    @cached_property
    def data(self) -> dict[str, Any]:
        """What the record says of the data; what it does not know (an audit that was skipped) is left out."""
        return {key: value for key, value in self.record.get("data", {}).items() if value is not None}

    @cached_property
    def config(self) -> dict[str, Any]:
        return self.record.get("config", {})

    @cached_property
    def metrics(self) -> dict[str, float]:
        """Those that are numbers."""
        return {key: value for key, value in read_json(self.folder / "metrics.json").items() if math.isfinite(value)}

    @cached_property
    def model(self) -> dict[str, Any]:
        return read_json(self.folder / "model" / "model.json")

    @cached_property
    def spec(self) -> TaskSpec:
        return TaskSpec.load(self.folder / "model" / "task_spec.json")

    @cached_property
    def exported(self) -> dict[str, Any]:
        return read_json(self.folder / "model" / "export.json")

    @cached_property
    def audit(self) -> dict[str, Any]:
        return read_json(self.folder / "audit.json").get("summary", {})

    @property
    def split(self) -> str:
        """The split that the run's results are of."""
        return "test" if "test/accuracy" in self.metrics else "val"

    @property
    def num_images(self) -> dict[str, int]:
        """By split."""
        known = self.data.get("num_images", {})
        return {split: count for split, count in known.items() if count is not None}

    @cached_property
    def classes(self) -> list[ClassResult]:
        """Every class, in the model's order; none where the run measured no classes."""
        rows = read_table(self.folder / "per_class.csv")
        return [_class_result(row) for row in rows]

    @cached_property
    def confusions(self) -> list[tuple[str, str, int, int]]:
        """The three most frequent mistakes: label, answer, how often, and of how many images of the label."""
        path, names = self.folder / "confusion_matrix.csv", self.spec.class_names
        if not path.is_file() or len(names) > MOST_FOR_CONFUSIONS:
            return []
        with path.open(newline="", encoding="utf-8") as file:
            counts = [[int(cell) for cell in row[1:]] for row in list(csv.reader(file))[1:]]
        found = [
            (names[label], names[answer], count, sum(row))
            for label, row in enumerate(counts)
            for answer, count in enumerate(row)
            if label != answer and count
        ]
        return sorted(found, key=lambda each: -each[2])[:3]


def read_table(path: Path) -> list[dict[str, str]]:
    """The rows of a CSV file; none where there is no file."""
    if not path.is_file():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def _class_result(row: Mapping[str, str]) -> ClassResult:
    """Of a row of per_class.csv, from which the counts behind its shares follow."""
    count, precision = int(row["num_images"]), float(row["precision"])
    right = round(float(row["recall"]) * count)
    return ClassResult(row["class"], count, right, round(right / precision) if precision else 0, float(row["f1"]))


def licence_note(config: Mapping[str, Any], overrides: Sequence[str]) -> str:
    """Where the data comes from and under which licence, as far as the run's configuration says.

    A run whose `data.root` was typed may have used other images than those of the source that it names.
    """
    data = config.get("data", {})
    known = DATA_SETS.get(data.get("source", ""))
    if known is not None:
        note = f"The configuration names {known.name}, {known.homepage}. Licence by its source: {known.licence}."
        if any(each.split("=")[0] == "data.root" for each in overrides):
            note += " The folder was named by hand, so its images may be others."
        return note
    unknown = "The run records no licence of its images: find it out before the model is passed on."
    origin = str(data.get("origin") or "").rstrip(".")
    return f"Origin by the configuration: {origin}. {unknown}" if origin else f"The run records no origin. {unknown}"


def training_facts(run: RunFiles) -> list[tuple[str, str]]:
    """Name and value of what the model was trained with; only what the run records."""
    record, config, model = run.record, run.config, run.model
    recipe = config.get("model", {})
    is_own = bool(config.get("module", {}).get("_target_"))
    rate = record.get("found", {}).get("model.lr", recipe.get("lr"))
    versions = {name: version for name, version in record.get("versions", {}).items() if version}
    commit = record.get("commit")
    seconds = run.metrics.get("train/seconds")
    found: dict[str, Any] = {
        "network": model.get("name"),
        "its arguments": ", ".join(f"{name}={value}" for name, value in model.get("arguments", {}).items()),
        "parameters": f"{run.metrics['num_parameters']:,.0f}" if "num_parameters" in run.metrics else None,
        "weights before training": model.get("weights"),
        "epochs": _epochs(run.folder),
        "batch size": config.get("data", {}).get("batch_size"),
        "optimizer": None if is_own else _class_of(recipe.get("optimizer")),
        "schedule": None if is_own else _class_of(recipe.get("scheduler")),
        "learning rate": rate,
        "loss": None if is_own else _loss(recipe.get("loss")),
        "mixing of images": None if is_own else _mixing(config.get("augmentation", {})),
        "precision": record.get("precision"),
        "seed": record.get("seed"),
        "seconds of training": f"{seconds:,.0f}" if seconds is not None else None,
        "commit": f"{commit}{' with changes' if record.get('dirty') else ''}" if commit else None,
        "versions": ", ".join(f"{name} {version}" for name, version in versions.items()),
        "date": (record.get("started") or "")[:10],
    }
    return [(name, str(value)) for name, value in found.items() if value not in (None, "", {})]


def _epochs(folder: Path) -> int | None:
    return len(read_table(folder / "metrics.csv")) or None


def _class_of(node: Any) -> str | None:
    return str(node["_target_"]).rpartition(".")[2] if isinstance(node, Mapping) and "_target_" in node else None


def _loss(loss: Any) -> str | None:
    return _class_of(loss) if isinstance(loss, Mapping) else loss


def _mixing(augmentation: Mapping[str, Any]) -> str | None:
    names = [name for name in ("mixup", "cutmix") if augmentation.get(name)]
    return " and ".join(f"{name} (alpha {augmentation[name]:g})" for name in names) or None
