"""The hosts of one job: which one this is, how they find each other, and who waits for whom."""

import contextlib
import socket
import threading
import time
from dataclasses import dataclass
from pathlib import Path

from sightline.runs.files import read_json

PORT = 29500
"""Where the processes of a training meet on the first host; the next port shows that it still runs."""
SECONDS_TO_FIND = 300.0
SECONDS_BETWEEN_TRIES = 0.5
INTERFACES = Path("/sys/class/net")


@dataclass(frozen=True)
class Hosts:
    """All hosts by name in the order of their ranks, and this one's."""

    names: tuple[str, ...] = ("localhost",)
    current: str = "localhost"
    interface: str | None = None
    """The network that joins them."""

    @classmethod
    def read(cls, path: Path) -> "Hosts":
        """What `resourceconfig.json` says; without that file there is one host.

        Raises: ValueError when this host is not among them.
        """
        config = read_json(path)
        names = tuple(sorted(config.get("hosts") or ["localhost"]))
        current = config.get("current_host") or names[0]
        if current not in names:
            raise ValueError(f"{path.name}: current_host={current} is not among the hosts {', '.join(names)}")
        return cls(names, current, config.get("network_interface_name"))

    @property
    def number(self) -> int:
        return self.names.index(self.current)

    @property
    def is_first(self) -> bool:
        return self.number == 0

    def environment(self) -> dict[str, str]:
        """The variables of a distributed training; none on a single host."""
        if len(self.names) == 1:
            return {}
        variables = {"MASTER_ADDR": self.names[0], "MASTER_PORT": str(PORT), "NODE_RANK": str(self.number)}
        if self.interface and (INTERFACES / self.interface).exists():
            variables |= {"GLOO_SOCKET_IFNAME": self.interface, "NCCL_SOCKET_IFNAME": self.interface}
        return variables

    def wait_for_names(self, seconds: float = SECONDS_TO_FIND) -> None:
        """Wait until every name leads somewhere: names come up after the hosts.

        Raises: OSError for one that does not.
        """
        until = time.monotonic() + seconds
        for name in self.names if len(self.names) > 1 else ():
            while True:
                try:
                    socket.getaddrinfo(name, PORT)
                    break
                except OSError as error:
                    if time.monotonic() >= until:
                        raise OSError(f"host {name}: its name leads nowhere after {seconds:.0f} s ({error})") from error
                    time.sleep(SECONDS_BETWEEN_TRIES)


class FirstHostWatch:
    """Lets the other hosts end after the first one, which still measures when they have nothing left to do.

    Some engines stop all hosts as soon as one has ended.
    """

    def __init__(self, hosts: Hosts, port: int = PORT + 1) -> None:
        self.hosts, self.port = hosts, port
        self._first_is_over = threading.Event()
        self._has_met = False
        self._open: list[socket.socket] = []
        if len(hosts.names) > 1:
            threading.Thread(target=self._accept if hosts.is_first else self._watch, daemon=True).start()

    def wait(self, seconds: float) -> bool:
        """Whether the first host is over within this time, or was never met."""
        return self.hosts.is_first or not self._has_met or self._first_is_over.wait(seconds)

    def _accept(self) -> None:
        """Keep connections; they close with this process."""
        with contextlib.suppress(OSError), socket.create_server(("", self.port)) as server:
            while True:
                self._open.append(server.accept()[0])

    def _watch(self) -> None:
        while not self._has_met:
            try:
                connection = socket.create_connection((self.hosts.names[0], self.port), timeout=10)
            except OSError:
                time.sleep(SECONDS_BETWEEN_TRIES)
                continue
            connection.settimeout(None)
            self._has_met = True
            with contextlib.suppress(OSError), connection:
                connection.recv(1)
            self._first_is_over.set()
