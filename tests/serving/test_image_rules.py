"""What goes into the image that serves is enough to answer, and neither torch nor Hydra is among it."""

import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from tests.conftest import PROJECT

from sightline.launch.container.image import LEFT_OUT, NOT_SERVING, SERVE, content_tag

BLOCKED = "torch torchvision timm hydra omegaconf matplotlib pytorch_lightning albumentations scipy sklearn cv2 rich"
PROGRAM = f"""
import importlib, pkgutil, sys

class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {BLOCKED.split()!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Missing())
import sightline

assert sightline.__path__[0] == sys.argv[1], sightline.__path__
names = [each.name for each in pkgutil.walk_packages(sightline.__path__, "sightline.")]
for name in names:
    try:
        importlib.import_module(name)
    except ImportError as error:
        sys.exit(f"{{name}}: {{error}}; what needs that goes into NOT_SERVING and Dockerfile.dockerignore")
print(len(names), "modules")
from sightline.serving.entrypoint import main
sys.exit(main(["selftest"]))
"""


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A copy of what goes into the image."""
    for name in SERVE.files(PROJECT):
        (tmp_path / "tree" / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(PROJECT / name, tmp_path / "tree" / name)
    return tmp_path / "tree"


def test_all_of_it_can_be_imported_and_every_door_answers(tree: Path) -> None:
    package = tree / "src" / "sightline"
    command = [sys.executable, "-c", PROGRAM, str(package)]
    known = {"PYTHONPATH": str(tree / "src"), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(command, env=known, cwd=tree, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    assert int(done.stdout.split(" modules")[0]) == len([*package.rglob("*.py")]) - 1
    assert "the same answer at model, direct call, HTTP API, server" in done.stdout


def test_the_tag_is_that_of_the_content(tree: Path) -> None:
    tag = content_tag(tree, recipe=SERVE)
    assert tag == content_tag(PROJECT, recipe=SERVE)
    (tree / "src" / "train.py").write_text("trains and does not serve")
    (tree / "src" / "sightline" / "serving" / "predict.py").write_text("needs Hydra")
    assert content_tag(tree, recipe=SERVE) == tag
    assert content_tag(tree, recipe=replace(SERVE, extras="tifffile")) != tag
    assert content_tag(tree, "another:1", SERVE) != tag
    for name in ("src/sightline/serving/app.py", "constraints.txt", "dockers/serve/Dockerfile"):
        before = content_tag(tree, recipe=SERVE)
        (tree / name).write_text((tree / name).read_text() + "\n")
        assert content_tag(tree, recipe=SERVE) != before, name


def test_what_is_let_in_is_what_the_tag_follows_from() -> None:
    lines = (PROJECT / f"{SERVE.dockerfile}.dockerignore").read_text().splitlines()
    assert lines[lines.index("*") :][0] == "*", "everything else stays out"
    let_in = {line[1:] for line in lines if line.startswith("!")}
    assert let_in == {name for name in SERVE.content if not name.startswith("dockers/")}
    left_out = {line for line in lines if line.startswith("src/")}
    present = {path.relative_to(PROJECT).as_posix() for path in (PROJECT / "src").rglob("*.py")}
    assert left_out == {name for name in present if NOT_SERVING.search(name)}
    assert SERVE.left_out == (LEFT_OUT, NOT_SERVING)


def test_nobody_in_particular_runs_it_and_signals_arrive() -> None:
    text = (PROJECT / SERVE.dockerfile).read_text()
    assert ":latest" not in text
    assert re.search(r"^ARG BASE_IMAGE=\S+:\d", text, re.MULTILINE), "pinned by version"
    assert re.search(r"^ENV SIGHTLINE_USER=[1-9]\d*$", text, re.MULTILINE), "which root becomes"
    assert re.search(r"^ENTRYPOINT \[", text, re.MULTILINE), "a shell would keep the signals"
    assert text.rstrip().endswith('CMD ["serve"]')
    assert "/opt/ml" not in re.sub("#.*", "", text), "what lies there is mounted over"
