"""Nothing is guessed in silence: every key of the list of guesses has an example, whose line is printed and stored."""

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sightline.errors import BadInput
from sightline.runs.files import read_json
from sightline.runs.guesses import GUESSED, Guess, ambiguous
from sightline.runs.override_text import override
from tests.commands import Starter
from tests.conftest import BARE, COLORS, PROJECT, write_image

Example = Callable[[Path, Path], tuple[str, ...]]


def train_photos(colors: Path, folder: Path) -> tuple[str, ...]:
    """Without a network, as all tests."""
    tiny = (word for word in BARE if "max_epochs" not in word)
    return "train", "experiment=photos", f"data.root={colors}", *tiny, "trainer.max_steps=1", "logger=none"


def train_folder(colors: Path, folder: Path) -> tuple[str, ...]:
    return "train", "data=folder", f"data.root={colors}", *BARE, "trainer.max_steps=1", "logger=none"


def prepare_folders(colors: Path, folder: Path) -> tuple[str, ...]:
    """Folders of classes without train/ around them."""
    shutil.copytree(colors / "train", folder / "photos")
    return "prepare", "data=folder", f"data.root={folder / 'photos'}", f"paths.cache={folder / 'cache'}"


def train_transformer(colors: Path, folder: Path) -> tuple[str, ...]:
    """Made for 224 px, given 32."""
    words = [word for word in BARE if "model.name" not in word]
    network = ("model.name=vit_tiny_patch16_224", "+model.arguments.depth=1", "logger=none")
    return "train", "data=folder", f"data.root={colors}", *words, *network


def prepare_deep_greys(colors: Path, folder: Path) -> tuple[str, ...]:
    for name in ("left", "right"):
        (folder / "deep" / "train" / name).mkdir(parents=True)
        for number in range(6):
            values = np.random.default_rng((number, len(name))).integers(0, 4096, (16, 16)).astype(np.uint16)
            Image.fromarray(values).save(folder / "deep" / "train" / name / f"{number}.png")
    return "prepare", "data=folder", f"data.root={folder / 'deep'}"


def train_deep_greys(colors: Path, folder: Path) -> tuple[str, ...]:
    _, *data = prepare_deep_greys(colors, folder)
    return (
        "train",
        *data,
        *BARE,
        "trainer.max_steps=1",
        "logger=none",
        "data.val_fraction=0.3",
        "data.test_fraction=0.3",
    )


def with_table(header: str, row: str, encoding: str = "utf-8") -> Example:
    """Images images/0.png … of two colours, and a table of them beside that folder."""

    def make(colors: Path, folder: Path) -> tuple[str, ...]:
        for number in range(12):
            write_image(folder / "set" / "images" / f"{number}.png", list(COLORS.values())[number % 2], seed=number)
        rows = [row.format(number=number, label=("blau", "grün")[number % 2]) for number in range(12)]
        (folder / "set" / "table.csv").write_text("\n".join((header, *rows)), encoding=encoding)
        return "prepare", "data=folder", f"data.root={folder / 'set'}", f"paths.cache={folder / 'cache'}"

    return make


def prepare_in_a_project(colors: Path, folder: Path) -> tuple[str, ...]:
    """Its pyproject.toml names the folder of its code."""
    (folder / "src").mkdir()
    (folder / "pyproject.toml").write_text('[tool.sightline]\nextensions = "src"\n')
    return "prepare", "data=folder", f"data.root={colors}", "pin=false"


EXAMPLES: dict[str, Example] = {
    "extensions": prepare_in_a_project,
    "data": lambda colors, folder: ("prepare", f"data.root={colors}", "pin=false"),
    "experiment": train_folder,
    "data.layout": prepare_folders,
    "+model.arguments.img_size": train_transformer,
    "data.channels": prepare_deep_greys,
    "data.value_range": prepare_deep_greys,
    "data.mean": train_deep_greys,
    "data.std": train_deep_greys,
    "model.pretrained": train_photos,
    "trainer.max_epochs": train_photos,
    "data.columns": with_table("filename,species", "images/{number}.png,{label}"),
    "data.table_format": with_table("path;label", "images/{number}.png;{label}", encoding="cp1252"),
    "data.table_paths": with_table("path,label", "{number},{label}"),
    "data.tables": with_table("path,label", "images/{number}.png,{label}"),
}
"""By key: the command, the program first, that guesses it; it may take the colours, or make its input in a folder."""


def test_every_guess_has_an_example_and_a_line_in_the_docs() -> None:
    assert set(EXAMPLES) == set(GUESSED)
    section = (PROJECT / "docs" / "data.md").read_text(encoding="utf-8").partition("## What may be guessed")[2]
    assert set(re.findall(r"^\| `([^`]+)` \|", section.partition("\n## ")[0], re.MULTILINE)) == set(GUESSED)


@pytest.mark.parametrize("key", EXAMPLES)
def test_a_guess_is_printed_and_stored(key: str, starter: Starter, colors: Path, tmp_path: Path) -> None:
    task, *words = EXAMPLES[key](colors, tmp_path)
    done = starter.run([str(PROJECT / "src" / f"{task}.py"), *words, f"output={tmp_path / 'output'}"], cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert re.search(rf"guessed '?{re.escape(key)}=", done.stdout + done.stderr)
    assert key in [guess["key"] for guess in read_json(tmp_path / "output" / "run.json")["guesses"]]


def test_two_possible_guesses_name_both_and_the_key() -> None:
    error = ambiguous(
        Guess("data.columns", {"path": "file"}, "its values are files"),
        Guess("data.columns", {"path": "mask"}, "so are these"),
    )
    assert isinstance(error, BadInput)
    assert "'data.columns={path:file}' (its values are files), or 'data.columns={path:mask}' (so are" in str(error)


@pytest.mark.parametrize("value", [None, True, 0.5, [1, 2], {"path": "Image Path"}, "a b", "$5 (five)", ["a,b"]])
def test_an_override_reads_back_as_its_value(value: object) -> None:
    from hydra.core.override_parser.overrides_parser import OverridesParser

    assert OverridesParser.create().parse_override(override("key", value)).value() == value
