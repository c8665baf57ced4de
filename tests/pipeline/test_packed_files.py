"""What the gate packs for a registry that makes no list of hashes itself."""

import shutil
from pathlib import Path

import pytest

from sightline.export.model_files import quote_accuracy
from sightline.pipeline.package import pack
from sightline.registry.package import find_differences, read_package
from sightline.runs.files import read_json, write_json


def test_a_package_has_the_hashes_of_its_files(trained: Path, tmp_path: Path) -> None:
    run, evaluated, gate = tmp_path / "export", tmp_path / "evaluate", tmp_path / "gate" / "gate.json"
    shutil.copytree(trained, run)
    (run / "model" / "model.onnx").write_bytes(b"onnx")
    evaluated.mkdir()
    gate.parent.mkdir()
    write_json(evaluated / "metrics.json", {"test/accuracy": 0.9})
    write_json(gate, {"passed": True, "sentence": "0.9 reaches 0.8"})
    folder = pack(gate, run, evaluated, None, "colors")
    package = read_package(folder)
    assert find_differences(folder, package.sha256, package.files_sha256) == []
    assert "gate.json" in package.files
    assert not any(name.startswith("checkpoints") for name in package.files)


@pytest.mark.parametrize(("precision", "file"), [("32-true", "fp32"), ("int8", "int8")])
def test_the_file_that_was_evaluated_quotes_what_was_measured(tmp_path: Path, precision: str, file: str) -> None:
    model, evaluated = tmp_path / "model", tmp_path / "evaluate"
    model.mkdir()
    evaluated.mkdir()
    on_validation = {"measured": {"value": 0.8, "split": "val"}}
    write_json(model / "export.json", {"fp32": on_validation, "int8": on_validation})
    write_json(evaluated / "metrics.json", {"test/accuracy": 0.9, "test/accuracy_low": 0.8, "test/accuracy_high": 0.95})
    write_json(evaluated / "run.json", {"precision": precision, "data": {"num_images": {"test": 40}}})
    quote_accuracy(model, evaluated)
    facts = read_json(model / "export.json")
    assert facts.pop(file)["measured"] == {"value": 0.9, "low": 0.8, "high": 0.95, "images": 40, "split": "test"}
    assert [*facts.values()] == [on_validation]
