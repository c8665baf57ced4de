"""The wheel: what it holds, and that it works where there is no checkout."""

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.conftest import PROJECT, TINY, write_image

pytest.importorskip("hatchling", reason="needs hatchling, of the extra dev")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(folder)]
    subprocess.run(command, cwd=PROJECT, check=True, capture_output=True)
    (built,) = folder.glob("sightline_vision-*.whl")
    return built


def test_it_holds_packages_programs_and_configurations(wheel: Path) -> None:
    """All that git knows of them, and nothing of the person who built it."""
    listed = subprocess.run(
        ["git", "ls-files", "src", "configs"], cwd=PROJECT, check=True, capture_output=True, text=True
    )
    expected = set()
    for name in map(Path, listed.stdout.splitlines()):
        if name.parent.parent == Path("src") or name.parts[1] in ("sightline", "hydra_plugins"):
            expected.add(name.relative_to("src").as_posix())
        elif name.suffix in (".py", ".yaml"):
            expected.add(f"sightline/project/{name.as_posix()}")
    held = set(zipfile.ZipFile(wheel).namelist())
    assert {name for name in held if ".dist-info/" not in name} == expected


@pytest.mark.slow
def test_it_works_from_any_folder(wheel: Path, tmp_path: Path) -> None:
    """As in a checkout; data and runs are those of the current folder."""
    environment, here = tmp_path / "venv", tmp_path / "a folder"
    here.mkdir()
    subprocess.run([sys.executable, "-m", "venv", str(environment)], check=True)
    install = [
        str(environment / "bin" / "python"),
        "-m",
        "pip",
        "install",
        "--quiet",
        "--no-deps",
        "--no-index",
        str(wheel),
    ]
    subprocess.run(install, check=True)
    (packages,) = environment.glob("lib/python*/site-packages")
    theirs = [path for path in sys.path if path.endswith("site-packages")]
    (packages / "dependencies.pth").write_text("\n".join(theirs) + "\n")
    clean = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}

    def sightline(*words: str) -> str:
        command = [str(environment / "bin" / "sightline"), *words]
        done = subprocess.run(command, cwd=here, env=clean, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr
        return done.stdout

    programs = sorted(path.stem for path in (PROJECT / "src").glob("*.py"))
    assert [line.split()[0] for line in sightline("--help").splitlines()[2:-2]] == programs
    for name in ("train", "jobs"):
        checkout = [sys.executable, str(PROJECT / "src" / f"{name}.py"), "--help"]
        there = subprocess.run(checkout, check=True, capture_output=True, text=True).stdout
        assert sightline(name, "--help") == there.replace("python src/jobs.py", "sightline jobs")
    sightline("train", "data=synthetic", "data.num_synthetic=32", "launch=local_process", *TINY)
    (job,) = json.loads(sightline("jobs", "list", "--json"))
    run = here / "runs" / "jobs" / job["job"]
    record = json.loads((run / "run.json").read_text())
    assert (job["state"], record["status"], record["commit"]) == ("succeeded", "finished", None)
    write_image(tmp_path / "photo.png", (210, 50, 40), seed=0)
    assert "(1 image(s))" in sightline("predict", f"run='{run}'", f"images={tmp_path / 'photo.png'}")
    assert sorted(path.name for path in here.iterdir()) == ["runs"]
