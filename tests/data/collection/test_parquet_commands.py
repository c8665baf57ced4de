"""Parquet by the commands of a person: looked at, trained on, evaluated, gone on with; and those of docs/data.md."""

import csv
import io
import re
import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tests.conftest import BARE, COLORS, PROJECT, Cli
from tests.data.collection.test_archives import make_zip
from tests.data.collection.test_parquet import IMAGE, write

from sightline.runs.files import read_json

pytest.importorskip("pyarrow")


def write_colors(path: Path, count: int = 30, seed: int = 100) -> Path:
    """Noisy patches of three colours, as `datasets` writes them."""
    photos, labels = [], []
    for number in range(count):
        noise = np.random.default_rng(seed + number).integers(-40, 40, (16, 16, 3))
        color = list(COLORS.values())[number % 3]
        written = io.BytesIO()
        Image.fromarray((np.array(color) + noise).clip(0, 255).astype(np.uint8)).save(written, "PNG")
        photos.append({"bytes": written.getvalue(), "path": f"{seed}/{number}.png"})
        labels.append(number % 3)
    names = {"_type": "ClassLabel", "names": list(COLORS)}
    return write(path, {"image": photos, "label": labels}, {"image": IMAGE, "label": names})


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("place")


@pytest.fixture(scope="module")
def run(place: Path, cli: Cli) -> Path:
    """A training on a parquet file."""
    path = write_colors(place / "colors.parquet")
    words = ("data=folder", f"data.root={path}", f"paths.cache={place / 'cache'}", f"output={place / 'run'}")
    done = cli("train", *words, *BARE)
    assert done.returncode == 0, done.stderr
    return place / "run"


def test_training_keeps_what_it_read(run: Path, place: Path) -> None:
    record = read_json(run / "run.json")
    assert record["config"]["data"]["root"] == str(place / "colors.parquet")
    assert record["config"]["data"]["name"] == "colors"
    assert Path(record["data"]["root"]).parent == place / "cache" / "extracted"
    assert record["data"]["layout"] == "table"
    assert sum(record["data"]["num_images"].values()) == 30
    assert (run / "manifest.csv").read_text().splitlines()[1].startswith("images/100/0.png,")
    assert read_json(run / "model" / "task_spec.json")["class_names"] == sorted(COLORS)


def test_the_images_come_anew_where_the_cache_was_cleaned(run: Path, place: Path, cli: Cli, tmp_path: Path) -> None:
    shutil.rmtree(place / "cache")
    words = (f"run={run}", f"paths.cache={tmp_path / 'cache'}", "evaluation=short")
    done = cli("evaluate", *words, f"output={tmp_path / 'out'}")
    assert done.returncode == 0, done.stderr
    trained, measured = (read_json(folder / "metrics.json") for folder in (run, tmp_path / "out"))
    assert trained["test/accuracy"] == measured["test/accuracy"]
    shutil.rmtree(tmp_path / "cache")
    moved = place / "moved.parquet"
    shutil.copy2(place / "colors.parquet", moved)
    words = (*words, "explanation.methods=[grad_cam]", "explanation.num_images=1")
    done = cli("explain", *words[:2], *words[3:], f"data.own_root={moved}", f"output={tmp_path / 'explained'}")
    assert done.returncode == 0, done.stderr


def test_a_run_goes_on(run: Path, place: Path, cli: Cli) -> None:
    shutil.rmtree(place / "cache", ignore_errors=True)
    done = cli("train", f"resume={run}", "trainer.max_epochs=2")
    assert done.returncode == 0, done.stderr
    record = read_json(run / "run.json")
    assert record["status"] == "finished"
    assert len(record["resumed"]) == 1


def test_other_images_are_measured(run: Path, place: Path, cli: Cli, tmp_path: Path) -> None:
    other = write_colors(tmp_path / "other.parquet", 9, seed=900)
    words = (f"run={run}", f"paths.cache={tmp_path / 'cache'}", "evaluation=short")
    done = cli("evaluate", *words, f"data.root={other}", f"output={tmp_path / 'out'}")
    assert done.returncode == 0, done.stderr
    assert read_json(tmp_path / "out" / "run.json")["data"]["num_images"]["test"] == 9
    same = cli("evaluate", *words, f"data.root={place / 'colors.parquet'}", f"paths.cache={place / 'cache'}")
    assert same.returncode == 2
    assert "the run trained on, or chose its checkpoint by, " in same.stderr


def test_an_archive_comes_anew_where_the_cache_was_cleaned(colors: Path, cli: Cli, tmp_path: Path) -> None:
    files = {path.relative_to(colors).as_posix(): path.read_bytes() for path in colors.rglob("*.png")}
    packed = make_zip(tmp_path / "colors.zip", files)
    words = ("data=folder", f"data.root={packed}", f"paths.cache={tmp_path / 'cache'}", f"output={tmp_path / 'run'}")
    assert cli("train", *words, *BARE).returncode == 0
    shutil.rmtree(tmp_path / "cache")
    words = (f"run={tmp_path / 'run'}", f"paths.cache={tmp_path / 'cache'}", "evaluation=short")
    done = cli("evaluate", *words, f"output={tmp_path / 'out'}")
    assert done.returncode == 0, done.stderr


def test_a_dry_run_unpacks_nothing(cli: Cli, tmp_path: Path) -> None:
    for name, count in (("train-00000-of-00001", 12), ("test-00000-of-00001", 6)):
        write_colors(tmp_path / "set" / "data" / f"{name}.parquet", count)
    for root in (tmp_path / "set", tmp_path / "set" / "data" / "train-00000-of-00001.parquet"):
        done = cli("prepare", "data=folder", f"data.root={root}", "dry_run=true", f"paths.cache={tmp_path / 'cache'}")
        assert done.returncode == 0, done.stderr
        assert f"{root}: a table, 3 classes" in done.stdout
        assert re.search(r"blue +\d+ +\d+ +\d+", done.stdout)
    assert not (tmp_path / "cache").exists()


def test_bad_images_are_named_by_their_rows(cli: Cli, tmp_path: Path) -> None:
    path = write_colors(tmp_path / "whole.parquet", 12)
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pq.read_table(path)
    column = table.column("image").to_pylist()
    column[4], column[7] = None, {"bytes": b"", "path": None}
    kind = table.schema.field("image").type
    pq.write_table(table.set_column(0, "image", pa.array(column, kind)), tmp_path / "x.parquet")
    words = ("data=folder", f"data.root={tmp_path / 'x.parquet'}", f"paths.cache={tmp_path / 'cache'}")
    done = cli("prepare", *words, f"output={tmp_path / 'out'}")
    assert done.returncode == 2
    assert "images/x-row-4" in done.stderr
    words = (*words, "data.on_bad_file=skip", "data.max_bad_fraction=0.5")
    done = cli("prepare", *words, f"output={tmp_path / 'out'}")
    assert done.returncode == 0, done.stderr
    assert read_json(tmp_path / "out" / "run.json")["data"]["skipped"]["num_images"] == 2


def test_without_pyarrow(cold_cli: Cli, tmp_path: Path) -> None:
    """A package of that name that cannot be imported, before the one that is installed."""
    path = write_colors(tmp_path / "x.parquet", 6)
    (tmp_path / "first" / "pyarrow").mkdir(parents=True)
    (tmp_path / "first" / "pyarrow" / "__init__.py").write_text("raise ImportError('it is not here')\n")
    words = ("data=folder", f"data.root={path}", f"output={tmp_path / 'out'}")
    done = cold_cli("prepare", *words, PYTHONPATH=str(tmp_path / "first"))
    assert done.returncode == 2
    assert f'data.root={path}: parquet needs pyarrow; pip install "sightline-vision[parquet]"' in done.stderr
    assert not (tmp_path / "out").exists()


def test_the_pictures_in_a_parquet_file_are_predicted(run: Path, place: Path, cli: Cli, tmp_path: Path) -> None:
    done = cli("predict", f"run={run}", f"images={place / 'colors.parquet'}", f"output={tmp_path / 'out'}")
    assert done.returncode == 0, done.stderr
    import pyarrow.parquet as pq

    with (tmp_path / "out" / "predictions.csv").open(newline="") as table:
        rows = list(csv.DictReader(table))
    assert len(rows) == pq.read_metadata(place / "colors.parquet").num_rows
    assert {row["class"] for row in rows} <= {"blue", "green", "red"}


def documented() -> list[tuple[str, str]]:
    """The commands of the section about parquet: the program and its words."""
    section = (PROJECT / "docs" / "data.md").read_text(encoding="utf-8").split("## Parquet")[1].split("\n## ")[0]
    return re.findall(r"^python src/(\w+).py (.*?)(?:\s+#.*)?$", section, re.MULTILINE)


@pytest.mark.parametrize(("task", "words"), documented())
def test_documented_commands(task: str, words: str, cli: Cli, tmp_path: Path) -> None:
    path = write_colors(tmp_path / "flowers.parquet", 18)
    for name, count in (("train-00000-of-00002", 9), ("train-00001-of-00002", 9), ("test-00000-of-00001", 9)):
        write_colors(tmp_path / "FOLDER" / "data" / f"{name}.parquet", count)
    make_zip(tmp_path / "flowers.zip", {"flowers.parquet": path.read_bytes()})
    typed = shlex.split(re.sub(r"data\.root=", f"data.root={tmp_path}/", words))
    typed += [f"output={tmp_path / 'out'}", f"paths.cache={tmp_path / 'cache'}", *(BARE if task == "train" else ())]
    done = cli(task, *typed)
    assert done.returncode == 0, done.stderr
    if "dry_run=true" not in words:
        assert sum(read_json(tmp_path / "out" / "run.json")["data"]["num_images"].values()) in (18, 27)
