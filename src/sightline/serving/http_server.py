"""The process around an application: its socket, its signals and its end."""

import asyncio
import ipaddress
import logging
import socket
import time
from types import FrameType
from typing import TYPE_CHECKING

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from sightline.errors import BadInput
from sightline.serve_settings import ServeSettings
from sightline.serving.doors import Doors

if TYPE_CHECKING:
    from fastapi import FastAPI

log = logging.getLogger(__name__)
DRAIN_SECONDS, CLOSE_SECONDS = 20.0, 5
"""After a signal: in which what was taken is computed, and then what is sent to slow readers."""
HEAD_SECONDS, KEEP_ALIVE_SECONDS = 20.0, 75
"""In which a request's head must have come; and between requests, longer than load balancers keep a connection."""
BACKLOG = 2048


class PatientProtocol(H11Protocol):
    """uvicorn's HTTP/1.1, which does not wait for ever for the head of a request."""

    _given_up: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        super().connection_made(transport)
        self._given_up = self.loop.call_later(HEAD_SECONDS, self.timeout_keep_alive_handler)

    def data_received(self, data: bytes) -> None:
        known = self.cycle
        super().data_received(data)
        if self.cycle is not known:  # a head is complete
            self._wait_no_longer()
        elif self._given_up is None and (known is None or known.response_complete):
            self._given_up = self.loop.call_later(HEAD_SECONDS, self.timeout_keep_alive_handler)

    def connection_lost(self, exc: Exception | None) -> None:
        self._wait_no_longer()
        super().connection_lost(exc)

    def _wait_no_longer(self) -> None:
        if self._given_up is not None:
            self._given_up.cancel()
            self._given_up = None


class HttpServer(uvicorn.Server):
    """uvicorn, which on a signal first refuses what comes and finishes what it has taken, then ends.

    With `ends_with_error` it also ends when the model does not open.
    """

    def __init__(self, app: "FastAPI", doors: Doors, opened: socket.socket, *, ends_with_error: bool) -> None:
        config = uvicorn.Config(
            app,
            http=PatientProtocol,
            timeout_keep_alive=KEEP_ALIVE_SECONDS,
            log_config=None,
            log_level="warning",
            access_log=False,
            ws="none",
            timeout_graceful_shutdown=CLOSE_SECONDS,
        )
        super().__init__(config)
        self.app, self.doors, self.opened, self.ends_with_error = app, doors, opened, ends_with_error
        self.address = address_of(opened)
        self.stopped_by: int | None = None
        """The number of the signal that ended it."""
        self._end = 0.0

    def serve_until_stopped(self) -> None:
        """Raises: with `ends_with_error`, what kept the model from opening."""
        guard = "without a token" if self.doors.token is None else "with a token"
        log.info("%s, %d thread(s), %s", self.address, self.doors.pool.threads, guard)
        self.run([self.opened])
        if self.ends_with_error and self.doors.readiness.error is not None:
            raise self.doors.readiness.error

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """The first signal lets it finish, a second one does not."""
        if self.stopped_by is not None:
            self.should_exit = self.force_exit = True
            return
        self.stopped_by, self._end = sig, time.monotonic() + DRAIN_SECONDS
        self.doors.readiness.stop()

    async def on_tick(self, counter: int) -> bool:
        """Ten times a second; whether to end."""
        is_finished = self.doors.num_taken == 0 or time.monotonic() > self._end
        if (self.stopped_by is not None and is_finished) or (self.ends_with_error and self.doors.readiness.error):
            self.should_exit = True
        return await super().on_tick(counter)


def check_who_may_ask(settings: ServeSettings, token: str | None) -> None:
    """Raises: BadInput for an address that others reach, without a token and without `serve.open`."""
    if token is not None or settings.open or is_of_this_machine(settings.host):
        return
    raise BadInput(
        f"serve.host={settings.host}: others could ask without a token; set SIGHTLINE_SERVE_TOKEN, "
        "or allow everybody with serve.open=true"
    )


def is_of_this_machine(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def listen(settings: ServeSettings) -> socket.socket:
    """A socket at the address.

    Raises: BadInput for one that is taken, or not of this machine.
    """
    where = f"serve.host={settings.host}, serve.port={settings.port}"
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            settings.host, settings.port, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP, flags=socket.AI_PASSIVE
        )[0]
        opened = socket.socket(
            family, kind, protocol
        )  # asyncio sends at once (TCP_NODELAY) where it knows the protocol
    except OSError as error:
        raise BadInput(f"{where}: no address of this machine ({error.strerror or error})") from error
    try:
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        opened.bind(address)
        opened.listen(BACKLOG)
    except OSError as error:
        opened.close()
        advice = "stop what listens there, or give another one, like serve.port=0 for any that is free"
        raise BadInput(f"{where}: cannot listen there ({error.strerror}); {advice}") from error
    return opened


def address_of(opened: socket.socket) -> str:
    host, port = opened.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
