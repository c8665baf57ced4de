"""The process above a job: starts it, passes on the order to stop, and writes down how it ended.

`python supervisor.py FOLDER` starts what `FOLDER/.job/request.json` says and prints a line once it runs. The lock on
`FOLDER/.job/lock` is held by this process and by every process of the job: while one of them lives, nobody starts the
job again. The standard library alone: it starts with every job.
"""

import contextlib
import fcntl
import json
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

HIDDEN = ".job"
SECONDS_FOR_EARLIER_PROCESSES = 10.0
"""Wait for the lock: workers of a process that was killed notice within 5 s, and hold it until then."""


def supervise(folder: Path, run: Callable[[dict[str, Any]], Any], started: Callable[[], Any]) -> None:
    """Run a job's request in a process of its own and wait for its end.

    `run` gets the request in the new process and does not return. `started` is called once the job runs, or when it
    is running already.
    """
    hidden = folder / HIDDEN
    request = json.loads((hidden / "request.json").read_text(encoding="utf-8"))
    lock = os.open(hidden / "lock", os.O_RDWR | os.O_CREAT, 0o644)
    os.set_inheritable(lock, True)
    if not _take(lock, SECONDS_FOR_EARLIER_PROCESSES):
        return started()
    slot = _take_slot(request)
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])  # until there is a process to pass it to
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    child = os.fork()
    if child == 0:
        _become(request, slot, hidden / "log.txt")
        run(request)
        os._exit(127)
    facts = {"supervisor": os.getpid(), "pid": child, "slot": slot, "started": time.time()}
    write(hidden / "state.json", facts)
    _pass_on_stop(child, float(request["grace_seconds"]), facts)
    started()
    _, status = os.waitpid(child, 0)
    signal.setitimer(signal.ITIMER_REAL, 0)
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(child, signal.SIGKILL)  # what it left behind
    facts |= {"ended": time.time(), "exit_code": os.waitstatus_to_exitcode(status)}
    write(hidden / "state.json", facts)
    return None


def write(path: Path, value: dict[str, Any]) -> None:
    """JSON that is whole or not there."""
    partial = path.with_name(f"{path.name}.{os.getpid()}")
    partial.write_text(json.dumps(value), encoding="utf-8")
    partial.replace(path)


def is_locked(path: Path) -> bool:
    """Whether a process holds the lock on a file."""
    try:
        descriptor = os.open(path, os.O_RDWR)
    except FileNotFoundError:
        return False
    try:
        return not _take(descriptor, 0.0)
    finally:
        os.close(descriptor)


def _take(descriptor: int, seconds: float) -> bool:
    until = time.monotonic() + seconds
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            if time.monotonic() >= until:
                return False
            time.sleep(0.05)


def _take_slot(request: dict[str, Any]) -> int:
    """The first of the `n_parallel` slots that no other job has locked; the lock goes with the job's processes."""
    environments = request["places"]
    if len(environments) > 1:
        folder = Path(request["places_folder"])
        folder.mkdir(parents=True, exist_ok=True)
        for number in range(len(environments)):
            descriptor = os.open(folder / f"{number}.lock", os.O_RDWR | os.O_CREAT, 0o644)
            if _take(descriptor, 0.0):
                os.set_inheritable(descriptor, True)
                return number
            os.close(descriptor)
    return os.getpid() % len(environments)


def _become(request: dict[str, Any], slot: int, log: Path) -> None:
    """Make this process the job's: its own group, output, folder and environment."""
    os.setsid()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGTERM])
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.dup2(output, 1)
    os.dup2(output, 2)
    for descriptor in (output, nothing):
        os.close(descriptor)
    with contextlib.suppress(OSError):  # when memory runs out, the job goes and not what watches over it
        Path("/proc/self/oom_score_adj").write_text("500")
    os.chdir(request["folder"])
    os.environ.update(request["environment"])
    os.environ.update(request["places"][slot])


def _pass_on_stop(child: int, grace_seconds: float, facts: dict[str, Any]) -> None:
    """On SIGTERM end the job: politely, and after a while for good."""

    def send(number: int) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            try:
                os.killpg(child, number)
            except ProcessLookupError:  # at its very start it has no group of its own yet
                os.kill(child, number)

    def stop(number: int, frame: Any) -> None:
        facts["stop_asked"] = True
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        signal.signal(signal.SIGALRM, lambda *_: send(signal.SIGKILL))
        signal.setitimer(signal.ITIMER_REAL, grace_seconds)
        send(signal.SIGTERM)

    signal.signal(signal.SIGTERM, stop)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGTERM])


def execute(request: dict[str, Any]) -> None:
    """Become the command; the lock stays open across it."""
    os.execv(request["command"][0], request["command"])


def _print_started() -> None:
    with contextlib.suppress(BrokenPipeError):
        print("started", flush=True)
    os.close(1)
    os.open(os.devnull, os.O_WRONLY)  # takes the number of the pipe that was closed


if __name__ == "__main__":
    supervise(Path(sys.argv[1]), execute, _print_started)
