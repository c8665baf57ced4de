"""Metrics of one's own: what is measured, what is refused, and in which direction they are best."""

from pathlib import Path
from typing import Any

import pytest
import torch
from tests.conftest import Cli, compose_train

from sightline.errors import BadInput
from sightline.models.own_metrics import build_metrics, check_metrics

OF_TORCHMETRICS = "torchmetrics.classification"


def share_of_first(logits: torch.Tensor, labels: torch.Tensor) -> float:
    return float((logits.argmax(1) == 0).float().mean())


def of_each(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    return logits[:, 0]


def test_a_function_sees_the_whole_split_and_a_class_gets_the_number_of_classes() -> None:
    nodes = {
        "first": {"_target_": f"{__name__}.share_of_first"},
        "auroc": {"_target_": f"{OF_TORCHMETRICS}.MulticlassAUROC", "mode": "max"},
    }
    check_metrics(nodes, 3)
    metrics = build_metrics(nodes, 3)
    for logits in (torch.eye(3), torch.eye(3)[:1]):
        for metric in metrics.values():
            metric.update(logits, torch.arange(len(logits)))
    assert {name: float(metric.compute()) for name, metric in metrics.items()} == {"first": 0.5, "auroc": 1.0}


@pytest.mark.parametrize(
    ("node", "message"),
    [
        ({"_target_": f"{__name__}.of_each"}, "makes values (6,), and must make one number"),
        ({"_target_": f"{OF_TORCHMETRICS}.MulticlassAccuracy", "average": "none"}, "add average: macro"),
        ({"_target_": f"{OF_TORCHMETRICS}.MulticlassCalibrationError"}, "add evaluation.metrics.mine.mode=min"),
        ({"_target_": f"{OF_TORCHMETRICS}.BinaryAccuracy"}, "does not take logits (6, 3) and labels (6,)"),
        ({"_target_": f"{OF_TORCHMETRICS}.MulticlassAccuracy", "k": 2}, "Unexpected keyword arguments: `k`"),
    ],
)
def test_what_is_no_metric_of_a_classifier_is_named(node: dict[str, Any], message: str) -> None:
    with pytest.raises(BadInput) as caught:
        check_metrics({"mine": node}, 3)
    assert message in str(caught.value)
    assert "evaluation.metrics.mine" in str(caught.value)


def test_one_may_decide_and_its_direction_is_its_own() -> None:
    error = f"+evaluation.metrics.error={{_target_: {OF_TORCHMETRICS}.MulticlassHammingDistance, mode: min}}"
    cfg = compose_train(error, "checkpoint.monitor=val/error", "optimized_metric=val/error")
    assert cfg.evaluation.modes() == {"error": "min"}
    for word in ("checkpoint.monitor=test/error", "optimized_metric=test/error"):
        with pytest.raises(BadInput, match="nothing may be chosen on the test set"):
            compose_train(error, word)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("evaluation.metrics.accuracy._target_=a.B", "evaluation.metrics.accuracy: accuracy is a metric already"),
        ("+evaluation.metrics.mine=3", "evaluation.metrics.mine=3: no _target_ is set; write {_target_: MODULE.CLASS}"),
        ("+evaluation.metrics.mine={_target_:a.B,mode:best}", "evaluation.metrics.mine.mode=best: must be min where"),
        ("checkpoint.monitor=val/mine", "checkpoint.monitor=val/mine: must be one of val/loss"),
    ],
)
def test_bad_input(words: str, message: str, cli: Cli, tmp_path: Path) -> None:
    done = cli("train", f"paths.runs={tmp_path / 'runs'}", "model.name=test_resnet", *words.split())
    assert done.returncode == 2, done.stderr
    assert message in done.stderr
    assert not list(tmp_path.rglob("*"))
