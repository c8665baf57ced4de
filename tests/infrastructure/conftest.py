"""The S3 and the logs that the SageMaker of the tests works with."""

from tests.launch.conftest import aws

__all__ = ["aws"]
