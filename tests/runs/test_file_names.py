"""Names of files as text and back, and names that file systems take."""

import os

import pytest

from sightline.runs.file_names import MAX_BYTES, fit_name, readable, to_name, to_text

NAMES = {
    "plain.png": "plain.png",
    "Übung 猫 🐶 שלום.png": "Übung 猫 🐶 שלום.png",
    "=a,b;'\"#%20$x_{y}^z <b>&[red].png": "=a,b;'\"#%20$x_{y}^z <b>&[red].png",
    "caf\udce9.png": r"caf\xe9.png",
    r"caf\xe9.png": r"caf\x5cxe9.png",
    r"caf\x5cxe9.png": r"caf\x5cx5cxe9.png",
    r"a\b\x.png": r"a\b\x.png",
    "a\nb\rc\td\x7f.png": r"a\x0ab\x0dc\x09d\x7f.png",
    "\\\udce9": r"\\xe9",
}
"""Names as Python has them, and as text."""


@pytest.mark.parametrize(("name", "text"), NAMES.items(), ids=range(len(NAMES)))
def test_a_name_is_text_that_leads_back(name: str, text: str) -> None:
    assert to_text(name) == text
    assert to_name(text) == name
    assert text.encode("utf-8", "strict").decode().isprintable()


def test_the_bytes_of_a_letter_may_be_written_one_by_one() -> None:
    assert os.fsencode(to_name(r"caf\xc3\xa9")) == "café".encode()


def test_different_names_are_different_texts() -> None:
    assert len(set(map(to_text, NAMES))) == len(NAMES)


def test_prose_keeps_all_but_the_bytes_that_are_no_text() -> None:
    assert readable("a\n\\xe9 caf\udce9") == "a\n\\xe9 caf\\xe9"


@pytest.mark.parametrize("name", ["n" * 300, "猫" * 100, "n" * 251])
def test_a_name_that_is_too_long_is_cut(name: str) -> None:
    fitted = fit_name(name, ".json")
    assert len(fitted.encode()) <= MAX_BYTES
    assert fitted.endswith(".json")
    assert fitted != fit_name(name + "x", ".json"), "and names with the same beginning stay apart"


def test_a_name_that_fits_stays() -> None:
    assert fit_name("n" * 251, ".png") == "n" * 251 + ".png"
