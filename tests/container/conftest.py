"""Without an engine nothing here can run."""

import pytest

from sightline.launch.container.engine import why_no_engine


@pytest.fixture(autouse=True, scope="session")
def engine() -> None:
    if (why := why_no_engine()) is not None:
        pytest.skip(f"no container engine answers: {why}")
