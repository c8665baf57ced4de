"""Metrics against scikit-learn's, and the tables that go with them."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn import metrics as reference
from tests.evaluation.inputs import NAMES, make_inputs, make_predictions

from sightline.evaluation.evaluators import PerClass, Scores
from sightline.evaluation.model_quality import describe_quality
from sightline.evaluation.predictions import Predictions
from sightline.evaluation.report import write_report
from sightline.evaluation.scores import confusion_matrix, measure, per_class


@pytest.fixture
def predictions() -> Predictions:
    return make_predictions()


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


def test_the_bootstrap_of_independent_images_agrees_with_wilson(predictions: Predictions) -> None:
    found = Scores()(make_inputs(predictions)).metrics
    accuracy = found["test/accuracy"]
    assert found["test/accuracy_standard_deviation"] == pytest.approx((accuracy * (1 - accuracy) / 300) ** 0.5, rel=0.1)
    assert "test/accuracy_low_grouped" not in found
    assert found["test/macro_f1_low"] < found["test/macro_f1"] < found["test/macro_f1_high"]


def test_thirty_frames_of_one_sign_are_not_thirty_facts() -> None:
    """Ten groups of thirty that are wholly right or wholly wrong: as uncertain as ten images."""
    labels = torch.zeros(300, dtype=torch.long)
    logits = torch.eye(7)[torch.arange(300) // 30 % 5 // 4]  # every fifth group is wrong
    found = Scores()(make_inputs(Predictions(logits, labels), group_size=30)).metrics
    wilson = found["test/accuracy_high"] - found["test/accuracy_low"]
    grouped = found["test/accuracy_high_grouped"] - found["test/accuracy_low_grouped"]
    assert found["test/accuracy"] == pytest.approx(0.8)
    assert grouped > 4 * wilson
    assert found["test/accuracy_standard_deviation"] == pytest.approx((0.8 * 0.2 / 10) ** 0.5, rel=0.1)


def test_tables_and_pictures_are_written(predictions: Predictions, tmp_path: Path) -> None:
    inputs = make_inputs(predictions)
    metrics = write_report(tmp_path, inputs, [Scores()(inputs), PerClass()(inputs)], name="letters", gates={})
    with (tmp_path / "confusion_matrix.csv").open() as file:
        rows = list(csv.reader(file))
    assert rows[0][1:] == list(NAMES)
    assert [[int(cell) for cell in row[1:]] for row in rows[1:]] == confusion_matrix(predictions).tolist()
    with (tmp_path / "per_class.csv").open() as file:
        table = list(csv.DictReader(file))
    scores = per_class(predictions, NAMES)
    assert [int(row["num_images"]) for row in table] == [score.num_images for score in scores]
    report = reference.classification_report(predictions.labels, predictions.predicted, output_dict=True)
    assert isinstance(report, dict)
    for number, row in enumerate(table):
        assert float(row["recall"]) == pytest.approx(report[str(number)]["recall"], abs=1e-5)
        assert float(row["precision"]) == pytest.approx(report[str(number)]["precision"], abs=1e-5)
    for name in ("confusion_matrix.png", "per_class.png"):
        assert (tmp_path / name).stat().st_size > 5000
    page = (tmp_path / "evaluation" / "report.html").read_text()
    assert f"{metrics['test/accuracy']:.4f}" in page
    assert "top-5 accuracy" in page
    assert "prefers-color-scheme: dark" in page
    assert 'src="http' not in page
    assert 'href="http' not in page
    assert "#000000" not in page, "figures take the page's colours"


def test_a_class_without_images_breaks_nothing(tmp_path: Path) -> None:
    predictions = Predictions(torch.randn(12, 7), torch.arange(12) % 2)
    inputs = make_inputs(predictions)
    metrics = write_report(tmp_path, inputs, [Scores()(inputs), PerClass()(inputs)], name="letters", gates={})
    assert all(np.isfinite(value) for value in metrics.values())


def test_the_registry_reads_scikit_learns_numbers(predictions: Predictions) -> None:
    found = describe_quality(make_inputs(predictions))["multiclass_classification_metrics"]
    labels, predicted = predictions.labels.numpy(), predictions.predicted.numpy()
    assert found["accuracy"]["value"] == pytest.approx(reference.accuracy_score(labels, predicted))
    assert found["accuracy"]["standard_deviation"] > 0.01
    weighted = {"average": "weighted", "zero_division": 0}
    assert found["weighted_precision"]["value"] == pytest.approx(
        reference.precision_score(labels, predicted, **weighted)
    )
    assert found["weighted_f2"]["value"] == pytest.approx(reference.fbeta_score(labels, predicted, beta=2, **weighted))
    total = sum(sum(row.values()) for row in found["confusion_matrix"].values())
    assert total == 300
    assert json.loads(json.dumps(found)) == found
