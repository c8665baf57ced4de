"""The metrics of validation and test."""

import torch

from sightline.models.metrics import classification_metrics


def test_a_first_batch_that_is_all_right_leaves_every_metric_its_own_counts() -> None:
    metrics = classification_metrics(3, "val")
    right, wrong = torch.eye(3), torch.eye(3).roll(1, dims=1)
    for logits in (right, wrong):
        metrics.update(logits, torch.arange(3))
    found = {name: round(float(value), 4) for name, value in metrics.compute().items()}
    assert found["val/accuracy"] == found["val/macro_recall"] == 0.5
    assert found["val/top5_accuracy"] == 1.0


def test_macro_averages_count_every_class_the_same() -> None:
    metrics = classification_metrics(2, "val")
    metrics.update(torch.tensor([[1.0, 0.0]] * 4), torch.tensor([0, 0, 0, 1]))
    found = metrics.compute()
    assert float(found["val/accuracy"]) == 0.75
    assert float(found["val/macro_recall"]) == 0.5
