"""The sections of a report: each class looks at the same predictions. A new one needs a line in configs/evaluation."""

from collections.abc import Sequence

import numpy as np
import torch

from sightline.evaluation import figures
from sightline.evaluation.calibration import brier_score, expected_calibration_error, reliability
from sightline.evaluation.evaluation_input import EvaluationInput, Picture, Section, Table
from sightline.evaluation.intervals import macro_f1, resample, weighted_mean
from sightline.evaluation.label_errors import find_label_suspects
from sightline.evaluation.scores import confusion_matrix, measure, per_class
from sightline.evaluation.selective_prediction import coverage_curve


class Scores:
    """Accuracy, top-5 and the macro averages, with intervals that respect groups."""

    def __call__(self, subject: EvaluationInput) -> Section:
        split, predictions = subject.split, subject.predictions
        metrics = measure(predictions, split)
        labels, predicted = predictions.labels.numpy(), predictions.predicted.numpy()
        f1 = resample(macro_f1(labels, predicted, subject.spec.num_classes), subject.groups, seed=subject.seed)
        accuracy = resample(weighted_mean(predictions.is_right.astype(float)), subject.groups, seed=subject.seed)
        metrics |= {
            f"{split}/macro_f1_low": f1.low,
            f"{split}/macro_f1_high": f1.high,
            f"{split}/accuracy_standard_deviation": accuracy.standard_deviation,
        }
        text = (
            f"{len(predictions):,} images: accuracy {metrics[f'{split}/accuracy']:.4f} "
            f"({metrics[f'{split}/accuracy_low']:.4f} to {metrics[f'{split}/accuracy_high']:.4f} with 95 % confidence, "
            f"Wilson), macro F1 {metrics[f'{split}/macro_f1']:.4f} ({f1.low:.4f} to {f1.high:.4f}, bootstrap)."
        )
        if subject.has_groups:
            metrics |= {f"{split}/accuracy_low_grouped": accuracy.low, f"{split}/accuracy_high_grouped": accuracy.high}
            text += (
                f" The images come in {int(subject.groups.max()) + 1:,} groups, and images of one group are not "
                f"independent: over groups the accuracy lies between {accuracy.low:.4f} and {accuracy.high:.4f}. "
                "This is the interval to quote, and that of the macro F1 is over groups too."
            )
        rows = [(name, f"{value:.6f}") for name, value in metrics.items()]
        return Section("Scores", metrics, text, {"scores": Table(("metric", "value"), rows)})


class PerClass:
    """Precision, recall and F1 of each class, and the confusion matrix."""

    def __call__(self, subject: EvaluationInput) -> Section:
        names = subject.spec.class_names
        scores, matrix = per_class(subject.predictions, names), confusion_matrix(subject.predictions)
        accuracy = float(subject.predictions.is_right.mean())
        title = f"{subject.split}: accuracy {accuracy:.4f} on {len(subject.predictions):,} images"
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
    pairs = [np.unravel_index(place, wrong.shape) for place in order]
    said = [f"{names[a]} taken for {names[b]} ({wrong[a, b]} of {matrix[a].sum()})" for a, b in pairs if wrong[a, b]]
    return f"Most often confused: {', '.join(said)}." if said else "No image was taken for another class."


class CalibrationError:
    """Whether confidences can be believed, before and after the temperature that validation chose."""

    def __call__(self, subject: EvaluationInput) -> Section:
        split, calibration = subject.split, subject.spec.calibration
        before, labels = subject.predictions.probabilities(), subject.labels
        metrics = {
            f"{split}/nll": _negative_log_likelihood(before, labels),
            f"{split}/brier": brier_score(before, labels),
            f"{split}/ece": expected_calibration_error(before, labels),
        }
        diagrams = {"as trained": reliability(before, subject.predictions)}
        text = (
            f"Expected calibration error {metrics[f'{split}/ece']:.4f}: the mean distance of confidence and accuracy."
        )
        if calibration is not None:
            after = subject.probabilities
            metrics |= {
                f"{split}/nll_calibrated": _negative_log_likelihood(after, labels),
                f"{split}/brier_calibrated": brier_score(after, labels),
                f"{split}/ece_calibrated": expected_calibration_error(after, labels),
                f"{split}/temperature": calibration.temperature,
            }
            diagrams["calibrated"] = reliability(after, subject.predictions)
            text += (
                f" With the temperature {calibration.temperature:.3f}, fitted on {calibration.num_images:,} validation "
                f"images and stored with the model, it is {metrics[f'{split}/ece_calibrated']:.4f}."
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
    """What accuracy is bought by answering only when sure, and the threshold that validation chose for a goal."""

    def __call__(self, subject: EvaluationInput) -> Section:
        split, calibration = subject.split, subject.spec.calibration
        is_right = subject.predictions.is_right
        curve = coverage_curve(subject.confidences, is_right)
        metrics = {f"{split}/mean_selective_accuracy": curve.area}
        threshold = None if calibration is None else calibration.threshold
        text = "No threshold was chosen: the model has no calibration."
        if calibration is not None and threshold is None:
            text = f"No threshold reaches the accuracy {calibration.target_accuracy:.4g} on validation."
        if calibration is not None and threshold is not None:
            answered = subject.confidences >= threshold
            coverage = float(answered.mean())
            accuracy = float(is_right[answered].mean()) if answered.any() else 1.0
            metrics |= {
                f"{split}/threshold": threshold,
                f"{split}/coverage": coverage,
                f"{split}/accuracy_answered": accuracy,
            }
            goal = calibration.target_accuracy
            text = (
                f"To be right in {goal:.2%} of its answers, validation asks for a confidence of at least "
                f"{threshold:.4f}. Here that answers {coverage:.2%} of the images, {accuracy:.2%} of them right: "
                f"the goal is {'reached' if accuracy >= goal else 'missed'}."
            )
        step = max(1, len(curve.thresholds) // 1000)
        rows = [
            (f"{t:.6f}", f"{c:.6f}", f"{a:.6f}")
            for t, c, a in zip(curve.thresholds[::step], curve.coverages[::step], curve.accuracies[::step], strict=True)
        ]
        goal = None if calibration is None else calibration.target_accuracy
        return Section(
            "Rejecting",
            metrics,
            text,
            {"coverage": Table(("threshold", "coverage", "accuracy"), rows)},
            {"coverage": figures.draw_coverage(curve, goal, metrics.get(f"{split}/coverage"))},
        )


class Failures:
    """The most confident mistakes, the most uncertain images, and labels that may be wrong."""

    def __init__(self, num_pictures: int = 12) -> None:
        self.num_pictures = num_pictures

    def __call__(self, subject: EvaluationInput) -> Section:
        labels, predicted = subject.labels.numpy(), subject.predictions.predicted.numpy()
        probabilities = subject.probabilities.numpy()
        wrong = np.flatnonzero(~subject.predictions.is_right)
        confident = wrong[np.argsort(-subject.confidences[wrong], kind="stable")]
        top = np.sort(probabilities, axis=1)[:, ::-1]
        margins = top[:, 0] - top[:, 1] if top.shape[1] > 1 else top[:, 0]
        uncertain = np.argsort(margins, kind="stable")
        suspects = find_label_suspects(probabilities, labels)
        names = subject.spec.class_names
        rows = [
            (
                subject.names[s.index],
                names[labels[s.index]],
                names[s.suggested],
                f"{s.label_probability:.6f}",
                f"{s.suggested_probability:.6f}",
            )
            for s in suspects
        ]
        order = np.concatenate([confident, uncertain[~np.isin(uncertain, wrong)]])
        all_rows = [
            (subject.names[i], names[labels[i]], names[predicted[i]], f"{subject.confidences[i]:.6f}") for i in order
        ]
        text = (
            f"{len(wrong):,} of {len(labels):,} predictions are wrong. {len(suspects):,} labels look wrong by "
            "confident learning: look at them before believing the number."
        )
        suspected = [s.index for s in suspects[: self.num_pictures]]
        return Section(
            "Failures",
            {f"{subject.split}/label_suspects": float(len(suspects))},
            text,
            {
                "label_suspects": Table(
                    ("file", "label", "suggested", "label_probability", "suggested_probability"), rows
                ),
                "predictions": Table(("file", "label", "predicted", "confidence"), all_rows),
            },
            pictures={
                "Most confident mistakes": self._show(subject, confident),
                "Most uncertain": self._show(subject, uncertain),
                "Labels that may be wrong": self._show(subject, np.array(suspected, np.int64)),
            },
        )

    def _show(self, subject: EvaluationInput, indices: np.ndarray) -> list[Picture]:
        chosen = indices[: self.num_pictures].tolist()
        names, labels, predicted = subject.spec.class_names, subject.labels, subject.predictions.predicted
        images = (image for batch in subject.pixels(chosen) for image in batch.numpy())
        return [
            Picture(
                image,
                (
                    f"{names[predicted[index]]} {subject.confidences[index]:.1%}",
                    f"label: {names[labels[index]]}",
                    subject.names[index],
                ),
            )
            for index, image in zip(chosen, images, strict=True)
        ]
