"""Without an engine nothing here can run; and a registry of images."""

import json
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from sightline.launch.container.engine import why_no_engine


@pytest.fixture(autouse=True, scope="session")
def engine() -> None:
    if (why := why_no_engine()) is not None:
        pytest.skip(f"no container engine answers: {why}")


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[str]:
    """A registry on this machine, in the place of the account's."""
    program = shutil.which("docker-registry")
    if program is None:
        pytest.skip("no docker-registry here (a Debian package)")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    config = {
        "version": 0.1,
        "storage": {"filesystem": {"rootdirectory": str(tmp_path / "registry")}},
        "http": {"addr": f"127.0.0.1:{port}"},
    }
    (tmp_path / "registry.yml").write_text(json.dumps(config))
    process = subprocess.Popen([program, "serve", str(tmp_path / "registry.yml")], stderr=subprocess.DEVNULL)
    until = time.monotonic() + 30
    while True:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
            break
        except OSError:
            assert time.monotonic() < until
            time.sleep(0.1)
    yield f"127.0.0.1:{port}"
    process.terminate()
    process.wait()
