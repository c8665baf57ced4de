"""MiniStack, which runs Lambda, EventBridge, Scheduler and CloudFormation for real."""

import contextlib
import os
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from tests.conftest import PROJECT

REGION, ACCOUNT = "eu-west-1", "000000000000"
KEYS = {"AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "testing", "AWS_DEFAULT_REGION": REGION}
SECONDS = 60.0
Found = TypeVar("Found")


def find_ministack() -> Path | None:
    """Where `make test-cloud` has put it."""
    path = PROJECT / ".venv-cloud" / "bin" / "ministack"
    return path if path.is_file() else None


@contextlib.contextmanager
def running(program: Path, folder: Path, sagemaker: str) -> Iterator[Callable[[str], Any]]:
    """Clients of a MiniStack of its own, on this machine alone; its functions find SageMaker at an address."""
    import boto3

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    address = f"http://127.0.0.1:{port}"
    environment = {
        **{name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ},
        **KEYS,
        "BIND_HOST": "127.0.0.1",
        "GATEWAY_PORT": str(port),
        "MINISTACK_REGION": REGION,
        "TMPDIR": str(folder),
        "AWS_ENDPOINT_URL_SAGEMAKER": sagemaker,
    }
    log = folder / "ministack.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [str(program)], cwd=folder, env=environment, stdout=output, stderr=output, start_new_session=True
        )
    try:
        wait_for(lambda: process.poll() is not None or _answers(address), "MiniStack answers")
        assert process.poll() is None, log.read_text(encoding="utf-8")[-2000:]
        yield lambda service: boto3.client(
            service,
            region_name=REGION,
            endpoint_url=address,
            aws_access_key_id=KEYS["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=KEYS["AWS_SECRET_ACCESS_KEY"],
        )
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def wait_for(condition: Callable[[], Found], what: str, seconds: float = SECONDS) -> Found:
    """What a condition becomes, once it is anything."""
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end, f"{seconds:g} s and not yet: {what}"
        time.sleep(0.05)
    return found


def _answers(address: str) -> bool:
    try:
        with urllib.request.urlopen(f"{address}/_ministack/health", timeout=1):
            return True
    except urllib.error.HTTPError:
        return True
    except OSError:
        return False
