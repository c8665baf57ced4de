"""The image's name follows from what goes into it; a registry gets it once."""

import hashlib
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import PROJECT

from sightline.launch.container import image as launch_image
from sightline.launch.container.image import CONTENT, DOCKERFILE, REPOSITORY, content_tag, push
from sightline.runs.record import git_commit


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A copy of what goes into the image."""
    for name in CONTENT:
        target = tmp_path / "tree" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        ignored = shutil.ignore_patterns("__pycache__", "*.egg-info")
        if (PROJECT / name).is_dir():
            shutil.copytree(PROJECT / name, target, ignore=ignored)
        else:
            shutil.copy(PROJECT / name, target)
    return tmp_path / "tree"


def test_the_tag_is_that_of_the_content(tree: Path) -> None:
    tag = content_tag(tree)
    assert tag == content_tag(PROJECT)
    for name in ("README.md", ".env", "data/a.png", "runs/run.json", "src/sightline/__pycache__/a.pyc"):
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).write_text("does not go in")
    (tree / "configs" / "local" / "default.yaml").write_text("paths: {data: /mine}")
    assert content_tag(tree) == tag
    assert content_tag(tree, "another:1") != tag
    for name in ("src/train.py", "configs/train.yaml", "constraints.txt", str(DOCKERFILE)):
        before = content_tag(tree)
        (tree / name).write_text((tree / name).read_text() + "\n")
        assert content_tag(tree) != before, name


def test_no_image_is_the_latest_and_the_entry_point_gets_signals() -> None:
    text = (PROJECT / DOCKERFILE).read_text()
    assert ":latest" not in text
    assert re.search(r"^ARG BASE_IMAGE=\S+:\d", text, re.MULTILINE), "pinned by version"
    assert re.search(r"^ENTRYPOINT \[", text, re.MULTILINE), "a shell would keep the signals"
    assert text.rstrip().endswith('CMD ["train"]')
    assert "/opt/ml" not in re.sub("#.*", "", text), "what lies there is mounted over"


def test_what_is_let_in_is_what_the_tag_follows_from() -> None:
    lines = (PROJECT / ".dockerignore").read_text().splitlines()
    assert lines[lines.index("*") :][0] == "*", "everything else stays out"
    let_in = {line[1:] for line in lines if line.startswith("!")}
    assert let_in == {name for name in CONTENT if name not in (str(DOCKERFILE), ".dockerignore")}


@pytest.fixture
def ecr(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    import boto3
    from moto import mock_aws

    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    with mock_aws():
        yield boto3.client("ecr", region_name="eu-west-1")


def test_the_repository_is_made_once_and_what_is_there_is_not_pushed(
    ecr: Any, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")  # nobody could push
    ecr.create_repository(repositoryName=REPOSITORY)
    manifest = {"schemaVersion": 2, "mediaType": "application/vnd.docker.distribution.manifest.v2+json", "layers": []}
    config = {"digest": f"sha256:{hashlib.sha256(b'').hexdigest()}", "mediaType": "a", "size": 0}
    ecr.put_image(repositoryName=REPOSITORY, imageTag="abc", imageManifest=json.dumps({**manifest, "config": config}))
    address = push(f"{REPOSITORY}:abc", ecr)
    assert re.fullmatch(rf"\d+\.dkr\.ecr\.eu-west-1\.amazonaws\.com/{REPOSITORY}:abc", address)
    assert capsys.readouterr().out == f"unchanged: {address}\n"


DOCKER = """#!/bin/sh
case "$1" in
  --version) echo "Docker version 20.10.24";;
  version) echo 20.10.24;;
  build) echo >> src/train.py;;
  rmi) echo "$2" > removed;;
  *) exit 1;;
esac
"""


def test_a_tree_that_changes_while_it_is_built_leaves_no_image(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its name would tell of other files than those in it."""
    (tree / "bin").mkdir()
    (tree / "bin" / "docker").write_text(DOCKER)
    (tree / "bin" / "docker").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tree / 'bin'}:/usr/bin:/bin")
    monkeypatch.setattr(launch_image, "PROJECT", tree)
    monkeypatch.chdir(tree)
    name = launch_image.image_name()
    with pytest.raises(RuntimeError, match="files changed while"):
        launch_image.build()
    assert (tree / "removed").read_text().strip() == name


def test_what_pushing_needs_is_asked_for_before_anything_is_built() -> None:
    """In one message, and by somebody who could not build either."""
    nothing = dict.fromkeys(("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE", "PATH"), "/nonexistent")
    environment = {**nothing, "AWS_EC2_METADATA_DISABLED": "true", "PYTHONPATH": str(PROJECT / "src")}
    command = [sys.executable, "-m", "sightline.launch.container.image", "push"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.startswith("error: make push-image: AWS is not set up; give\n")
    assert "AWS_REGION=NAME" in done.stderr
    assert "aws configure sso" in done.stderr


def test_a_run_outside_a_checkout_says_the_commit_of_its_image(tmp_path: Path) -> None:
    assert git_commit(tmp_path, "abc-dirty") == ("abc", True)
    assert git_commit(tmp_path, "abc") == ("abc", False)
    assert git_commit(tmp_path) == (None, None)
