"""The image's first process: where its model comes from, who may ask, and how it ends."""

import hashlib
import io
import os
import signal
import subprocess
import sys
import tarfile
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from tests.serving.serving_image import picture, served

from sightline.errors import BadInput
from sightline.serve_settings import ServeSettings
from sightline.serving.entrypoint import settings_of_image
from sightline.serving.made_model import write_made_model
from sightline.serving.model_source import open_model

COMMAND = (sys.executable, "-m", "sightline.serving.entrypoint")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With `model/model.onnx`, that file packed as SageMaker wants it, and archives that cannot be."""
    folder = tmp_path_factory.mktemp("models")
    write_made_model(folder / "model")
    with tarfile.open(folder / "model.tar.gz", "w:gz") as packed:
        packed.add(folder / "model" / "model.onnx", "model.onnx")
    with tarfile.open(folder / "escaping.tar.gz", "w:gz") as packed:
        packed.addfile(tarfile.TarInfo("../model.onnx"), io.BytesIO())
    with tarfile.open(folder / "other.tar.gz", "w:gz") as packed:
        packed.addfile(tarfile.TarInfo("weights.bin"), io.BytesIO())
    (folder / "damaged.tar.gz").write_bytes((folder / "model.tar.gz").read_bytes()[:200])
    return folder


@pytest.fixture(scope="module")
def web(folder: Path) -> Iterator[str]:
    """The folder behind an address of this machine."""

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder)))
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


@pytest.fixture
def s3(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The same in S3."""
    import boto3
    from moto import mock_aws

    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    with mock_aws():
        client = boto3.client("s3")
        client.create_bucket(Bucket="models")
        for path in folder.rglob("*"):
            if path.is_file():
                client.upload_file(str(path), "models", f"intel/1/{path.relative_to(folder)}")
        yield "s3://models/intel/1"


def opened(source: str, sha256: str = "") -> str:
    """The label of a red picture by the model of a source."""
    (answer,) = open_model(ServeSettings(), source, sha256).answer([picture("red")], ["a"])
    return getattr(answer, "label", str(answer))


@pytest.fixture
def scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where a process keeps what it fetches."""
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(scratch))
    return scratch


def test_a_model_comes_from_wherever_it_lies_and_leaves_nothing_behind(
    folder: Path, web: str, s3: str, scratch: Path
) -> None:
    sources = (str(folder), str(folder / "model"), folder.as_uri(), str(folder / "model.tar.gz"))
    sources += (f"{web}/model.tar.gz", f"{web}/model.tar.gz?signature=a", s3, f"{s3}/model/", f"{s3}/model.tar.gz")
    assert [opened(source) for source in sources] == ["red"] * len(sources)
    assert not [*scratch.iterdir()]


def test_its_hash_is_compared_where_one_is_given(folder: Path, web: str) -> None:
    for source, file in ((str(folder), "model/model.onnx"), (f"{web}/model.tar.gz", "model.tar.gz")):
        right = hashlib.sha256((folder / file).read_bytes()).hexdigest()
        assert opened(source, right.upper()) == "red"
        with pytest.raises(BadInput, match=f"MODEL_SHA256={'0' * 64}: .* has {right}"):
            opened(source, "0" * 64)


def test_what_is_no_model_says_which_variable_to_change(folder: Path, web: str, s3: str, scratch: Path) -> None:
    (folder / "empty").mkdir(exist_ok=True)
    cases = {
        str(folder / "nowhere"): "no such folder",
        str(folder / "nowhere.tar.gz"): "no such file",
        str(folder / "empty"): "has no model.onnx and no model/model.onnx (it has nothing)",
        str(folder / "escaping.tar.gz"): "would be written outside the folder",
        str(folder / "other.tar.gz"): "it has weights.bin",
        str(folder / "damaged.tar.gz"): "is damaged",
        "ftp://example.com/model.tar.gz": "not a place that is known",
        web: "must be that of an archive",
        f"{web}/nowhere.tar.gz": "answered 404",
        "http://127.0.0.1:1/model.tar.gz": "cannot be fetched",
        f"{s3}/nowhere": "has no model.onnx",
        f"{s3}/nowhere.tar.gz": "there is no such object",
        "s3://nobodys/model.tar.gz": "there is no such object",
    }
    for source, reason in cases.items():
        with pytest.raises(BadInput) as refused:
            opened(source)
        assert str(refused.value).startswith(f"MODEL_URI={source}"), source
        assert reason in str(refused.value), source
    with pytest.raises(BadInput) as refused:
        opened(f"{web}/nowhere.tar.gz?X-Amz-Signature=secret")
    assert "secret" not in str(refused.value)
    assert not [*scratch.iterdir()]


def test_it_serves_a_model_of_an_archive_and_ends_on_a_signal(folder: Path) -> None:
    with served(
        {"MODEL_URI": str(folder / "model.tar.gz"), "SIGHTLINE_SERVE_TOKEN": "secret"}, host="0.0.0.0"
    ) as server:
        assert server.wait_until(200) == {"status": "ready"}
        asked = ("/invocations", picture("green"))
        assert server.ask(*asked)[0] == 401
        status, answer = server.ask(*asked, {"Authorization": "Bearer secret", "Content-Type": "image/png"})
        assert (status, answer["label"], answer["model"]["name"]) == (200, "green", "made")
        assert server.process is not None
        server.process.send_signal(signal.SIGTERM)
        said, _ = server.process.communicate(timeout=60)
        assert server.process.returncode == 0, said
        assert "secret" not in said


def test_ping_says_why_there_is_no_model(folder: Path) -> None:
    with served({"MODEL_URI": str(folder / "other.tar.gz")}) as server:
        said = server.wait_until(503)
        assert "has no model.onnx" in said["detail"]
        assert str(folder) not in said["detail"]
        assert server.ask("/invocations", picture())[0] == 503


def test_beyond_the_container_only_with_a_token_or_where_sagemaker_asks() -> None:
    """The service has a guard of its own and sends no token."""
    done = subprocess.run([*COMMAND, "serve"], capture_output=True, text=True, timeout=60, env=without_settings())
    assert done.returncode == 2
    assert done.stderr.startswith("error: SIGHTLINE_SERVE_TOKEN: is not set")
    assert "SIGHTLINE_SERVE_OPEN=true" in done.stderr
    assert (settings_of_image({}).host, settings_of_image({}).open) == ("0.0.0.0", False)
    inside = settings_of_image({"SAGEMAKER_BIND_TO_PORT": "9000"})
    assert (inside.port, inside.open) == (9000, True)
    assert settings_of_image({"SAGEMAKER_BATCH": "true", "SIGHTLINE_SERVE_OPEN": "false"}).open is False
    assert settings_of_image({"SIGHTLINE_SERVE_HOST": "127.0.0.1"}).host == "127.0.0.1"


@pytest.mark.skipif(os.getuid() != 0, reason="needs root")
def test_root_reads_the_model_and_becomes_somebody_else_before_anybody_asks(folder: Path, tmp_path: Path) -> None:
    """In a process of its own: there is no way back."""
    only_roots = tmp_path / "model"
    write_made_model(only_roots).chmod(0o700)
    program = (
        "import os, sys\n"
        "from sightline.serving.entrypoint import opener, settings_of_image\n"
        "import onnxruntime, sightline.serving.runtime_predictor\n"
        "told = {'SIGHTLINE_USER': '1000', 'MODEL_URI': sys.argv[1]}\n"
        "open_it = opener(told, settings_of_image(told))\n"
        "print(os.getresuid(), os.getresgid(), os.getgroups())\n"
        "print(open_it().spec.class_names)\n"
    )
    env = without_settings()
    done = subprocess.run(
        [sys.executable, "-c", program, only_roots], capture_output=True, text=True, timeout=60, env=env
    )
    assert done.stdout.splitlines() == ["(1000, 1000, 1000) (1000, 1000, 1000) []", "('blue', 'green', 'red')"], (
        done.stderr
    )


def without_settings(**further: str) -> dict[str, str]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("SIGHTLINE_", "MODEL_", "SAGEMAKER_", "AWS_"))}
    return {**kept, **further}


def test_its_own_test_names_what_is_wrong(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"no model")
    for source, code, said in (
        (str(folder), 0, "self-test passed"),
        (str(tmp_path), 1, "self-test failed: "),
        (str(folder / "other.tar.gz"), 1, "has no model.onnx"),
    ):
        env = without_settings(MODEL_URI=source, SIGHTLINE_SERVE_TOKEN="secret")
        done = subprocess.run([*COMMAND, "selftest"], capture_output=True, text=True, timeout=120, env=env)
        assert done.returncode == code, done.stdout + done.stderr
        assert said in done.stdout
        assert "onnxruntime 1." in done.stdout
        assert "Traceback" not in done.stdout + done.stderr


def test_lambda_outside_of_lambda_says_so() -> None:
    done = subprocess.run([*COMMAND, "lambda"], capture_output=True, text=True, timeout=60, env=without_settings())
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "AWS_LAMBDA_RUNTIME_API" in done.stderr
