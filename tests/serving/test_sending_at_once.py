"""An answer is sent at once: held back until the one before it is acknowledged, it would take 40 ms longer."""

import asyncio
import socket

from sightline.serve_settings import ServeSettings
from sightline.serving.http_server import listen


def test_connections_of_the_socket_do_not_wait_for_acknowledgements() -> None:
    found: list[int] = []

    async def serve_once() -> None:
        async def answer(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            found.append(writer.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
            writer.close()

        opened = listen(ServeSettings(port=0))
        async with await asyncio.start_server(answer, sock=opened):
            reader, writer = await asyncio.open_connection(*opened.getsockname()[:2])
            await reader.read()
            writer.close()

    asyncio.run(serve_once())
    assert found
    assert all(found)
