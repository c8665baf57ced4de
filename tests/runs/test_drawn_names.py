"""Names in figures: whatever their characters, in one line, apart from each other."""

import pytest
from matplotlib import font_manager
from matplotlib.figure import Figure
from tests.odd_names import LABELS

from sightline.runs.drawn_names import drawable, drawable_each, font_file, plain_text, restore

MISSING = "\U0010fffd"
"""A character for private use, which no font here has."""


def test_what_a_font_has_stays_as_it_is() -> None:
    for name in ("$5 and $10", r"us$ a_{b}^c $\frac{$", "<b>&", "שלום עולם", "Übung", "=@+"):
        assert drawable(name) == name


def test_what_no_font_has_is_written_by_its_number_and_comes_back() -> None:
    assert drawable(f"a{MISSING}b") == r"a\U0010fffdb"
    assert restore(f"<text>{drawable(f'a{MISSING}b')}</text>") == f"<text>a{MISSING}b</text>"
    assert restore(r"\u0041") == r"\u0041", "a name that is written so stays"


def test_a_name_is_one_line() -> None:
    assert drawable(" a\n\tb\r\nc ") == "a b c"
    assert drawable("\n") == r"\u000a"


@pytest.mark.parametrize("name", ["x" * 200, MISSING * 30, "猫" * 100, "ab" * 20 + "c"])
def test_a_long_name_keeps_both_ends(name: str) -> None:
    short = drawable(name, 40)
    assert len(short) <= 40
    assert "…" in short
    assert restore(short)[0] == name[0]
    assert restore(short)[-1] == name[-1]


def test_names_that_are_cut_to_the_same_are_numbered() -> None:
    names = ["x" * 100 + "1" + "x" * 100, "short", "x" * 100 + "2" + "x" * 100]
    shown = drawable_each(names)
    assert shown[0] == shown[2].replace("#3", "#1")
    assert len(set(shown)) == 3
    assert shown[1] == "short"


def test_a_figure_is_drawn_without_a_warning_about_its_names() -> None:
    figure = Figure(layout="constrained")
    axes = figure.subplots()
    with plain_text(LABELS):
        axes.set_xticks(range(len(LABELS)), labels=drawable_each(LABELS), rotation=90)
        axes.set_title(drawable(LABELS[0]))
    figure.canvas.draw()
    assert [label.get_text() for label in axes.get_xticklabels()] == drawable_each(LABELS)


def test_the_font_of_a_title_has_all_its_characters() -> None:
    for name in LABELS:
        title = drawable(name)
        has = font_manager.get_font(font_file(title)).get_charmap()
        assert all(ord(character) in has for character in title)
