"""The image for tests in containers: built once, or the one that SIGHTLINE_TEST_IMAGE names."""

import functools
import os
import shlex
import subprocess
import tempfile
from pathlib import Path

import pytest

from sightline.launch.container.engine import builder, why_no_engine
from sightline.launch.container.image import SERVE, build
from tests.conftest import PROJECT

PROGRAM = "tests/launch/contract/program.py"


@functools.cache
def image() -> str:
    """BASE_IMAGE and BUILD_ARGS say what it takes on a machine without Docker Hub."""
    if (why := why_no_engine()) is not None:
        pytest.skip(f"no container engine answers: {why}", allow_module_level=True)
    given = os.environ.get("SIGHTLINE_TEST_IMAGE")
    return given or build(os.environ.get("BASE_IMAGE", ""), shlex.split(os.environ.get("BUILD_ARGS", "")))


@functools.cache
def serving_image() -> str:
    """The image that serves, likewise; SIGHTLINE_TEST_SERVING_IMAGE may name it."""
    if (why := why_no_engine()) is not None:
        pytest.skip(f"no container engine answers: {why}", allow_module_level=True)
    given, args = os.environ.get("SIGHTLINE_TEST_SERVING_IMAGE"), shlex.split(os.environ.get("BUILD_ARGS", ""))
    return given or build(os.environ.get("BASE_IMAGE", ""), args, SERVE)


@functools.cache
def image_with_program() -> str:
    """The same with the contract's small program in it."""
    name = "sightline-contract:test"
    with tempfile.TemporaryDirectory() as context:
        Path(context, "program.py").write_bytes((PROJECT / PROGRAM).read_bytes())
        Path(context, "Dockerfile").write_text(f"FROM {image()}\nCOPY program.py {PROGRAM}\n")
        command = [builder(), "build", "--quiet", "--tag", name, context]
        subprocess.run(command, check=True, capture_output=True, env={**os.environ, "DOCKER_BUILDKIT": "1"})
    return name
