"""Evaluators: each class makes a section of the report. A new one needs a line in configs/evaluation."""

from collections.abc import Sequence

import numpy as np
import torch

from sightline.data.display import to_display
from sightline.evaluation import figures
from sightline.evaluation.calibration import brier_score, expected_calibration_error, reliability
from sightline.evaluation.evaluation_input import EvaluationInput, Picture, Section, Table
from sightline.evaluation.intervals import macro_f1, resample, weighted_mean
from sightline.evaluation.label_errors import LabelError, find_label_errors
from sightline.evaluation.scores import confusion_matrix, measure, per_class
from sightline.evaluation.selective_prediction import coverage_curve
from sightline.evaluation.wording import counted, describe_interval, percent
from sightline.runs.pages import isolated

MAX_WRONG = 0.2
"""A model that is wrong more often is no good witness against a label."""


class Scores:
    """Accuracy, top-5 and the macro averages, with intervals that respect groups."""

    def __call__(self, inputs: EvaluationInput) -> Section:
        split, predictions = inputs.split, inputs.predictions
        metrics = measure(predictions, split)
        labels, predicted = predictions.labels.numpy(), predictions.predicted.numpy()
        f1 = resample(macro_f1(labels, predicted, inputs.spec.num_classes), inputs.groups, seed=inputs.seed)
        accuracy = resample(weighted_mean(predictions.is_right.astype(float)), inputs.groups, seed=inputs.seed)
        metrics |= {
            f"{split}/macro_f1_low": f1.low,
            f"{split}/macro_f1_high": f1.high,
            f"{split}/accuracy_standard_deviation": accuracy.standard_deviation,
        }
        low, high = metrics[f"{split}/accuracy_low"], metrics[f"{split}/accuracy_high"]
        text = (
            f"{int(predictions.is_right.sum()):,} of {counted(len(predictions), 'image')} are answered right: accuracy "
            f"{metrics[f'{split}/accuracy']:.4f} {describe_interval(low, high, ' with 95 % confidence, Wilson')}. "
            f"Every class counted alike: macro F1 {metrics[f'{split}/macro_f1']:.4f} "
            f"{describe_interval(f1.low, f1.high, ', bootstrap')}."
        )
        if inputs.has_groups:
            metrics |= {f"{split}/accuracy_low_grouped": accuracy.low, f"{split}/accuracy_high_grouped": accuracy.high}
            text += (
                f" The images come in {int(inputs.groups.max()) + 1:,} groups, and images of one group are not "
                f"independent: over groups the accuracy is {metrics[f'{split}/accuracy']:.4f} "
                f"{describe_interval(accuracy.low, accuracy.high)}. "
            )
            if accuracy.low < accuracy.high:
                text += "This is the interval to quote, and that of the macro F1 is over groups too."
        rows = [(name, f"{value:.6f}") for name, value in metrics.items()]
        return Section("Scores", metrics, text, {"scores": Table(("metric", "value"), rows)})


class PerClass:
    """Precision, recall and F1 of each class, and the confusion matrix."""

    def __call__(self, inputs: EvaluationInput) -> Section:
        names = inputs.spec.class_names
        scores, matrix = per_class(inputs.predictions, names), confusion_matrix(inputs.predictions)
        accuracy = float(inputs.predictions.is_right.mean())
        title = f"{inputs.split}: accuracy {accuracy:.4f} on {len(inputs.predictions):,} images"
        rows = [(s.name, s.num_images, f"{s.precision:.6f}", f"{s.recall:.6f}", f"{s.f1:.6f}") for s in scores]
        counts = [(name, *row) for name, row in zip(names, matrix.tolist(), strict=True)]
        return Section(
            "Classes",
            text=_describe_confusions(matrix.numpy(), names),
            tables={
                "per_class": Table(("class", "num_images", "precision", "recall", "f1"), rows),
                "confusion_matrix": Table(("label \\ predicted", *names), counts),
            },
            figures={
                "confusion_matrix": figures.draw_confusion_matrix(matrix, names, title),
                "per_class": figures.draw_per_class(scores, title),
            },
        )


def _describe_confusions(matrix: np.ndarray, names: Sequence[str], count: int = 3) -> str:
    wrong = matrix.copy()
    np.fill_diagonal(wrong, 0)
    order = np.argsort(-wrong, axis=None, kind="stable")[:count]
    pairs = [np.unravel_index(index, wrong.shape) for index in order]
    confusions = [
        f"{isolated(names[int(a)])} taken for {isolated(names[int(b)])} ({wrong[a, b]} of {matrix[a].sum()})"
        for a, b in pairs
        if wrong[a, b]
    ]
    return f"Most often confused: {', '.join(confusions)}." if confusions else "No image was taken for another class."


class CalibrationError:
    """Calibration: error, likelihood and reliability diagram, before and after temperature scaling."""

    def __call__(self, inputs: EvaluationInput) -> Section:
        split, calibration = inputs.split, inputs.spec.calibration
        before, labels = inputs.predictions.probabilities(), inputs.labels
        metrics = {
            f"{split}/nll": _negative_log_likelihood(before, labels),
            f"{split}/brier": brier_score(before, labels),
            f"{split}/ece": expected_calibration_error(before, labels),
        }
        diagrams = {"as trained": reliability(before, inputs.predictions)}
        error = metrics[f"{split}/ece"]
        text = f"Confidence and accuracy differ by {error:.4f} on average (expected calibration error, ECE)."
        if calibration is not None:
            after = inputs.probabilities
            metrics |= {
                f"{split}/nll_calibrated": _negative_log_likelihood(after, labels),
                f"{split}/brier_calibrated": brier_score(after, labels),
                f"{split}/ece_calibrated": expected_calibration_error(after, labels),
                f"{split}/temperature": calibration.temperature,
            }
            diagrams["calibrated"] = reliability(after, inputs.predictions)
            corrected = metrics[f"{split}/ece_calibrated"]
            text += (
                f" Once the confidence is corrected they differ by {corrected:.4f}: by the temperature "
                f"{calibration.temperature:.3f}, fitted on {counted(calibration.num_images, 'validation image')} and "
                "stored with the model."
            )
            if corrected > error and split != "val":
                text += (
                    f" The correction makes it worse on these images, by {corrected - error:.4f}: validation has too "
                    "few images to find a temperature, or other ones than these."
                )
            if split == "val":
                text += " These are the same images: on others expect a little more."
        rows = [
            (name, f"{b.low:.4f}", f"{b.high:.4f}", b.num_images, f"{b.confidence:.6f}", f"{b.accuracy:.6f}")
            for name, bins in diagrams.items()
            for b in bins
        ]
        columns = ("probabilities", "from", "to", "num_images", "confidence", "accuracy")
        return Section(
            "Calibration",
            metrics,
            text,
            {"reliability": Table(columns, rows)},
            {"reliability": figures.draw_reliability(diagrams)},
        )


def _negative_log_likelihood(probabilities: torch.Tensor, labels: torch.Tensor) -> float:
    chosen = probabilities.gather(1, labels[:, None])
    return float(-chosen.clamp(min=1e-300).log().mean())


class Rejecting:
    """Selective prediction (reject option): accuracy by coverage, and at the threshold that validation chose."""

    def __call__(self, inputs: EvaluationInput) -> Section:
        split, calibration = inputs.split, inputs.spec.calibration
        is_right = inputs.predictions.is_right
        curve = coverage_curve(inputs.confidences, is_right)
        metrics = {f"{split}/mean_selective_accuracy": curve.area}
        threshold = None if calibration is None else calibration.threshold
        text = "No threshold was chosen: the model has no calibration."
        if calibration is not None and threshold is None:
            text = (
                "There is no threshold: on validation not even the surest answers reached the wanted "
                f"{percent(calibration.target_accuracy)} accuracy."
            )
        if calibration is not None and threshold is not None:
            answered = inputs.confidences >= threshold
            coverage = float(answered.mean())
            accuracy = float(is_right[answered].mean()) if answered.any() else 1.0
            metrics |= {
                f"{split}/threshold": threshold,
                f"{split}/coverage": coverage,
                f"{split}/accuracy_answered": accuracy,
            }
            text = _describe_answered(threshold, coverage, accuracy, calibration.target_accuracy)
        step = max(1, len(curve.thresholds) // 1000)
        rows = [
            (f"{t:.6f}", f"{c:.6f}", f"{a:.6f}")
            for t, c, a in zip(curve.thresholds[::step], curve.coverages[::step], curve.accuracies[::step], strict=True)
        ]
        goal = None if calibration is None else calibration.target_accuracy
        return Section(
            "Selective prediction",
            metrics,
            text,
            {"coverage": Table(("threshold", "coverage", "accuracy"), rows)},
            {"coverage": figures.draw_coverage(curve, goal, metrics.get(f"{split}/coverage"))},
        )


def _describe_answered(threshold: float, coverage: float, accuracy: float, goal: float) -> str:
    """What is answered at the threshold that validation chose for the wanted accuracy."""
    surely = f"with a confidence of at least {threshold:.4g}, the threshold that validation chose"
    if coverage == 0:
        return f"No image is answered {surely} for the wanted {percent(goal)} accuracy."
    if threshold == 0:
        answered = f"All images are answered: on validation all answers reach the wanted {percent(goal)} accuracy."
    elif accuracy >= goal:
        answered = (
            f"{percent(coverage)} of the images are answered with the wanted {percent(goal)} accuracy: those {surely}."
        )
    else:
        answered = f"{percent(coverage)} of the images are answered, those {surely} for {percent(goal)} accuracy."
    verdict = "reached" if accuracy >= goal else "missed"
    return f"{answered} Here {percent(accuracy)} of the answers are right: the goal is {verdict}."


class Failures:
    """The most confident mistakes, the most uncertain images, and labels that may be wrong."""

    def __init__(self, num_pictures: int = 12) -> None:
        self.num_pictures = num_pictures

    def __call__(self, inputs: EvaluationInput) -> Section:
        labels, predicted = inputs.labels.numpy(), inputs.predictions.predicted.numpy()
        probabilities = inputs.probabilities.numpy()
        wrong = np.flatnonzero(~inputs.predictions.is_right)
        confident = wrong[np.argsort(-inputs.confidences[wrong], kind="stable")]
        top = np.sort(probabilities, axis=1)[:, ::-1]
        margins = top[:, 0] - top[:, 1] if top.shape[1] > 1 else top[:, 0]
        uncertain = np.argsort(margins, kind="stable")
        errors = find_label_errors(probabilities, labels)
        names = inputs.spec.class_names
        rows = [
            (
                inputs.names[s.index],
                names[labels[s.index]],
                names[s.suggested],
                f"{s.label_probability:.6f}",
                f"{s.suggested_probability:.6f}",
            )
            for s in errors
        ]
        order = np.concatenate([confident, uncertain[~np.isin(uncertain, wrong)]])
        all_rows = [
            (inputs.names[i], names[labels[i]], names[predicted[i]], f"{inputs.confidences[i]:.6f}") for i in order
        ]
        suspects = _describe_suspects(errors, len(wrong) / len(labels))
        text = f"{len(wrong):,} of {len(labels):,} predictions are wrong. {suspects}"
        shown = [s.index for s in errors[: self.num_pictures]]
        return Section(
            "Failures",
            {f"{inputs.split}/label_suspects": float(len(errors))},
            text,
            {
                "label_suspects": Table(
                    ("file", "label", "suggested", "label_probability", "suggested_probability"), rows
                ),
                "predictions": Table(("file", "label", "predicted", "confidence"), all_rows),
            },
            pictures={
                "Most confident mistakes": self._show(inputs, confident),
                "Most uncertain": self._show(inputs, uncertain),
                "Labels that may be wrong": self._show(inputs, np.array(shown, np.int64)),
            },
        )

    def _show(self, inputs: EvaluationInput, indices: np.ndarray) -> list[Picture]:
        chosen = indices[: self.num_pictures].tolist()
        names, labels, predicted = inputs.spec.class_names, inputs.labels, inputs.predictions.predicted
        images = (image for batch in inputs.pixels(chosen) for image in batch.numpy())
        return [
            Picture(
                to_display(image, inputs.spec.display_bands),
                (
                    f"{isolated(names[predicted[index]])} {inputs.confidences[index]:.1%}",
                    f"label: {isolated(names[labels[index]])}",
                    isolated(inputs.names[index]),
                ),
            )
            for index, image in zip(chosen, images, strict=True)
        ]


def _describe_suspects(errors: Sequence[LabelError], share_wrong: float) -> str:
    if not errors:
        return "No label looks wrong (confident learning)."
    looks = f"{counted(len(errors), 'label')} {'looks' if len(errors) == 1 else 'look'} wrong (confident learning)"
    if share_wrong > MAX_WRONG:
        return (
            f"{looks}, but the model is wrong in {percent(share_wrong)} of its answers: most of these labels may well "
            "be right, so look at each before you change it."
        )
    return f"{looks}: look at them before believing the number."
