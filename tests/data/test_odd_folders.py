"""Odd folders from the command line to the record: trained, measured, and predicted what cannot be measured."""

import csv
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import COLORS, TINY, WITHOUT_FIGURES, Cli, compose_task, write_image

from sightline.data.opening import open_files
from sightline.runs.files import read_json

CLASSES = {"0.blue": COLORS["blue"], "1...": COLORS["green"], "2.red": COLORS["red"]}
"""Folders of the classes blue, red and `..`, a name that would lead out of every folder."""


@dataclass(frozen=True)
class Trained:
    root: Path
    run: Path
    record: dict[str, Any]
    said: str


@pytest.fixture(scope="module")
def odd(cli: Cli, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """A run on Train/ with three classes, one image of a fourth, and Test/ without classes."""
    top = tmp_path_factory.mktemp("odd")
    root, run = top / "photos", top / "inner" / "run"
    for number, (name, color) in enumerate(CLASSES.items()):
        for index in range(10):
            write_image(root / "Train" / name / f"{index}.png", color, seed=100 * number + index)
    write_image(root / "Train" / "3.rare" / "only.png", (20, 20, 20), seed=7)
    (root / "Train" / "2.red" / "9.png").rename(root / "Train" / "2.red" / "phone picture")
    (root / "Train" / "2.red" / "labels.xml").write_text("<xml/>")
    for index, color in enumerate(COLORS.values()):
        write_image(root / "Test" / f"{index}.png", color, seed=5000 + index)
    (root / "Test" / "caf\udce9.png").write_bytes(b"")
    done = cli(
        "train",
        "data=folder",
        f"data.root={root}",
        r"data.class_pattern='\d\.(.+)'",
        "data.small_classes=train_only",
        f"paths.cache={top / 'cache'}",
        f"output={run}",
        *TINY,
        *WITHOUT_FIGURES,
        "stages=[fit,test,explain]",
        "explanation.methods=[grad_cam]",
        "explanation.num_images=4",
    )
    assert done.returncode == 0, done.stderr
    assert {path.name for path in top.iterdir()} == {"photos", "inner", "cache"}
    assert [path.name for path in (top / "inner").iterdir()] == ["run"]
    return Trained(root, run, read_json(run / "run.json"), done.stdout + done.stderr)


def test_the_record_says_what_was_understood(odd: Trained) -> None:
    data = odd.record["data"]
    assert data["num_images"] == {"train": 19, "val": 6, "test": 6}
    assert data["small_classes"] == {"rare": "train_only"}
    assert (data["layout"], data["passed_over"], data["num_unlabelled"]) == ("splits", {".xml": 1}, 4)
    guesses = {guess["key"]: guess["value"] for guess in odd.record["guesses"]}
    assert guesses == {"experiment": "photos", "model.pretrained": False, "data.layout": "splits"}
    assert odd.record["model"]["classes"] == ["..", "blue", "rare", "red"]
    manifest = (odd.run / "manifest.csv").read_text()
    assert "Train/2.red/phone picture,red," in manifest


LINES = [
    "guessed data.layout=splits (Train/ is train; Test/ is test)",
    "passed over 1 file that is no image: 1 .xml",
    "Test/ has no folders of classes: its 4 image(s) are not measured but predicted",
    "data.small_classes=train_only: too few images or groups to split: rare (1): trained on, but in no other split",
    "3 test image(s) without classes: predictions in ",
]


@pytest.mark.parametrize("line", LINES)
def test_each_is_said_in_a_line(line: str, odd: Trained) -> None:
    assert line in " ".join(odd.said.split())


def test_test_images_without_classes_are_predicted(odd: Trained, cli: Cli, tmp_path: Path) -> None:
    done = cli("predict", f"run={odd.run}", f"images={odd.root / 'Test'}", f"output={tmp_path / 'p'}", "pictures=true")
    assert done.returncode == 0, done.stderr
    tables = (odd.run / "test_predictions.csv", tmp_path / "p" / "predictions.csv")
    mine, theirs = (list(csv.reader(path.read_text().splitlines())) for path in tables)
    assert [row[0] for row in mine[1:]] == ["Test/0.png", "Test/1.png", "Test/2.png"]
    assert [["Test/" * bool(number) + row[0], *row[1:]] for number, row in enumerate(theirs)] == mine
    assert odd.record["test_predictions"] == {"num_images": 3, "unreadable": [r"Test/caf\xe9.png"]}
    assert {path.name for path in tmp_path.iterdir()} == {"p"}


def test_a_class_that_would_lead_out_of_a_folder_writes_nothing_there(odd: Trained) -> None:
    explained = read_json(odd.run / "explanations" / "explanations.json")["images"]
    panels = {(odd.run / "explanations" / each["panel"]).resolve() for each in explained}
    assert panels
    assert all(panel.is_file() and panel.parent == odd.run / "explanations" for panel in panels)


def test_a_run_is_measured_on_a_folder_of_classes_alone(odd: Trained, cli: Cli, tmp_path: Path) -> None:
    for index in range(3):
        write_image(tmp_path / "new" / "0.blue" / f"{index}.png", COLORS["blue"], seed=9000 + index)
        write_image(tmp_path / "new" / "2.red" / f"{index}.png", COLORS["red"], seed=9100 + index)
    words = (f"run={odd.run}", f"data.root={tmp_path / 'new'}", f"output={tmp_path / 'e'}", "evaluation=short")
    done = cli("evaluate", *words, *WITHOUT_FIGURES)
    assert done.returncode == 0, done.stderr
    record = read_json(tmp_path / "e" / "run.json")
    assert record["data"]["num_images"] == {"train": 0, "val": 0, "test": 6}
    assert [guess["value"] for guess in record["guesses"]] == ["classes"]


# prepare.py dry_run=true


def test_a_dry_run_says_what_is_understood_and_writes_nothing(odd: Trained, cli: Cli, tmp_path: Path) -> None:
    before = sorted(odd.root.rglob("*"))
    words = ["data=folder", f"data.root={odd.root}", r"data.class_pattern='\d\.(.+)'", "data.small_classes=leave_out"]
    done = cli(
        "prepare", *words, f"paths.cache={tmp_path / 'cache'}", f"paths.runs={tmp_path / 'runs'}", "dry_run=true"
    )
    assert done.returncode == 0, done.stderr
    rows = [line.split() for line in done.stdout.splitlines()]
    assert ["blue", "6", "2", "2"] in rows
    assert ["all", "images", "18", "6", "6"] in rows
    assert ["rare:", "left", "out"] in rows
    assert done.stdout.startswith(f"{odd.root}: a folder for each split, in it one for each class, 3 classes\n")
    assert "guessed data.layout=splits" in done.stderr
    assert "passed over 1 file that is no image: 1 .xml" in done.stderr
    assert (list(tmp_path.iterdir()), sorted(odd.root.rglob("*"))) == ([], before)


@pytest.mark.parametrize("root", ["photos.zip", "s3://bucket/photos", "https://example.org/photos.zip"])
def test_a_dry_run_fetches_and_unpacks_nothing(root: str, cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "photos.zip").write_bytes(b"PK")
    place = root if "://" in root else tmp_path / root
    done = cli("prepare", "data=folder", f"data.root={place}", f"paths.cache={tmp_path / 'cache'}", "dry_run=true")
    assert done.returncode == 2
    assert f"dry_run=true: {place} is no folder or table on this disk, and a dry run fetches and unpacks" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["photos.zip"]


def test_a_dry_run_of_no_folder_says_so(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "my photos").mkdir()
    done = cli("prepare", f"data.root={tmp_path / 'my photo'}", f"paths.cache={tmp_path / 'cache'}", "dry_run=true")
    assert done.returncode == 2
    assert f"data.root={tmp_path / 'my photo'}: no such folder" in done.stderr
    assert f"(did you mean {tmp_path / 'my photos'}?)" in done.stderr


def test_a_dry_run_refuses_what_is_no_data_set_as_such(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "labels.xlsx").write_bytes(b"PK")
    done = cli("prepare", "data=folder", f"data.root={tmp_path / 'labels.xlsx'}", "dry_run=true")
    assert done.returncode == 2
    assert f"{tmp_path / 'labels.xlsx'}: neither a folder nor a file that can hold a data set; set it" in done.stderr


# what the audit finds


def test_one_folder_under_two_classes_is_a_contradiction(tmp_path: Path) -> None:
    """And under two splits a leak: the links are followed, and the audit names the images."""
    root = tmp_path / "photos"
    for number, name in enumerate(("blue", "red")):
        for index in range(8):
            write_image(root / "train" / name / f"{index}.png", COLORS[name], seed=100 * number + index)
    (root / "train" / "crimson").symlink_to(root / "train" / "red")
    (root / "test").symlink_to(root / "train")
    opened = open_files(
        compose_task("prepare", "data=folder", f"data.root={root}", f"paths.cache={tmp_path / 'cache'}")
    )
    assert opened.num_images == {"train": 21, "val": 3, "test": 24}
    assert opened.num_findings["contradicting_labels"] == 8
    assert opened.num_findings["leak"] > 0
