"""Every backend there is, each ready to run `program.py`. A new one joins with a line in `BACKENDS`."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sightline.launch.backend import Backend, Places
from sightline.launch.local_process import LocalProcess

BACKENDS: dict[str, Callable[[Path], Backend]] = {
    "local_process": lambda jobs: LocalProcess(jobs, grace_seconds=5.0),
    "preloaded": lambda jobs: LocalProcess(jobs, Places(2, ("json",)), grace_seconds=5.0),
}


@pytest.fixture(params=list(BACKENDS))
def backend(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Backend]:
    made = BACKENDS[request.param](tmp_path / "jobs")
    yield made
    made.close()
