"""Every backend there is, each ready to run `program.py`. A new one joins with a line in `BACKENDS`."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.images import image_with_program

from sightline.launch.backend import Backend, Places
from sightline.launch.local_container import ContainerSettings, LocalContainer
from sightline.launch.local_process import LocalProcess

BACKENDS: dict[str, Callable[[Path], Backend]] = {
    "local_process": lambda jobs: LocalProcess(jobs, grace_seconds=5.0),
    "preloaded": lambda jobs: LocalProcess(jobs, Places(2, ("json",)), grace_seconds=5.0),
    "local_container": lambda jobs: LocalContainer(jobs, None, ContainerSettings(image=image_with_program())),
}
IN_CONTAINERS = ("local_container",)


@pytest.fixture(
    params=[pytest.param(name, marks=[pytest.mark.container] if name in IN_CONTAINERS else []) for name in BACKENDS]
)
def backend(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Backend]:
    made = BACKENDS[request.param](tmp_path / "jobs, é '\"${x}")
    yield made
    made.close()
