"""One packed data set for all tests of shards: in a folder and in a bucket."""

from collections.abc import Iterator

import pytest
from tests.data.packed import make_table, pack_table

from sightline.data.manifest import Manifest
from sightline.data.shards.stores import BucketStore


@pytest.fixture(scope="session")
def table(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    return make_table(tmp_path_factory.mktemp("images"))


@pytest.fixture(scope="session")
def folder(table: Manifest, tmp_path_factory: pytest.TempPathFactory) -> str:
    location = str(tmp_path_factory.mktemp("shards") / "packed")
    pack_table(table, location)
    return location


@pytest.fixture(scope="module")
def bucket() -> Iterator[str]:
    """A bucket of a local S3 server, found as any other by the environment."""
    server = pytest.importorskip("moto.server").ThreadedMotoServer(port=0)
    server.start()
    host, port = server.get_host_and_port()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
        patch.setenv("AWS_ACCESS_KEY_ID", "testing")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        BucketStore("s3://images").client.create_bucket(Bucket="images")
        yield "s3://images"
    server.stop()


@pytest.fixture(scope="module")
def packed_bucket(table: Manifest, bucket: str, request: pytest.FixtureRequest) -> str:
    location = f"{bucket}/{request.module.__name__}/packed"  # moto keeps what it holds when its server stops
    pack_table(table, location)
    return location


@pytest.fixture
def location(request: pytest.FixtureRequest) -> str:
    return request.getfixturevalue(request.param)
