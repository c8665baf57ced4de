"""Processing jobs of the SageMaker of the tests: inputs laid out, the image's entry point run, the output uploaded."""

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

from tests.conftest import PROJECT
from tests.launch.fake_model_registry import Refused

from sightline.aws.request_check import check_request
from sightline.aws.s3 import split_address
from sightline.errors import BadInput

ACCOUNT = "arn:aws:sagemaker:eu-west-1:123456789012"
OPT_ML = "/opt/ml/"
MAX_BYTES = 1024
POLL_SECONDS = 0.05


class ProcessingMachine:
    """One processing job: its state, its folder, its process."""

    def __init__(self, request: dict[str, Any], folder: Path, s3: Any, programs: dict[str, str]) -> None:
        self.request, self.s3, self.programs = request, s3, programs
        self.name: str = request["ProcessingJobName"]
        self.base = folder / self.name / "ml"
        self.state, self.message, self.reason = "InProgress", "", ""
        self.created, self.started, self.ended = time.time(), 0.0, 0.0
        self.is_stopped = False
        self.process: subprocess.Popen[bytes] | None = None
        self.thread = threading.Thread(target=self._run, daemon=True)

    def _run(self) -> None:
        try:
            self._lay_out()
            code = self._work()
            if not code:
                self._upload()
        except Exception as error:  # noqa: BLE001 (of the service, and a job sees it as one)
            return self._end("Failed", f"InternalServerError: {type(error).__name__}: {error}")
        message = self.base / "output" / "message"
        self.message = message.read_bytes()[:MAX_BYTES].decode() if message.is_file() else ""
        if self.is_stopped:
            return self._end("Stopped")
        return (
            self._end("Failed", f"AlgorithmError: {self.message}, exit code: {code}")
            if code
            else self._end("Completed")
        )

    def _end(self, state: str, reason: str = "") -> None:
        self.ended, self.reason, self.state = time.time(), reason, state

    def _here(self, path: str) -> Path:
        """Where a path of the container is."""
        return self.base / path.removeprefix(OPT_ML)

    def _lay_out(self) -> None:
        for each in self.request.get("ProcessingInputs", ()):
            source = each["S3Input"]
            assert download(self.s3, source["S3Uri"], self._here(source["LocalPath"])), (
                f"{source['S3Uri']}: nothing there"
            )
        for each in self.request["ProcessingOutputConfig"]["Outputs"]:
            self._here(each["S3Output"]["LocalPath"]).mkdir(parents=True)

    def _work(self) -> int:
        application = self.request["AppSpecification"]
        given: list[str] = [*application["ContainerEntrypoint"], *application.get("ContainerArguments", ())]
        assert given[0] == "python"
        command: list[str] = [self.programs.get(word, word) for word in given]
        kept = {name: os.environ[name] for name in ("PATH", "HOME", "OMP_NUM_THREADS") if name in os.environ}
        own = {"SM_BASE_DIR": str(self.base), "PYTHONPATH": str(PROJECT / "src")}
        own["SIGHTLINE_SCRATCH"] = str(self.base.parent / "scratch")
        self.started = time.time()
        with (self.base.parent / "log.txt").open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, *command[1:]],
                cwd=self.base.parent,
                env={**kept, **self.request.get("Environment", {}), **own},
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        limit = self.request["StoppingCondition"]["MaxRuntimeInSeconds"]
        is_told = False
        while self.process.poll() is None:
            time.sleep(POLL_SECONDS)
            if not is_told and (self.is_stopped or time.time() - self.started > limit):
                self.process.send_signal(signal.SIGTERM)
                is_told = True
        return self.process.returncode

    def _upload(self) -> None:
        for each in self.request["ProcessingOutputConfig"]["Outputs"]:
            output = each["S3Output"]
            bucket, prefix = split_address(output["S3Uri"])
            folder = self._here(output["LocalPath"])
            for file in sorted(folder.rglob("*")):
                if file.is_file():
                    self.s3.upload_file(str(file), bucket, f"{prefix}/{file.relative_to(folder).as_posix()}")

    def kill(self) -> None:
        self.is_stopped = True
        if self.process is not None and self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
        self.thread.join(10)
        shutil.rmtree(self.base.parent / "scratch", ignore_errors=True)

    def describe(self) -> dict[str, Any]:
        """As DescribeProcessingJob answers."""
        told = {key: value for key, value in self.request.items() if key != "Tags"}
        told |= {
            "ProcessingJobArn": f"{ACCOUNT}:processing-job/{self.name}",
            "ProcessingJobStatus": "Stopping" if self.is_stopped and self.state == "InProgress" else self.state,
            "CreationTime": self.created,
        }
        facts = {"ExitMessage": self.message, "FailureReason": self.reason}
        times = {"ProcessingStartTime": self.started, "ProcessingEndTime": self.ended}
        return told | {key: value for key, value in {**facts, **times}.items() if value}


class ProcessingJobs:
    """`processing` has the jobs by name."""

    programs: dict[str, str]

    def __init__(self, folder: Path, s3: Any) -> None:
        self.processing: dict[str, ProcessingMachine] = {}
        self._place, self._objects = folder, s3

    def CreateProcessingJob(self, request: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        try:
            check_request("CreateProcessingJob", request)
        except BadInput as problem:
            raise Refused("ValidationException", str(problem)) from problem
        name = request["ProcessingJobName"]
        if name in self.processing:
            raise Refused("ResourceInUse", f"Processing job names must be unique: {name} exists already")
        self.processing[name] = ProcessingMachine(request, self._place, self._objects, self.programs)
        self.processing[name].thread.start()
        return {"ProcessingJobArn": f"{ACCOUNT}:processing-job/{name}"}

    def DescribeProcessingJob(self, request: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        return self._processing_job(request).describe()

    def StopProcessingJob(self, request: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        self._processing_job(request).is_stopped = True
        return {}

    def _processing_job(self, request: dict[str, Any]) -> ProcessingMachine:
        if request["ProcessingJobName"] not in self.processing:
            raise Refused("ValidationException", "Could not find requested job")
        return self.processing[request["ProcessingJobName"]]


def download(s3: Any, address: str, into: Path) -> int:
    """What lies at a prefix, or the one object with this name; how many came."""
    bucket, prefix = split_address(address)
    into.mkdir(parents=True, exist_ok=True)
    found = 0
    for page in s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix):
        for each in page.get("Contents", ()):
            is_it = each["Key"] == prefix
            if not is_it and not prefix.endswith("/") and not each["Key"].startswith(f"{prefix}/"):
                continue
            name = each["Key"].rsplit("/", 1)[-1] if is_it else each["Key"][len(prefix) :].lstrip("/")
            (into / name).parent.mkdir(parents=True, exist_ok=True)
            s3.download_file(bucket, each["Key"], str(into / name))
            found += 1
    return found
