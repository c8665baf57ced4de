"""What the README and the documents promise: their commands compose, their files exist."""

import re
import runpy
import shlex
import subprocess
from pathlib import Path

import pytest

from sightline.command import read_overrides
from sightline.config import validate
from sightline.launch.jobs import VERBS
from sightline.runs.override_text import key_of
from tests.conftest import PROJECT, compose_config

pytestmark = pytest.mark.structure

DOCUMENTS = [PROJECT / "README.md", *sorted((PROJECT / "docs").glob("*.md"))]
COMMAND = re.compile(r"^(?:\$ )?(?:\.venv/bin/)?python src/(\w+)\.py((?: [^#>|\n]*)?)", re.MULTILINE)
POSITIONAL = {"models": "pattern", "new": "name"}
OF_VERBS = {"jobs", "registry", "pipeline", "data_versions"}
"""Programs whose first word is a verb."""
PLACEHOLDERS = {"FOLDER": "somewhere", "FILE": "somewhere", "RUN": "latest"}


def commands() -> list[tuple[str, str]]:
    found = set()
    for document in DOCUMENTS:
        for block in re.findall(r"```\w*\n(.*?)```", document.read_text(encoding="utf-8"), re.DOTALL):
            if "\nerror: " not in block:
                found |= {(task, words.strip()) for task, words in COMMAND.findall(block) if "…" not in words}
    return sorted(found)


def commands_of_hydra() -> list[tuple[str, str]]:
    return [(task, words) for task, words in commands() if task not in OF_VERBS]


def commands_of_verbs() -> list[tuple[str, str]]:
    return [(task, words) for task, words in commands() if task in OF_VERBS and task != "jobs"]


@pytest.mark.parametrize(("task", "words"), commands_of_verbs())
def test_every_verb_is_one_that_there_is_and_composes(task: str, words: str) -> None:
    verb, *rest = shlex.split(words)
    known = runpy.run_path(str(PROJECT / "src" / f"{task}.py"))["verbs"]()
    assert verb in known.functions
    overrides = [word for word in rest if "=" in word and word.split("=")[0] not in known.parameters]
    overrides = [f"{known.options.get(key_of(word), key_of(word))}={word.partition('=')[2]}" for word in overrides]
    compose_config(task, *known.defaults.get(verb, ()), *overrides)


@pytest.mark.parametrize(("task", "words"), commands_of_hydra())
def test_every_command_composes(task: str, words: str) -> None:
    for placeholder, value in PLACEHOLDERS.items():
        words = re.sub(rf"\b{placeholder}\b", value, words)
    overrides = [
        word for word in shlex.split(words) if word not in ("-m", "--help") and not re.search(r"=[^\[{]*,", word)
    ]
    if task in POSITIONAL and "=" not in overrides[0]:
        overrides[0] = f"{POSITIONAL[task]}={overrides[0]}"
    cfg = compose_config(task, *read_overrides(task, overrides)[0])
    if task == "train" and "model.weights" not in words:
        validate(cfg)


def test_there_are_commands_to_check() -> None:
    assert len(commands()) >= 8
    known = {"train", "evaluate", "explain", "predict", "prepare", "find_lr", "models", "jobs", "new", "serve"}
    known |= {"export"}
    assert known <= {task for task, _ in commands()} <= known | OF_VERBS


def test_the_verbs_of_jobs_are_documented() -> None:
    assert {words.split()[0] for task, words in commands() if task == "jobs"} == set(VERBS)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_somewhere(document: Path) -> None:
    text = document.read_text(encoding="utf-8")
    for target in re.findall(r"\]\((?!https?:)([^)#]+)\)", text):
        assert (document.parent / target).exists(), target
    for name in re.findall(r"`((?:src|configs|docs|tests|scripts)/[\w./-]+)`", text):
        assert (PROJECT / name).exists() or "NAME" in name, name


def test_the_readme_is_short() -> None:
    assert len((PROJECT / "README.md").read_text(encoding="utf-8").splitlines()) < 250


def test_make_help_lists_every_target() -> None:
    listed = subprocess.run(["make", "-s", "help"], cwd=PROJECT, check=True, capture_output=True, text=True).stdout
    targets = re.findall(r"^([a-z-]+):.*## ", (PROJECT / "Makefile").read_text(), re.MULTILINE)
    assert {"setup", "train", "test", "test-all", "check", "help"} <= set(targets)
    for target in targets:
        assert f"make {target}" in listed


def test_every_documented_target_is_there_once() -> None:
    said = subprocess.run(["make", "--dry-run", "help"], cwd=PROJECT, check=True, capture_output=True, text=True)
    assert said.stderr == "", "a target with two recipes"
    targets = set(re.findall(r"^([a-z-]+):", (PROJECT / "Makefile").read_text(), re.MULTILINE))
    for document in DOCUMENTS:
        named = re.findall(r"(?:^|`)make ([a-z][a-z-]+)", document.read_text(encoding="utf-8"), re.MULTILINE)
        assert set(named) <= targets, document.name


def test_constraints_name_versions_and_nothing_else() -> None:
    for line in (PROJECT / "constraints.txt").read_text().splitlines():
        assert re.fullmatch(r"#.*|[A-Za-z0-9._-]+==[\w.!]+", line), line
