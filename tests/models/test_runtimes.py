"""The same answers whatever computes them: torch, the network compiled, or its graph in onnxruntime."""

import csv
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.conftest import BARE, WITHOUT_FIGURES, Cli, compose_config, compose_train
from tests.saved_models import save_tiny_model
from torch import nn

from sightline import FinishedRun
from sightline.data.transforms import normalise, to_pixels
from sightline.errors import BadInput, GateNotMet
from sightline.evaluation.evaluate import evaluate
from sightline.explanation.explain import explain
from sightline.models.checkpoint import load_model
from sightline.models.exported import FILES
from sightline.models.onnx_graph import write_onnx
from sightline.models.runtimes import MAX_DIFFERENCE, Placement, make_runtime
from sightline.runs.files import read_json, write_json
from sightline.task_spec import Calibration, TaskSpec
from sightline.training.train import train

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def exported_run(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the trained run with its graph beside the weights, as export.py leaves it."""
    run = shutil.copytree(trained, tmp_path_factory.mktemp("exported") / "run")
    saved, folder = load_model(run), run / "model"
    sha256 = read_json(folder / "model.json")["sha256"]
    write_onnx(folder / FILES["fp32"], saved.network, saved.spec, {"sha256": sha256, "precision": "fp32"})
    write_json(folder / "export.json", {"fp32": {"max_probability_difference": 1e-6}, "sha256": sha256})
    return run


def read_rows(table: Path) -> list[dict[str, str]]:
    return [*csv.DictReader(table.read_text(encoding="utf-8").splitlines())]


def test_predictions_are_the_same(exported_run: Path, colors: Path, tmp_path: Path, cli: Cli) -> None:
    words = (f"run={exported_run}", f"images={colors / 'test'}", "num_workers=0")
    for name in ("torch", "auto"):
        done = cli("predict", *words, f"runtime={name}", f"output={tmp_path / name}")
        assert done.returncode == 0, done.stderr
    rows = [read_rows(tmp_path / name / "predictions.csv") for name in ("torch", "auto")]
    assert len(rows[0]) == 18
    for mine, theirs in zip(*rows, strict=True):
        assert (mine["file"], mine["class"]) == (theirs["file"], theirs["class"])
        assert float(mine["probability"]) == pytest.approx(float(theirs["probability"]), abs=MAX_DIFFERENCE)
    told = [read_json(tmp_path / name / "run.json") for name in ("torch", "auto")]
    assert [(each["runtime"], each["precision"]) for each in told] == [("torch", "32-true"), ("onnx", "32-true")]


def test_what_is_measured_is_the_same(trained: Path, exported_run: Path, tmp_path: Path) -> None:
    """By torch to the last bit what the training measured, and by the graph nearly."""
    words = (f"run={exported_run}", "data.num_workers=0", "evaluation=short", *WITHOUT_FIGURES)
    by_torch, by_graph = (
        evaluate(compose_config("evaluate", *words, f"runtime={name}", f"output={tmp_path / name}")).metrics
        for name in ("torch", "auto")
    )
    of_training = read_json(trained / "metrics.json")
    assert {name: value for name, value in by_torch.items() if of_training.get(name) != value} == {}
    assert by_graph == pytest.approx(by_torch, abs=MAX_DIFFERENCE)
    assert [read_json(tmp_path / name / "run.json")["runtime"] for name in ("torch", "auto")] == ["torch", "onnx"]


def test_explanations_are_the_same(exported_run: Path, tmp_path: Path) -> None:
    """But for the mean colour of occlusion, which a picture has to the nearest level alone."""
    words = (f"run={exported_run}", "data.num_workers=0", "explanation.num_images=2", "explanation.max_steps=16")
    words = (*words, "explanation.methods=[integrated_gradients,occlusion]")
    for name in ("torch", "onnx"):
        explain(compose_config("explain", *words, f"runtime={name}", f"output={tmp_path / name}"))
    mine, theirs = (read_json(tmp_path / name / "explanations" / "explanations.json") for name in ("torch", "onnx"))
    for row, other in zip(mine["images"], theirs["images"], strict=True):
        assert (row["image"], row["method"]) == (other["image"], other["method"])
        assert row["probability"] == pytest.approx(other["probability"], abs=MAX_DIFFERENCE)
        allowed = MAX_DIFFERENCE if row["method"] == "integrated_gradients" else 0.05
        for key in ("insertion_auc", "deletion_auc"):
            assert row[key] == pytest.approx(other[key], abs=allowed)
    assert [read_json(tmp_path / name / "run.json")["runtime"] for name in ("torch", "onnx")] == ["torch", "onnx"]


@pytest.mark.parametrize(
    ("runtime", "kind"), [("onnx", "onnx"), pytest.param("compiled", "compiled", marks=pytest.mark.slow)]
)
def test_a_training_validates_and_measures_by_it(runtime: str, kind: str, colors: Path, tmp_path: Path) -> None:
    words = ("data=folder", f"data.root={colors}", *BARE, "seed=3", "trainer.precision=32-true")
    words = (*words, f"paths.cache={tmp_path / 'cache'}")
    for name in ("torch", runtime):
        train(compose_config("train", *words, f"runtime={name}", f"output={tmp_path / name}"))
    rows = [read_rows(tmp_path / name / "metrics.csv") for name in ("torch", runtime)]
    for mine, theirs in zip(*rows, strict=True):
        assert mine["train/loss"] == theirs["train/loss"], "what validates changes no step"
        assert float(mine["val/loss"]) == pytest.approx(float(theirs["val/loss"]), abs=1e-4)
    found = [read_json(tmp_path / name / "metrics.json") for name in ("torch", runtime)]
    assert found[1]["test/loss"] == pytest.approx(found[0]["test/loss"], abs=1e-4)
    assert [read_json(tmp_path / name / "run.json")["runtime"] for name in ("torch", runtime)] == ["torch", kind]
    more = (*words, "trainer.max_epochs=2")
    with pytest.raises(BadInput, match=rf"runtime=auto \(was {runtime}\)"):
        train(compose_config("train", *more, f"resume={tmp_path / runtime}"))
    train(compose_config("train", *more, f"resume={tmp_path / 'torch'}"))  # which is what auto is in a fit
    assert len(read_rows(tmp_path / "torch" / "metrics.csv")) == 2


def test_own_code_validates_itself() -> None:
    with pytest.raises(
        BadInput, match=r"runtime=onnx: not with module\._target_=my\.Module, whose validation is its own"
    ):
        compose_train("data=folder", "data.root=/photos", "runtime=onnx", "module._target_=my.Module")


@pytest.mark.parametrize(
    ("what", "runtime"),
    [
        ("nothing", "onnx"),
        ("another calibration", "onnx"),
        ("no graph", "torch"),
        ("a broken graph", "torch"),
        ("no report", "torch"),
        ("a report that disagrees", "torch"),
        ("other weights", "torch"),
        ("other views", "torch"),
        ("bf16", "torch"),
    ],
)
def test_auto_takes_a_graph_that_answers_as_the_model(
    what: str, runtime: str, exported_run: Path, colors: Path, tmp_path: Path
) -> None:
    run = shutil.copytree(exported_run, tmp_path / "run")
    folder, precision = run / "model", "32-true"
    spec = TaskSpec.load(folder / "task_spec.json")
    if what == "another calibration":
        replace(spec, calibration=Calibration(3.0, 0.5, 0.9, 10)).save(folder / "task_spec.json")
    elif what == "no graph":
        (folder / FILES["fp32"]).unlink()
    elif what == "a broken graph":
        (folder / FILES["fp32"]).write_bytes(b"no graph")
    elif what == "no report":
        (folder / "export.json").unlink()
    elif what == "a report that disagrees":
        write_json(folder / "export.json", {"fp32": {"max_probability_difference": 0.1}})
    elif what == "other weights":
        write_json(folder / "model.json", {**read_json(folder / "model.json"), "sha256": "0"})
    elif what == "other views":
        replace(spec, views="flip").save(folder / "task_spec.json")
    elif what == "bf16":
        precision = "bf16-mixed"
    opened = FinishedRun.open(run, "cpu", precision)
    assert opened.runtime.name == runtime
    if runtime == "onnx":
        by_torch = FinishedRun.open(run, "cpu", runtime="torch").predict(colors / "test")
        found = opened.predict(colors / "test")
        np.testing.assert_allclose(found.probabilities, by_torch.probabilities, atol=MAX_DIFFERENCE)


@pytest.mark.parametrize(("channels", "bit_depth", "views"), [(3, 8, "flip"), (1, 16, "none"), (5, 8, "none")])
def test_a_graph_is_made_once(channels: int, bit_depth: int, views: str, tmp_path: Path) -> None:
    """Of any channels, depth and views, and kept by what it is made of."""
    saved = load_model(save_tiny_model(tmp_path / "model", channels, bit_depth=bit_depth))
    saved = replace(saved, spec=replace(saved.spec, views=views))
    placement = Placement(CPU, "32-true", cache=tmp_path / "cache")
    generator = torch.Generator().manual_seed(0)
    batch = torch.randint(0, saved.spec.max_level, (5, 32, 32, channels), generator=generator)
    batch = batch.to(getattr(torch, saved.spec.dtype))
    found = {
        name: make_runtime(name, saved, placement, lambda images: normalise(images, saved.spec)).logits(batch)
        for name in ("onnx", "torch", "auto")
    }
    for name in ("onnx", "auto"):
        torch.testing.assert_close(found[name].softmax(1), found["torch"].softmax(1), atol=MAX_DIFFERENCE, rtol=0)
    (kept,) = (tmp_path / "cache" / "onnx").iterdir()
    written = kept.stat().st_mtime_ns
    again = make_runtime("onnx", saved, placement, lambda images: normalise(images, saved.spec)).logits(batch[:2])
    torch.testing.assert_close(again, found["onnx"][:2], atol=1e-4, rtol=1e-4)
    assert kept.stat().st_mtime_ns == written


class _OtherwiseInGraphs(nn.Module):
    """Answers differently once it is exported."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        logits = self.network(images)
        return logits.flip(1) if torch.compiler.is_exporting() else logits


def test_a_graph_that_answers_otherwise_is_refused(tmp_path: Path) -> None:
    saved = load_model(save_tiny_model(tmp_path / "model", 3))
    saved = replace(saved, network=_OtherwiseInGraphs(saved.network).eval())
    placement = Placement(CPU, "32-true", cache=tmp_path / "cache")
    runtime = make_runtime("onnx", saved, placement, lambda images: normalise(images, saved.spec))
    with pytest.raises(GateNotMet, match="answers otherwise than torch"):
        runtime.logits(torch.zeros(2, 32, 32, 3, dtype=torch.uint8))
    assert not [*(tmp_path / "cache" / "onnx").iterdir()]


def test_what_a_graph_cannot_do_is_said_at_once(exported_run: Path) -> None:
    with pytest.raises(BadInput, match=r"precision=bf16-mixed: it computes in 32 bits"):
        FinishedRun.open(exported_run, "cpu", "bf16-mixed", runtime="onnx")
    floats = FinishedRun.open(exported_run, "cpu", runtime="onnx").runtime
    with pytest.raises(BadInput, match="gives floats"):
        floats.logits(torch.zeros(2, 3, 32, 32))


def test_pixels_come_back_from_what_a_network_sees() -> None:
    for channels, bit_depth in ((3, 8), (5, 16)):
        spec = TaskSpec(("a", "b"), 16, (0.4,) * channels, (0.3,) * channels, channels=channels, bit_depth=bit_depth)
        generator = torch.Generator().manual_seed(0)
        pixels = torch.randint(0, spec.max_level + 1, (4, 16, 16, channels), generator=generator)
        pixels = pixels.to(getattr(torch, spec.dtype))
        assert torch.equal(to_pixels(normalise(pixels, spec), spec), pixels)


@pytest.mark.slow
def test_a_compiled_network_answers_the_same(trained: Path, colors: Path) -> None:
    by_torch, compiled = (
        FinishedRun.open(trained, "cpu", runtime=name).predict(colors / "test", batch_size=8)
        for name in ("torch", "compiled")
    )
    np.testing.assert_allclose(compiled.probabilities, by_torch.probabilities, atol=MAX_DIFFERENCE)


def test_without_a_compiler_that_is_said(
    trained: Path, colors: Path, tmp_path: Path, cold_cli: Cli, runs: Path
) -> None:
    words = (f"run={trained}", f"images={colors / 'test'}", f"paths.runs={runs}", "runtime=compiled", "num_workers=0")
    caches = {
        "TORCHINDUCTOR_CACHE_DIR": str(tmp_path),
        "CXX": "no-such-compiler",
        "PATH": str(Path(sys.executable).parent),
    }
    done = cold_cli("predict", *words, **caches)
    assert done.returncode == 2, done.stderr
    assert "runtime=compiled: the network cannot be compiled here" in done.stderr
    assert "Traceback" not in done.stderr
