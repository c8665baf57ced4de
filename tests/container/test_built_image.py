"""The image itself: what is in it, whether it passes its own test, and how it gets into a registry."""

import io
import json
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import PROJECT
from tests.images import image

from sightline.launch.container.engine import docker
from sightline.launch.container.image import CONTENT, DOCKERFILE, REPOSITORY, push

pytestmark = pytest.mark.container


def test_it_passes_its_own_test_as_whoever_runs_it() -> None:
    for user in ("0:0", "4321:4321"):
        said = docker("run", "--rm", "--user", user, "--cap-drop", "ALL", image(), "selftest")
        assert "self-test passed" in said


def test_it_holds_the_code_and_nothing_else() -> None:
    """No data, runs, secrets or history; the commit is a variable."""
    listed = docker("run", "--rm", "--entrypoint", "find", image(), "/opt/sightline", "-type", "f")
    files = {line.removeprefix("/opt/sightline/") for line in listed.splitlines()}
    files = {name for name in files if not name.endswith(".pyc")}
    expected: set[str] = set()
    for name in set(CONTENT) - {str(DOCKERFILE), ".dockerignore"}:
        tracked = subprocess.run(["git", "ls-files", name], cwd=PROJECT, check=True, capture_output=True, text=True)
        expected |= set(tracked.stdout.splitlines())
    assert files == expected
    (config,) = json.loads(docker("image", "inspect", image()))
    assert config["Config"]["Entrypoint"] == ["python", "-m", "sightline.launch.container.entrypoint"]
    assert config["Config"]["Cmd"] == ["train"]
    assert not [name for name in config["Config"]["Env"] if "AWS" in name or "TOKEN" in name or "SECRET" in name]


@pytest.fixture
def ecr(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    import boto3
    from moto import mock_aws

    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    with mock_aws():
        yield boto3.client("ecr", region_name="eu-west-1")


@pytest.fixture
def tiny() -> Iterator[str]:
    """An image with one file, under the name that is pushed."""
    name = f"{REPOSITORY}:tiny"
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        tar.addfile(tarfile.TarInfo("a"), io.BytesIO(b""))
    subprocess.run(["docker", "import", "-", name], input=archive.getvalue(), check=True, capture_output=True)
    yield name
    docker("rmi", "--force", name)


def test_it_is_pushed_to_a_repository_that_is_made_for_it(registry: str, ecr: Any, tiny: str, tmp_path: Path) -> None:
    address = push(tiny, ecr, registry)
    assert address == f"{registry}/{tiny}"
    (made,) = ecr.describe_repositories()["repositories"]
    assert (made["repositoryName"], made["imageTagMutability"]) == (REPOSITORY, "IMMUTABLE")
    assert made["imageScanningConfiguration"] == {"scanOnPush": True}
    docker("rmi", address)
    docker("pull", address)
    docker("rmi", address)
