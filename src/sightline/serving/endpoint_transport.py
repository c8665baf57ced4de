"""How requests reach an endpoint, and over HTTP."""

import random
from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol

from sightline.errors import BadInput
from sightline.serving.contract import Problem

BUSY = (429, 503)
"""What is asked again, after as long as the answer says."""
UNREACHABLE, TIMED_OUT = 502, 504
"""Statuses of problems that are ours: nothing answered, or not in time."""


class Reply(NamedTuple):
    """What came back for a request."""

    status: int
    headers: Mapping[str, str]
    """Names in lower case."""
    body: bytes


class Transport(Protocol):
    """How requests reach an endpoint; calls may come from several threads at once."""

    def send(self, method: str, path: str, body: bytes, headers: Mapping[str, str]) -> Reply:
        """Raises: Problem where nothing answers (502), not in time (504), or there is no such door (501)."""
        ...


class HttpTransport:
    """Over HTTP, with connections that stay open."""

    def __init__(self, address: str, token: str | None, connections: int, retries: int, timeout_seconds: float) -> None:
        import urllib3

        self.address, self.retries = address.rstrip("/"), retries
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._pool = urllib3.PoolManager(
            maxsize=connections,
            timeout=urllib3.Timeout(connect=min(10.0, timeout_seconds), read=timeout_seconds),
            retries=_retries(retries),
        )

    def send(self, method: str, path: str, body: bytes, headers: Mapping[str, str]) -> Reply:
        from urllib3.exceptions import HTTPError, LocationParseError, MaxRetryError, NewConnectionError, TimeoutError

        try:
            found = self._pool.request(
                method, self.address + path, body=body or None, headers={**self._headers, **headers}
            )
        except LocationParseError as error:
            raise BadInput(f"endpoint={self.address}: no address, like http://127.0.0.1:8080") from error
        except HTTPError as error:
            reason = error.reason if isinstance(error, MaxRetryError) and error.reason is not None else error
            if isinstance(reason, TimeoutError) and not isinstance(reason, NewConnectionError):
                raise Problem(TIMED_OUT, "Timed out", f"{self.address} did not answer in time ({reason})") from error
            raise Problem(UNREACHABLE, "Unreachable", f"{self.address} does not answer ({reason})") from error
        return Reply(found.status, {name.lower(): text for name, text in found.headers.items()}, found.data)


def _retries(count: int) -> Any:
    """When to ask again: as the answer says and up to a fifth longer, so that clients do not come back all at once."""
    import urllib3

    class Patient(urllib3.Retry):
        def get_retry_after(self, response: Any) -> float | None:
            seconds = super().get_retry_after(response)
            return seconds and seconds * (1 + random.random() / 5)

    return Patient(
        total=count,
        connect=min(count, 3),
        read=min(count, 2),
        status_forcelist=BUSY,
        allowed_methods=None,
        raise_on_status=False,
        redirect=0,
        raise_on_redirect=False,
        backoff_factor=0.25,
        backoff_max=20,
        backoff_jitter=0.25,
    )
