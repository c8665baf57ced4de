"""What the tests of registries share."""

from functools import partial
from pathlib import Path

import pytest
from tests import made_packages


@pytest.fixture
def make_package(tmp_path: Path) -> made_packages.MakePackage:
    """Makes a package of weights that are a text."""
    return partial(made_packages.make_package, tmp_path)
