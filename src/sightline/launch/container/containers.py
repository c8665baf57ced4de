"""The process that looks after a job's containers: starts them, passes on the order to stop, ends as the job does.

`python containers.py FOLDER` runs what `FOLDER/.job/request.json` says, one container for each host. It is the process
that a supervisor watches; the output of the job goes to its output.
"""

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

from sightline.launch.container.engine import ask, docker, mount, remove
from sightline.launch.container.folder import ContainerFolder
from sightline.launch.local.machine import THREAD_LIMITS, visible_gpus
from sightline.launch.local.supervisor import HIDDEN
from sightline.runs.files import read_json

SECONDS_FOR_THE_OTHERS = 60.0
"""After the first host has ended, or one has failed."""
SECONDS_BETWEEN_LOOKS = 0.1
SCRATCH = "/scratch"
"""Where all jobs of this machine share what can be made again: fetched data sets and caches."""


class Containers:
    """The containers of one job."""

    def __init__(self, plan: dict[str, Any]) -> None:
        self.plan = plan
        self.names = [host["container"] for host in plan["hosts"]]
        self.stop_seconds = str(int(plan["stop_seconds"]))
        self.stop_asked = False
        self._asked_to_stop: set[str] = set()
        self._clients: list[subprocess.Popen[bytes]] = []

    def run(self) -> int:
        """Run them to their end; the exit code is that of the first that failed."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._note_stop)
        remove(self.names, self.plan["stop_seconds"])  # left by a process like this one that was killed
        try:
            self._start()
            return self._wait()
        finally:
            remove(self.names, self.plan["stop_seconds"])
            if self.plan["network"]:
                ask("network", "rm", self.plan["network"])

    def _start(self) -> None:
        if self.plan["network"]:
            ask("network", "rm", self.plan["network"])
            docker("network", "create", self.plan["network"])
        first = ContainerFolder(Path(self.plan["hosts"][0]["folder"]))
        for host in self.plan["hosts"]:
            folder = ContainerFolder(Path(host["folder"]))
            folder.failure.unlink(missing_ok=True)
            if folder != first:
                shutil.rmtree(folder.run)
                shutil.copytree(first.run, folder.run)  # every host begins with what was saved
            if not self.stop_asked:
                docker("create", *_of_this_machine(), *container_args(self.plan, host))
                client = subprocess.Popen(["docker", "start", "--attach", host["container"]], start_new_session=True)
                self._clients.append(client)

    def _wait(self) -> int:
        """Wait for every host; when one has failed, or the first has ended, the others get little time."""
        until = float("inf")
        while any(client.poll() is None for client in self._clients):
            ended = [client.returncode for client in self._clients if client.poll() is not None]
            if until == float("inf") and (any(ended) or self._clients[0].poll() is not None):
                until = time.monotonic() + SECONDS_FOR_THE_OTHERS
            if self.stop_asked or time.monotonic() > until:
                self._pass_on_stop()
            time.sleep(SECONDS_BETWEEN_LOOKS)
        codes = [self._exit_code(name) for name in self.names[: len(self._clients)]]
        return next((code for code in codes if code), 0 if codes else 128 + signal.SIGTERM)

    def _note_stop(self, number: int, frame: Any) -> None:
        self.stop_asked = True

    def _pass_on_stop(self) -> None:
        """Ask every container that runs to end, once: a second signal would end it at once."""
        for name in self.names:
            if (
                name not in self._asked_to_stop
                and ask("inspect", "--format", "{{.State.Status}}", name).stdout.strip() == "running"
            ):
                self._asked_to_stop.add(name)
                threading.Thread(target=ask, args=("stop", "--time", self.stop_seconds, name)).start()

    def _exit_code(self, name: str) -> int:
        code, is_out_of_memory = docker("inspect", "--format", "{{.State.ExitCode}} {{.State.OOMKilled}}", name).split()
        if is_out_of_memory == "true":
            print("error: killed by SIGKILL: out of memory", file=sys.stderr, flush=True)
        return int(code)


def container_args(plan: dict[str, Any], host: dict[str, Any]) -> list[str]:
    """The arguments of `docker create` for one host: options, mounts, image and command."""
    folder, inside = ContainerFolder(Path(host["folder"])), ContainerFolder()
    mounts = mount(folder.config, str(inside.config), is_read_only=True)
    for mine, theirs in ((folder.run, inside.run), (folder.model, inside.model)):
        mounts += mount(mine, str(theirs), is_read_only=False)
    mounts += mount(folder.output_data.parent, str(inside.output_data.parent), is_read_only=False)
    mounts += mount(Path(plan["scratch"]), SCRATCH, is_read_only=False)
    for channel, given in plan["channels"].items():
        path, target = Path(given), f"{inside.inputs}/{channel}"
        mounts += mount(path, target if path.is_dir() else f"{target}/{path.name}", is_read_only=True)
    return [*host["words"], "--name", host["container"], *mounts, plan["image"], "train"]


def _of_this_machine() -> list[str]:
    """The arguments for this job's share of the cores, and the GPUs."""
    names = [name for name in (*THREAD_LIMITS, "CUDA_VISIBLE_DEVICES") if name in os.environ]
    shares = [part for name in names for part in ("--env", f"{name}={os.environ[name]}")]
    return [*shares, *(["--gpus", "all"] if visible_gpus() else [])]


def main(folder: Path) -> int:
    return Containers(read_json(folder / HIDDEN / "request.json")).run()


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
