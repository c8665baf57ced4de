"""A load of HTTP requests from one thread over many connections: a client that takes little of the cores it shares."""

import selectors
import socket
import time
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

HEAD_END = b"\r\n\r\n"


@dataclass
class Load:
    """What came of it; times in seconds."""

    seconds: float = 0.0
    client_seconds: float = 0.0
    """Of a core, that the client itself took."""
    times: dict[tuple[str, int], list[float]] = field(default_factory=lambda: defaultdict(list))
    """By path and status, from when a request was due to the last byte of its answer."""
    sent: Counter[str] = field(default_factory=Counter)
    lost: Counter[str] = field(default_factory=Counter)
    """Requests by path whose connection ended without an answer."""
    wrong: int = 0
    """Answers with another id than their request's."""
    unsent: Counter[str] = field(default_factory=Counter)
    """Requests by path that were due while every connection waited."""

    def rate(self, path: str, status: int = 200) -> float:
        return len(self.times[path, status]) / self.seconds

    def percentile(self, path: str, status: int, share: float) -> float:
        """Of the times of these answers, in milliseconds; NaN of none."""
        times = sorted(self.times[path, status])
        return 1e3 * times[min(len(times) - 1, int(share * len(times)))] if times else float("nan")


def request(method: str, path: str, body: bytes = b"", headers: Mapping[str, str] | None = None) -> bytes:
    """A request of HTTP/1.1, up to its id, which is put in when it is sent."""
    told = {"Host": "127.0.0.1", "Content-Length": str(len(body)), **(headers or {})}
    lines = "".join(f"{name}: {value}\r\n" for name, value in told.items())
    return f"{method} {path} HTTP/1.1\r\n{lines}X-Request-Id: ".encode() + b"%s" + HEAD_END + body.replace(b"%", b"%%")


@dataclass
class Stream:
    """Requests of one kind: as fast as the connections answer, or where there is a rate that many a second."""

    path: str
    request: bytes
    connections: int
    rate: float | None = None
    count: int | None = None
    """How many in all; None: until the time is over."""


class _Connection:
    def __init__(self, port: int, stream: Stream) -> None:
        self.port, self.stream = port, stream
        self.socket: socket.socket | None = None
        self.outgoing, self.received = b"", b""
        self.due, self.id = 0.0, b""
        self.is_waiting = False

    def send(self, due: float, own_id: bytes, selector: selectors.BaseSelector) -> None:
        if self.socket is None:
            self.socket = socket.create_connection(("127.0.0.1", self.port))
            self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.socket.setblocking(False)
            selector.register(self.socket, selectors.EVENT_READ, self)
        self.outgoing, self.received = self.stream.request.replace(b"%s", own_id, 1).replace(b"%%", b"%"), b""
        self.due, self.id, self.is_waiting = due, own_id, True
        self.flush(selector)

    def flush(self, selector: selectors.BaseSelector) -> None:
        assert self.socket is not None
        try:
            self.outgoing = self.outgoing[self.socket.send(self.outgoing) :]
        except BlockingIOError:
            pass
        except OSError:
            self.outgoing = b""  # the other side has closed: what it said is read yet
        events = selectors.EVENT_READ | (selectors.EVENT_WRITE if self.outgoing else 0)
        selector.modify(self.socket, events, self)

    def close(self, selector: selectors.BaseSelector) -> None:
        assert self.socket is not None
        selector.unregister(self.socket)
        self.socket.close()
        self.socket, self.outgoing = None, b""

    def read(self) -> tuple[int, bytes, bool] | bool:
        """Status, body and whether it is the last of a whole answer; True: more has to come, False: nothing will."""
        assert self.socket is not None
        try:
            new = self.socket.recv(1 << 16)
        except BlockingIOError:
            return True
        except OSError:
            return False
        self.received += new
        head, end, body = self.received.partition(HEAD_END)
        if end:
            length = next(
                int(line.split(b":")[1]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")
            )
            if len(body) >= length:
                return int(head.split(b" ", 2)[1]), body[:length], b"\r\nconnection: close" in head.lower()
        return bool(new)


def run_load(port: int, streams: Sequence[Stream], seconds: float) -> Load:
    """Send for so long, or until all are sent; then wait for what is on its way."""
    load, selector = Load(), selectors.DefaultSelector()
    idle = {stream.path: [_Connection(port, stream) for _ in range(stream.connections)] for stream in streams}
    busy: set[_Connection] = set()
    start, cpu = time.perf_counter(), time.process_time()
    end = start + seconds
    while True:
        now = time.perf_counter()
        is_over = now >= end
        waits = [end - now] if not is_over else [1.0]
        for stream in streams:
            waits.append(_send_due(stream, load, idle[stream.path], busy, selector, start, now, is_over))
        if not busy and (is_over or all(load.sent[each.path] == each.count for each in streams)):
            break
        for key, mask in selector.select(max(0.0, min(waits))):
            connection: _Connection = key.data
            if mask & selectors.EVENT_WRITE:
                connection.flush(selector)
            if mask & selectors.EVENT_READ:
                _receive(connection, load, idle, busy, selector)
    load.seconds, load.client_seconds = time.perf_counter() - start, time.process_time() - cpu
    for connections in idle.values():
        for connection in connections:
            if connection.socket is not None:
                connection.close(selector)
    selector.close()
    return load


def _send_due(
    stream: Stream,
    load: Load,
    idle: list[_Connection],
    busy: set[_Connection],
    selector: selectors.BaseSelector,
    start: float,
    now: float,
    is_over: bool,
) -> float:
    """Send what is due; seconds until the next one is."""
    path = stream.path
    while not is_over and load.sent[path] != stream.count:
        number = load.sent[path] + load.unsent[path]
        due = now if stream.rate is None else start + number / stream.rate
        if due > now:
            return due - now
        if not idle:
            if stream.rate is None:
                return 1.0
            load.unsent[path] += 1
            continue
        connection = idle.pop()
        connection.send(due, f"{path.strip('/')}-{number}".encode(), selector)
        busy.add(connection)
        load.sent[path] += 1
    return 1.0


def _receive(
    connection: _Connection,
    load: Load,
    idle: Mapping[str, list[_Connection]],
    busy: set[_Connection],
    selector: selectors.BaseSelector,
) -> None:
    found, path = connection.read(), connection.stream.path
    if found is True:
        return
    if connection.is_waiting:
        connection.is_waiting = False
        busy.discard(connection)
        idle[path].append(connection)
        if isinstance(found, tuple):
            status, body, _ = found
            load.times[path, status].append(time.perf_counter() - connection.due)
            load.wrong += status == 200 and b'"id"' in body and b'"%s"' % connection.id not in body
        else:
            load.lost[path] += 1
    if not isinstance(found, tuple) or found[2]:
        connection.close(selector)
