"""Classes and files with names of any kind, through every command: one training, looked at from all sides."""

import csv
import html
import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote

import pytest
from matplotlib.image import imread
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from sightline.data.manifest import Manifest
from sightline.data.shards.loading import ShardDataset
from sightline.data.shards.packing import pack
from sightline.finished_run import FinishedRun
from sightline.runs.file_names import to_name
from sightline.runs.override_text import override
from tests.conftest import Cli
from tests.odd_names import LABELS, LONG, TYPED, write_odd_names

TINY_FIT = (
    "model.name=test_resnet",
    "data.image_size=32",
    "data.batch_size=8",
    "data.num_workers=0",
    "trainer.max_epochs=2",
    "model.lr=0.01",
    "stages=[fit,test,explain]",
    "evaluation.evaluators.corruptions.severities=[3]",
    "explanation.num_images=4",
    "explanation.methods=[grad_cam]",
)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_odd_names(tmp_path_factory.mktemp("data") / "odd")


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module")
def run(root: Path, runs: Path, cli: Cli) -> Path:
    done = cli("train", "data=folder", f"data.root={root}", f"paths.runs={runs}", f"output={runs / 'run'}", *TINY_FIT)
    assert done.returncode == 0, done.stderr
    assert "Warning" not in done.stderr
    return runs / "run"


def texts_in(folder: Path) -> Iterator[tuple[Path, str]]:
    for path in sorted(folder.rglob("*")):
        if path.suffix in (".json", ".csv", ".html", ".yaml", ".log", ".md"):
            yield path, path.read_text(encoding="utf-8", errors="strict")


def rows_of(table: Path) -> list[dict[str, str]]:
    with table.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def links_of(page: Path) -> list[Path]:
    found = re.findall(r'(?:href|src)="([^"#]+)"', page.read_text(encoding="utf-8"))
    return [page.parent / unquote(html.unescape(link)) for link in found if not link.startswith("data:")]


def test_every_file_that_a_training_writes_is_text_with_a_name_of_text(run: Path) -> None:
    assert len(list(texts_in(run))) > 10
    for path in run.rglob("*"):
        assert path.name.isprintable()
    for path in [*run.glob("*.json"), *run.glob("*/*.json")]:
        json.loads(path.read_text(encoding="utf-8"))


def test_tables_have_the_classes_and_the_files(run: Path, root: Path) -> None:
    assert [row["class"] for row in rows_of(run / "per_class.csv")] == LABELS
    with (run / "confusion_matrix.csv").open(encoding="utf-8", newline="") as file:
        assert next(csv.reader(file))[1:] == LABELS
    assert json.loads((run / "model" / "task_spec.json").read_text())["class_names"] == LABELS
    predicted = rows_of(run / "evaluation" / "predictions.csv")
    assert {row["label"] for row in predicted} == set(LABELS)
    for table in (run / "evaluation" / "predictions.csv", run / "manifest.csv"):
        files = [root / to_name(row.get("file") or row["path"]) for row in rows_of(table)]
        assert all(file.is_file() for file in files)
        assert len(set(files)) == len(files)


def test_pages_show_names_and_obey_none(run: Path) -> None:
    for page in ("evaluation/report.html", "audit.html", "explanations/index.html"):
        text = (run / page).read_text(encoding="utf-8")
        assert "<b>{a}" not in text
        assert "<img src=x" not in text
        assert html.escape(TYPED, quote=False) in text.replace("&#39;", "'").replace("&#34;", '"')
        assert LONG[:8] in text, "a page has the characters for which a picture may lack a font"
        assert r"caf\xe9\x0aline" in text
        assert all(link.is_file() for link in links_of(run / page))


def test_tensorboard_gets_its_pictures(run: Path) -> None:
    events = EventAccumulator(str(run / "tensorboard"))
    events.Reload()
    assert {"train/images", "confusion_matrix", "explanations"} <= set(events.Tags()["images"])


def test_evaluation_repeats_the_numbers(run: Path, runs: Path, cli: Cli) -> None:
    """Also a check that labels of more than 16 bytes come back from the manifest as they were."""
    done = cli("evaluate", f"run={run}", f"paths.runs={runs}", "evaluation=short", f"output={runs / 'evaluated'}")
    assert done.returncode == 0, done.stderr
    trained, again = (json.loads((folder / "metrics.json").read_text()) for folder in (run, runs / "evaluated"))
    assert trained["test/accuracy"] > 0.6
    assert {key: trained[key] for key in again} == again


def test_another_folder_with_the_same_classes_is_measured(run: Path, root: Path, runs: Path, cli: Cli) -> None:
    words = [f"data.root={root}", "evaluation=short", f"output={runs / 'other'}"]
    done = cli("evaluate", f"run={run}", f"paths.runs={runs}", *words)
    assert done.returncode == 0, done.stderr
    trained, again = (json.loads((folder / "metrics.json").read_text()) for folder in (run, runs / "other"))
    assert again["test/accuracy"] == trained["test/accuracy"]


def test_predictions_name_their_files_and_draw_them(run: Path, root: Path, runs: Path, cli: Cli) -> None:
    images, out = root / "test", runs / "predicted"
    words = [f"images={images}", "pictures=true", f"output={out}"]
    done = cli("predict", f"run={run}", f"paths.runs={runs}", *words)
    assert done.returncode == 0, done.stderr
    rows = rows_of(out / "predictions.csv")
    assert {images / to_name(row["file"]) for row in rows} == {path for path in images.rglob("*.png") if path.is_file()}
    assert {row["class"] for row in rows} <= set(LABELS)
    pictures = [path for path in (out / "pictures").rglob("*") if path.is_file()]
    assert len(pictures) == len(rows)
    assert all(path.name.isprintable() and imread(path).size for path in pictures)


def test_explanations_name_their_images(run: Path, root: Path, runs: Path, cli: Cli) -> None:
    images, out = next((root / "test").glob("=*")), runs / "explained"
    words = [override("images", str(images)), "explanation.methods=[grad_cam]", f"output={out}"]
    done = cli("explain", f"run={run}", f"paths.runs={runs}", *words)
    assert done.returncode == 0, done.stderr
    explained = json.loads((out / "explanations" / "explanations.json").read_text(encoding="utf-8"))["images"]
    assert len({each["panel"] for each in explained}) == len(explained) == 4
    assert all((images / to_name(each["image"])).is_file() for each in explained)
    assert all((out / "explanations" / each["panel"]).is_file() for each in explained)


def test_shards_keep_the_names(run: Path, root: Path, tmp_path: Path) -> None:
    pytest.importorskip("litdata")
    manifest = Manifest.load(run / "manifest.csv", root)
    pack(manifest, str(tmp_path / "shards"))
    shards = ShardDataset(str(tmp_path / "shards"), "test", FinishedRun.open(run, "cpu").task_spec)
    names = [shards.name(place) for place in range(len(shards))]
    assert names == manifest.paths[manifest.select("test").rows].tolist()
    assert shards.read(0)["image"] == (root / to_name(names[0])).read_bytes()


def test_a_root_that_is_no_utf8_is_opened_again(run: Path, root: Path, runs: Path, cli: Cli) -> None:
    moved = runs / "caf\udce9"
    shutil.copytree(root, moved)
    words = [override("data.root", str(moved)), "evaluation=short", f"output={runs / 'moved'}"]
    done = cli("evaluate", f"run={run}", f"paths.runs={runs}", *words)
    assert done.returncode == 0, done.stderr
    assert json.loads((runs / "moved" / "run.json").read_text(encoding="utf-8"))["config"]["data"]["root"] == str(moved)


def test_an_output_that_is_no_utf8_is_refused_in_readable_form(run: Path, runs: Path, cli: Cli) -> None:
    done = cli("evaluate", f"run={run}", f"paths.runs={runs}", f"output='{runs / 'caf'}\udce9'")
    assert done.returncode == 2
    assert r"caf\xe9: holds bytes that are no UTF-8; name another folder" in done.stderr
