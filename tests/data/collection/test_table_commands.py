"""Tables of images by the commands of a person: trained on, evaluated with, explained."""

import re
import shlex
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.conftest import BARE, COLORS, PROJECT, Cli, write_image

from sightline.runs.files import read_json

LABELS = ("../up", "/abs", "a/b")
"""Classes that would leave their folder, if one were made of them."""


def make_table(folder: Path, num_images: int, seed: int, header: str = "Bild;Farbe", name: str = "labels.csv") -> Path:
    """A folder bilder/ of images of three colours, and beside it a table as a German spreadsheet writes it."""
    lines = [header]
    for number in range(num_images):
        color = number % 3
        write_image(folder / "bilder" / f"{seed}-{number}.png", list(COLORS.values())[color], seed=seed + number)
        lines.append(f"C:\\Fotos\\{seed}-{number}.png;{LABELS[color]}")
    (folder / name).write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder / name


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("place")


@pytest.fixture(scope="module")
def run(place: Path, cli: Cli) -> Path:
    """A training on such a table, whose column of labels was told."""
    table = make_table(place / "data", 30, seed=100)
    done = cli(
        "train",
        "data=folder",
        f"data.root={table}",
        "data.columns={label: Farbe}",
        f"paths.cache={place / 'cache'}",
        f"output={place / 'run'}",
        *BARE,
        "stages=[fit,test,explain]",
        "explanation.num_images=3",
        "explanation.methods=[grad_cam]",
    )
    assert done.returncode == 0, done.stderr
    said = done.stdout + done.stderr
    assert "guessed 'data.table_format={delimiter:semicolon}'" in said
    assert "guessed 'data.columns={path:Bild,label:Farbe}'" in said
    assert "guessed 'data.table_paths={remove:\"C:/Fotos\",folder:bilder}'" in said
    return place / "run"


def test_classes_that_would_leave_their_folder_write_nothing_outside_the_run(run: Path, place: Path) -> None:
    record = read_json(run / "run.json")
    assert record["status"] == "finished"
    assert [guess["key"] for guess in record["guesses"]][-3:] == [
        "data.table_format",
        "data.columns",
        "data.table_paths",
    ]
    assert read_json(run / "model" / "task_spec.json")["class_names"] == list(LABELS)
    assert {path.name for path in place.iterdir()} == {"data", "cache", "run"}
    assert {path.parent.name for path in (place / "data").rglob("*.*")} == {"data", "bilder"}
    assert not list(place.rglob("up")), "in the cache neither"
    assert not Path("/abs").exists()


def measure(cli: Cli, run: Path, table: Path, output: Path, *words: str, task: str = "evaluate") -> tuple[int, str]:
    done = cli(task, f"run={run}", f"data.root={table}", f"output={output}", "evaluation=short", *words)
    return done.returncode, done.stdout + done.stderr


def test_evaluation_reads_a_table_as_the_run_did(run: Path, cli: Cli, tmp_path: Path) -> None:
    table = make_table(tmp_path / "new", 9, seed=900)
    code, said = measure(cli, run, table, tmp_path / "out")
    assert code == 0, said
    assert "guessed 'data.columns={path:Bild,label:Farbe}'" in said
    record = read_json(tmp_path / "out" / "run.json")
    assert record["data"]["num_images"]["test"] == 9
    assert [guess["key"] for guess in record["guesses"]] == ["data.table_format", "data.columns", "data.table_paths"]


def test_evaluation_reads_a_table_with_other_columns(run: Path, cli: Cli, tmp_path: Path) -> None:
    table = make_table(tmp_path / "new", 9, seed=900, header="file;Art")
    code, said = measure(cli, run, table, tmp_path / "out")
    assert code == 2, said
    assert "data.columns={label: Farbe}: " in said
    assert "has no such column; it has file, Art" in said
    code, said = measure(cli, run, table, tmp_path / "out", "data.columns={label: art}")
    assert code == 0, said


def test_explanation_reads_the_table_of_a_folder(run: Path, cli: Cli, tmp_path: Path) -> None:
    make_table(tmp_path / "new", 3, seed=900)
    words = ("explanation.methods=[grad_cam]", "explanation.num_images=2")
    done = cli("explain", f"run={run}", f"data.root={tmp_path / 'new'}", f"output={tmp_path / 'out'}", *words)
    assert done.returncode == 0, done.stderr
    assert "guessed data.tables=[labels.csv]" in done.stdout + done.stderr


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda text: text.replace("a/b", "a/c"), "classes that the model does not know: a/c"),
        (lambda text: text.replace("a/b", ""), "label=: is empty"),
    ],
)
def test_labels_that_cannot_be_measured_are_named(
    change: Callable[[str], str], message: str, run: Path, cli: Cli, tmp_path: Path
) -> None:
    table = make_table(tmp_path / "new", 6, seed=900)
    table.write_text(change(table.read_text()))
    code, said = measure(cli, run, table, tmp_path / "out")
    assert (code, message in said) == (2, True), said
    assert not (tmp_path / "out").exists()


def test_images_that_were_trained_on_are_no_test(run: Path, cli: Cli, place: Path, tmp_path: Path) -> None:
    code, said = measure(cli, run, place / "data" / "labels.csv", tmp_path / "out")
    assert code == 2
    assert "the run trained on, or chose its checkpoint by, 24 of these 30 images" in said


def documented() -> list[str]:
    """The commands of the section about tables."""
    section = (
        (PROJECT / "docs" / "data.md").read_text(encoding="utf-8").split("## Tables of images")[1].split("\n## ")[0]
    )
    return re.findall(r"^python src/prepare.py (.*?)(?:\s+#.*)?$", section, re.MULTILINE)


@pytest.mark.parametrize("words", documented())
def test_documented_commands(words: str, cli: Cli, tmp_path: Path) -> None:
    lines = ["photo,kind"]
    for number in range(12):
        write_image(tmp_path / "set" / "photos" / f"{number}.png", list(COLORS.values())[number % 2], seed=number)
        lines.append(f"photos/{number}.png,{'cat' if number % 2 else 'dog'}")
    (tmp_path / "set" / "meta").mkdir()
    (tmp_path / "set" / "labels.csv").write_text("\n".join(lines))
    (tmp_path / "set" / "meta" / "train.csv").write_text("\n".join(lines[:9]))
    (tmp_path / "set" / "meta" / "test.csv").write_text("\n".join([*lines[:1], *lines[9:]]))
    done = cli(
        "prepare",
        *shlex.split(words.replace("FOLDER", str(tmp_path / "set"))),
        f"output={tmp_path / 'out'}",
        f"paths.cache={tmp_path / 'cache'}",
    )
    assert done.returncode == 0, done.stderr
    assert sum(read_json(tmp_path / "out" / "run.json")["data"]["num_images"].values()) == 12


def test_a_key_of_tables_needs_a_table(colors: Path, cli: Cli, tmp_path: Path) -> None:
    done = cli("prepare", "data=folder", f"data.root={colors}", "data.columns={label: x}", f"output={tmp_path / 'out'}")
    assert done.returncode == 2
    assert "data.columns={label:x}: " in done.stderr
    assert "is read by its folders, not by a table; name the table with data.root=TABLE.csv" in done.stderr


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("data.columns={lable: x}", "data.columns.lable: no such key (did you mean data.columns.label"),
        (
            "data.columns=photo",
            "data.columns=photo: holds a value for each of its keys; set one of them, like data.columns.path=",
        ),
        ("data.columns={path: [a, b]}", "only label and split may be several"),
        ("data.columns={label: 1.5}", "must be the name of a column, or its number"),
        ("data.table_format={sep: tab}", "data.table_format.sep: no such key"),
        ("data.table_format={delimiter: tabs}", "must be comma, semicolon, tab, bar, blank, or one character"),
    ],
)
def test_keys_of_tables_are_checked(words: str, message: str, cli: Cli) -> None:
    done = cli("train", "data=folder", "data.root=nowhere", words)
    assert done.returncode == 2
    assert message in done.stderr


def test_keys_of_tables_need_a_table_to_read(run: Path, cli: Cli) -> None:
    done = cli("train", "data=synthetic", "data.columns={label: x}")
    assert done.returncode == 2
    assert "data.columns={label:x}: counts only for a table, and data.source=synthetic reads none" in done.stderr
    done = cli("evaluate", f"run={run}", "data.tables=[x.csv]")
    assert done.returncode == 2
    assert "data.tables=[x.csv]: counts only for a table, and data.root names none; leave it out" in done.stderr
