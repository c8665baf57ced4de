"""AWS as far as it goes here: S3 and CloudWatch from moto, SageMaker from a fake that runs the jobs."""

import contextlib
import functools
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.launch.fake_sagemaker import FakeSageMaker, running

from sightline.launch.sagemaker.backend import SageMaker
from sightline.launch.sagemaker.settings import SageMakerSettings

REGION, BUCKET, ROLE = "eu-west-1", "experiments", "arn:aws:iam::123456789012:role/sightline"


@pytest.fixture(scope="module")
def aws() -> Iterator[Callable[[str], Any]]:
    """Clients of a local S3 and CloudWatch, found by the environment as the real ones are."""
    import boto3
    from botocore.exceptions import ClientError

    server = pytest.importorskip("moto.server").ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    logging.getLogger("werkzeug").setLevel(logging.WARNING)
    server.start()
    host, port = server.get_host_and_port()
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {
            "AWS_ENDPOINT_URL": f"http://{host}:{port}",
            "AWS_ACCESS_KEY_ID": "testing",
            "AWS_SECRET_ACCESS_KEY": "testing",
            "AWS_REGION": REGION,
            "AWS_DEFAULT_REGION": REGION,
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_CONFIG_FILE": "/nonexistent",
            "AWS_SHARED_CREDENTIALS_FILE": "/nonexistent",
        }.items():
            patch.setenv(name, value)
        with contextlib.suppress(ClientError):  # moto keeps what it holds when its server stops
            boto3.client("s3").create_bucket(Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": REGION})
        yield functools.partial(boto3.client, region_name=REGION)
    server.stop()


@pytest.fixture
def service(
    aws: Callable[[str], Any], tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> Iterator[FakeSageMaker]:
    """A SageMaker that nobody has used before."""
    folder = tmp_path_factory.mktemp("service")
    with running(folder, aws("s3"), aws("logs")) as service:
        monkeypatch.setenv("AWS_ENDPOINT_URL_SAGEMAKER", service.address)
        yield service


def settings_for(service: FakeSageMaker, **changes: Any) -> SageMakerSettings:
    """Settings that are complete, with a place of their own in the bucket."""
    known: dict[str, Any] = {"role": ROLE, "bucket": BUCKET, "region": REGION, "prefix": service.folder.name}
    return SageMakerSettings(**known | {"image": "image:1", "poll_seconds": 0.05} | changes)


def backend_for(service: FakeSageMaker, jobs: Path, **changes: Any) -> SageMaker:
    return SageMaker(jobs, settings_for(service, **changes))
