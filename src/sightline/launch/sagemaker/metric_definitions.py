"""SageMaker's metric definitions: a name and a pattern for each number that our programs print."""

from sightline.config import METHODS
from sightline.metrics import EPOCH_LINE, EVALUATE_TABLE, TRAIN_TABLE

NUMBER = "([-+]?[0-9][-+.0-9e]*|nan|[-+]?inf)"
WATCHED = ("insertion_auc", "deletion_auc", "worst_completeness_error", "seconds_per_image")
"""Metrics of each explanation method; SageMaker takes forty definitions."""


def metric_definitions(script: str = "src/train.py") -> list[dict[str, str]]:
    """The definitions for a program's job; each pattern is matched against single lines."""
    names = list(dict.fromkeys((*EPOCH_LINE, *TRAIN_TABLE)))
    if script.endswith("/evaluate.py"):
        first = ("loss", "accuracy", "macro_f1")  # the name of a job is a hash of its request: the order stays
        each = (*first, *(name for name in EVALUATE_TABLE if name not in first))
        names = [f"{split}/{name}" for split in ("test", "val") for name in each]
    elif script.endswith("/explain.py"):
        names = [f"explanation/{method}/{name}" for method in METHODS for name in WATCHED]
    definitions = [{"Name": name, "Regex": rf"(?:^|\s){name}\s+{NUMBER}(?:\s|$)"} for name in names]
    if names[0] == EPOCH_LINE[0]:
        definitions.append({"Name": "train/step_loss", "Regex": rf"batch [0-9]+/[0-9]+\s+loss\s+{NUMBER}(?:\s|$)"})
    return definitions
