"""A step of a pipeline as the image starts it, in a folder that stands in for /opt/ml."""

import json
import os
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import pytest
from tests.conftest import PROJECT

from sightline.launch.container.processing_folder import NO_CHAMPION, ProcessingFolder

ECHO = "tests/launch/echo.py"


@pytest.fixture
def folder(tmp_path: Path) -> ProcessingFolder:
    return ProcessingFolder(tmp_path / "opt ml, é")


def start(folder: ProcessingFolder, *words: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "sightline.launch.container.entrypoint", "process", *words],
        env={**os.environ, "PYTHONPATH": str(PROJECT / "src"), "SM_BASE_DIR": str(folder.base)},
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def run(folder: ProcessingFolder, *words: str) -> int:
    process = start(folder, *words)
    process.communicate(timeout=60)
    return process.returncode


def words_of(folder: ProcessingFolder) -> list[str]:
    return json.loads((folder.output / "words.json").read_text())["words"]


def test_a_program_finds_its_channels_and_leaves_its_results(folder: ProcessingFolder) -> None:
    (folder.inputs / "run").mkdir(parents=True)
    assert run(folder, ECHO, "run=${paths.inputs}/run", "pipeline.gates={test/accuracy:0.9}") == 0
    words = words_of(folder)
    assert words[:2] == ["run=${paths.inputs}/run", "pipeline.gates={test/accuracy:0.9}"]
    assert words[2] == "paths=container"
    assert f"paths.inputs='{folder.inputs}'" in words
    assert words[-1] == f"output='{folder.output}'"
    assert (folder.output / "model" / "model.safetensors").is_file()
    assert not folder.message.exists()


def test_why_it_failed_is_left_for_the_service(folder: ProcessingFolder) -> None:
    assert run(folder, ECHO, "code=1", "says=error: " + "é" * 2000) == 1
    said = folder.message.read_text(encoding="utf-8")
    assert said.startswith("ééé")
    assert len(said.encode()) <= 1024
    assert run(folder, ECHO, "code=4", "says=error: not to be registered") == 4
    assert folder.message.read_text() == "not to be registered"
    assert run(folder, "../elsewhere.py") == 2
    assert "must be a program below the project" in folder.message.read_text()
    assert run(folder) == 2


def test_a_signal_goes_on_to_the_program(folder: ProcessingFolder) -> None:
    process = start(folder, ECHO, "waits=1")
    while not (folder.output / "run.json").is_file():
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=30)
    assert process.returncode == 143
    assert not folder.message.exists()


def test_a_champion_comes_as_a_package_or_not_at_all(folder: ProcessingFolder, tmp_path: Path) -> None:
    package = tmp_path / "manifest.csv"
    package.write_text("path\n")
    for channel in ("against", "previous"):
        (folder.inputs / channel).mkdir(parents=True)
        with tarfile.open(folder.inputs / channel / "model.tar.gz", "w:gz") as archive:
            archive.add(package, "manifest.csv")
    overrides = ["against=${paths.inputs}/against", "previous=${paths.inputs}/previous/manifest.csv"]
    assert run(folder, ECHO, *overrides) == 0
    against, previous = (word.partition("=")[2].strip("'") for word in words_of(folder)[:2])
    assert (Path(against) / "manifest.csv").read_text() == Path(previous).read_text() == "path\n"
    for channel in ("against", "previous"):
        (folder.inputs / channel / "model.tar.gz").unlink()
        (folder.inputs / channel / NO_CHAMPION).touch()
    assert run(folder, ECHO, *overrides) == 0
    assert words_of(folder)[0] == "paths=container"
    (folder.inputs / "against" / NO_CHAMPION).unlink()
    (folder.inputs / "against" / "model.tar.gz").write_text("no archive")
    assert run(folder, ECHO, *overrides) == 2
    assert "damaged" in folder.message.read_text()


def test_what_is_to_be_registered_becomes_one_archive_the_same_each_time(folder: ProcessingFolder) -> None:
    made = []
    for _ in range(2):
        for name in ("run.json", "model/model.onnx"):
            (folder.output / "package" / name).parent.mkdir(parents=True, exist_ok=True)
            (folder.output / "package" / name).write_text(name)
        folder.pack()
        made.append((folder.output / "model.tar.gz").read_bytes())
        os.utime(folder.output / "package" / "run.json", (1, 1))
    assert made[0] == made[1]
    with tarfile.open(folder.output / "model.tar.gz") as archive:
        assert archive.getnames() == ["model/model.onnx", "run.json"]


def test_a_verb_s_answer_is_a_file(folder: ProcessingFolder) -> None:
    assert run(folder, "src/registry.py", "list", "--json") in (0, 1, 2)  # whatever it says, it says it there
    assert folder.result.is_file()
    assert folder.arguments(["merge", "NAME", "--json"])[:3] == ["merge", "NAME", "--json"]
    assert not any(each.startswith("output=") for each in folder.arguments(["merge", "NAME"]))
