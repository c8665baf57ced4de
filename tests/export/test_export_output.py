"""Exporting a copy of a run: what it holds, what a killed process leaves, and where it may not lie."""

import json
import shutil
from pathlib import Path

import pytest
from tests.commands import Starter
from tests.conftest import Cli, compose_task

from sightline.errors import BadInput
from sightline.export.export import ExportResult, export
from sightline.finished_run import FinishedRun
from sightline.registry.packages import open_registry

QUICK = ("export.cost=false", "export.int8=false")
EXPORTED = {"baseline.npz", "export.json", "model.onnx", "model_card.md"}


def export_to(output: Path, run: Path, *words: str) -> ExportResult:
    return export(compose_task("export", f"run={run}", f"output={output}", *QUICK, *words))


def everything(folder: Path) -> dict[str, tuple[bytes, int]]:
    """Content and time of each file."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): (path.read_bytes(), path.stat().st_mtime_ns) for path in files}


def test_the_copy_is_a_run_without_checkpoints_and_the_run_is_left_alone(trained: Path, tmp_path: Path) -> None:
    before, output = everything(trained), tmp_path / "exported"
    assert (trained / "checkpoints").is_dir()
    assert export_to(output, trained).folder == output / "model"
    assert everything(trained) == before
    names = {path.name for path in trained.iterdir() if not path.name.startswith(".")}
    assert {path.name for path in output.iterdir()} == names - {"checkpoints", "tensorboard"}
    assert {path.name for path in (output / "model").iterdir()} >= EXPORTED
    record, old = (json.loads((folder / "run.json").read_text()) for folder in (output, trained))
    assert record.pop("exported")["from"] == str(trained)
    assert record == {key: value for key, value in old.items() if key != "exported"}
    assert f"run={output}" in (output / "model" / "model_card.md").read_text()
    assert FinishedRun.open(output, "cpu", runtime="onnx").runtime.name == "onnx"


def test_what_a_killed_export_leaves_is_no_run_and_the_same_command_makes_it_anew(
    starter: Starter, trained: Path, tmp_path: Path
) -> None:
    output = tmp_path / "exported"
    command = ["src/export.py", f"run={trained}", f"output={output}", "export.int8=false"]
    for fault in ("killed", "killed_late"):
        assert starter.run(command, first=("tests.export.planted:plant", fault)).returncode == -9
        assert not (output / "run.json").exists()
    assert (output / "metrics.json").exists()  # of the last one, in which everything but run.json was in place
    (output / "metrics.json").write_text("{}")
    done = starter.run(command)
    assert done.returncode == 0, done.stderr
    assert (output / "metrics.json").read_bytes() == (trained / "metrics.json").read_bytes()
    assert not list(output.rglob(".*"))


def test_a_refused_export_leaves_nothing_in_its_folder(starter: Starter, trained: Path, tmp_path: Path) -> None:
    output = tmp_path / "exported"
    command = ["src/export.py", f"run={trained}", f"output={output}", *QUICK]
    assert starter.run(command, first=("tests.export.planted:plant", "layout")).returncode == 4
    assert list(output.iterdir()) == []


def test_an_output_that_is_the_run_or_holds_other_things_is_refused(trained: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(trained, run)
    for place in (run, run / "exported", tmp_path):
        with pytest.raises(BadInput, match=f"output={place}: lies in the run's own folder, or that in it"):
            export_to(place, run)
    taken = tmp_path / "taken"
    taken.mkdir()
    (taken / "notes.txt").write_text("mine")
    with pytest.raises(BadInput, match=r"other things lie in this folder, like notes\.txt"):
        export_to(taken, run)
    export_to(tmp_path / "exported", run)
    with pytest.raises(BadInput, match="already holds a run"):
        export_to(tmp_path / "exported", run)


def test_a_registered_version_is_exported_as_a_copy_alone(trained: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(trained, run, ignore=shutil.ignore_patterns("checkpoints"))
    (run / "model" / "model.onnx").write_bytes(b"onnx")
    registry = open_registry(str(tmp_path / "registry"), tmp_path)
    version = registry.add(run, "colors", facts={}, by="tester", status="approved")
    named = ("run=registry:colors", f"paths.registry={tmp_path / 'registry'}", *QUICK)
    folder = registry.fetch(version)
    for words in (named, (f"run={folder}", *QUICK)):
        with pytest.raises(BadInput, match="a registered version never changes"):
            export(compose_task("export", *words))
    export(compose_task("export", *named, f"output={tmp_path / 'copy'}"))
    assert not (tmp_path / "copy" / "version.json").exists()
    assert (tmp_path / "copy" / "model" / "model.onnx").read_bytes() != b"onnx"
    assert (folder / "model" / "model.onnx").read_bytes() == b"onnx"


def test_an_export_is_launched_and_its_folder_comes_home(cli: Cli, trained: Path, tmp_path: Path) -> None:
    done = cli("export", f"run={trained}", "launch=local_process", f"paths.runs={tmp_path}", *QUICK)
    assert done.returncode == 0, done.stderr
    folder = Path(done.stdout.strip().splitlines()[-1].removeprefix("results: "))
    assert folder.is_relative_to(tmp_path)
    assert (folder / "model" / "model.onnx").is_file()
    assert json.loads((folder / "run.json").read_text())["exported"]["from"] == str(trained)
