"""Metrics against scikit-learn's, and the tables that go with them."""

import csv
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn import metrics as reference

from sightline.evaluation.evaluate import write_evaluation
from sightline.evaluation.evaluators import Predictions, confusion_matrix, measure, per_class


@pytest.fixture
def predictions() -> Predictions:
    """Seven unbalanced classes, about two thirds right."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.multinomial(torch.tensor([9.0, 5, 4, 3, 2, 1, 1]), 300, replacement=True, generator=generator)
    logits = torch.randn(300, 7, generator=generator)
    logits[torch.arange(300), labels] += 2.0
    return Predictions(logits, labels)


def test_metrics_are_scikit_learns(predictions: Predictions) -> None:
    labels, predicted = predictions.labels.numpy(), predictions.predicted.numpy()
    probabilities = predictions.logits.softmax(1).numpy()
    given = measure(predictions, "test")
    macro = {"average": "macro", "zero_division": 0}
    expected = {
        "test/accuracy": reference.accuracy_score(labels, predicted),
        "test/macro_precision": reference.precision_score(labels, predicted, **macro),
        "test/macro_recall": reference.recall_score(labels, predicted, **macro),
        "test/macro_f1": reference.f1_score(labels, predicted, **macro),
        "test/top5_accuracy": reference.top_k_accuracy_score(labels, probabilities, k=5, labels=np.arange(7)),
        "test/loss": reference.log_loss(labels, probabilities, labels=np.arange(7)),
    }
    for name, value in expected.items():
        assert given[name] == pytest.approx(value, abs=1e-6), name
    assert given["test/macro_f1"] != pytest.approx(given["test/accuracy"], abs=1e-3), "macro is not micro"


def test_the_interval_is_wilsons() -> None:
    """90 of 100: 0.8256 to 0.9448 by the formula of Wilson (1927)."""
    logits = torch.eye(2)[torch.zeros(100, dtype=torch.long)]
    labels = torch.tensor([0] * 90 + [1] * 10)
    given = measure(Predictions(logits, labels), "val")
    assert given["val/accuracy_low"] == pytest.approx(0.8256, abs=1e-4)
    assert given["val/accuracy_high"] == pytest.approx(0.9448, abs=1e-4)


def test_two_classes_have_a_top5() -> None:
    given = measure(Predictions(torch.randn(10, 2), torch.arange(10) % 2), "test")
    assert given["test/top5_accuracy"] == 1.0


def test_rows_of_the_confusion_matrix_are_labels(predictions: Predictions) -> None:
    expected = reference.confusion_matrix(predictions.labels, predictions.predicted, labels=range(7))
    assert (confusion_matrix(predictions).numpy() == expected).all()


def test_tables_and_pictures_are_written(predictions: Predictions, tmp_path: Path) -> None:
    names = tuple("abcdefg")
    write_evaluation(tmp_path, predictions, names, "test")
    with (tmp_path / "confusion_matrix.csv").open() as file:
        rows = list(csv.reader(file))
    assert rows[0][1:] == list(names)
    assert [[int(cell) for cell in row[1:]] for row in rows[1:]] == confusion_matrix(predictions).tolist()
    with (tmp_path / "per_class.csv").open() as file:
        table = list(csv.DictReader(file))
    scores = per_class(predictions, names)
    assert [int(row["num_images"]) for row in table] == [score.num_images for score in scores]
    report = reference.classification_report(predictions.labels, predictions.predicted, output_dict=True)
    assert isinstance(report, dict)
    for number, row in enumerate(table):
        assert float(row["recall"]) == pytest.approx(report[str(number)]["recall"], abs=1e-5)
        assert float(row["precision"]) == pytest.approx(report[str(number)]["precision"], abs=1e-5)
    for name in ("confusion_matrix.png", "per_class.png"):
        assert (tmp_path / name).stat().st_size > 5000


def test_a_class_without_images_breaks_nothing(tmp_path: Path) -> None:
    predictions = Predictions(torch.randn(12, 3), torch.arange(12) % 2)
    metrics = write_evaluation(tmp_path, predictions, ("a", "b", "never"), "test")
    assert all(np.isfinite(value) for value in metrics.values())
