"""Pipelines on the SageMaker of the tests, which runs the image's entry point."""

from tests.launch.conftest import aws, service  # noqa: F401
