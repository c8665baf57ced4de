"""The image that serves: what is in it, and its two doors as AWS starts them: read-only, by nobody in particular."""

import json
import logging
import os
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import pytest
from tests.conftest import PROJECT
from tests.images import serving_image
from tests.serving.runtime_api import function
from tests.serving.serving_image import COLOURS, Served, free_port, in_base64, picture

from sightline.launch.container.engine import ask, docker
from sightline.launch.container.image import SERVE
from sightline.serving.made_model import write_made_model

pytestmark = pytest.mark.container
MAX_BYTES = 430_000_000
MAX_MEMORY = 250_000_000
LOCKED = ("--read-only", "--tmpfs", "/tmp", "--cap-drop", "ALL", "--security-opt", "no-new-privileges")
MAY_BECOME = ("--cap-add", "SETUID", "--cap-add", "SETGID")
"""What root needs to become somebody else."""
BUCKET = "models"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("served")
    folder.chmod(0o755)
    return write_made_model(folder / "model")


def test_it_holds_what_serves_and_nothing_else() -> None:
    listed = docker("run", "--rm", "--entrypoint", "find", serving_image(), "/opt/sightline", "-type", "f")
    files = {line.removeprefix("/opt/sightline/") for line in listed.splitlines() if not line.endswith(".pyc")}
    assert files == {name for name in SERVE.files(PROJECT) if not name.startswith("dockers/")}
    (config,) = json.loads(docker("image", "inspect", serving_image()))
    assert config["Size"] <= MAX_BYTES, docker("history", serving_image())
    assert config["Config"]["Entrypoint"] == ["python", "-m", "sightline.serving.entrypoint"]
    assert config["Config"]["Cmd"] == ["serve"]
    assert not [name for name in config["Config"]["Env"] if "AWS" in name or "TOKEN" in name or "SECRET" in name]
    program = "import importlib.metadata as m; print(*sorted(each.name.lower() for each in m.distributions()))"
    packages = docker("run", "--rm", "--entrypoint", "python", serving_image(), "-c", program).split()
    assert {"onnxruntime", "fastapi", "boto3", "awslambdaric"} <= set(packages)
    assert not {"torch", "hydra-core", "omegaconf", "timm", "matplotlib", "pip", "sympy"} & set(packages)


def test_it_passes_its_own_test_as_whoever_runs_it(model: Path) -> None:
    mounted = ("-v", f"{model}:/opt/ml/model:ro")
    for further in (("--user", "1000:1000"), ("--user", "4321:4321", *mounted), MAY_BECOME):
        said = docker("run", "--rm", *LOCKED, "--network", "none", *further, serving_image(), "selftest")
        assert "the same answer at model, direct call, HTTP API, server" in said
        assert ("a made one stands in" in said) is ("-v" not in further)


@contextmanager
def container(*args: str) -> Iterator[str]:
    name = docker("run", "--detach", *LOCKED, "--network", "host", *args).strip()
    try:
        yield name
    finally:
        docker("rm", "--force", name)


def test_it_serves_what_only_root_may_read_and_is_nobody_in_particular_then(model: Path, tmp_path: Path) -> None:
    """As SageMaker starts it, and ends it."""
    mounted, port = shutil.copytree(model, tmp_path / "model"), free_port()
    mounted.chmod(0o700)
    (mounted / "model.onnx").chmod(0o600)
    told = {"SIGHTLINE_SERVE_PORT": str(port), "SIGHTLINE_SERVE_HOST": "127.0.0.1"}
    variables = [word for name, value in told.items() for word in ("--env", f"{name}={value}")]
    with container(*MAY_BECOME, "-v", f"{mounted}:/opt/ml/model:ro", *variables, serving_image(), "serve") as name:
        server = Served(None, f"http://127.0.0.1:{port}")
        server.wait_until(200)
        for label in COLOURS:
            assert (
                server.ask("/invocations", picture(label, "JPEG"), {"Content-Type": "image/jpeg"})[1]["label"] == label
            )
        said = docker("exec", name, "python", "-c", "print(open('/proc/1/status').read())")
        status = {line.split(":")[0]: line.split()[1:] for line in said.splitlines()}
        assert (status["Uid"], status["Gid"], status["Groups"]) == (["1000"] * 4, ["1000"] * 4, [])
        assert (status["CapEff"], status["CapPrm"]) == (["0" * 16], ["0" * 16])
        assert int(status["VmRSS"][0]) * 1024 <= MAX_MEMORY
        docker("stop", "--time", "30", name)
        assert docker("inspect", "--format", "{{.State.ExitCode}}", name).strip() == "0"


def test_root_that_may_not_become_somebody_else_does_not_serve() -> None:
    done = ask("run", "--rm", *LOCKED, "--env", "SIGHTLINE_SERVE_OPEN=true", serving_image())
    assert (done.returncode, done.stdout) == (2, "")
    assert "--user 1000:1000" in done.stderr


def test_it_answers_lambdas_events(model: Path) -> None:
    """With what Lambda gives a function: a file system for reading, /tmp, and a user without a name."""
    engine = ("docker", "run", "--rm", *LOCKED, "--network", "host", "--user", "993:990", "--init=false")
    mounted = (
        "-v",
        f"{model}:/opt/ml/model:ro",
        "--env",
        "AWS_LAMBDA_RUNTIME_API",
        "--env",
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE",
    )
    with function({}, (*engine, *mounted, "--cidfile", str(model.parent / "id"), serving_image(), "lambda")) as running:
        try:
            assert [running({"image": in_base64(name)})["label"] for name in COLOURS] == [*COLOURS]
            assert running({"image": "bm8="})["status"] == 400
            with pytest.raises(RuntimeError, match="BadInput"):
                running({})
        finally:
            docker("rm", "--force", (model.parent / "id").read_text())


@pytest.fixture(scope="module")
def environment(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """That of a process for which moto is AWS, with the packed model and pictures in its S3."""
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
    packed = tmp_path_factory.mktemp("packed") / "model.tar.gz"
    with tarfile.open(packed, "w:gz") as archive:
        archive.add(model / "model.onnx", "model.onnx")
    s3.upload_file(str(packed), BUCKET, "model.tar.gz")
    for name in COLOURS:
        s3.put_object(Bucket=BUCKET, Key=f"pictures/{name}.png", Body=picture(name))
    yield {**os.environ, **known}
    server.stop()


@pytest.mark.parametrize("what", ["endpoint", "transform"])
def test_awss_client_starts_it(what: str, environment: dict[str, str], tmp_path: Path) -> None:
    """An endpoint and a batch transform in the local mode of AWS's own client."""
    if find_spec("sagemaker") is None:
        pytest.skip("AWS's own client is not here: pip install '.[sagemaker]'")
    program = str(PROJECT / "tests" / "container" / "sdk_local_serving.py")
    command = [sys.executable, program, what, serving_image(), BUCKET, str(tmp_path / "work"), str(free_port())]
    try:
        done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=180)
    finally:
        if left := docker("ps", "--quiet", "--filter", f"ancestor={serving_image()}").split():
            docker("rm", "--force", *left)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-6000:]
    answers = json.loads(done.stdout.splitlines()[-1])
    assert {name: answer["label"] for name, answer in answers.items()} == {f"{name}.png": name for name in COLOURS}
