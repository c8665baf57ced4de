"""Numbers that follow from logits and labels."""

from dataclasses import dataclass

import torch
from torchmetrics.functional.classification import (
    multiclass_confusion_matrix,
    multiclass_f1_score,
    multiclass_precision,
    multiclass_recall,
)

from sightline.evaluation.intervals import wilson
from sightline.evaluation.predictions import Predictions
from sightline.models.metrics import classification_metrics


def measure(predictions: Predictions, split: str) -> dict[str, float]:
    """Every metric of a split by its name, like `test/accuracy`.

    `accuracy_low` and `accuracy_high` bound the 95 % interval for a binomial proportion by Wilson's score
    (E. B. Wilson, J. Am. Stat. Assoc. 22, 1927); images of one group are not independent, so for grouped data it is too
    narrow.
    """
    logits, labels = predictions.logits, predictions.labels
    metrics = classification_metrics(logits.shape[1], split)
    values = {name: float(value) for name, value in metrics(logits, labels).items()}
    low, high = wilson(int(predictions.is_right.sum()), len(labels))
    return {
        f"{split}/loss": float(torch.nn.functional.cross_entropy(logits, labels)),
        **values,
        f"{split}/accuracy_low": low,
        f"{split}/accuracy_high": high,
    }


@dataclass(frozen=True)
class ClassScore:
    """How one class fared."""

    name: str
    num_images: int
    precision: float
    recall: float
    f1: float


def per_class(predictions: Predictions, class_names: tuple[str, ...]) -> list[ClassScore]:
    num_classes = len(class_names)
    columns = [
        metric(predictions.logits, predictions.labels, num_classes, average="none").tolist()
        for metric in (multiclass_precision, multiclass_recall, multiclass_f1_score)
    ]
    counts = torch.bincount(predictions.labels, minlength=num_classes).tolist()
    return [ClassScore(*row) for row in zip(class_names, counts, *columns, strict=True)]


def confusion_matrix(predictions: Predictions) -> torch.Tensor:
    """Counts `(num_classes, num_classes)`: rows are labels, columns are predictions."""
    return multiclass_confusion_matrix(predictions.logits, predictions.labels, predictions.logits.shape[1])
