"""`serve.py` as a person types it."""

import json
import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.commands import PROJECT
from tests.conftest import Cli
from tests.serving.servers import SECONDS, HeldUp, serving, wait_until

PROGRAM = [sys.executable, str(PROJECT / "src" / "serve.py")]


@contextmanager
def started(log: Path, *words: str, **environment: str) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """The process and its address, once it answers."""
    with log.open("wb") as file:
        process = subprocess.Popen(
            [*PROGRAM, "serve.port=0", *words], stderr=file, stdout=file, env={**os.environ, **environment}
        )
    try:
        wait_until(lambda: process.poll() is not None or "ready:" in log.read_text(), "readiness")
        assert process.poll() is None, log.read_text()
        yield process, log.read_text().partition("http://")[2].partition(",")[0]
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_run_is_served_until_a_signal(exported: Path, tmp_path: Path, number: signal.Signals, code: int) -> None:
    with started(tmp_path / "log", f"run={exported}", SIGHTLINE_SERVE_TOKEN="secret-token") as (process, address):
        assert urllib.request.urlopen(f"http://{address}/ping", timeout=SECONDS).status == 200
        request = urllib.request.Request(f"http://{address}/model", headers={"Authorization": "Bearer secret-token"})
        assert b'"tiny"' in urllib.request.urlopen(request, timeout=SECONDS).read()
        with pytest.raises(urllib.error.HTTPError, match="401"):
            urllib.request.urlopen(f"http://{address}/model", timeout=SECONDS)
        process.send_signal(number)
        assert process.wait(SECONDS) == code
    said = (tmp_path / "log").read_text()
    assert "Traceback" not in said
    assert "secret-token" not in said


def test_serving_never_loads_torch(exported: Path, tmp_path: Path) -> None:
    blocked = tmp_path / "torch.py"
    blocked.write_text("raise AssertionError('torch was imported')")
    with started(tmp_path / "log", f"run={exported}", PYTHONPATH=str(tmp_path)) as (_, address):
        assert urllib.request.urlopen(f"http://{address}/ping", timeout=SECONDS).status == 200


def test_an_endpoint_answers_in_the_place_of_a_model(tmp_path: Path) -> None:
    with serving(HeldUp, "secret", threads=2) as behind:
        words = f"endpoint=http://{behind.host}"
        with started(tmp_path / "log", words, SIGHTLINE_SERVE_TOKEN="secret") as (_, address):
            shown = {"Authorization": "Bearer secret", "Content-Type": "application/octet-stream"}
            asked = urllib.request.Request(f"http://{address}/invocations", b"picture", shown)
            answer = json.loads(urllib.request.urlopen(asked, timeout=SECONDS).read())
        straight = behind.ask("POST", "/invocations", b"picture", Authorization="Bearer secret").json
    assert {**answer, "id": "", "timings": {}} == {**straight, "id": "", "timings": {}}


def test_a_run_that_is_not_exported_is_refused_with_the_command_that_exports_it(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "run.json").write_text("{}")
    done = cli("serve", f"run={tmp_path}")
    assert done.returncode == 2
    assert f"export.py run={tmp_path}" in done.stderr
    done = cli("serve", f"run={tmp_path}", "serve.precision=int8")
    assert "model.int8.onnx" in done.stderr


def test_a_model_that_does_not_open_ends_the_program(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "model.onnx").write_bytes(b"broken")
    done = cli("serve", f"run={tmp_path}", "serve.port=0")
    assert done.returncode == 2
    assert "does not open as ONNX" in done.stderr.splitlines()[-1]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("serve.host=0.0.0.0",), "SIGHTLINE_SERVE_TOKEN"),
        (("serve.port=99999",), "serve.port"),
        (("endpoint=http://127.0.0.1:9",), "one of the two"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_starts(
    cli: Cli, exported: Path, words: tuple[str, ...], said: str
) -> None:
    done = cli("serve", f"run={exported}", *words)
    assert done.returncode == 2
    assert said in done.stderr
