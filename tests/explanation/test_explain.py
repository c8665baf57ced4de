"""The task as a person meets it, and the choice of images."""

import json
import shutil
from pathlib import Path

import boto3
import numpy as np
import pytest
import torch
from moto import mock_aws
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tests.conftest import BARE, COLORS, TINY, Cli, compose_config
from tests.saved_models import save_tiny_model

from sightline.errors import BadInput
from sightline.explanation.explain import explain
from sightline.explanation.sample_selection import choose_fixed, choose_representative
from sightline.models.checkpoint import load_model, save_model
from sightline.runs.files import read_json
from sightline.training.train import train

KEYS = (
    "image label predicted probability method steps completeness_error converged insertion_auc deletion_auc "
    "seconds panel"
).split()


def test_test_images_are_explained_with_numbers(trained: Path, cold_cli: Cli, tmp_path: Path) -> None:
    words = ["explanation=all", "explanation.num_images=4", "explanation.target=both", f"output={tmp_path / 'out'}"]
    done = cold_cli("explain", f"run={trained}", *words)
    assert done.returncode == 0, done.stderr
    folder = tmp_path / "out" / "explanations"
    found = json.loads((folder / "explanations.json").read_text())
    methods = {"integrated_gradients", "grad_cam", "occlusion", "smooth_grad"}
    assert {row["method"] for row in found["images"]} == methods == set(found["summary"]["methods"])
    for row in found["images"]:
        assert set(KEYS) <= set(row)
        assert (folder / row["panel"]).stat().st_size > 5000
        assert row["label"] in COLORS
        if row["method"] == "integrated_gradients":
            assert row["converged"] == (row["completeness_error"] <= 0.01)
        assert row["grid"] == ([4, 4] if row["method"] == "grad_cam" else None)
    assert len(found["summary"]["agreement"]) == 6
    assert {verdict["verdict"] for verdict in found["summary"]["verdicts"].values()} <= {
        "trust",
        "care",
        "do not trust",
    }
    assert "explaining 4 images by integrated gradients and grad cam" in done.stdout + done.stderr
    page = (folder / "index.html").read_text()
    assert page.count("<figure") == len({row["panel"] for row in found["images"]})
    assert "http" not in page.replace("http-equiv", "")
    assert json.loads((tmp_path / "out" / "metrics.json").read_text())


def test_photos_are_shown_as_classified_and_broken_ones_named(
    trained: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A photo that is not square: what the network saw is its middle."""
    photos = tmp_path / "photos"
    photo = Image.new("RGB", (96, 32), COLORS["red"])
    photo.paste(COLORS["blue"], (0, 0, 30, 32))
    photos.mkdir()
    photo.save(photos / "wide.png")
    (photos / "broken.png").write_bytes(b"no image")
    words = ["explanation=integrated_gradients", f"images={photos}", f"output={tmp_path / 'out'}"]
    result = explain(compose_config("explain", f"run={trained}", *words))
    assert result.unreadable == [str(photos / "broken.png")]
    assert "broken.png" in caplog.text
    assert json.loads((tmp_path / "out" / "run.json").read_text())["unreadable"] == result.unreadable
    rows = json.loads((tmp_path / "out" / "explanations" / "explanations.json").read_text())["images"]
    assert [(row["image"], row["label"]) for row in rows] == [("wide.png", None)]
    panel = np.array(Image.open(tmp_path / "out" / "explanations" / rows[0]["panel"]).convert("RGB")).astype(int)
    assert (abs(panel - COLORS["red"]).sum(axis=2) < 30).sum() > 5000
    assert (abs(panel - COLORS["blue"]).sum(axis=2) < 30).sum() < 100


@pytest.mark.parametrize(
    ("channels", "bands", "said"),
    [
        (
            5,
            (3, 1, 0),
            "the pictures show bands 3, 1, 0 as red, green and blue, each from its 2nd to its 98th percentile.",
        ),
        (1, None, ""),
    ],
)
def test_arrays_of_any_depth_are_explained(
    channels: int, bands: tuple[int, ...] | None, said: str, tmp_path: Path
) -> None:
    model = save_tiny_model(tmp_path / "model", channels, (0, 4095), display_bands=bands)
    (tmp_path / "photos").mkdir()
    values = np.zeros((32, 32, channels), np.uint16)
    values[8:24, 8:24, min(3, channels - 1)] = 4095
    np.save(tmp_path / "photos" / "scene.npy", values)
    words = [f"images={tmp_path / 'photos'}", "explanation=all", "accelerator=cpu", f"output={tmp_path / 'out'}"]
    explain(compose_config("explain", f"run={model}", *words, f"paths.runs={tmp_path / 'runs'}"))
    folder = tmp_path / "out" / "explanations"
    found = json.loads((folder / "explanations.json").read_text())
    assert len(found["images"]) == 4
    assert found["summary"]["display"].endswith(said)
    assert said in (folder / "index.html").read_text()
    panel = np.asarray(Image.open(folder / found["images"][0]["panel"]).convert("RGB")).astype(int)
    square = (255, 0, 0) if bands else (255, 255, 255)
    assert (abs(panel[40:320, 40:320] - square).sum(axis=2) < 6).sum() > 5000, "what is bright is shown as such"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["explanation.methods=[gradcam]"], "did you mean grad_cam"),
        (["explanation.tolerance=0"], "explanation.tolerance=0"),
        (["explanation.baseline=white"], "must be one of black, blurred, mean, random_average"),
        (["images=nowhere"], "nowhere: no such file or folder"),
        (["images=x", "explanation.target=label"], "have no labels"),
    ],
)
def test_bad_input_leaves_no_folder(words: list[str], said: str, trained: Path, cli: Cli, tmp_path: Path) -> None:
    done = cli("explain", f"run={trained}", f"output={tmp_path / 'out'}", *words)
    assert done.returncode == 2, done.stderr
    assert said in done.stderr
    assert not (tmp_path / "out").exists()


def test_training_ends_with_a_report_and_explanations(colors: Path, tmp_path: Path) -> None:
    words = ["data=folder", f"data.root={colors}", f"output={tmp_path / 'run'}", *TINY, "evaluation=default"]
    limits = [
        "stages=[fit,test,explain]",
        "explanation.num_images=2",
        "evaluation.evaluators.corruptions.severities=[3]",
    ]
    result = train(compose_config("train", *words, *limits))
    for name in ("evaluation/report.html", "evaluation/evaluation.json", "explanations/index.html"):
        assert (result.run_dir / name).is_file(), name
    assert {"test/ece_calibrated", "test/corruption/mean_accuracy", "test/nll", "test/brier"} <= set(result.metrics)
    assert "explanation/integrated_gradients/insertion_auc" in result.metrics
    events = EventAccumulator(str(result.run_dir / "tensorboard"))
    events.Reload()
    assert "explanations" in events.Tags()["images"]
    spec = json.loads((result.run_dir / "model" / "task_spec.json").read_text())
    assert spec["calibration"]["num_images"] == 9


def test_a_transformer_is_trained_and_explained_at_another_size(colors: Path, tmp_path: Path) -> None:
    """Made for 224 px, given 32."""
    words = ["data=folder", f"data.root={colors}", f"output={tmp_path / 'run'}", *BARE, "stages=[fit,explain]"]
    network = ["model.name=vit_tiny_patch16_224", "+model.arguments.depth=2", "explanation=grad_cam"]
    run = train(compose_config("train", *words, *network, "explanation.num_images=1")).run_dir
    assert load_model(run).architecture.arguments == {"depth": 2, "img_size": 32}
    found = json.loads((run / "explanations" / "explanations.json").read_text())
    assert [row["grid"] for row in found["images"]] == [[2, 2]]
    assert found["summary"]["grad_cam_layer"] == {"module": "blocks.0", "part": None, "layout": "NLC", "grid": [2, 2]}


def test_the_choice_is_over_classes_right_and_wrong_sure_and_unsure() -> None:
    generator = np.random.default_rng(0)
    labels = generator.integers(0, 5, 400)
    predicted = np.where(generator.uniform(size=400) < 0.7, labels, (labels + 1) % 5)
    confidences = generator.uniform(0.3, 1, 400)
    chosen = choose_representative(labels, predicted, confidences, 20, seed=0)
    assert len(set(chosen)) == 20
    assert np.bincount(labels[chosen]).tolist() == [4] * 5
    is_right, is_sure = (labels == predicted)[chosen], (confidences >= np.median(confidences))[chosen]
    for right in (True, False):
        for sure in (True, False):
            assert ((is_right == right) & (is_sure == sure)).sum() == 5
    assert choose_representative(labels[:3], predicted[:3], confidences[:3], 20, seed=0) != []


def test_a_fixed_choice_depends_on_names_and_classes_alone(trained: Path, tmp_path: Path) -> None:
    """Another model of the same data is explained on the same images, however it answers."""
    other = shutil.copytree(trained, tmp_path / "other")
    saved = load_model(other)
    for weights in saved.network.parameters():
        weights.data.normal_(generator=torch.Generator().manual_seed(1))
    save_model(other / "model", saved.network, saved.spec, saved.architecture)
    chosen = {}
    for name, run in {"first": trained, "again": trained, "other": other}.items():
        words = ("explanation=grad_cam", "explanation.choice=fixed", "explanation.num_images=6")
        explain(compose_config("explain", f"run={run}", *words, f"output={tmp_path / name}-out"))
        rows = read_json(tmp_path / f"{name}-out" / "explanations" / "explanations.json")["images"]
        chosen[name] = [(row["image"], row["label"]) for row in rows]
    assert chosen["first"] == chosen["again"] == chosen["other"]
    assert [label for _, label in chosen["first"]] == [*sorted(COLORS)] * 2
    words = ("explanation=grad_cam", "explanation.choice=fixed", "explanation.num_images=6", "explanation.seed=1")
    explain(compose_config("explain", f"run={trained}", *words, f"output={tmp_path / 'seed'}"))
    rows = read_json(tmp_path / "seed" / "explanations" / "explanations.json")["images"]
    assert [(row["image"], row["label"]) for row in rows] != chosen["first"]


def test_fewer_images_than_classes_are_of_the_first_classes() -> None:
    labels = np.array([2, 0, 0, 1, 2, 0])
    assert choose_fixed(labels, 2) == [1, 3]
    assert choose_fixed(labels, 5) == [1, 3, 0, 2, 4]
    assert sorted(choose_fixed(labels, 20)) == list(range(6))


def test_pictures_in_s3_are_explained(
    trained: Path, colors: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    with mock_aws():
        client = boto3.client("s3")
        client.create_bucket(Bucket="pictures")
        for number, file in enumerate(sorted((colors / "test").rglob("*.png"))[:2]):
            client.put_object(Bucket="pictures", Key=f"new/{number}.png", Body=file.read_bytes())
        words = ("images=s3://pictures/new", "explanation=grad_cam", f"paths.cache={tmp_path / 'cache'}")
        explain(compose_config("explain", f"run={trained}", *words, f"output={tmp_path / 'out'}"))
        with pytest.raises(BadInput, match="no images found below it"):
            explain(compose_config("explain", f"run={trained}", "images=s3://pictures/none"))
    rows = read_json(tmp_path / "out" / "explanations" / "explanations.json")["images"]
    assert [row["image"] for row in rows] == ["0.png", "1.png"]
