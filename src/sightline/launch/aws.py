"""AWS's client, and what AWS's own configuration says."""

import logging
from typing import Any

from sightline.errors import BadInput
from sightline.launch.request_check import EXTRA


class Clients:
    """boto3's clients of one region, each made once."""

    def __init__(self, region: str | None) -> None:
        self.region = region
        self._made: dict[str, Any] = {}

    def get(self, service: str) -> Any:
        """Raises: BadInput where boto3 is not installed."""
        if service not in self._made:
            try:
                import boto3
                from botocore.config import Config
            except ImportError as error:
                raise BadInput(EXTRA) from error
            config = Config(retries={"mode": "standard", "max_attempts": 5}, max_pool_connections=32)
            self._made[service] = boto3.Session(region_name=self.region).client(service, config=config)
        return self._made[service]


def find_region() -> str | None:
    """The region of the environment or of `aws configure`."""
    return _session().get_config_variable("region")


def has_credentials() -> bool:
    return _session().get_credentials() is not None


def _session() -> Any:
    try:
        import botocore.session
        from botocore.exceptions import ProfileNotFound
    except ImportError as error:
        raise BadInput(EXTRA) from error
    logging.getLogger("botocore.credentials").setLevel(logging.WARNING)  # it says where it found them
    session = botocore.session.Session()
    try:
        session.get_scoped_config()
    except ProfileNotFound as error:
        raise BadInput(f"AWS_PROFILE: {error}; `aws configure list-profiles` lists those there are") from error
    return session
