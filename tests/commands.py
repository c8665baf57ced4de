"""Commands started by copying a process that has the heavy libraries imported, as `launch/local/preloaded.py` does.

`python -m tests.commands DESCRIPTOR` is that process: it takes orders over a socket and never starts a thread.
`Starter` gives the orders. A command has a process, a working folder, an environment, outputs and an exit code of its
own, and takes signals; what it lacks is the start of the interpreter and the imports. For these there is `cold_cli`.
"""

import contextlib
import gc
import importlib
import json
import os
import pkgutil
import select
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).resolve().parents[1]
BEYOND_TRAINING = ("boto3", "botocore.session", "captum.attr", "optuna", "plotly.graph_objects")
"""What programs besides training import late."""
MAX_SECONDS = 300.0
HUNG = 1000
"""The exit code of a command that was killed because it did not end."""


class Started:
    """A command that runs, or has run."""

    def __init__(self, pid: int, status: int, stdout: Path, stderr: Path) -> None:
        self.pid, self.stdout, self.stderr = pid, stdout, stderr
        self.returncode: int | None = None
        self._status = status

    def poll(self) -> int | None:
        return self._read(0)

    def wait(self, timeout: float = MAX_SECONDS) -> int:
        """Its exit code; one that does not end in time is killed with all that it started."""
        code = self._read(timeout)
        if code is None:
            os.killpg(self.pid, signal.SIGKILL)
            self._read(None)
            code = self.returncode = HUNG
        return code

    def send_signal(self, number: int) -> None:
        os.kill(self.pid, number)

    def _read(self, timeout: float | None) -> int | None:
        if self.returncode is None and select.select([self._status], [], [], timeout)[0]:
            self.returncode = int(os.read(self._status, 64) or HUNG)
            os.close(self._status)
        return self.returncode


class Starter:
    """Starts commands; `close` ends the process that they are copies of."""

    def __init__(self, folder: Path) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._folder, self._socket, self._count = folder, ours, 0
        with theirs:
            words = [sys.executable, "-m", "tests.commands", str(theirs.fileno())]
            environment = {**os.environ, "PYTHONPATH": f"{PROJECT / 'src'}{os.pathsep}{PROJECT}"}
            self._process = subprocess.Popen(
                words, cwd=PROJECT, env=environment, pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL
            )

    def start(
        self,
        words: Sequence[str],
        *,
        cwd: Path = PROJECT,
        environment: Mapping[str, str] | None = None,
        log: Path | None = None,
        first: tuple[str, Any] | None = None,
    ) -> Started:
        """Start a script of the project with its words, as the leader of a session.

        `log` takes what it says on both outputs; `first` is a function, `module:name`, that is called before the script
        begins, and its argument.
        """
        self._count += 1
        stdout = log or self._folder / f"{self._count}.stdout"
        stderr = log or self._folder / f"{self._count}.stderr"
        reading, writing = os.pipe()
        order = {
            "words": [*words],
            "cwd": str(cwd),
            "environment": dict(os.environ if environment is None else environment),
            "stdout": str(stdout),
            "stderr": str(stderr),
            "first": first,
        }
        socket.send_fds(self._socket, [json.dumps(order).encode()], [writing])
        os.close(writing)
        answer = self._socket.recv(64)
        assert answer, f"tests.commands ended with exit code {self._process.wait(timeout=30)}; its output says why"
        return Started(int(answer), reading, stdout, stderr)

    def run(self, words: Sequence[str], **named: Any) -> subprocess.CompletedProcess[str]:
        started = self.start(words, **named)
        code = started.wait()
        return subprocess.CompletedProcess([*words], code, started.stdout.read_text(), started.stderr.read_text())

    def close(self) -> None:
        self._socket.close()
        self._process.wait(timeout=30)


def serve(orders: socket.socket) -> None:
    """Start what is asked for until nobody can ask any more."""
    while True:
        message, descriptors, _, _ = socket.recv_fds(orders, 1 << 20, 1)
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:  # of those who wait for the commands; what they used is counted
                pass
        if not message:
            return
        (status,) = descriptors
        if os.fork() == 0:
            try:
                _start_and_wait(json.loads(message), orders, status)
            finally:
                os._exit(0)
        os.close(status)


def _start_and_wait(order: dict[str, Any], orders: socket.socket, status: int) -> None:
    pid = os.fork()
    if pid == 0:
        try:
            _become(order, orders, status)
        finally:
            os._exit(1)
    orders.send(str(pid).encode())
    orders.close()
    _, ended = os.waitpid(pid, 0)
    os.write(status, str(os.waitstatus_to_exitcode(ended)).encode())


def _become(order: dict[str, Any], orders: socket.socket, status: int) -> None:
    from sightline.launch.local.preloaded import run

    os.setsid()
    orders.close()
    os.close(status)
    for number, name in ((1, "stdout"), (2, "stderr")):
        file = os.open(order[name], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        os.dup2(file, number)
        os.close(file)
    os.environ.clear()
    os.environ.update(order["environment"])
    os.chdir(order["cwd"])
    if order["first"]:
        name, argument = order["first"]
        module, _, function = name.partition(":")
        getattr(importlib.import_module(module), function)(argument)
    run({"command": [sys.executable, *order["words"]]})


def main() -> None:
    import sightline
    from hydra_plugins.sightline_plugins.sweeper import preloaded

    ours = (module.name for module in pkgutil.walk_packages(sightline.__path__, "sightline."))
    for name in [*preloaded(), *BEYOND_TRAINING, *ours]:
        with contextlib.suppress(ImportError):  # the tests of what needs it say so better
            importlib.import_module(name)
    tempfile.tempdir = None  # a copy finds its own
    gc.collect()
    gc.freeze()  # a collection in a copy does not touch, and so not copy, what was here before
    with socket.socket(fileno=int(sys.argv[1])) as orders:
        serve(orders)
    os._exit(0)  # some libraries complain while they are taken down


if __name__ == "__main__":
    main()
