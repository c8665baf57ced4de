"""The same answers whatever computes them: torch, the network compiled, or its graph in onnxruntime."""

import csv
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.conftest import WITHOUT_FIGURES, Cli
from tests.saved_models import save_tiny_model
from torch import nn

from sightline import FinishedRun
from sightline.data.transforms import normalise, to_pixels
from sightline.errors import BadInput, GateNotMet
from sightline.models.checkpoint import load_model
from sightline.models.exported import FILES
from sightline.models.onnx_graph import write_onnx
from sightline.models.runtimes import MAX_DIFFERENCE, Placement, make_runtime
from sightline.runs.files import read_json, write_json
from sightline.task_spec import Calibration, TaskSpec

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


def results(done: object) -> Path:
    assert getattr(done, "returncode") == 0, getattr(done, "stderr")  # noqa: B009
    return Path(getattr(done, "stdout").strip().splitlines()[-1].removeprefix("results: "))  # noqa: B009


def test_predictions_are_the_same(exported_run: Path, colors: Path, runs: Path, cli: Cli) -> None:
    words = (f"run={exported_run}", f"images={colors / 'test'}", f"paths.runs={runs}", "num_workers=0")
    folders = {name: results(cli("predict", *words, f"runtime={name}")) for name in ("torch", "auto")}
    rows = {name: [*csv.DictReader((folder / "predictions.csv").open())] for name, folder in folders.items()}
    for mine, theirs in zip(rows["torch"], rows["auto"], strict=True):
        assert (mine["file"], mine["class"]) == (theirs["file"], theirs["class"])
        assert float(mine["probability"]) == pytest.approx(float(theirs["probability"]), abs=MAX_DIFFERENCE)
    told = {name: read_json(folder / "run.json") for name, folder in folders.items()}
    assert {name: each["runtime"] for name, each in told.items()} == {"torch": "torch", "auto": "onnx"}
    assert {each["precision"] for each in told.values()} == {"32-true"}


def test_what_is_measured_is_the_same(trained: Path, exported_run: Path, runs: Path, cli: Cli) -> None:
    words = (f"run={exported_run}", f"paths.runs={runs}", "data.num_workers=0", *WITHOUT_FIGURES)
    by_torch = results(cli("evaluate", *words, "runtime=torch"))
    by_graph = results(cli("evaluate", *words))
    expected = {name: value for name, value in read_json(trained / "metrics.json").items() if name.startswith("test/")}
    measured = read_json(by_torch / "metrics.json")
    assert {name: measured[name] for name in measured if name in expected} == {
        name: expected[name] for name in measured if name in expected
    }
    assert read_json(by_graph / "metrics.json") == pytest.approx(measured, abs=MAX_DIFFERENCE)
    assert [read_json(each / "run.json")["runtime"] for each in (by_torch, by_graph)] == ["torch", "onnx"]


def test_explanations_are_the_same(exported_run: Path, runs: Path, cli: Cli) -> None:
    """But for the mean colour of occlusion, which a picture has to the nearest level alone."""
    methods = "explanation.methods=[integrated_gradients,occlusion]"
    words = (f"run={exported_run}", f"paths.runs={runs}", methods, "explanation.num_images=3", "data.num_workers=0")
    folders = [results(cli("explain", *words, f"runtime={name}")) for name in ("torch", "onnx")]
    mine, theirs = (read_json(each / "explanations" / "explanations.json") for each in folders)
    for row, other in zip(mine["images"], theirs["images"], strict=True):
        assert (row["image"], row["method"]) == (other["image"], other["method"])
        assert row["probability"] == pytest.approx(other["probability"], abs=MAX_DIFFERENCE)
        allowed = MAX_DIFFERENCE if row["method"] == "integrated_gradients" else 0.05
        for key in ("insertion_auc", "deletion_auc"):
            assert row[key] == pytest.approx(other[key], abs=allowed)
    assert [read_json(each / "run.json")["runtime"] for each in folders] == ["torch", "onnx"]


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


@pytest.mark.parametrize(
    ("channels", "bit_depth", "views"), [(3, 8, "flip_and_shifts"), (1, 16, "none"), (5, 8, "none")]
)
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
