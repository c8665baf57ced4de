"""The local backend: a job is a process in a folder of its own, under a supervisor that outlives the submitter."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

from sightline.errors import BAD_INPUT, BadInput
from sightline.launch.backend import LaunchSettings, Plan, check_counts, check_parts, make_plan
from sightline.launch.job import Job, State, Status
from sightline.launch.local import supervisor
from sightline.launch.local.machine import environments
from sightline.launch.local.supervisor import HIDDEN, is_locked
from sightline.launch.overrides import remote_overrides, with_absolute_paths
from sightline.runs.files import read_json
from sightline.runs.folder import MetricPoint, read_points, reason_of
from sightline.runs.override_text import key_of, quoted, value_of
from sightline.runs.project import IMPORTED_FROM, PROJECT

GRACE_SECONDS = 60.0
"""Between the order to end and the end for good: a run writes its checkpoint in this time."""
ENDED_BY_ORDER = (128 + signal.SIGINT, 128 + signal.SIGTERM, -signal.SIGINT, -signal.SIGTERM)
NUM_TAIL_BYTES = 20_000


class LocalProcess:
    """A job's id is its folder, which is the run folder of the task; what only the launching needs lies in `.job/`."""

    name = "local_process"
    settings_type: ClassVar[type[LaunchSettings]] = LaunchSettings
    poll_seconds = 0.05
    is_remote = False
    sees_files = True

    def __init__(
        self, jobs: Path, settings: LaunchSettings | None = None, *, grace_seconds: float = GRACE_SECONDS
    ) -> None:
        self.jobs, self.settings = jobs.absolute(), settings or LaunchSettings()
        self.grace_seconds = grace_seconds
        self.working_folder = Path.cwd()
        self._preloaded: subprocess.Popen[str] | None = None
        self._supervisors: list[subprocess.Popen[str]] = []

    @classmethod
    def check(cls, settings: Any) -> Any:
        check_counts(settings)
        return settings

    def plan(self, job: Job) -> Plan:
        given = value_of(job.overrides, "output")
        folder = self.jobs / job.name if given is None else self.working_folder / given
        overrides = [each for each in remote_overrides(job.overrides) if key_of(each) != "output"]
        overrides = [*with_absolute_paths(overrides, self.working_folder), f"output={quoted(str(folder))}"]
        request = {
            "name": job.name,
            "folder": str(folder),
            "command": [sys.executable, str(PROJECT / job.script), *overrides],
            "commit": job.commit,
            "environment": {"PYTHONUNBUFFERED": "1"},
            "places": environments(self.settings.n_parallel),
            "places_folder": str(self.jobs / ".places"),
            "preload": list(self.settings.preload),
            "grace_seconds": self.grace_seconds,
        }
        return make_plan(job, self.settings, request)

    def submit(self, plan: Plan) -> str:
        check_parts(plan, ("folder", "command", "environment", "places", "places_folder", "preload", "grace_seconds"))
        request = plan["request"]
        folder = Path(request["folder"])
        hidden = folder / HIDDEN
        try:
            hidden.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise BadInput(f"output={folder}: cannot make this folder ({error.strerror}); name another") from error
        if not is_locked(hidden / "lock") and _exit_code(hidden) != 0:
            supervisor.write(hidden / "request.json", request)
            self._start_copy(request) if request["preload"] else self._start(folder)
        return str(folder)

    def _start(self, folder: Path) -> None:
        self._supervisors = [process for process in self._supervisors if process.poll() is None]
        with (folder / HIDDEN / "log.txt").open("a") as log:
            process = subprocess.Popen(
                [sys.executable, "-I", supervisor.__file__, str(folder)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                start_new_session=True,
                text=True,
            )
        assert process.stdout is not None
        with process.stdout as answer:
            answer.readline()
        self._supervisors.append(process)

    def _start_copy(self, request: dict[str, Any]) -> None:
        for _ in range(2):  # once more when the process that is copied was killed
            process = self._preloaded or self._preload(request)
            assert process.stdin is not None
            assert process.stdout is not None
            with contextlib.suppress(BrokenPipeError):
                process.stdin.write(request["folder"] + "\n")
                process.stdin.flush()
                if process.stdout.readline():
                    return
            self.close()
        raise RuntimeError("the process with the libraries was killed twice; is there enough memory?")

    def _preload(self, request: dict[str, Any]) -> subprocess.Popen[str]:
        environment = {**os.environ, **request["environment"], "PYTHONPATH": str(IMPORTED_FROM)}
        environment["PYTORCH_NVML_BASED_CUDA_CHECK"] = "1"  # asking for GPUs must not begin CUDA: it survives no copy
        for key in request["places"][0]:
            if key.endswith("_NUM_THREADS"):  # libraries read it when they load
                environment[key] = request["places"][0][key]
        process = subprocess.Popen(
            [sys.executable, "-m", "sightline.launch.local.preloaded", *request["preload"]],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment,
            start_new_session=True,
            text=True,
        )
        assert process.stdout is not None
        if process.stdout.readline() != "ready\n":
            raise BadInput(f"launch.preload={request['preload']}: these modules cannot be imported (see above)")
        self._preloaded = process
        return process

    def status(self, job_id: str) -> Status:
        hidden = Path(job_id) / HIDDEN
        if is_locked(hidden / "lock"):
            return Status(State.RUNNING)
        state = read_json(hidden / "state.json")
        if not state:
            return Status(State.STOPPED, "it never began" if hidden.is_dir() else "its folder is gone")
        return _ended(Path(job_id), self.run_folder(job_id), state)

    def run_folder(self, job_id: str) -> Path:
        """Where the task writes."""
        return Path(job_id)

    def metrics(self, job_id: str) -> list[MetricPoint]:
        return read_points(self.run_folder(job_id))

    def logs(self, job_id: str) -> Iterator[str]:
        path = Path(job_id) / HIDDEN / "log.txt"
        if not path.is_file():
            return
        with path.open(encoding="utf-8", errors="replace") as file:
            while True:
                is_over = self.status(job_id).is_over
                for line in file:
                    yield line.rstrip("\n")
                if is_over:
                    return
                time.sleep(self.poll_seconds)

    def stop(self, job_id: str) -> None:
        hidden = Path(job_id) / HIDDEN
        state = read_json(hidden / "state.json")
        if not state or not is_locked(hidden / "lock"):
            return
        try:
            os.kill(state["supervisor"], signal.SIGTERM)
        except ProcessLookupError:  # it was killed: the job itself, then
            with contextlib.suppress(ProcessLookupError):
                os.killpg(state["pid"], signal.SIGTERM)

    def fetch(self, job_id: str, into: Path) -> Path:
        folder = Path(job_id)
        if not folder.is_dir():
            raise BadInput(f"{folder}: the job's folder is gone; the command that started it begins it again")
        if into.resolve() != folder.resolve():
            shutil.copytree(folder, into, dirs_exist_ok=True, ignore=shutil.ignore_patterns(HIDDEN))
        return into

    def cost_usd(self, job_id: str) -> float:
        return 0.0

    def close(self) -> None:
        if self._preloaded is not None:
            with self._preloaded as process, contextlib.suppress(BrokenPipeError):
                assert process.stdin is not None
                process.stdin.close()
            self._preloaded = None
        for process in self._supervisors:
            process.poll()


def _ended(folder: Path, run: Path, state: dict[str, Any]) -> Status:
    """The status of a job whose processes are gone."""
    code = state.get("exit_code")
    if code == 0:
        return Status(State.SUCCEEDED)
    if code is None:  # its supervisor was killed with it, or with the machine
        is_finished = read_json(run / "run.json").get("status") == "finished"
        return Status(State.SUCCEEDED) if is_finished else Status(State.STOPPED, "its processes were killed")
    if code in ENDED_BY_ORDER or state.get("stop_asked"):
        return Status(State.STOPPED, reason_of(run) or "stopped")
    if code < 0:
        name = signal.Signals(-code).name
        hint = ": out of memory, or by hand" if name == "SIGKILL" else ""
        return Status(State.FAILED, f"killed by {name}{hint}")
    last = _last_line(folder / HIDDEN / "log.txt").removeprefix("error: ")
    return Status(State.FAILED, last or f"exit code {code}", is_bad_input=code == BAD_INPUT)


def _exit_code(hidden: Path) -> int | None:
    return read_json(hidden / "state.json").get("exit_code")


def _last_line(path: Path) -> str:
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - NUM_TAIL_BYTES))
        lines = file.read().decode(errors="replace").splitlines()
    return next((line.strip() for line in reversed(lines) if line.strip()), "")
