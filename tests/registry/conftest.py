"""What the tests of registries share."""

import logging
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from uuid import uuid4

import pytest
from tests import made_packages
from tests.launch.fake_model_registry import ModelRegistry, serving

from sightline.registry.packages import Registry, open_registry

SERVING_IMAGE = f"123456789012.dkr.ecr.us-east-1.amazonaws.com/sightline-serve@sha256:{'a' * 64}"


@pytest.fixture
def make_package(tmp_path: Path) -> made_packages.MakePackage:
    """Makes a package of weights that are a text."""
    return partial(made_packages.make_package, tmp_path)


@pytest.fixture(scope="session")
def bucket() -> Iterator[str]:
    """The address of a bucket on a local S3 server, which is found as any other by the environment."""
    server = pytest.importorskip("moto.server").ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    logging.getLogger("werkzeug").setLevel(logging.WARNING)
    server.start()
    host, port = server.get_host_and_port()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
        patch.setenv("AWS_ACCESS_KEY_ID", "testing")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        patch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        import boto3

        boto3.client("s3").create_bucket(Bucket="models-of-the-tests")
        yield "s3://models-of-the-tests"
    server.stop()


@pytest.fixture
def model_packages(bucket: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModelRegistry]:
    """A SageMaker that has model packages alone, and none yet."""
    del bucket  # its S3 is found by the environment
    with serving() as (address, registry):
        monkeypatch.setenv("AWS_ENDPOINT_URL_SAGEMAKER", address)
        yield registry


@pytest.fixture(params=["local", "s3", "sagemaker"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The address of an empty registry, one of each kind."""
    if request.param == "sagemaker":
        request.getfixturevalue("model_packages")
        return f"sagemaker:digits@{request.getfixturevalue('bucket')}/{uuid4().hex}"
    if request.param == "s3":
        return f"{request.getfixturevalue('bucket')}/{uuid4().hex}"
    return str(tmp_path / "registry")


@pytest.fixture
def registry(place: str, tmp_path: Path) -> Registry:
    return open_registry(place, tmp_path / "cache", serving_image=SERVING_IMAGE)
