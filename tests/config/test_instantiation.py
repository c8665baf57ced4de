"""Objects by `_target_`: what does not exist or does not take its arguments is named, with what it takes."""

from functools import partial
from pathlib import Path
from typing import Any

import pytest

from sightline.config import build, build_part, taken_by, taken_by_name
from sightline.errors import BadInput

HERE = __name__


class Box:
    """A class with a default and any further keyword."""

    def __init__(self, size: int, colour: str = "red") -> None:
        if size < 0:
            raise ValueError("size must be 0 or more")
        self.size, self.colour = size, colour

    def __call__(self, number: int) -> int:
        return number * self.size


def add(number: int, more: int = 1) -> int:
    return number + more


def make_box(size: int) -> Box:
    return Box(size)


def takes_any(number: int, **others: Any) -> dict[str, Any]:
    return others


VALUE = 3


@pytest.mark.parametrize(
    ("node", "message"),
    [
        (
            {"_target_": "no_such_package.Thing"},
            "part._target_=no_such_package.Thing: there is no module no_such_package",
        ),
        ({"_target_": f"{HERE}.Bax"}, f"{HERE} has no Bax (did you mean {HERE}.Box?)"),
        ({"_target_": f"{HERE}.Box.wings"}, "has no wings"),
        ({"_target_": f"{HERE}.VALUE"}, "VALUE of tests.config.test_instantiation is of type int, and no class"),
        ({"_target_": f"{HERE}.Box"}, "missing a required argument: 'size'; it takes size, colour='red'"),
        (
            {"_target_": f"{HERE}.Box", "sise": 1},
            "does not take sise (did you mean size?); it takes size, colour='red'",
        ),
        ({"_target_": f"{HERE}.Box", "size": -1}, "size must be 0 or more; change or remove that argument"),
        ({"_target_": f"{HERE}.Box", "size": 1, "colour": {"_target_": f"{HERE}.ad"}}, "part.colour._target_="),
    ],
)
def test_what_cannot_be_made_is_named(node: dict[str, Any], message: str) -> None:
    with pytest.raises(BadInput) as caught:
        build(node, "part")
    assert message in str(caught.value)
    assert str(caught.value).startswith("part")


def test_a_module_that_fails_is_named_with_its_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "fails_when_imported.py").write_text("VALUE = 1\nraise RuntimeError('no')\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(BadInput, match=r"cannot be imported \(.*fails_when_imported.py line 2: RuntimeError: no\)"):
        build({"_target_": "fails_when_imported.Thing"}, "part")


def test_a_class_is_made_and_a_function_waits_for_its_first_argument() -> None:
    box = build_part({"_target_": f"{HERE}.Box", "size": 3}, "part", colour="blue", weight=2)
    assert isinstance(box, Box)
    assert (box(2), box.colour) == (6, "blue")
    waiting = build_part({"_target_": f"{HERE}.add", "more": 5}, "part")
    assert isinstance(waiting, partial)
    assert waiting(1) == 6
    assert build_part({"_target_": f"{HERE}.make_box", "size": 2, "_partial_": False}, "part")(4) == 8
    with pytest.raises(BadInput, match="made int, which cannot be called"):
        build_part({"_target_": f"{HERE}.add", "number": 1, "_partial_": False}, "part")


def test_only_what_has_a_name_is_offered() -> None:
    offered = {"more": 1, "other": 2}
    assert taken_by(add, offered) == {"more": 1}
    assert taken_by(takes_any, offered) == offered
    assert taken_by_name(takes_any, offered) == {}
