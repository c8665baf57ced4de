"""`make sagemaker-train` with nothing in the registry: it builds, pushes and submits."""

import io
import json
import os
import subprocess
import sys
import tarfile
import urllib.request
from pathlib import Path

import pytest
from tests.conftest import PROJECT
from tests.launch.conftest import BUCKET, REGION, ROLE, aws, service  # noqa: F401
from tests.launch.fake_sagemaker import FakeSageMaker

from sightline.aws.ecr import registry_address
from sightline.launch.container.engine import builder, docker
from sightline.launch.container.image import REPOSITORY, image_name

pytestmark = pytest.mark.container
BASE = "nothing:1"
"""Part of the image's name, which so is nobody else's."""
CLIENT = """#!{python}
import os, sys
args = [each.replace("{account}", "{registry}") for each in sys.argv[1:]]
if args[0] == "build":
    args = ["import", "{archive}", args[args.index("--tag") + 1]]
os.execv("{docker}", ["docker", *args])
"""
"""Docker's client, for which the account's registry is one of this machine, and an image one file."""


@pytest.fixture
def client(registry: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive, folder, real = tmp_path / "image.tar", tmp_path / "bin", builder()
    with tarfile.open(archive, mode="w") as tar:
        tar.addfile(tarfile.TarInfo("a"), io.BytesIO(b""))
    folder.mkdir()
    account = registry_address("123456789012", REGION)
    facts = {"python": sys.executable, "account": account, "registry": registry, "archive": archive, "docker": real}
    (folder / "docker").write_text(CLIENT.format(**facts))
    (folder / "docker").chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")


@pytest.mark.usefixtures("client")
def test_build_push_train_and_fetch(
    service: FakeSageMaker,  # noqa: F811
    registry: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    known = {"SAGEMAKER_ROLE": ROLE, "SAGEMAKER_BUCKET": BUCKET, "AWS_REGION": REGION, "BASE_IMAGE": BASE}
    for name, value in known.items():
        monkeypatch.setenv(name, value)
    short = "trainer.max_epochs=1 model.name=test_resnet stages=[fit] data.num_workers=0"
    words = f"launch.allow_dirty=true launch.poll_seconds=0.1 {short} paths.runs={tmp_path / 'runs'}"
    command = ["make", "--old-file=.venv/installed", f"PY={sys.executable}", "sagemaker-train", f"ARGS={words}"]
    name = image_name(BASE)
    try:
        done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, timeout=600)
    finally:
        docker("rmi", "--force", name, f"{registry}/{name}")
    assert done.returncode == 0, done.stderr
    assert f"built: {name}" in done.stdout
    assert f"pushed: {registry_address('123456789012', REGION)}/{name}" in done.stdout
    with urllib.request.urlopen(f"http://{registry}/v2/{REPOSITORY}/tags/list") as answer:
        assert json.load(answer)["tags"] == [name.split(":")[1]]
    (request,) = service.requests
    assert request["AlgorithmSpecification"]["TrainingImage"].endswith(f"/{name}")
    folder = Path(done.stdout.strip().splitlines()[-1].removeprefix("results: "))
    assert (folder / "model" / "model.safetensors").is_file()
