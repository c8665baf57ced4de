"""The process that looks after a job in AWS's own local mode: runs the client, passes on the order to stop, cleans up.

`python local_mode_process.py FOLDER` runs what `FOLDER/.job/request.json` says. The client itself runs in a process
group of its own (`FOLDER ROOT`, with an empty folder to work in), because Docker Compose, when told to stop, gives
containers ten seconds and not the two minutes of the service. It drops the last lines of containers and leaves them
behind: here they are read to their end, and removed.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from sightline.launch.container.engine import ask, docker, remove
from sightline.launch.container.folder import ContainerFolder
from sightline.launch.local.supervisor import HIDDEN
from sightline.launch.sagemaker.model_trainer import NO_TELEMETRY, local_trainer
from sightline.runs.files import read_json

NETWORK = "sagemaker-local"
"""Of every job in local mode, by the client's own choice: two at once would take each other's names."""
WORK = "job"
SECONDS_BETWEEN_LOOKS = 0.2


class LocalModeJob:
    """The containers of one job, which Docker Compose makes under the name of a project."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.request = read_json(folder / HIDDEN / "request.json")
        self.stop_asked = False
        self._asked_to_stop: set[str] = set()
        self._readers: dict[str, subprocess.Popen[bytes]] = {}

    def run(self) -> int:
        """Run the job to its end; the exit code is that of the container that ended first."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._note_stop)
        self._remove()  # left by a process like this one that was killed
        ContainerFolder(self.folder).failure.unlink(missing_ok=True)
        self._wait_for_others()
        with tempfile.TemporaryDirectory(prefix="sightline-", ignore_cleanup_errors=True) as root:
            try:
                return self._run_client(Path(root))
            finally:
                self._remove()
                self._keep_failure(Path(root))

    def _note_stop(self, number: int, frame: Any) -> None:
        self.stop_asked = True

    def _wait_for_others(self) -> None:
        ids = ["ps", "--quiet", "--filter", f"network={NETWORK}"]
        if not self.stop_asked and docker(*ids).strip():
            print("another job runs in AWS's local mode here; this one waits for its end", flush=True)
        while not self.stop_asked and docker(*ids).strip():
            time.sleep(SECONDS_BETWEEN_LOOKS)

    def _run_client(self, root: Path) -> int:
        if self.stop_asked:
            return 128 + signal.SIGTERM
        settings = root / "client.yaml"
        settings.write_text(json.dumps(NO_TELEMETRY), encoding="utf-8")  # JSON is YAML
        own = {
            "COMPOSE_PROJECT_NAME": self.request["project"],
            "SAGEMAKER_USER_CONFIG_OVERRIDE": str(settings),
            "AWS_DEFAULT_REGION": os.environ.get("AWS_DEFAULT_REGION", "us-east-1"),  # it does not start without
        }
        said = root / "client.txt"
        with said.open("wb") as output:
            client = subprocess.Popen(
                [sys.executable, __file__, str(self.folder), str(root)],
                env={**os.environ, **own},
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            while client.poll() is None:
                self._read_containers()
                if self.stop_asked:
                    self._pass_on_stop(client)
                time.sleep(SECONDS_BETWEEN_LOOKS)
        self._read_containers()
        for reader in self._readers.values():
            reader.wait()
        if not self._readers:
            print(said.read_text(encoding="utf-8", errors="replace"), flush=True)
        return self._exit_code(client.returncode)

    def _read_containers(self) -> None:
        """What each prints is what this process prints."""
        if len(self._readers) < self.request["training_job"]["ResourceConfig"]["InstanceCount"]:
            for name, state in self._containers().items():
                if name not in self._readers and state["Status"] in ("running", "exited"):
                    self._readers[name] = subprocess.Popen(["docker", "logs", "--follow", name])

    def _containers(self) -> dict[str, dict[str, Any]]:
        """What the engine says of the state of each, by its id."""
        only = ["--filter", f"label=com.docker.compose.project={self.request['project']}"]
        ids = docker("ps", "--all", "--quiet", *only).split()
        return {name: json.loads(docker("inspect", "--format", "{{json .State}}", name)) for name in ids}

    def _pass_on_stop(self, client: "subprocess.Popen[bytes]") -> None:
        """Ask every container that runs to end, once; where there is none yet, the client."""
        states = self._containers()
        for name, state in states.items():
            if state["Status"] == "running" and name not in self._asked_to_stop:
                self._asked_to_stop.add(name)
                seconds = str(int(self.request["stop_seconds"]))
                threading.Thread(target=ask, args=("stop", "--time", seconds, name)).start()
        if not states:
            os.killpg(client.pid, signal.SIGTERM)

    def _exit_code(self, code_of_client: int) -> int:
        """Of the container that ended first: the others were ended because of it."""
        ended = sorted(
            (state for state in self._containers().values() if state["Status"] == "exited"),
            key=lambda state: state["FinishedAt"],
        )
        if not ended:
            return code_of_client if code_of_client >= 0 else 128 - code_of_client
        if ended[0]["OOMKilled"]:
            print("error: killed by SIGKILL: out of memory", file=sys.stderr, flush=True)
        return ended[0]["ExitCode"]

    def _remove(self) -> None:
        remove(list(self._containers()), self.request["stop_seconds"])
        ask("network", "rm", NETWORK)  # stays where somebody else's job is on it

    def _keep_failure(self, root: Path) -> None:
        told = root / WORK / "artifacts" / "output" / "failure"
        if told.is_file():
            shutil.copyfile(told, ContainerFolder(self.folder).failure)


def _link(path: Path, link: Path) -> str:
    """A path of plain letters for a folder, or for a folder that holds a file."""
    if path.is_dir():
        link.symlink_to(path)
    else:
        link.mkdir()
        shutil.copyfile(path, link / path.name)
    return str(link)


def run_client(folder: Path, root: Path) -> int:
    """The part that AWS's client does, in the working folder `root`."""
    request = read_json(folder / HIDDEN / "request.json")
    links, work = root / "channels", root / WORK
    for path in (links, work):
        path.mkdir()
    channels = {
        name: given if "://" in given else _link(Path(given), links / name)
        for name, given in request["channels"].items()
    }
    local_trainer(request["training_job"], channels, work).train()
    return 0


def main(folder: Path, root: Path | None = None) -> int:
    return LocalModeJob(folder).run() if root is None else run_client(folder, root)


if __name__ == "__main__":
    sys.exit(main(*map(Path, sys.argv[1:])))
