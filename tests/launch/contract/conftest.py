"""Every backend there is, each ready to run `program.py`. A new one joins with a line in `BACKENDS`."""

from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest
from tests.images import image_with_program
from tests.launch.conftest import backend_for

from sightline.launch.backend import Backend, LaunchSettings
from sightline.launch.backends import BACKENDS as TABLE
from sightline.launch.backends import make_backend
from sightline.launch.container.backend import ContainerSettings, LocalContainer
from sightline.launch.local.backend import LocalProcess
from sightline.launch.sagemaker.local_mode import LocalMode, LocalModeSettings

BACKENDS: dict[str, Callable[[Path], Backend]] = {
    "local_process": lambda jobs: LocalProcess(jobs, grace_seconds=5.0),
    "preloaded": lambda jobs: LocalProcess(jobs, LaunchSettings(n_parallel=2, preload=["json"]), grace_seconds=5.0),
    "brought": lambda jobs: make_backend("brought", jobs, {"greeting": "hi"}),
    "local_container": lambda jobs: LocalContainer(jobs, ContainerSettings(image=image_with_program())),
    "sagemaker_local": lambda jobs: LocalMode(jobs, LocalModeSettings(image=image_with_program())),
}
IN_CONTAINERS = ("local_container", "sagemaker_local")
BY_AWS_CLIENT = ("sagemaker_local",)
BROUGHT = ("brought",)
"""Backends that are no part of the package."""
SERVED = ("sagemaker",)
"""Backends that speak to a service, which is a fake that runs the jobs."""


@pytest.fixture(
    params=[
        pytest.param(
            name,
            marks=[
                *([pytest.mark.container] if name in IN_CONTAINERS else []),
                *([pytest.mark.slow] if name in BROUGHT else []),
            ],
        )
        for name in (*BACKENDS, *SERVED)
    ]
)
def backend(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Backend]:
    if request.param in BY_AWS_CLIENT and find_spec("sagemaker") is None:
        pytest.skip("AWS's own client is not here: pip install '.[sagemaker]'")
    monkeypatch.setitem(TABLE, "brought", "tests.launch.brought_backend:Brought")
    jobs = tmp_path / "jobs, é '\"${x}"
    made = (
        backend_for(request.getfixturevalue("service"), jobs)
        if request.param in SERVED
        else BACKENDS[request.param](jobs)
    )
    yield made
    made.close()
