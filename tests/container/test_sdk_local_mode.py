"""Jobs in AWS's own local mode: the client's Docker Compose, its mounts and its networks, and not ours."""

import json
import logging
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest
from tests.conftest import TINY, Cli, do_jobs
from tests.images import image

from sightline.launch.container.engine import docker

pytestmark = pytest.mark.container
BUCKET = "experiments"


@pytest.fixture(autouse=True, scope="module")
def client() -> None:
    if find_spec("sagemaker") is None:
        pytest.skip("AWS's own client is not here: pip install '.[sagemaker]'")


@pytest.fixture(scope="module")
def s3(colors: Path) -> Iterator[dict[str, str]]:
    """The environment of a process for which moto is AWS, with the images in its S3."""
    import boto3
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.WARNING)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    address = "http://{}:{}".format(*server.get_host_and_port())
    known = {"AWS_ENDPOINT_URL": address, "AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "testing"}
    known |= {"AWS_DEFAULT_REGION": "us-east-1", "AWS_EC2_METADATA_DISABLED": "true"}
    client = boto3.client("s3", endpoint_url=address, aws_access_key_id="testing", aws_secret_access_key="testing")
    client.create_bucket(Bucket=BUCKET)
    for path in colors.rglob("*.png"):
        client.upload_file(str(path), BUCKET, f"colors/{path.relative_to(colors)}")
    yield known
    server.stop()


def words_for(runs: Path, *words: str) -> list[str]:
    launch = ["launch=sagemaker", "launch.instance_type=local", f"launch.image={image()}", "launch.allow_dirty=true"]
    tiny = [word for word in TINY if not word.startswith("stages")]
    return [*launch, "data=folder", "name=colors", f"paths.runs={runs}", "explanation.num_images=1", *tiny, *words]


def assert_nothing_is_left() -> None:
    assert not docker("ps", "--all", "--quiet", "--filter", "label=com.docker.compose.project").strip()
    assert "sagemaker-local" not in docker("network", "ls", "--format", "{{.Name}}").split()


def test_the_same_command_in_local_mode(
    cli: Cli, colors: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """No account and no bucket; the run lies here like any other, and is evaluated here."""
    runs = tmp_path / "runs, é $x"
    done = cli(
        "train", *words_for(tmp_path / "r", f"data.root={colors}", f"paths.runs='{runs}'", "data.origin='it\\'s, é'")
    )
    assert done.returncode == 0, done.stderr
    folder = Path(done.stdout.strip().splitlines()[-1].removeprefix("results: "))
    for name in ("explanations/index.html", "model/model.safetensors", "checkpoints/best.ckpt", "manifest.csv"):
        assert (folder / name).is_file()
    record = json.loads((folder / "run.json").read_text())
    assert (record["status"], record["launch"]["backend"]) == ("finished", "sagemaker_local")
    assert (record["config"]["data"]["origin"], record["data"]["root"]) == ("it's, é", str(colors))
    (job,) = [path.stem for path in (runs / "jobs").glob("*.json")]
    capsys.readouterr()
    do_jobs(runs, "status", job)
    assert capsys.readouterr().out.strip() == "succeeded"
    do_jobs(runs, "logs", job)
    assert "epoch 1/1" in capsys.readouterr().out
    assert_nothing_is_left()
    measured = cli("evaluate", f"run='{folder}'", f"output={tmp_path / 'measured'}", "evaluation=short")
    assert measured.returncode == 0, measured.stderr


def test_two_hosts_on_images_in_s3(cli: Cli, s3: dict[str, str], tmp_path: Path) -> None:
    words = [f"data.root=s3://{BUCKET}/colors/", "launch.instance_count=2", "model.name=test_vit", "stages=[fit]"]
    done = cli("train", *words_for(tmp_path / "runs", *words), **s3)
    assert done.returncode == 0, done.stderr
    folder = Path(done.stdout.strip().splitlines()[-1].removeprefix("results: "))
    assert (folder / "model" / "model.safetensors").is_file()
    assert json.loads((folder / "run.json").read_text())["data"]["root"] == f"s3://{BUCKET}/colors/"
    assert_nothing_is_left()
