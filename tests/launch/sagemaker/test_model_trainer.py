"""AWS's own client for our plans: what its `train()` sends is what we send, over real HTTP to the fake."""

import json
import os
import re
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import PROJECT
from tests.launch.conftest import BUCKET, REGION, ROLE, backend_for
from tests.launch.fake_sagemaker import FakeSageMaker

from sightline.aws.s3 import Storage
from sightline.errors import BadInput
from sightline.launch.job import Job
from sightline.launch.sagemaker import as_model_trainer
from sightline.launch.sagemaker.backend import SageMaker
from sightline.launch.sagemaker.settings import SageMakerSettings

COMMIT = "0123456789abcdef0123456789abcdef01234567"
EXAMPLE = re.search(r"```py\n(.*?)```", (PROJECT / "docs" / "aws.md").read_text(encoding="utf-8"), re.DOTALL)
REPORTED = """
import threading
for each in threading.enumerate():
    if each.name == "sagemaker-telemetry":
        each.join()
"""
"""The client reports in a thread, which ends with the process."""
WORDS = ("experiment=gtsrb", "name='it\\'s, é'", 'model.name="0.001"', "data.classes=[a,b]", "~callbacks")
SETTINGS: dict[str, dict[str, Any]] = {
    "plain": {},
    "on demand, kept warm": {"spot": False, "warm_pool_minutes": 10, "max_run_minutes": 90},
    "all of it": {
        "instance_count": 2,
        "subnets": ["subnet-1"],
        "security_groups": ["sg-1"],
        "kms_key": "alias/key",
        "tags": {"team": "vision"},
        "input_mode": "FastFile",
        "data_s3": "s3://signs/gtsrb",
        "volume_gb": 50,
        "max_wait_minutes": 3000,
    },
}
KNOWN = {"OutputDataConfig": {"CompressionType": "GZIP"}}
"""What the client adds, which is what the service takes it to be."""


@pytest.fixture
def outside() -> Iterator[tuple[str, list[str]]]:
    """A proxy that lets nobody out, and what it was asked for."""
    asked: list[str] = []
    with socket.create_server(("127.0.0.1", 0)) as server:

        def listen() -> None:
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                with connection:
                    asked.append(connection.recv(1000).decode(errors="replace").splitlines()[0])

        threading.Thread(target=listen, daemon=True).start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}", asked
        server.shutdown(socket.SHUT_RDWR)


@pytest.mark.cloud
@pytest.mark.parametrize("name", SETTINGS)
def test_the_client_sends_our_request(
    name: str,
    service: FakeSageMaker,
    aws: Callable[[str], Any],
    outside: tuple[str, list[str]],
    tmp_path: Path,
) -> None:
    """All but the time behind the name, and the profiler, which it cannot switch off; it reports nothing to AWS."""
    if find_spec("sagemaker") is None:
        pytest.skip("AWS's own client is not here: pip install '.[sagemaker]'")
    weights = tmp_path / "weights.safetensors"
    weights.write_bytes(b"weights")
    words = [*WORDS, f"model.weights={weights}"]
    plan = backend_for(service, tmp_path, **SETTINGS[name]).plan(Job("signs", "src/evaluate.py", tuple(words), COMMIT))
    proxy, asked = outside
    environment = {"SAGEMAKER_VALIDATE_ROLE": "false", "HTTPS_PROXY": proxy, "NO_PROXY": "127.0.0.1"}
    environment |= {"PYTHONPATH": str(PROJECT / "src"), "HOME": str(tmp_path)}
    assert EXAMPLE is not None
    (tmp_path / "plan.json").write_text(json.dumps(plan))
    command = [sys.executable, "-c", EXAMPLE[1] + REPORTED]
    given = {**os.environ, **environment}
    done = subprocess.run(command, cwd=tmp_path, env=given, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-4000:]
    (sent,) = service.requests
    request = dict(plan["request"])
    assert sent.pop("TrainingJobName").startswith(request.pop("TrainingJobName"))
    assert request.pop("ProfilerConfig") == {"DisableProfiler": True}
    for key, added in KNOWN.items():
        request[key] = {**request[key], **added}
    assert sent == request
    assert not asked, "nothing is reported to AWS"
    (address,) = plan["uploads"]
    assert Storage(aws("s3")).is_complete(address)


def test_what_the_client_cannot_take_is_refused_without_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = SageMakerSettings(role=ROLE, bucket=BUCKET, region=REGION, image="image:1")
    plan = SageMaker(tmp_path, settings).plan(Job("signs", "src/train.py", ("experiment=digits",), COMMIT))
    with pytest.raises(BadInput, match="a plan of launch=local_container; give one of launch=sagemaker"):
        as_model_trainer({**plan, "backend": "local_container"})
    monkeypatch.setitem(sys.modules, "sagemaker", None)  # as if it were not here
    with pytest.raises(BadInput, match="as_model_trainer: needs AWS's own client: pip install"):
        as_model_trainer(plan)
