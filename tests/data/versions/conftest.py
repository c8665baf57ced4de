"""A place for versions, and the programs as a person types them."""

import json
import runpy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import PROJECT, write_image

from sightline.command import do_verb
from sightline.data.versions.store import Versions, open_versions

Do = Callable[..., Any]
RED, GREEN = (210, 50, 40), (40, 190, 60)


@pytest.fixture
def signs(tmp_path: Path) -> Path:
    """Two classes, 12 training, 2 validation and 4 test images each."""
    root = tmp_path / "signs"
    for number, (label, color) in enumerate({"green": GREEN, "red": RED}.items()):
        for split, count in {"train": 12, "val": 2, "test": 4}.items():
            for index in range(count):
                seed = 1000 * number + {"train": 0, "val": 100, "test": 200}[split] + index
                write_image(root / split / label / f"{split}{index:02d}.png", color, seed=seed)
    return root


@pytest.fixture
def place(tmp_path: Path) -> str:
    return str(tmp_path / "versions")


@pytest.fixture
def versions(place: str, tmp_path: Path) -> Versions:
    return open_versions(place, tmp_path / "cache")


@pytest.fixture
def do(tmp_path: Path, place: str, capsys: pytest.CaptureFixture[str]) -> Do:
    """What `python src/data_versions.py WORDS --json` does, in this process; its JSON."""

    def run(*words: str) -> Any:
        where = [f"paths.data_versions={place}", f"paths.cache={tmp_path / 'cache'}", f"paths.runs={tmp_path / 'runs'}"]
        program = runpy.run_path(str(PROJECT / "src" / "data_versions.py"))
        do_verb(program["verbs"](), [*words[:1], *where, "by=ann", *words[1:], "--json"])
        return json.loads(capsys.readouterr().out)

    return run
