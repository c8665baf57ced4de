"""The image proved by AWS's client and not by ours alone: the SDK's local mode, with S3 from moto."""

import json
import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest
from tests.conftest import PROJECT
from tests.images import image

from sightline.launch.container.engine import docker

pytestmark = pytest.mark.container
BUCKET = "experiments"
WORDS = (
    "data=folder",
    "data.root=${paths.inputs}/data_root",
    "data.origin='it\\'s, é'",
    "model.name=test_resnet",
    "data.image_size=32",
    "data.batch_size=8",
    "data.num_workers=0",
    "trainer.max_epochs=1",
    "evaluation=short",
    "explanation.num_images=1",
)


@pytest.fixture(scope="module")
def environment(colors: Path) -> Iterator[dict[str, str]]:
    """That of a process for which moto is AWS, with the images in its S3."""
    import boto3
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.WARNING)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    address = "http://{}:{}".format(*server.get_host_and_port())
    known = {"AWS_ENDPOINT_URL": address, "AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "testing"}
    known |= {"AWS_DEFAULT_REGION": "us-east-1", "AWS_EC2_METADATA_DISABLED": "true"}
    s3 = boto3.client("s3", endpoint_url=address, aws_access_key_id="testing", aws_secret_access_key="testing")
    s3.create_bucket(Bucket=BUCKET)
    for path in colors.rglob("*.png"):
        s3.upload_file(str(path), BUCKET, f"colors/{path.relative_to(colors)}")
    yield {**os.environ, **known}
    server.stop()


def clean(project: str) -> None:
    """What the SDK leaves on the engine."""
    only = ["--filter", f"label=com.docker.compose.project={project}"]
    containers = docker("ps", "--all", "--quiet", *only).split()
    networks = docker("network", "ls", "--quiet", *only).split()
    for words in (
        ["rm", "--force", *containers] if containers else [],
        ["network", "rm", *networks] if networks else [],
    ):
        if words:
            docker(*words)


@pytest.mark.parametrize("num_hosts", [1, 2])
def test_a_job_by_the_sdk(num_hosts: int, environment: dict[str, str], tmp_path: Path) -> None:
    if find_spec("sagemaker") is None:
        pytest.skip("AWS's own client is not here: pip install '.[sagemaker]'")
    words = [*WORDS, *(["model.name=test_vit"] if num_hosts > 1 else [])]
    root = tmp_path / f"sightline-test-{os.getpid()}-{num_hosts}"
    program = str(PROJECT / "tests" / "container" / "sdk_local_mode.py")
    command = [sys.executable, program, image(), BUCKET, str(root), str(num_hosts), *words]
    try:
        done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=600)
    finally:
        clean(root.name)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-6000:]
    print([str(path.relative_to(root)) for path in root.rglob("*")][:200])
    (record,) = [json.loads(path.read_text()) for path in root.rglob("run.json")]
    assert (record["status"], record["config"]["data"]["origin"], record["commit"]) == ("finished", "it's, é", "abc")
    assert list(root.rglob("explanations/index.html"))
    assert list(root.rglob("model.safetensors"))
