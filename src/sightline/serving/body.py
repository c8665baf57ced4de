"""A request's body, read as it comes and no further than allowed; and how a refused one ends."""

import asyncio
import contextlib

from starlette.requests import ClientDisconnect
from starlette.requests import Request as HttpRequest
from starlette.responses import Response as HttpResponse
from starlette.types import Receive, Scope, Send

from sightline.serving.contract import Problem

BODY_SECONDS = 30.0
"""In which a body must have come."""
MOST_HELD = 512_000_000
"""Bytes of the bodies that are being read at one time."""
LINGERING_BYTES, LINGERING_SECONDS = 8_000_000, 2.0
"""Of a refused body that are read and thrown away, so that its sender, who first sends, then reads the refusal."""


class BodyReader:
    """Reads bodies of at most `max_bytes`, within a time, and of all together no more than memory has room for."""

    def __init__(self, max_bytes: int, seconds: float = BODY_SECONDS, most_held: int = MOST_HELD) -> None:
        self.max_bytes, self.seconds, self.most_held = max_bytes, seconds, most_held
        self._held = 0

    async def read(self, request: HttpRequest) -> bytes:
        """Raises: Problem 408, 413 or 429; ClientDisconnect."""
        told = request.headers.get("content-length", "")
        if told.isdecimal() and int(told) > self.max_bytes:
            raise self._too_large()  # before the body is asked for: a sender that waits for 100-continue sends none
        request.state.is_begun = True
        parts: list[bytes] = []
        size = 0
        try:
            async with asyncio.timeout(self.seconds):
                while True:
                    message = await request.receive()
                    if message["type"] == "http.disconnect":
                        raise ClientDisconnect
                    part = message.get("body", b"")
                    size += len(part)
                    self._held += len(part)
                    if size > self.max_bytes:
                        raise self._too_large()
                    if self._held > self.most_held:
                        raise Problem(429, "Too many requests", "too many bodies are being read", retry_after=1)
                    parts.append(part)
                    if not message.get("more_body", False):
                        request.state.is_read = True
                        return parts[0] if len(parts) == 1 else b"".join(parts)
        except TimeoutError:
            request.state.is_begun = False  # nothing of it comes
            detail = f"the body had not come after {self.seconds:g} s"
            raise Problem(408, "Request timeout", detail) from None
        finally:
            self._held -= size

    def _too_large(self) -> Problem:
        return Problem(413, "Too large", f"a request may have {self.max_bytes} bytes at most")


async def wait_until_left(receive: Receive) -> None:
    """Until the client closes its connection; for after the body was read."""
    while (await receive())["type"] != "http.disconnect":
        pass


class LastResponse(HttpResponse):
    """An answer to a request whose body was not read: the connection ends with it.

    What the client still sends is read and thrown away for a while: a connection that is closed with bytes unread is
    reset, and the answer may be lost with it.
    """

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.headers["connection"] = "close"
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        await send({"type": "http.response.body", "body": self.body, "more_body": True})  # whole, by its length
        waits_to_send = any(name == b"expect" for name, _ in scope["headers"])
        if scope.get("state", {}).get("is_begun", not waits_to_send):
            await self._throw_away(receive)
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _throw_away(self, receive: Receive) -> None:
        left = LINGERING_BYTES
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LINGERING_SECONDS):
                while left > 0:
                    message = await receive()
                    left -= len(message.get("body", b""))
                    if message["type"] == "http.disconnect" or not message.get("more_body", False):
                        break
