"""What the gate packs for a registry that makes no list of hashes itself."""

import shutil
from pathlib import Path

from sightline.pipeline.package import pack
from sightline.registry.package import find_differences, read_package
from sightline.runs.files import write_json


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
