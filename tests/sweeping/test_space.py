"""Search spaces: what is refused, what is searched, and the words that each trial gets."""

from collections.abc import Mapping
from typing import Any

import optuna
import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

from sightline.errors import BadInput
from sightline.sweeping.space import describe_difference, parse_space, to_overrides, to_text

CONDITIONAL = {
    "model.optimizer.momentum": {"interval": [0.5, 0.99], "when": {"model/optimizer": "sgd"}},
    "model/optimizer": {"choice": ["adam", "sgd", "rmsprop"]},
    "model.lr": {"interval": [1e-4, 1e-2], "log": True},
    "trainer.max_epochs": {"range": [2, 8], "step": 2},
}
REFUSED: list[tuple[Mapping[str, Any], str]] = [
    ({}, "nothing to search"),
    ({"a": 3}, "write {interval: [low, high]}"),
    ({"a": {"interval": [1, 2], "lgo": True}}, "no such word lgo; known are interval, range, choice, log"),
    ({"a": {"log": True}}, "write one of interval, range, choice, not none"),
    ({"a": {"interval": [1, 2], "choice": [1]}}, "not interval and choice"),
    ({"a": {"interval": [2, 1]}}, "interval=[2, 1] is empty"),
    ({"a": {"interval": [1, 1]}}, "interval=[1, 1] is empty"),
    ({"a": {"interval": [1]}}, "give two numbers"),
    ({"a": {"interval": [0, 1], "log": True}}, "a log scale needs numbers above 0"),
    ({"a": {"interval": [1, 2], "step": 0.1}}, "only range has steps"),
    ({"a": {"range": [1, 9], "step": 0}}, "they are above 0"),
    ({"a": {"range": [0.5, 9], "log": True}}, "it needs whole numbers"),
    ({"a": {"choice": []}}, "is empty; list the values"),
    ({"a": {"choice": [1, 1]}}, "names a value twice"),
    ({"a": {"choice": [1], "when": {"b": 1}}}, "when names b, which is neither searched nor set"),
    ({"a": {"choice": [1, 2], "when": {"b": 1}}, "b": {"choice": [1], "when": {"a": 1}}}, "wait for each other"),
    ({"a": {"choice": [1, 2], "when": {"b": 3}}, "b": {"choice": [1, 2]}}, "never holds"),
]


@pytest.mark.parametrize(("params", "message"), REFUSED)
def test_refused(params: Mapping[str, Any], message: str) -> None:
    with pytest.raises(BadInput) as refused:
        parse_space(params)
    assert message in str(refused.value)


def test_conditions_decide_what_is_in_a_point() -> None:
    space = parse_space(CONDITIONAL)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    points = [space.suggest(study.ask()) for _ in range(60)]
    assert {point["model/optimizer"] for point in points} == {"adam", "sgd", "rmsprop"}
    for point in points:
        assert ("model.optimizer.momentum" in point) == (point["model/optimizer"] == "sgd")
        assert 1e-4 <= point["model.lr"] <= 1e-2
        assert point["trainer.max_epochs"] in (2, 4, 6, 8)
        assert isinstance(point["trainer.max_epochs"], int)
    assert sum(point["model.lr"] < 1e-3 for point in points) == pytest.approx(30, abs=12), "log scale"


def test_corners_show_every_choice_and_end_under_its_condition() -> None:
    corners = list(parse_space(CONDITIONAL).corners())
    seen = {(key, value) for corner in corners for key, value in corner.items()}
    assert {("model/optimizer", name) for name in ("adam", "sgd", "rmsprop")} <= seen
    assert {("model.optimizer.momentum", 0.5), ("model.optimizer.momentum", 0.99)} <= seen
    assert {("model.lr", 1e-4), ("model.lr", 1e-2), ("trainer.max_epochs", 2), ("trainer.max_epochs", 8)} <= seen
    assert all(("model.optimizer.momentum" in c) == (c["model/optimizer"] == "sgd") for c in corners)


def test_a_key_with_one_value_on_the_command_line_is_not_searched() -> None:
    space = parse_space(CONDITIONAL, {"model.lr": "0.1", "model/optimizer": "sgd"})
    assert space.keys == ["model.optimizer.momentum", "trainer.max_epochs"]
    assert parse_space(CONDITIONAL, {"model/optimizer": "adam"}).keys == ["model.lr", "trainer.max_epochs"]
    with pytest.raises(BadInput, match="nothing is left to search, a, b typed with one value; leave one of them out"):
        parse_space({"a": {"choice": [1, 2]}, "b": {"choice": [1, 2]}}, {"a": 1, "b": 2})


@pytest.mark.parametrize(
    "value",
    [
        1,
        0.1,
        1e-7,
        True,
        None,
        "sgd",
        "a b",
        "true",
        "1e-3",
        "it's",
        'say "so"',
        "a,b",
        "/a/b.csv",
        [1, "x y"],
        {"a": 1},
    ],
)
def test_words_come_back_as_the_same_value(value: Any) -> None:
    """Hydra's own parser reads what we write."""
    override = OverridesParser.create().parse_override(f"key={to_text(value)}")
    back: Any = override.value()
    back = getattr(back, "text", back)
    assert [getattr(each, "text", each) for each in back] == value if isinstance(value, list) else back == value
    assert isinstance(back, bool) == isinstance(value, bool)


def test_lists_and_dictionaries_can_be_chosen() -> None:
    space = parse_space({"model.arguments.channels": {"choice": [[32, 64], [64, 128]]}})
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    trial = study.ask()
    point = space.suggest(trial)
    assert point["model.arguments.channels"] in ([32, 64], [64, 128])
    assert space.decode(trial.params) == point
    assert to_overrides({"a": [32, 64]}) == ["a=[32,64]"]


def test_points_outside_are_refused() -> None:
    space = parse_space(CONDITIONAL)
    space.check({"model.lr": 0.001, "model/optimizer": "sgd"}, "enqueue[0]")
    for point, message in (({"model.lr": 1.0}, "model.lr=1.0 lies outside"), ({"lr": 1}, "lr is not searched")):
        with pytest.raises(BadInput) as refused:
            space.check(point, "enqueue[0]")
        assert message in str(refused.value)


def test_differences_are_named() -> None:
    before, now = parse_space(CONDITIONAL).describe(), parse_space({"model.lr": {"interval": [1e-4, 1]}}).describe()
    lines = describe_difference(before, now)
    assert any("model.lr is {'interval': [0.0001, 1.0]}" in line for line in lines)
    assert any("model/optimizer is gone" in line for line in lines)
