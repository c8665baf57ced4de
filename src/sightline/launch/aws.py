"""What AWS's own configuration says, as its client reads it."""

import logging
from typing import Any

from sightline.errors import BadInput
from sightline.launch.request_check import EXTRA


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
