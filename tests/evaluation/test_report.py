"""A report in plain words: what it is about, what its numbers mean, and what is not to be believed."""

import html
import json
import re
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import unquote

import pytest
import torch
from tests.conftest import Cli
from tests.evaluation.inputs import make_inputs, make_predictions

from sightline.evaluation.evaluators import CalibrationError, Failures, Rejecting, Scores
from sightline.evaluation.predictions import Predictions
from sightline.evaluation.report import write_report
from sightline.evaluation.wording import percent
from sightline.task_spec import Calibration


def page_of(
    folder: Path, calibration: Calibration | None = None, predictions: Predictions | None = None, count: int = 300
) -> str:
    """The text of a written report, without its figures and pictures."""
    inputs = make_inputs(predictions or make_predictions(count), calibration)
    evaluators = (Scores(), CalibrationError(), Rejecting(), Failures(num_pictures=1))
    write_report(folder, inputs, [each(inputs) for each in evaluators], name="letters", gates={})
    return plain(folder / "evaluation" / "report.html")


def plain(page: Path) -> str:
    text = re.sub(r"<svg.*?</svg>|<style.*?</style>", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    return re.sub(r"\s+", " ", html.unescape(re.sub(r"<[^>]+>", " ", text)))


def links_of(page: Path) -> dict[str, Path]:
    found = re.findall(r'<a href="([^"#]+)">([^<]+)</a>', page.read_text(encoding="utf-8"))
    return {html.unescape(title): (page.parent / unquote(address)).resolve() for address, title in found}


def sure(right: list[bool]) -> Predictions:
    """Predictions of the first two classes, all equally sure."""
    labels = torch.zeros(len(right), dtype=torch.int64)
    logits = torch.full((len(right), 7), -4.0)
    logits[torch.arange(len(right)), (~torch.tensor(right)).long()] = 4.0
    return Predictions(logits, labels)


def test_a_page_says_what_it_is_about_and_leads_to_the_files(trained: Path, colors: Path) -> None:
    page = trained / "evaluation" / "report.html"
    text = plain(page)
    today = datetime.now(UTC)
    for fact in (f"run {trained}", "model test_resnet", f"data {colors}", f"date {today:%Y-%m-}"):
        assert fact in text
    links = links_of(page)
    assert links["record"] == trained / "run.json"
    assert links["numbers"] == trained / "metrics.json"
    assert links["data audit"] == trained / "audit.html"
    assert all(path.is_file() for path in links.values())
    assert links["per class"] == trained / "per_class.csv"
    assert links["scores"] == trained / "evaluation" / "scores.csv"


def test_an_evaluation_leads_back_to_the_run(trained: Path, colors: Path, cli: Cli, tmp_path: Path) -> None:
    out = tmp_path / "out of 100 %"
    done = cli("evaluate", f"run={trained}", f"data.root={colors}", "evaluation=short", f"output='{out}'")
    assert done.returncode == 0, done.stderr
    page = out / "evaluation" / "report.html"
    links = links_of(page)
    assert links["the run's report"] == trained / "evaluation" / "report.html"
    assert links["numbers"] == out / "metrics.json"
    assert all(path.is_file() for path in links.values())
    assert f"run {trained}" in plain(page)
    assert json.loads((out / "run.json").read_text())["model"]["name"] == "test_resnet"


def test_tiles_speak_plainly_before_they_name_the_term(tmp_path: Path) -> None:
    text = page_of(tmp_path, Calibration(1.2, 0.6, 0.5, 50))
    for title, term in (
        ("images answered right", "accuracy"),
        ("every class counted alike", "macro F1"),
        ("confidence error (after correction)", "expected calibration error, calibrated"),
        ("answered with the wanted 50 % accuracy", "coverage at the threshold"),
    ):
        assert re.search(rf"{re.escape(title)} \S+( %)? .{{0,40}}{term}", text), title
    assert re.search(r"images answered right 0\.\d{4} ± 0\.0\d+ \(0\.\d{4} to 0\.\d{4}\)", text)


def test_images_that_are_all_answered_right_have_no_interval_of_no_width(tmp_path: Path) -> None:
    """Resampling them gives 1 for ever, which says nothing of other images; Wilson's interval does."""
    text = page_of(tmp_path, predictions=sure([True] * 18))
    assert "± 0 " not in text
    assert "18 of 18 images are answered right: accuracy 1.0000 ± 0.088 (0.8241 to 1.0000 with 95 %" in text
    assert "macro F1 1.0000 (no interval can be told: however these images are drawn again, it stays the same)" in text


def test_a_share_of_images_is_answered_with_the_wanted_accuracy(tmp_path: Path) -> None:
    text = page_of(tmp_path, Calibration(1.0, 0.6, 0.5, 50))
    assert re.search(
        r"[\d.]+ % of the images are answered with the wanted 50 % accuracy: those with a confidence", text
    )
    assert "the goal is reached" in text
    assert "answered with the wanted 50 % accuracy" in text
    missed = page_of(tmp_path, Calibration(1.0, 0.3, 0.999, 50))
    assert re.search(r"[\d.]+ % of the images are answered, those with a confidence of at least 0.3, .* 99.9 %", missed)
    assert "the goal is missed" in missed
    assert "answered, but not with the wanted 99.9 % accuracy" in missed


def test_a_threshold_of_nothing_is_no_number(tmp_path: Path) -> None:
    text = page_of(tmp_path, Calibration(1.0, 0.0, 0.5, 50))
    assert "All images are answered: on validation all answers reach the wanted 50 % accuracy." in text
    assert "confidence of at least 0" not in text


def test_a_goal_out_of_reach_is_said(tmp_path: Path) -> None:
    text = page_of(tmp_path, Calibration(1.0, None, 0.95, 50))
    assert "not even the surest answers reached the wanted 95 % accuracy" in text
    nobody = page_of(tmp_path, Calibration(1.0, 0.99999, 0.95, 50))
    assert "No image is answered with a confidence of at least 1," in nobody


def test_a_correction_that_makes_it_worse_is_said(tmp_path: Path) -> None:
    assert "makes it worse on these images" in page_of(tmp_path, Calibration(20.0, None, 0.95, 6))
    assert "makes it worse" not in page_of(tmp_path, Calibration(1.0, None, 0.95, 6))


@pytest.mark.parametrize(("num_wrong", "doubt"), [(20, "may well be right"), (4, "look at them before believing")])
def test_a_weak_model_is_no_witness_against_labels(num_wrong: int, doubt: str, tmp_path: Path) -> None:
    predictions = sure([True] * (60 - num_wrong) + [False] * num_wrong)
    predictions.labels[:5] = 1  # images of the other class, all called the first
    text = page_of(tmp_path, predictions=predictions)
    assert re.search(rf"labels? looks? wrong \(confident learning\).*{doubt}", text)


def test_no_suspects_need_no_look(tmp_path: Path) -> None:
    assert "No label looks wrong" in page_of(tmp_path, predictions=sure([True] * 20))


@pytest.mark.parametrize(
    ("share", "text"),
    [(1, "100 %"), (0, "0 %"), (0.31, "31 %"), (0.9749, "97.5 %"), (0.9996, "99.96 %"), (0.00012, "0.012 %")],
)
def test_all_and_nothing_are_said_of_nothing_else(share: float, text: str) -> None:
    assert percent(share) == text
