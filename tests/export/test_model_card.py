"""The model card: from a run's own files, read back by the hub's library and by a Markdown parser."""

import json
import re
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from huggingface_hub import EvalResult, ModelCard, ModelCardData
from markdown_it import MarkdownIt
from markdown_it.tree import SyntaxTreeNode
from tests.conftest import BARE, PROJECT, Cli
from tests.evaluation.test_report import links_of
from tests.odd_names import LABELS
from tests.saved_models import save_tiny_model

from sightline.errors import BadInput
from sightline.export.model_card import write_model_card
from sightline.task_spec import Calibration, TaskSpec

PLACEHOLDERS = re.compile(
    r"more information needed|\btodo\b|\bnone\b|\bnull\b|\bnan\b|\binf\b|\bunknown\b|\{\{|\}\}", re.I
)


@pytest.fixture(scope="module")
def card(trained: Path) -> str:
    return (trained / "model" / "model_card.md").read_text(encoding="utf-8")


def make_run(folder: Path, metrics: Mapping[str, float], *, names: Sequence[str] = ("a", "b"), **facts: Any) -> Path:
    """The folder of a training that recorded little: a tiny model, these metrics, and what else is given."""
    save_tiny_model(folder / "model", 3)
    if tuple(names) != ("a", "b"):
        path = folder / "model" / "task_spec.json"
        replace(TaskSpec.load(path), class_names=tuple(names)).save(path)
    (folder / "metrics.json").write_text(json.dumps(metrics))
    record = {"task": "train", "name": "few", "config": {}, "commit": None, "versions": {"torch": None}, **facts}
    (folder / "run.json").write_text(json.dumps(record))
    return folder


def body_of(card: str) -> str:
    return card.partition("\n---\n")[2]


def results_of(card: str) -> list[EvalResult]:
    data = ModelCard(card).data
    assert isinstance(data, ModelCardData)
    return data.eval_results or []


def words_of(markdown: str) -> str:
    """What a reader sees, a line for each cell and paragraph."""
    tree = SyntaxTreeNode(MarkdownIt("commonmark").enable("table").parse(markdown))
    nodes = [
        node for node in tree.walk() if node.type in ("text", "code_inline", "html_inline", "html_block", "inline")
    ]
    assert not any(node.type.startswith("html") for node in nodes), "nothing in a name is HTML"
    inline = [node for node in nodes if node.type == "inline"]
    return "\n".join("".join(each.content for each in node.walk() if each.type != "inline") for node in inline)


def write_classes(folder: Path, rows: Sequence[tuple[str, int, float, float]]) -> None:
    """per_class.csv of names, images, precision and recall."""
    import csv

    with (folder / "per_class.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(("class", "num_images", "precision", "recall", "f1"))
        writer.writerows((*row, 0.5) for row in rows)


def test_a_training_has_a_card_that_its_report_links(trained: Path, card: str) -> None:
    assert links_of(trained / "evaluation" / "report.html")["model card"] == trained / "model" / "model_card.md"
    titles = re.findall("^## (.+)$", card, re.MULTILINE)
    assert {"What it is for", "Data", "Training", "Results", "Calibration", "Limits", "How to call it"} <= {*titles}
    assert "# colors\n" in body_of(card)


def test_the_hubs_library_reads_results_with_their_intervals(trained: Path, card: str) -> None:
    metrics = json.loads((trained / "metrics.json").read_text())
    results = {each.metric_type: each for each in results_of(card)}
    accuracy = results["accuracy"]
    assert accuracy.metric_value == pytest.approx(metrics["test/accuracy"], abs=1e-6)
    assert accuracy.metric_args is not None
    assert accuracy.metric_args["low"] == pytest.approx(metrics["test/accuracy_low"], abs=1e-6)
    assert accuracy.metric_args["high"] == pytest.approx(metrics["test/accuracy_high"], abs=1e-6)
    assert accuracy.dataset_split == "test"
    assert accuracy.dataset_revision == json.loads((trained / "run.json").read_text())["data"]["sha256"]
    head = yaml.safe_load(card.split("---")[1])
    assert head["pipeline_tag"] == "image-classification"
    assert head["model-index"][0]["name"].startswith("colors-")
    assert "top5_accuracy" not in results, "of three classes it says nothing"


def test_everything_that_a_reader_asks_for_is_there(trained: Path, card: str) -> None:
    record, model = (json.loads((trained / name).read_text()) for name in ("run.json", "model/model.json"))
    text = words_of(body_of(card))
    for told in (record["data"]["sha256"], record["commit"], "18 test images", "1.0000 (0.6097 to 1.0000)"):
        assert told in text
    assert "Classes: blue, green, red" in text
    assert "In epoch " in text
    assert "Logits are divided by a temperature of" in text
    assert "3 of 3 classes were measured on fewer than 30 images" in text
    assert "The run records no origin. The run records no licence of its images" in text
    assert model["sha256"] in text


def test_its_commands_work_as_they_stand(trained: Path, runs: Path, colors: Path, card: str, cli: Cli) -> None:
    command = re.search(r"^python src/predict.py (run=\S+) images=FOLDER$", card, re.MULTILINE)
    assert command is not None
    out = runs / "of the card"
    done = cli("predict", command[1], f"images={colors / 'test'}", f"paths.runs={runs}", f"output='{out}'")
    assert done.returncode == 0, done.stderr
    assert f'open("{command[1].removeprefix("run=")}")' in card
    assert str(trained.parent) not in card, "a card travels further than a machine's paths"


def test_a_run_that_measured_little_has_a_card_without_holes(cli: Cli, colors: Path, tmp_path: Path) -> None:
    words = [word for word in BARE if not word.startswith("stages")]
    done = cli("train", "data=folder", f"data.root={colors}", *words, "stages=[fit]", f"output={tmp_path / 'run'}")
    assert done.returncode == 0, done.stderr
    card = (tmp_path / "run" / "model" / "model_card.md").read_text()
    assert not PLACEHOLDERS.search(card), PLACEHOLDERS.search(card)
    assert "No test images were measured" in words_of(card)
    assert "Damaged pictures were not measured in this run" in card


def test_what_a_run_does_not_record_is_left_out_or_said(tmp_path: Path, card: str) -> None:
    bare = make_run(tmp_path / "bare", {"val/accuracy": 0.5, "val/nll": float("nan"), "val/accuracy_low": float("nan")})
    text = write_model_card(bare).read_text()
    for each in (text, card):
        assert not PLACEHOLDERS.search(each), PLACEHOLDERS.search(each)
    assert "| accuracy | 0.5000 | not computed |" in text
    assert "The probabilities are as the network gives them" in text
    nothing = write_model_card(make_run(tmp_path / "nothing", {})).read_text()
    assert not PLACEHOLDERS.search(nothing)
    assert "model-index" not in nothing


def test_intervals_over_groups_are_the_ones_to_quote(tmp_path: Path) -> None:
    metrics = {"test/accuracy": 0.9, "test/accuracy_low": 0.88, "test/accuracy_high": 0.92}
    grouped = {"test/accuracy_low_grouped": 0.7, "test/accuracy_high_grouped": 0.97}
    text = write_model_card(make_run(tmp_path, {**metrics, **grouped})).read_text()
    assert "| accuracy | 0.9000 | 0.7000 to 0.9700 (bootstrap over groups) |" in text
    assert "Image by image it would be 0.8800 to 0.9200" in text
    assert results_of(text)[0].metric_args == {
        "low": 0.7,
        "high": 0.97,
        "level": 0.95,
        "method": "bootstrap over groups",
    }


@pytest.mark.parametrize(
    ("data", "overrides", "said"),
    [
        ({"source": "digits"}, [], "Licence by its source: CC BY 4.0."),
        ({"source": "digits"}, ["data.root=mine"], "named by hand, so its images may be others"),
        ({"source": "folder", "origin": "the attic"}, [], "Origin by the configuration: the attic. The run records no"),
        ({"source": "folder", "origin": ""}, [], "The run records no origin. The run records no licence"),
    ],
)
def test_a_licence_is_what_the_configuration_says(
    data: dict[str, str], overrides: list[str], said: str, tmp_path: Path
) -> None:
    run = make_run(tmp_path, {"val/accuracy": 0.5}, config={"data": data}, overrides=overrides)
    assert said in words_of(write_model_card(run).read_text())


def test_names_of_any_kind_are_shown_as_they_are(tmp_path: Path) -> None:
    names = [*LABELS, "| a | `b` |", "**bold** [x](y) <b>", "line\nbreak", "猫"]
    run = make_run(
        tmp_path, {"test/accuracy": 0.5}, names=names, data={"name": "<script>*|", "num_images": {"test": 4}}
    )
    write_classes(run, [(name, 40, 0.5, 0.25) for name in names])
    text = words_of(body_of(write_model_card(run).read_text()))
    cells = [line.strip("\u2068\u2069") for line in text.splitlines()]
    for name in names:
        assert " ".join(name.split()) in cells
    assert "<script>*|" in cells


def test_of_many_classes_the_least_found_are_shown(tmp_path: Path) -> None:
    names = [f"class {number}" for number in range(200)]
    run = make_run(tmp_path, {"test/accuracy": 0.5}, names=names)
    write_classes(run, [(name, 100, 0.5, number / 200) for number, name in enumerate(names)])
    text = write_model_card(run).read_text()
    assert text.count("| class ") == 25 + 1
    assert "| class 24 |" in text
    assert "The 25 least found of 200 classes" in text
    assert "class 99 and 100 more" in text
    assert "Least found classes: class 0: 0.0000 (0.0000 to 0.0370) of 100 images;" in text


def test_it_says_how_sure_the_model_has_to_be(tmp_path: Path) -> None:
    metrics = {"test/accuracy": 0.9, "test/coverage": 0.8, "test/accuracy_answered": 0.97}
    run = make_run(tmp_path, metrics, data={"num_images": {"test": 50}, "findings": {"leak": 3}})
    path = run / "model" / "task_spec.json"
    replace(TaskSpec.load(path), calibration=Calibration(1.5, 0.7, 0.95, 60)).save(path)
    text = write_model_card(run).read_text()
    assert "below a probability of 0.7 the model is unsure" in text
    assert "Unsure about 20 % of the test images" in text
    assert "3 pictures that lie in two splits" in text
    assert "At the threshold 80 % are answered, and 97 % of these answers are right" in text


def test_what_was_exported_is_told(tmp_path: Path) -> None:
    run = make_run(tmp_path, {"test/accuracy": 0.9})
    numbers = {"max_probability_difference": 2e-6, "agreement": 1.0, "accuracy": 0.91, "accuracy_low": 0.9}
    numbers |= {"accuracy_high": 0.92, "bytes": 44_800_000, "milliseconds": 16.5}
    (run / "model" / "export.json").write_text(json.dumps({"fp32": numbers, "images": 216}))
    text = write_model_card(run).read_text()
    row = "0.9100 (0.9000 to 0.9200) | 2e-06 in probability at most; the same class on 100 % | 44.8 | 16.5 |"
    assert f"| model.onnx (fp32) | {row}" in text
    assert "Measured on 216 validation images" in text


def test_a_run_of_an_earlier_release_has_one_too(tmp_path: Path) -> None:
    with tarfile.open(PROJECT / "tests" / "old_layout" / "runs.tar.xz") as archive:
        archive.extractall(tmp_path, filter="data")
    text = write_model_card(tmp_path / "runs" / "train" / "finished").read_text()
    assert not PLACEHOLDERS.search(text), PLACEHOLDERS.search(text)


def test_without_a_model_there_is_no_card(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="no training with a model"):
        write_model_card(tmp_path)
