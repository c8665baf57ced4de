"""Exporting a finished run: what is written, what it is held to, and what is refused."""

import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from tests.commands import Starter
from tests.conftest import BARE, Cli, compose_config, compose_task
from tests.export import planted
from tests.own_code import with_network, write_code

from sightline.data.transforms import normalise
from sightline.errors import BadInput, GateNotMet
from sightline.evaluation.evaluate import evaluate
from sightline.export import int8
from sightline.export.agreement import prepared
from sightline.export.export import ExportResult, export
from sightline.finished_run import FinishedRun
from sightline.models import onnx_graph
from sightline.models.checkpoint import load_model, save_model
from sightline.models.exported import ExportedModel
from sightline.serving.contract import Answer
from sightline.serving.runtime_predictor import RuntimePredictor
from sightline.task_spec import TaskSpec

FILES = ("baseline.npz", "export.json", "model.int8.onnx", "model.onnx", "model_card.md")
NAMES = {"fp32": "model.onnx", "int8": "model.int8.onnx"}
QUICK = "export.cost=false"
STAGE = ("stages=[fit,export]", QUICK)
CANNOT_MISS = ("export.min_agreement=0", "export.max_accuracy_drop=1")


@pytest.fixture(scope="module")
def exported_run(cli: Cli, trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("exported") / trained.name
    shutil.copytree(trained, run)
    done = cli("export", f"run={run}", *CANNOT_MISS)
    assert done.returncode == 0, done.stderr
    assert "fp32/accuracy" in done.stdout
    return run


def contents(run: Path) -> dict[str, bytes]:
    """Of the files that are not hidden, by name."""
    return {path.name: path.read_bytes() for path in (run / "model").glob("[!.]*")}


def facts_of(run: Path) -> dict[str, Any]:
    return json.loads((run / "model" / "export.json").read_text())


def test_the_file_answers_as_the_run_does(exported_run: Path, colors: Path) -> None:
    run = FinishedRun.open(exported_run, "cpu", "32-true")
    model = ExportedModel.open(exported_run / "model" / "model.onnx")
    assert model.spec == run.task_spec
    files = sorted((colors / "test").rglob("*.png"))
    pixels = np.stack([np.asarray(Image.open(file)) for file in files])
    probabilities, features = model.run(pixels)
    np.testing.assert_allclose(probabilities, run.predict(files).probabilities, atol=1e-5)
    assert features.shape == (18, run.saved.network.num_features)


def test_the_files_say_whose_they_are(exported_run: Path) -> None:
    described = json.loads((exported_run / "model" / "model.json").read_text())
    metrics = json.loads((exported_run / "metrics.json").read_text())
    for precision, file in NAMES.items():
        facts = ExportedModel.open(exported_run / "model" / file).described()
        assert (facts["name"], facts["version"]) == ("colors", described["sha256"][:12])
        assert (facts["sha256"], facts["precision"]) == (described["sha256"], precision)
        assert facts["created"] == facts_of(exported_run)["created"]
    accuracy = ExportedModel.open(exported_run / "model" / "model.onnx").described()["accuracy"]
    assert accuracy["value"] == metrics["test/accuracy"]
    assert (accuracy["low"], accuracy["images"], accuracy["split"]) == (metrics["test/accuracy_low"], 18, "test")
    accuracy = ExportedModel.open(exported_run / "model" / "model.int8.onnx").described()["accuracy"]
    assert (accuracy["images"], accuracy["split"]) == (9, "val")


def test_the_name_and_version_of_a_registry_stand_for_the_files_own(exported_run: Path, tmp_path: Path) -> None:
    version = tmp_path / "3"
    shutil.copytree(exported_run, version)
    (version / "version.json").write_text(json.dumps({"name": "flowers", "version": 3}))
    described = RuntimePredictor.open(version / "model").describe()
    assert (described["name"], described["version"]) == ("flowers", "3")
    assert described["created"] == facts_of(exported_run)["created"]
    (version / "version.json").write_text("[")
    (version / "model" / "export.json").write_text("{")
    described = RuntimePredictor.open(version / "model").describe()
    assert (described["name"], described["created"], described["accuracy"]) == ("colors", None, None)


def test_equal_weights_and_images_make_equal_files_wherever_and_whenever(
    cold_cli: Cli, exported_run: Path, tmp_path: Path
) -> None:
    made = {}
    for seed in (1, 2):  # of the order of sets in a process
        run = tmp_path / f"run {seed}"
        shutil.copytree(exported_run, run, ignore=shutil.ignore_patterns("*.onnx"))
        metrics = {"val/accuracy": seed / 2}  # as of a training that measured something else
        (run / "metrics.json").write_text(json.dumps(metrics))
        done = cold_cli("export", f"run='{run}'", *CANNOT_MISS, QUICK, PYTHONHASHSEED=str(seed))
        assert done.returncode == 0, done.stderr
        made[seed] = contents(run)
    for name in (*NAMES.values(), "model.json", "task_spec.json", "baseline.npz"):
        assert made[1][name] == made[2][name], name
    for name in NAMES.values():
        assert b"/src/sightline" not in made[1][name]  # no line or path of code


def test_what_is_kept_of_an_export(exported_run: Path) -> None:
    facts = facts_of(exported_run)
    assert sorted(set(contents(exported_run)) & set(FILES)) == sorted(FILES)
    assert facts["images"] == 9
    for precision in ("fp32", "int8"):
        found = facts[precision]
        assert 0 <= found["accuracy_low"] <= found["accuracy"] <= found["accuracy_high"] <= 1
        assert found["bytes"] == (exported_run / "model" / NAMES[precision]).stat().st_size
        assert found["milliseconds"] > 0
        assert found["memory_mb"] < facts["torch"]["memory_mb"]
    assert facts["fp32"]["max_probability_difference"] <= 1e-4
    assert facts["fp32"]["agreement"] == 1
    record = json.loads((exported_run / "run.json").read_text())
    assert record["exported"] == {"precisions": ["fp32", "int8"], "created": facts["created"]}
    assert record["status"] == "finished"


def test_int8_is_smaller_and_has_a_calibration_of_its_own_answers(exported_run: Path, colors: Path) -> None:
    run, facts = FinishedRun.open(exported_run, "cpu", "32-true"), facts_of(exported_run)
    model = ExportedModel.open(exported_run / "model" / "model.int8.onnx")
    assert facts["int8"]["bytes"] < 0.5 * facts["fp32"]["bytes"]
    assert facts["int8"]["calibration_images"] == 51
    calibration, before = model.spec.calibration, run.task_spec.calibration
    assert calibration is not None
    assert before is not None
    assert (calibration.temperature, calibration.target_accuracy) == (facts["int8"]["temperature"], 0.95)
    files = sorted((colors / "train").rglob("*.png"))
    pixels = np.stack([np.asarray(Image.open(file)) for file in files])
    fp32, int8 = (ExportedModel.open(exported_run / "model" / name) for name in NAMES.values())
    logits = [np.log(each.run(pixels)[0]) * each.spec.temperature for each in (fp32, int8)]
    centred = [each - each.mean(axis=1, keepdims=True) for each in logits]
    assert np.abs(centred[0] - centred[1]).max() < 0.2 * np.abs(centred[0]).max()  # at whatever temperature


def test_int8_is_measured_as_it_is_served(exported_run: Path, colors: Path, tmp_path: Path, cli: Cli) -> None:
    files = sorted((colors / "test").rglob("*.png"))
    expected = RuntimePredictor.open(exported_run / "model", "int8").answer(
        [each.read_bytes() for each in files], [""] * 18
    )
    measured = FinishedRun.open(exported_run, "cpu", "int8").predict(files)
    for answer, prediction in zip(expected, measured, strict=True):
        assert isinstance(answer, Answer)
        assert answer.probabilities[prediction.label] == pytest.approx(prediction.probability, abs=1e-5)
        assert answer.unsure == prediction.is_unsure
    assert measured.threshold == facts_of(exported_run)["int8"]["threshold"]
    without = tmp_path / "without"
    shutil.copytree(exported_run, without, ignore=shutil.ignore_patterns("*.onnx"))
    before = (exported_run / "model" / "task_spec.json").read_bytes()
    words = (f"run={exported_run}", f"against={without}", "precision=int8", "runtime=onnx", "evaluation=short")
    done = cli("evaluate", *words, "evaluation.target_accuracy=0.9", f"output={tmp_path / 'measured'}")
    assert done.returncode == 0, done.stderr
    record = json.loads((tmp_path / "measured" / "run.json").read_text())
    assert (record["precision"], record["runtime"], record["calibrated"]) == ("int8", "onnx", True)
    metrics = json.loads((tmp_path / "measured" / "metrics.json").read_text())
    found = np.mean([files[row].parent.name == each.label for row, each in enumerate(measured)])
    assert metrics["test/accuracy"] == pytest.approx(found)
    assert f"{without} (fp32: it has no int8)" in done.stdout + done.stderr
    assert (exported_run / "model" / "task_spec.json").read_bytes() == before  # which is of fp32


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["runtime=torch"], "precision=int8 runtime=torch: it is the exported model that has 8 bits; use runtime=onnx"),
        (["test_time_augmentation=flip"], "model.int8.onnx: its views or its task are others"),
        ([], "has no model.int8.onnx; make it with export.py run="),
    ],
)
def test_int8_that_is_not_there_or_not_of_that_kind_is_refused(
    exported_run: Path, tmp_path: Path, words: list[str], said: str
) -> None:
    run = exported_run
    if not words:
        run = tmp_path / "run"
        shutil.copytree(exported_run, run, ignore=shutil.ignore_patterns("*.int8.onnx"))
    with pytest.raises(BadInput, match=said):
        evaluate(compose_config("evaluate", f"run={run}", "precision=int8", f"output={tmp_path / 'out'}", *words))
    assert not (tmp_path / "out").exists()


def test_the_baseline_describes_the_validation_images(exported_run: Path) -> None:
    run = FinishedRun.open(exported_run, "cpu", "32-true")
    assert run.manifest is not None
    files = list(run.manifest.select("val").paths)
    with np.load(exported_run / "model" / "baseline.npz") as baseline:
        arrays = dict(baseline)
    expected = run.predict(files).probabilities
    np.testing.assert_allclose(arrays["confidence"], expected.max(axis=1), atol=1e-5)
    np.testing.assert_array_equal(arrays["predicted"], expected.argmax(axis=1))
    np.testing.assert_array_equal(arrays["label"], run.manifest.select("val").labels)
    np.testing.assert_array_equal(arrays["size"], [[32, 32]] * 9)
    pixels = np.stack([np.asarray(Image.open(file)) for file in files]) / 255
    np.testing.assert_allclose(arrays["brightness"], pixels.mean(axis=(1, 2, 3)), rtol=1e-4)
    np.testing.assert_allclose(arrays["contrast"], pixels.mean(axis=3).std(axis=(1, 2)), rtol=1e-4)
    assert (arrays["sharpness"] > arrays["contrast"]).all()  # they are noise
    assert arrays["features"].shape == (9, 96)


def test_a_training_of_own_code_exports_at_its_end_and_again_later(cli: Cli, colors: Path, tmp_path: Path) -> None:
    run, own = tmp_path / "run", with_network(write_code(tmp_path / "own"))
    bare = [word for word in BARE if not word.startswith("model.name")]
    done = cli("train", *own, "data=folder", f"data.root={colors}", f"output={run}", *bare, *STAGE, "export.int8=false")
    assert done.returncode == 0, done.stderr
    record = json.loads((run / "run.json").read_text())
    assert (record["status"], record["exported"]["precisions"]) == ("finished", ["fp32"])
    described = json.loads((run / "model" / "model.json").read_text())
    before = facts_of(run)
    assert before["sha256"] == described["sha256"]
    assert ExportedModel.open(run / "model" / "model.onnx").run(np.zeros((1, 32, 32, 3), np.uint8))[1].shape == (1, 4)
    done = cli("export", f"run={run}", "export.int8=false")
    assert done.returncode == 0, done.stderr
    after = facts_of(run)
    assert after["torch"]["milliseconds"] > 0  # in a process that has to find the code of its own accord
    assert after["fp32"]["max_probability_difference"] == before["fp32"]["max_probability_difference"]


def test_a_stage_that_lacks_a_package_is_refused_before_the_training(
    starter: Starter, colors: Path, tmp_path: Path
) -> None:
    words = ["src/train.py", "data=folder", f"data.root={colors}", f"output={tmp_path / 'run'}", *BARE]
    done = starter.run([*words, *STAGE], first=("tests.export.planted:plant", "lacking"))
    assert done.returncode == 2
    assert "needs onnxscript: pip install 'sightline-vision[export]'" in done.stderr
    assert not (tmp_path / "run").exists()


def test_a_wrong_export_is_refused_and_nothing_is_written(starter: Starter, trained: Path) -> None:
    before = contents(trained)
    done = starter.run(["src/export.py", f"run={trained}"], first=("tests.export.planted:plant", "layout"))
    assert done.returncode == 4, done.stderr
    assert "model.onnx answers differently than the network" in done.stderr.splitlines()[-1]
    assert contents(trained) == before


@pytest.mark.parametrize("fault", [planted.change_weight, planted.swap_colours])
def test_other_faults_of_an_exporter_are_found_too(
    trained: Path, monkeypatch: pytest.MonkeyPatch, fault: Callable[[Any], None]
) -> None:
    before = contents(trained)
    monkeypatch.setattr(onnx_graph, "write_onnx", planted.writing_wrongly(fault))
    with pytest.raises(GateNotMet, match="answers differently than the network: probabilities differ by up to 0"):
        export_here(trained)
    assert contents(trained) == before


def test_an_export_that_is_killed_leaves_the_files_of_the_last_one(starter: Starter, exported_run: Path) -> None:
    before = contents(exported_run)
    done = starter.run(["src/export.py", f"run={exported_run}"], first=("tests.export.planted:plant", "killed"))
    assert done.returncode == -9
    assert contents(exported_run) == before
    assert list((exported_run / "model").glob(".*"))
    export_here(exported_run, "export.int8=false")
    assert not list((exported_run / "model").glob(".*"))  # what the killed one left


def export_here(run: Path, *words: str) -> ExportResult:
    return export(compose_task("export", f"run={run}", QUICK, *words))


@pytest.fixture
def copied(trained: Path, tmp_path: Path) -> Callable[..., Path]:
    """A copy of the trained run, whose network is changed by a function."""

    def copy(change: Callable[[Any], None]) -> Path:
        run = tmp_path / "copy"
        shutil.copytree(trained, run)
        saved = load_model(run / "model")
        change(saved.network)
        save_model(run / "model", saved.network, saved.spec, saved.architecture)
        return run

    return copy


def spread(network: Any, layers: Sequence[tuple[str, str]]) -> None:
    """Make all but one channel of a layer tiny beside that one, and make up for it in the next: nothing changes at
    32 bits, and with a range for all channels together the others become 0."""
    for norm, convolution in layers:
        before, after = network.get_submodule(norm), network.get_submodule(convolution)
        before.weight.data[0] *= 3e3
        before.bias.data[0] = before.bias.data[0] * 3e3
        after.weight.data[:, 0] /= 3e3


STEM = [("conv1.1", "conv1.3"), ("conv1.4", "conv1.6")]


def test_layers_that_do_not_bear_8_bits_are_left_at_float_and_named(
    copied: Callable[..., Path], caplog: pytest.LogCaptureFixture
) -> None:
    run = copied(lambda network: spread(network, STEM[:1]))
    with caplog.at_level("INFO"):
        facts = export_here(run, "export.int8=true").facts
    assert any(name.startswith("conv1.") for name in facts["int8"]["float_layers"])
    assert facts["int8"]["float_layers"][0] in caplog.text
    assert facts["int8"]["agreement"] >= 0.98


def test_the_views_of_a_run_and_their_mean_are_in_its_int8_file_too(trained: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(trained, run)
    spec = json.loads((run / "model" / "task_spec.json").read_text())
    (run / "model" / "task_spec.json").write_text(json.dumps({**spec, "views": "flip_and_zooms"}))
    facts = export_here(run, "export.int8=true").facts
    assert facts["fp32"]["max_probability_difference"] < 1e-5
    assert facts["int8"]["max_probability_difference"] < 0.1
    assert facts["int8"]["float_layers"] == []


def test_where_8_bits_do_not_meet_their_bounds_there_are_none_unless_they_were_asked_for(
    copied: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = copied(lambda network: spread(network, STEM))
    monkeypatch.setattr(int8, "STEPS", ())  # no layer may stay at float
    with pytest.raises(GateNotMet, match="model.int8.onnx agrees with fp32 on 0"):
        export_here(run, "export.int8=true")
    assert not (run / "model" / "model.onnx").exists()
    (run / "model" / "model.int8.onnx").write_bytes(b"of an export before")
    facts = export_here(run).facts
    assert "agrees with fp32 on" in facts["int8_refused"]
    assert (run / "model" / "model.onnx").exists()
    assert not (run / "model" / "model.int8.onnx").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["data.root=/elsewhere"], "data.own_root=/elsewhere"),
        (["export.int8=maybe"], "export.int8=maybe: must be auto, true or false"),
    ],
)
def test_what_an_export_does_not_take_is_refused_by_name(trained: Path, words: list[str], said: str) -> None:
    with pytest.raises(BadInput, match=said):
        export_here(trained, *words)


def test_what_is_no_run_with_its_images_is_refused(trained: Path, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="best.ckpt: a checkpoint; what is exported is the model/ of a run"):
        export_here(trained / "checkpoints" / "best.ckpt")
    shutil.copytree(trained / "model", tmp_path / "model")
    with pytest.raises(BadInput, match="came without its run folder"):
        export_here(tmp_path / "model")


def test_an_export_is_compared_on_the_images_where_they_lie_now(trained: Path, colors: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(trained, run)
    record = json.loads((run / "run.json").read_text())
    record["data"]["root"] = record["config"]["data"]["root"] = str(tmp_path / "gone")
    (run / "run.json").write_text(json.dumps(record))
    with pytest.raises(BadInput, match="data.own_root=FOLDER"):
        export_here(run)
    assert export_here(run, f"data.own_root={colors}", "export.int8=false").facts["images"] == 9


def test_normalised_floats_of_own_data_are_compared_as_the_pixels_they_were() -> None:
    spec = TaskSpec(("a", "b"), 8, (0.5, 0.4, 0.3), (0.2, 0.3, 0.1))
    pixels = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (4, 8, 8, 3), dtype=np.uint8))
    assert torch.equal(prepared(normalise(pixels, spec).contiguous(), spec), pixels)
    assert prepared(pixels, spec) is pixels
