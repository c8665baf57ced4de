"""The conditions of a gate: what a candidate's numbers must be, each with the sentence that says how it came out."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from sightline.config import GateConfig
from sightline.metrics import NONE_OWN, Mode, meets, mode_of

LOW, GROUPED_LOW = "test/accuracy_low", "test/accuracy_low_grouped"
DIFFERENCE = "test/against/accuracy_difference"
DIFFERENCE_LOW = f"{DIFFERENCE}_low"
KINDS = ("threshold", "metric", "champion", "data")


@dataclass(frozen=True)
class Condition:
    """One thing that a candidate must be, and whether it is."""

    name: str
    """Of the metric, or `data/val_and_test`."""
    value: float | None
    """None where it was not measured."""
    bound: float
    kind: str
    """One of `KINDS`."""
    passed: bool
    sentence: str

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def threshold(
    settings: GateConfig, metrics: Mapping[str, float], modes: Mapping[str, Mode] = NONE_OWN
) -> list[Condition]:
    """The least that the lower end of the accuracy's interval may be, and the bounds of further metrics.

    The interval is the one over groups where images come in groups: images of one group are not independent.
    """
    found = []
    for name, bound in settings.bounds().items():
        is_threshold = name == LOW and name not in settings.further_bounds()
        measured = GROUPED_LOW if is_threshold and GROUPED_LOW in metrics else name
        found.append(_bounded(measured, metrics, bound, "threshold" if is_threshold else "metric", modes))
    return found


def _bounded(name: str, metrics: Mapping[str, float], bound: float, kind: str, modes: Mapping[str, Mode]) -> Condition:
    is_less_better = mode_of(name, modes) == "min"
    most = "most" if is_less_better else "least"
    if name not in metrics:
        sentence = f"{name} was not measured, and must be at {most} {bound:g}"
        return Condition(name, None, bound, kind, False, sentence)
    value = float(metrics[name])
    if meets(name, value, bound, modes):
        return Condition(
            name, value, bound, kind, True, f"{name} is {_number(value)}, at {most} {bound:g} as asked for"
        )
    side = "above" if is_less_better else "below"
    sentence = f"{name} is {_number(value)}, {_number(abs(value - bound))} {side} the {most} it may be, {bound:g}"
    return Condition(name, value, bound, kind, False, sentence)


def against_champion(settings: GateConfig, metrics: Mapping[str, float], champion: str) -> Condition:
    """How the candidate must stand beside the champion, by the paired interval of the difference on the same images.

    `no_worse`: the lower end is no further below 0 than `max_loss` (a test of non-inferiority); `better`: above 0.
    """
    bound = 0.0 if settings.against == "better" else -settings.max_loss
    if DIFFERENCE_LOW not in metrics:
        sentence = f"{DIFFERENCE} was not measured: evaluate with against={champion}"
        return Condition(DIFFERENCE_LOW, None, bound, "champion", False, sentence)
    low, high, value = (float(metrics[f"{DIFFERENCE}{end}"]) for end in ("_low", "_high", ""))
    passed = low > 0 if settings.against == "better" else low >= bound
    measured = (
        f"beside {champion} on the same test images its accuracy differs by {_points(value)} ({100 * low:+.2f} to "
        f"{100 * high:+.2f} with 95 % confidence)"
    )
    if settings.against == "better":
        asked = "so it is better" if passed else f"{_number(-low)} short of being surely better"
    elif passed:
        asked = f"so it is no worse than {_share(settings.max_loss)}"
    else:
        asked = (
            f"and the lower end may be {_share(settings.max_loss)} below at the most (pipeline.max_loss): "
            f"it is {_number(bound - low)} too low"
        )
        if value >= bound:
            asked += "; more test images, or a larger pipeline.max_loss, could show that it is no worse"
    return Condition(DIFFERENCE_LOW, low, bound, "champion", passed, f"{measured}, {asked}")


def unchanged_images(settings: GateConfig, changed: Mapping[str, int], champion: str) -> Condition:
    """Whether val and test are the champion's: `changed` counts images that are `new`, `gone` or `relabelled`."""
    count = sum(changed.values())
    if not count:
        return Condition("data/val_and_test", 0.0, 0.0, "data", True, f"val and test are those of {champion}")
    how = ", ".join(f"{number:,} {what}" for what, number in changed.items() if number)
    sentence = f"val and test are not those of {champion}: {how}"
    if settings.allow_test_changes:
        sentence += ", as pipeline.allow_test_changes=true lets them"
    else:
        sentence += "; keep them fixed, or say that it is meant with pipeline.allow_test_changes=true"
    return Condition("data/val_and_test", float(count), 0.0, "data", settings.allow_test_changes, sentence)


def decide(settings: GateConfig, conditions: list[Condition], champion: str | None) -> tuple[bool, str]:
    """Whether the candidate passes, and why in a sentence."""
    failed = [each.sentence for each in conditions if not each.passed]
    if not settings.gate:
        noted = f"; it would not have passed: {'; '.join(failed)}" if failed else ""
        return True, f"nothing is asked (pipeline.gate=null), the numbers are recorded{noted}"
    if failed:
        return False, "; ".join(failed)
    met = "; ".join(each.sentence for each in conditions)
    if champion is None:
        alone = "there is no champion to compare with yet"
        met = f"{met}; {alone}, the threshold alone decides" if met else f"{alone}, and no threshold is set"
    return True, met


def _number(value: float) -> str:
    return f"{value:.4f}" if value == 0 or abs(value) >= 0.0001 else f"{value:.2g}"


def _share(value: float) -> str:
    return f"{100 * value:g} points"


def _points(value: float) -> str:
    return f"{100 * value:+.2f} points"
