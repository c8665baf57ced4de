"""A SageMaker that does the work: takes real requests over HTTP, lays out /opt/ml and runs the image's entry point.

S3 and CloudWatch are moto's. What it knows of the service is written in `docs/aws.md`; it has never met the real one.
"""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from tests.conftest import PROJECT
from tests.launch.fake_model_registry import ModelRegistry, Refused
from tests.launch.fake_pipelines import Pipelines
from tests.launch.fake_processing import ProcessingJobs

from sightline.aws.logs import GROUP
from sightline.aws.s3 import split_address
from sightline.launch.container.hyperparameters import SCRIPT, TRAIN

BILLED = 0.3
"""The share of a spot machine's time that is billed."""
SYNC_SECONDS = 0.1
ENDED_BY_SIGTERM = 143
MAX_REASON = 1024


class NoMachine(Exception):
    """All of the wanted type are taken."""


class Machine:
    """One training job: its states, its folder, its process, its place in S3."""

    def __init__(self, request: dict[str, Any], folder: Path, service: "FakeSageMaker") -> None:
        self.request, self.service = request, service
        self.name: str = request["TrainingJobName"]
        self.base = folder / self.name / "ml"
        self.state, self.secondary, self.reason = "InProgress", "Starting", ""
        self.transitions: list[str] = []
        self.created, self.started, self.ended = time.time(), 0.0, 0.0
        self.seconds = 0.0
        self.is_stopped = self.is_interrupted = False
        self.num_starts = 0
        self.process: subprocess.Popen[bytes] | None = None
        self._told: subprocess.Popen[bytes] | None = None
        """The process that has been told to end."""
        self._uploaded: dict[str, tuple[int, int]] = {}
        self.thread = threading.Thread(target=self._run, daemon=True)

    def enter(self, secondary: str) -> None:
        self.secondary = secondary
        self.transitions.append(secondary)

    # the life of a job

    def _run(self) -> None:
        try:
            code = self._until_it_ends()
        except NoMachine:
            return self._end("Failed", "CapacityError: Unable to provision requested ML compute capacity.")
        except Exception as error:  # noqa: BLE001 (of the service, and a job sees it as one)
            return self._end("Failed", f"InternalServerError: {type(error).__name__}: {error}")
        limit = self.request["StoppingCondition"]["MaxRuntimeInSeconds"]
        self.enter("Uploading")
        self._pack()
        if self.seconds >= limit:
            return self._end("Stopped", "", "MaxRuntimeExceeded")
        if self.is_stopped:
            return self._end("Stopped")
        if code:
            failure = self.base / "output" / "failure"
            said = failure.read_text(encoding="utf-8")[:MAX_REASON] if failure.is_file() else ""
            return self._end("Failed", f"AlgorithmError: {said}, exit code: {code}")
        return self._end("Completed")

    def _until_it_ends(self) -> int:
        while True:
            self.enter("Starting")
            if self.service.num_without_machine > 0:
                self.service.num_without_machine -= 1
                raise NoMachine
            self._lay_out()
            if self.is_stopped:
                return ENDED_BY_SIGTERM
            self.enter("Training")
            code = self._train()
            if not self.is_interrupted or self.is_stopped:
                return code
            self.enter("Interrupted")
            self.is_interrupted = False
            shutil.rmtree(self.base)  # the next one is another machine
            self.enter("Restarting")

    def _end(self, state: str, reason: str = "", secondary: str | None = None) -> None:
        self.ended = time.time()
        self.reason = reason
        self.enter(secondary or state)
        self.state = state

    def _lay_out(self) -> None:
        self.enter("Downloading")
        config = self.base / "input" / "config"
        for path in (config, self.base / "input" / "data", self.base / "checkpoints", self.base / "output" / "data"):
            path.mkdir(parents=True, exist_ok=True)
        for channel in self.request.get("InputDataConfig", ()):
            address = channel["DataSource"]["S3DataSource"]["S3Uri"]
            target = self.base / "input" / "data" / channel["ChannelName"]
            assert self._download(address, target), f"{address} holds nothing"
        self._uploaded = {}
        self._download(self._checkpoints, self.base / "checkpoints")
        machine = {"current_host": "algo-1", "hosts": ["algo-1"], "network_interface_name": "eth0"}
        channels = {
            each["ChannelName"]: {"TrainingInputMode": "File"} for each in self.request.get("InputDataConfig", ())
        }
        given = dict(self.request.get("HyperParameters", {}))
        if (program := self.service.programs.get(given.get(SCRIPT, TRAIN))) is not None:
            given[SCRIPT] = program
        for name, value in (
            ("hyperparameters", given),
            ("resourceconfig", machine),
            ("inputdataconfig", channels),
        ):
            (config / f"{name}.json").write_text(json.dumps(value), encoding="utf-8")

    def _train(self) -> int:
        began = time.time()
        self.started = self.started or began
        self.num_starts += 1
        log = self.base.parent / f"log-{self.num_starts}.txt"
        with log.open("wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "sightline.launch.container.entrypoint", "train"],
                cwd=self.base.parent,
                env=self._environment(),
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        limit = self.request["StoppingCondition"]["MaxRuntimeInSeconds"]
        sent = 0
        while self.process.poll() is None:
            time.sleep(SYNC_SECONDS)
            self._sync()
            sent = self._send_log(log, sent)
            if time.time() - began > limit or (self.is_stopped and self._told is not self.process):
                self.terminate()
        self._sync()
        self._send_log(log, sent, last=True)
        self.seconds += time.time() - began
        return self.process.returncode

    def _environment(self) -> dict[str, str]:
        kept = {name: os.environ[name] for name in ("PATH", "HOME", "OMP_NUM_THREADS") if name in os.environ}
        own = {"SM_BASE_DIR": str(self.base), "TRAINING_JOB_NAME": self.name, "PYTHONPATH": str(PROJECT / "src")}
        own["SIGHTLINE_SCRATCH"] = str(self.base.parent / "scratch")
        return {**kept, **self.request.get("Environment", {}), **own}

    def terminate(self) -> None:
        if self.process is not None:
            self.process.send_signal(signal.SIGTERM)
            self._told = self.process

    # S3 and CloudWatch

    @property
    def _checkpoints(self) -> str:
        return self.request["CheckpointConfig"]["S3Uri"]

    def _download(self, address: str, into: Path) -> int:
        bucket, prefix = split_address(address)
        prefix = prefix if prefix.endswith("/") else f"{prefix}/"
        into.mkdir(parents=True, exist_ok=True)
        found = 0
        for page in self.service.s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix):
            for each in page.get("Contents", ()):
                file = into / each["Key"][len(prefix) :]
                file.parent.mkdir(parents=True, exist_ok=True)
                self.service.s3.download_file(bucket, each["Key"], str(file))
                found += 1
        return found

    def _sync(self) -> None:
        """Checkpoints to S3, what was deleted too, as the service does all the while."""
        bucket, prefix = split_address(self._checkpoints)
        there = {}
        for file in sorted((self.base / "checkpoints").rglob("*")):
            with contextlib.suppress(FileNotFoundError):
                if file.is_file() and not file.name.endswith(".partial"):
                    there[file.relative_to(self.base / "checkpoints").as_posix()] = file
        for name, file in there.items():
            with contextlib.suppress(FileNotFoundError):
                stat = file.stat()
                if self._uploaded.get(name) != (stat.st_size, stat.st_mtime_ns):
                    self.service.s3.put_object(Bucket=bucket, Key=f"{prefix}/{name}", Body=file.read_bytes())
                    self._uploaded[name] = (stat.st_size, stat.st_mtime_ns)
        for name in set(self._uploaded) - set(there):
            self.service.s3.delete_object(Bucket=bucket, Key=f"{prefix}/{name}")
            del self._uploaded[name]

    def _pack(self) -> None:
        bucket, prefix = split_address(self.request["OutputDataConfig"]["S3OutputPath"])
        for name, folder in (("model", self.base / "model"), ("output", self.base / "output" / "data")):
            if not folder.is_dir() or not any(folder.iterdir()):
                continue
            archive = self.base.parent / f"{name}.tar.gz"
            with tarfile.open(archive, "w:gz") as opened:
                for path in sorted(folder.iterdir()):
                    opened.add(path, path.name)
            self.service.s3.upload_file(str(archive), bucket, f"{prefix}/{self.name}/output/{archive.name}")

    def _send_log(self, log: Path, sent: int, last: bool = False) -> int:
        with log.open("rb") as file:
            file.seek(sent)
            new = file.read()
        whole = new if last else new[: new.rfind(b"\n") + 1]
        lines = [line for line in whole.decode(errors="replace").splitlines() if line.strip()]
        if lines:
            stream = f"{self.name}/algo-1-{self.num_starts}"
            with contextlib.suppress(self.service.logs.exceptions.ResourceAlreadyExistsException):
                self.service.logs.create_log_stream(logGroupName=GROUP, logStreamName=stream)
            events = [{"timestamp": int(time.time() * 1000), "message": line} for line in lines]
            self.service.logs.put_log_events(logGroupName=GROUP, logStreamName=stream, logEvents=events)
        return sent + len(whole)

    def describe(self) -> dict[str, Any]:
        """As DescribeTrainingJob answers."""
        spot = self.request.get("EnableManagedSpotTraining")
        told = {key: value for key, value in self.request.items() if key != "Tags"}
        told |= {
            "TrainingJobArn": self.service.arn(self.name),
            "TrainingJobStatus": "Stopping" if self.is_stopped and self.state == "InProgress" else self.state,
            "SecondaryStatus": self.secondary,
            "CreationTime": self.created,
            "SecondaryStatusTransitions": [{"Status": each, "StartTime": self.created} for each in self.transitions],
        }
        if self.reason:
            told["FailureReason"] = self.reason
        if self.started:
            told["TrainingStartTime"] = self.started
        if self.ended:
            seconds = max(1, round(self.seconds))
            told |= {"TrainingEndTime": self.ended, "TrainingTimeInSeconds": seconds}
            told["BillableTimeInSeconds"] = max(1, round(BILLED * seconds)) if spot else seconds
        return told


class FakeSageMaker(ModelRegistry, ProcessingJobs, Pipelines):
    """The service: `address` is its endpoint, `machines` its jobs by name, `requests` what it was sent."""

    def __init__(self, folder: Path, s3: Any, logs: Any) -> None:
        ModelRegistry.__init__(self)
        ProcessingJobs.__init__(self, folder, s3)
        Pipelines.__init__(self)
        self.folder, self.s3, self.logs = folder, s3, logs
        self.machines: dict[str, Machine] = {}
        self.requests: list[dict[str, Any]] = []
        self.programs: dict[str, str] = {}
        """Programs of the image that stand in for others, like {"src/export.py": …}."""
        self.num_without_machine = 0
        """So many of the next jobs find no machine."""
        with contextlib.suppress(logs.exceptions.ResourceAlreadyExistsException):
            logs.create_log_group(logGroupName=GROUP)
        self._lock = threading.Lock()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.address = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def arn(self, name: str) -> str:
        return f"arn:aws:sagemaker:eu-west-1:123456789012:training-job/{name}"

    def interrupt(self, name: str) -> None:
        """Take a spot machine away from a job."""
        machine = self.machines[name]
        machine.is_interrupted = True
        machine.terminate()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        for execution in self.executions.values():
            execution.is_stopped = True
        for job in self.processing.values():
            job.kill()
        for machine in self.machines.values():
            machine.is_stopped = True
            while machine.thread.is_alive():  # it may be about to start its process
                if machine.process is not None and machine.process.poll() is None:
                    with contextlib.suppress(ProcessLookupError):  # the machine's own thread may have seen it end
                        os.killpg(machine.process.pid, signal.SIGKILL)
                machine.thread.join(SYNC_SECONDS)

    def CreateTrainingJob(self, request: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        name = request["TrainingJobName"]
        with self._lock:
            if name in self.machines:
                raise Refused("ResourceInUse", f"Training job names must be unique: {name} exists already")
            self.requests.append(request)
            self.machines[name] = Machine(request, self.folder, self)
        self.machines[name].thread.start()
        return {"TrainingJobArn": self.arn(name)}

    def DescribeTrainingJob(self, request: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        return self._find(request).describe()

    def StopTrainingJob(self, request: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        machine = self._find(request)
        if machine.state != "InProgress":
            raise Refused(
                "ValidationException",
                f"The request was rejected because the training job is in status {machine.state}.",
            )
        machine.is_stopped = True
        machine.terminate()
        return {}

    def _find(self, request: dict[str, Any]) -> Machine:
        if request["TrainingJobName"] not in self.machines:
            raise Refused("ValidationException", "Requested resource not found.")
        return self.machines[request["TrainingJobName"]]

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        service = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                operation = self.headers["X-Amz-Target"].split(".")[1]
                request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                try:
                    code, answer = 200, getattr(service, operation)(request)
                except Refused as refused:
                    code, answer = 400, {"__type": refused.code, "message": str(refused)}
                body = json.dumps(answer).encode()
                self.send_response(code)
                self.send_header("Content-Type", "application/x-amz-json-1.1")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: Any) -> None:
                """Nothing: the tests say what went wrong."""

        return Handler


@contextlib.contextmanager
def running(folder: Path, s3: Any, logs: Any) -> Iterator[FakeSageMaker]:
    service = FakeSageMaker(folder, s3, logs)
    try:
        yield service
    finally:
        service.close()
