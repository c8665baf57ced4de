"""The definition that SageMaker gets, judged by AWS's own client: it runs the steps in containers, both ways."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import PROJECT, Cli
from tests.images import image
from tests.launch.conftest import BUCKET, ROLE, aws  # noqa: F401

from sightline.launch.container.engine import docker
from sightline.launch.container.processing_folder import NO_CHAMPION

pytestmark = pytest.mark.container
WORDS = (
    "experiment=digits",
    "data=folder",
    f"data.root=s3://{BUCKET}/colors/",
    "data.image_size=32",
    "data.batch_size=8",
    "launch=sagemaker",
    "launch.allow_dirty=true",
    "model.name=test_resnet",
    "trainer.max_epochs=1",
    "data.num_workers=0",
    "evaluation=short",
    "explanation.num_images=1",
    "pipeline.min_accuracy=0.01",
)


@pytest.fixture
def project() -> Iterator[str]:
    """A name that Docker Compose gives what the client leaves on the engine, which is removed."""
    name = f"sightline-test-{os.getpid()}"
    yield name
    only = ["--filter", f"label=com.docker.compose.project={name}"]
    if left := docker("ps", "--all", "--quiet", *only).split():
        docker("rm", "--force", *left)
    if left := docker("network", "ls", "--quiet", *only).split():
        docker("network", "rm", *left)


def test_a_pipeline_in_the_client_s_own_session(
    aws: Any,  # noqa: F811
    cli: Cli,
    project: str,
    colors: Path,
    tmp_path: Path,
) -> None:
    """Prepared, trained, exported, evaluated, explained and judged by the same images that SageMaker would start."""
    if find_spec("sagemaker") is None:
        pytest.skip("AWS's own client is not here: pip install '.[sagemaker]'")
    account = [f"launch.role={ROLE}", f"launch.bucket={BUCKET}", f"launch.image={image()}"]
    made = cli("pipeline", "definition", *WORDS, *account, f"paths.runs={tmp_path / 'runs'}")
    assert made.returncode == 0, made.stderr
    definition = json.loads(made.stdout)
    for path in colors.rglob("*.png"):
        aws("s3").upload_file(str(path), BUCKET, f"colors/{path.relative_to(colors)}")
    (champion,) = [each["DefaultValue"] for each in definition["Parameters"] if each["Name"] == "Champion"]
    aws("s3").put_object(Bucket=BUCKET, Key=f"{champion.removeprefix(f's3://{BUCKET}/')}{NO_CHAMPION}", Body=b"none")
    for step in definition["Steps"]:
        if "Environment" in step["Arguments"]:
            step["Arguments"]["Environment"]["OMP_NUM_THREADS"] = "1"  # others may be busy here
    (tmp_path / "definition.json").write_text(json.dumps(definition))
    program = str(PROJECT / "tests" / "container" / "sdk_pipeline.py")
    command = [sys.executable, program, str(tmp_path / "definition.json"), BUCKET, str(tmp_path / "work")]
    environment = {**os.environ, "COMPOSE_PROJECT_NAME": project, "SAGEMAKER_VALIDATE_ROLE": "false"}
    done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=1800)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-6000:]
    print(done.stdout[-20000:])
    answers = json.loads(done.stdout.strip().splitlines()[-1])
    assert answers["whole"]["status"] == "Succeeded", answers["whole"]
    assert set(answers["whole"]["steps"].values()) <= {"Succeeded", None, ""}
    assert answers["refused"]["status"] == "Failed"
    assert "not registered: " in answers["refused"]["reason"]
