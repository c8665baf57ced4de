"""A process that has the heavy libraries imported, and starts each job as a fork of itself.

`python preloaded.py MODULE …` prints `ready`, then reads one folder a line, starts the job that lies there as
`supervisor.py` does, and answers with a line. It ends with its input; the jobs run on.
"""

import gc
import importlib
import os
import random
import runpy
import signal
import sys
from pathlib import Path
from typing import Any

from sightline.launch.local.supervisor import HIDDEN, supervise


def main(modules: list[str]) -> None:
    for name in modules:
        importlib.import_module(name)
    gc.collect()
    gc.freeze()  # a collection in a copy does not touch, and so not copy, what was here before
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for supervisors: they write down how it ended
    print("ready", flush=True)
    for line in sys.stdin:
        _start(Path(line.rstrip("\n")))
        print("started", flush=True)
    os._exit(0)  # some libraries complain while they are taken down


def _start(folder: Path) -> None:
    """Fork the job's supervisor and wait until the job runs."""
    reading, writing = os.pipe()
    if os.fork() == 0:
        try:
            os.close(reading)
            _detach(folder)
            supervise(folder, lambda request: (os.close(writing), run(request)), lambda: os.close(writing))
        finally:
            os._exit(0)
    os.close(writing)
    os.read(reading, 1)  # returns when the last copy of the other end is closed
    os.close(reading)


def _detach(folder: Path) -> None:
    os.setsid()
    nothing = os.open(os.devnull, os.O_RDWR)
    log = os.open(folder / HIDDEN / "log.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    for number, target in ((nothing, 0), (nothing, 1), (log, 2)):
        os.dup2(number, target)


def run(request: dict[str, Any]) -> None:
    """Run the command's script in this process, as `python SCRIPT …` would, and end."""
    _, script, *args = request["command"]
    random.seed()
    sys.argv = [script, *args]
    sys.path[0] = str(Path(script).parent)
    sys.stdout.reconfigure(line_buffering=True)  # pyright: ignore[reportAttributeAccessIssue]
    code = 1
    try:
        runpy.run_path(script, run_name="__main__")
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 0 if end.code is None else 1
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
    except BaseException as error:  # noqa: BLE001 (as the interpreter does at its end)
        sys.excepthook(type(error), error, error.__traceback__)
    finally:
        _end(code)


def _end(code: int) -> None:
    import atexit
    import threading

    threading._shutdown()  # pyright: ignore[reportAttributeAccessIssue]
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except BrokenPipeError:
        os._exit(0)  # the submitter was killed; the jobs run on
