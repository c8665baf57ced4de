"""Clients of AWS with one policy of retries, and the region and credentials of AWS's own configuration."""

import logging
from difflib import get_close_matches
from typing import Any

from sightline.aws.request_check import EXTRA
from sightline.errors import BadInput

RETRIES = {"mode": "standard", "max_attempts": 8}
"""The retry policy of every client: about half a minute, longer each time."""
MAX_CONNECTIONS = 32


def make_client(service: str, region: str | None = None, *, needs: str = EXTRA, **settings: Any) -> Any:
    """boto3's client of a service; region and credentials are found as boto3 finds them.

    `settings` are botocore's, like `connect_timeout` in seconds, or another policy of `retries`.

    Raises: BadInput with `needs` where boto3 is not installed.
    """
    try:
        import boto3
        from botocore.config import Config
    except ImportError as error:
        raise BadInput(needs) from error
    config = Config(**{"retries": RETRIES, "max_pool_connections": MAX_CONNECTIONS, **settings})
    return boto3.Session(region_name=region).client(service, config=config)


class Clients:
    """The clients of one region, each made once."""

    def __init__(self, region: str | None) -> None:
        self.region = region
        self._made: dict[str, Any] = {}

    def get(self, service: str) -> Any:
        """Raises: BadInput where boto3 is not installed."""
        if service not in self._made:
            self._made[service] = make_client(service, self.region)
        return self._made[service]


def find_region() -> str | None:
    """The region of the environment or of `aws configure`."""
    return _session().get_config_variable("region")


def check_region(region: str) -> None:
    """Raises: BadInput for a region that botocore does not know."""
    session = _session()
    partitions = session.get_available_partitions()
    known = {name for each in partitions for name in session.get_available_regions("sagemaker", each)}
    if region not in known:
        near = get_close_matches(region, sorted(known), n=1)
        hint = f" (did you mean {near[0]}?)" if near else f"; known are {', '.join(sorted(known))}"
        raise BadInput(
            f"launch.region={region}: AWS's client knows no such region{hint}; for a newer one: pip install -U boto3"
        )


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
