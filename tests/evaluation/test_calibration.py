"""Temperatures, thresholds, suspects, gates and comparisons: on data whose right answer is known."""

import numpy as np
import pytest
import torch
from sklearn.metrics import brier_score_loss
from tests.evaluation.inputs import make_inputs, make_predictions

from sightline.errors import GateNotMet
from sightline.evaluation.calibration import (
    brier_score,
    calibrate,
    expected_calibration_error,
    fit_temperature,
    reliability,
)
from sightline.evaluation.comparison import compare
from sightline.evaluation.evaluators import CalibrationError, Failures, Rejecting
from sightline.evaluation.gates import check_gates
from sightline.evaluation.label_errors import find_label_errors
from sightline.evaluation.predictions import Predictions
from sightline.evaluation.selective_prediction import choose_threshold, coverage_curve
from sightline.task_spec import Calibration, TaskSpec


def honest(count: int, factor: float, seed: int = 0) -> Predictions:
    """Labels drawn from the model's own probabilities, whose logits are then multiplied."""
    generator = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn(count, 7, generator=generator)
    labels = torch.multinomial(logits.softmax(1), 1, generator=generator)[:, 0]
    return Predictions(factor * logits, labels)


@pytest.mark.parametrize("factor", [0.5, 1.0, 3.0])
def test_the_temperature_undoes_what_was_done(factor: float) -> None:
    assert fit_temperature(honest(20_000, factor)) == pytest.approx(factor, rel=0.05)


def test_without_a_mistake_the_temperature_stays_finite() -> None:
    labels = torch.arange(70) % 7
    temperature = fit_temperature(Predictions(5.0 * torch.eye(7)[labels], labels))
    assert 0.3 < temperature < 3


def test_calibration_lowers_the_error_and_keeps_the_answers() -> None:
    calibration = calibrate(honest(5000, 3.0, seed=1), 0.9)
    found = CalibrationError()(make_inputs(honest(5000, 3.0), calibration)).metrics
    assert found["test/ece"] > 0.2
    assert found["test/ece_calibrated"] < 0.03
    assert found["test/nll_calibrated"] < found["test/nll"]


def test_bins_hold_every_image_and_the_brier_score_is_scikit_learns() -> None:
    predictions = make_predictions()
    probabilities = predictions.probabilities()
    bins = reliability(probabilities, predictions)
    assert sum(b.num_images for b in bins) == 300
    by_hand = sum(b.num_images * abs(b.accuracy - b.confidence) for b in bins) / 300
    assert by_hand == pytest.approx(expected_calibration_error(probabilities, predictions.labels), abs=1e-6)
    classes = [brier_score_loss((predictions.labels == label).int(), probabilities[:, label]) for label in range(7)]
    assert brier_score(probabilities, predictions.labels) == pytest.approx(sum(classes))


def test_the_threshold_is_the_lowest_that_reaches_the_goal() -> None:
    confidences = np.array([0.9, 0.8, 0.7, 0.6, 0.5])
    is_right = np.array([True, True, False, True, False])
    assert choose_threshold(confidences, is_right, 0.99) == 0.8
    assert choose_threshold(confidences, is_right, 0.75) == 0.6
    assert choose_threshold(confidences, is_right, 0.6) == 0.0, "all together reach it"
    assert choose_threshold(confidences, ~is_right, 0.9) is None
    tied = coverage_curve(np.array([0.9, 0.9, 0.1]), np.array([True, False, True]))
    assert tied.coverages.tolist() == pytest.approx([2 / 3, 1]), "the equally sure are answered together"


def test_a_threshold_of_validation_holds_on_test() -> None:
    calibration = calibrate(honest(5000, 3.0, seed=1), 0.9)
    section = Rejecting()(make_inputs(honest(5000, 3.0, seed=2), calibration))
    assert section.metrics["test/accuracy_answered"] == pytest.approx(0.9, abs=0.025)
    assert 0.1 < section.metrics["test/coverage"] < 0.9


def test_calibration_travels_with_the_task() -> None:
    spec = TaskSpec(("a", "b"), 8, (0.5,) * 3, (0.5,) * 3, calibration=Calibration(1.3, None, 0.95, 10))
    assert TaskSpec.from_dict(spec.to_dict()) == spec
    assert spec.temperature == 1.3


def test_wrong_labels_are_found() -> None:
    generator = np.random.default_rng(0)
    labels = generator.integers(0, 4, 400)
    probabilities = np.full((400, 4), 0.05) + generator.uniform(0, 0.02, (400, 4))
    probabilities[np.arange(400), labels] = 0.85
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    given = labels.copy()
    changed = generator.choice(400, 20, replace=False)
    given[changed] = (labels[changed] + 1) % 4
    suspects = find_label_errors(probabilities, given)
    found = {suspect.index for suspect in suspects}
    assert found <= set(changed.tolist())
    assert len(found) >= 18
    assert all(suspect.suggested == labels[suspect.index] for suspect in suspects)


def test_failures_begin_with_the_most_confident_mistake() -> None:
    inputs = make_inputs(make_predictions())
    section = Failures(num_pictures=5)(inputs)
    wrong = ~inputs.predictions.is_right
    worst = np.flatnonzero(wrong)[inputs.confidences[wrong].argmax()]
    assert section.tables["predictions"].rows[0][0] == inputs.names[worst]
    assert len(section.tables["predictions"].rows) == 300
    assert [len(pictures) for pictures in section.pictures.values()][:2] == [5, 5]


def test_gates_name_what_failed() -> None:
    metrics = {"test/accuracy": 0.85, "test/ece": 0.02, "test/corruption/mean_accuracy": 0.9}
    check_gates(metrics, {"test/accuracy": 0.85, "test/ece": 0.05})
    with pytest.raises(GateNotMet) as raised:
        check_gates(
            metrics, {"test/accuracy": 0.9, "test/ece": 0.01, "test/acuracy": 0.1, "test/corruption/mean_accuracy": 0.7}
        )
    said = str(raised.value)
    assert "test/accuracy is 0.8500 and must be at least 0.9" in said
    assert "test/ece is 0.0200 and must be at most 0.01" in said
    assert "test/acuracy was not measured (did you mean test/accuracy" in said
    assert "mean_accuracy" not in said


def test_a_run_is_no_better_than_itself_or_its_luck() -> None:
    inputs = make_inputs(make_predictions())
    same = compare(inputs, inputs.predictions, "this", "itself").metrics
    assert same["test/against/accuracy_difference"] == 0
    assert same["test/against/p_value"] == 1
    lucky = Predictions(inputs.predictions.logits.clone(), inputs.labels)
    right = np.flatnonzero(inputs.predictions.is_right)[:2]
    lucky.logits[right] = -lucky.logits[right]
    section = compare(inputs, lucky, "this", "its double")
    assert section.metrics["test/against/accuracy_difference"] == pytest.approx(2 / 300)
    assert section.text.startswith(
        "this gets 2 images right that its double gets wrong, and none the other way; that may be chance (p = 0.5, "
    )


def test_a_better_run_is_found_out_on_paired_images() -> None:
    better = make_predictions()
    worse = Predictions(better.logits.clone(), better.labels)
    worse.logits[np.flatnonzero(better.is_right)[:20]] *= -1
    section = compare(make_inputs(better), worse, "the new one", "the old one")
    assert section.metrics["test/against/only_this_right"] == 20
    assert section.metrics["test/against/p_value"] == pytest.approx(2 * 0.5**20)
    assert section.metrics["test/against/accuracy_difference_low"] > 0.03
    assert (
        "the new one gets 20 images right that the old one gets wrong, and none the other way; that is more than"
        in (section.text)
    )
    grouped = compare(make_inputs(better, group_size=100), worse, "the new one", "the old one")
    assert "that may be chance (by the interval over groups)" in grouped.text, "all twenty are of one group of three"
