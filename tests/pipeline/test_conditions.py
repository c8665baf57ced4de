"""What a gate asks: each condition met and missed, and the sentence that says by how much."""

from typing import Any

import pytest

from sightline.config import GateConfig
from sightline.pipeline.conditions import against_champion, decide, threshold, unchanged_images


def asked(**settings: Any) -> GateConfig:
    return GateConfig(**settings)


def test_the_threshold_is_held_to_the_lower_end_of_the_interval() -> None:
    settings = asked(min_accuracy=0.95)
    [met] = threshold(settings, {"test/accuracy": 0.98, "test/accuracy_low": 0.96})
    assert (met.name, met.value, met.bound, met.kind, met.passed) == (
        "test/accuracy_low",
        0.96,
        0.95,
        "threshold",
        True,
    )
    [missed] = threshold(settings, {"test/accuracy": 0.98, "test/accuracy_low": 0.9421})
    assert not missed.passed
    assert missed.sentence == "test/accuracy_low is 0.9421, 0.0079 below the least it may be, 0.95"


def test_images_of_groups_are_held_to_the_interval_over_groups() -> None:
    metrics = {"test/accuracy_low": 0.97, "test/accuracy_low_grouped": 0.93}
    [condition] = threshold(asked(min_accuracy=0.95), metrics)
    assert (condition.name, condition.value, condition.passed) == ("test/accuracy_low_grouped", 0.93, False)
    own = threshold(asked(gates={"test/accuracy_low": 0.95}), metrics)
    assert [each.name for each in own] == ["test/accuracy_low"], "a gate that is named is taken by its name"


def test_less_is_better_where_it_is_of_a_metric() -> None:
    settings = asked(gates={"test/ece_calibrated": 0.03, "test/macro_f1": 0.9, "test/mine": 0.5})
    metrics = {"test/ece_calibrated": 0.05, "test/macro_f1": 0.95, "test/mine": 0.4}
    conditions = threshold(settings, metrics, {"mine": "min"})
    assert [each.passed for each in conditions] == [False, True, True]
    assert conditions[0].sentence == "test/ece_calibrated is 0.0500, 0.0200 above the most it may be, 0.03"


def test_what_was_not_measured_or_is_no_number_is_not_met() -> None:
    conditions = threshold(asked(gates={"test/x": 0.1, "test/nll": 1.0}), {"test/nll": float("nan")})
    assert [(each.value is None, each.passed) for each in conditions] == [(True, False), (False, False)]


@pytest.mark.parametrize(
    ("against", "low", "value", "passes"),
    [
        ("no_worse", -0.004, 0.0, True),
        ("no_worse", -0.006, 0.0, False),
        ("no_worse", 0.0, 0.0, True),
        ("better", 0.001, 0.01, True),
        ("better", 0.0, 0.01, False),
        ("better", -0.001, 0.01, False),
    ],
)
def test_the_champion_is_met_by_the_paired_interval(against: str, low: float, value: float, passes: bool) -> None:
    name = "test/against/accuracy_difference"
    metrics = {name: value, f"{name}_low": low, f"{name}_high": 0.02}
    condition = against_champion(asked(against=against), metrics, "digits/2")
    assert condition.passed is passes
    assert "digits/2" in condition.sentence


def test_too_few_test_images_are_named_as_the_cause() -> None:
    name = "test/against/accuracy_difference"
    metrics = {name: 0.0, f"{name}_low": -0.011, f"{name}_high": 0.011}
    sentence = against_champion(asked(), metrics, "digits/2").sentence
    assert sentence == (
        "beside digits/2 on the same test images its accuracy differs by +0.00 points (-1.10 to +1.10 with 95 % "
        "confidence), and the lower end may be 0.5 points below at the most (pipeline.max_loss): it is 0.0060 too low; "
        "more test images, or a larger pipeline.max_loss, could show that it is no worse"
    )
    surely_worse = against_champion(asked(), {**metrics, name: -0.02, f"{name}_low": -0.03}, "digits/2").sentence
    assert "more test images" not in surely_worse


def test_changed_test_images_are_refused_unless_said() -> None:
    changed = {"new": 3, "gone": 0, "relabelled or moved": 1}
    refused = unchanged_images(asked(), changed, "digits/1")
    assert not refused.passed
    assert "3 new, 1 relabelled or moved" in refused.sentence
    assert "pipeline.allow_test_changes=true" in refused.sentence
    assert unchanged_images(asked(allow_test_changes=True), changed, "digits/1").passed
    assert unchanged_images(asked(), dict.fromkeys(changed, 0), "digits/1").passed


def test_the_decision_says_all_that_was_missed() -> None:
    missed = threshold(asked(min_accuracy=0.9, gates={"test/ece": 0.01}), {"test/accuracy_low": 0.8, "test/ece": 0.1})
    passed, sentence = decide(asked(), missed, None)
    assert not passed
    assert "0.1000 below the least" in sentence
    assert "0.0900 above the most" in sentence
    passed, sentence = decide(asked(gate=None), missed, None)
    assert passed
    assert sentence.startswith("nothing is asked (pipeline.gate=null)")
    assert "it would not have passed: test/accuracy_low is 0.8000" in sentence


def test_the_first_version_has_the_threshold_alone_and_that_is_said() -> None:
    met = threshold(asked(min_accuracy=0.5), {"test/accuracy_low": 0.8})
    assert decide(asked(), met, None)[1].endswith(
        "there is no champion to compare with yet, the threshold alone decides"
    )
    assert decide(asked(), [], None) == (True, "there is no champion to compare with yet, and no threshold is set")
