"""Every form of a folder that docs/data.md draws is understood, with the command that stands below it."""

import re
import shlex
from pathlib import Path

import pytest
from tests.conftest import PROJECT, compose_task
from tests.data.collection.test_layouts import touch

from sightline.data.prepare import describe

SECTION = (
    (PROJECT / "docs" / "data.md")
    .read_text(encoding="utf-8")
    .partition("## How pictures may lie")[2]
    .partition("\n## ")[0]
)
FORMS = re.findall(r"^FOLDER/(\S+)", SECTION, re.MULTILINE)
WITH_PATTERN = re.search(r"^python src/train.py (.*data.name_pattern.*)$", SECTION, re.MULTILINE)


def draw(root: Path, form: str) -> None:
    """Eight images of cats and of dogs, as one path shows them; a form that names no class comes beside train/."""
    for label in ("cat", "dog"):
        for number in range(8):
            touch(root, re.sub(r"\d+(?=\.jpg)", str(number), form.replace("cat", label)))
            if "cat" not in form:
                touch(root, f"train/{label}/{number}.jpg")
            elif "_train" in form:
                touch(root, f"{form.partition('_train')[0]}_test/{label}/{number}.jpg")


@pytest.mark.parametrize("form", FORMS)
def test_a_form_that_is_documented_is_understood(form: str, tmp_path: Path) -> None:
    root = tmp_path / "photos"
    draw(root, form)
    assert WITH_PATTERN is not None
    command = WITH_PATTERN[1] if re.search(r"cat[._]\d", form) else "data=folder data.root=FOLDER"
    words = [word.replace("FOLDER", str(root)) for word in shlex.split(command)]
    said = describe(compose_task("prepare", *words, f"paths.cache={tmp_path / 'cache'}")).splitlines()
    rows = [line.split()[0] for line in said[2:-2]]
    assert rows == ["cat", "dog"]
    counts = [sum(map(int, line.split()[1:])) for line in said[2:-2]]
    assert counts == ([16, 16] if "_train" in form else [8, 8])


def test_the_forms_are_found() -> None:
    assert len(FORMS) == 10
