"""The metrics of a classifier, by the same names in validation and test."""

from torchmetrics import MetricCollection
from torchmetrics.classification import MulticlassAccuracy, MulticlassF1Score, MulticlassPrecision, MulticlassRecall

GROUPS = [["accuracy"], ["top5_accuracy"], ["macro_precision", "macro_recall", "macro_f1"]]
"""Metrics that count the same. By itself torchmetrics takes those with equal counts after the first batch: accuracy and
top-5 accuracy, where every image of it is right."""


def classification_metrics(num_classes: int, split: str) -> MetricCollection:
    """Metrics over logits `(B, num_classes)` and labels `(B,)`; macro averages count every class the same."""
    macro = {"num_classes": num_classes, "average": "macro", "validate_args": False}
    return MetricCollection(
        {
            "accuracy": MulticlassAccuracy(num_classes, average="micro", validate_args=False),
            "top5_accuracy": MulticlassAccuracy(
                num_classes, top_k=min(5, num_classes), average="micro", validate_args=False
            ),
            "macro_precision": MulticlassPrecision(**macro),
            "macro_recall": MulticlassRecall(**macro),
            "macro_f1": MulticlassF1Score(**macro),
        },
        prefix=f"{split}/",
        compute_groups=GROUPS,
    )
