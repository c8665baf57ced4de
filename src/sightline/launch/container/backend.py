"""The container backend: jobs in containers of this machine, with SageMaker's image, entry point and mounts."""

import hashlib
import os
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

from sightline.errors import BadInput
from sightline.launch.backend import ImageSettings, LaunchSettings, Plan, check_counts, check_parts, make_plan
from sightline.launch.container import containers
from sightline.launch.container.containers import SCRATCH
from sightline.launch.container.engine import require_engine, require_image, variables
from sightline.launch.container.folder import OPT_ML, ContainerFolder
from sightline.launch.container.hyperparameters import script_of, to_hyperparameters
from sightline.launch.container.image import image_name
from sightline.launch.job import Job, State, Status, job_name
from sightline.launch.local.backend import LocalProcess
from sightline.launch.local.machine import environments
from sightline.launch.local.supervisor import HIDDEN, write
from sightline.launch.overrides import split_channels
from sightline.runs.files import read_json
from sightline.runs.folder import localise_paths, note_launch
from sightline.runs.invocation import COMMIT
from sightline.runs.project import IMPORTED_FROM

STOP_SECONDS = 120
"""Between the order to end and the end for good, as on SageMaker."""


@dataclass
class ContainerSettings(ImageSettings):
    backend: str = "local_container"
    shm_gb: float = 8.0  # the most that the workers of a data loader may share with each other


class LocalContainer(LocalProcess):
    """A job's id is its folder, which is laid out like /opt/ml; a process here looks after its containers."""

    name = "local_container"
    settings_type: ClassVar[type[LaunchSettings]] = ContainerSettings
    poll_seconds = 0.2
    sees_files = False

    def __init__(
        self, jobs: Path, settings: ContainerSettings | None = None, *, stop_seconds: int = STOP_SECONDS
    ) -> None:
        self.container = settings or ContainerSettings()
        super().__init__(jobs, self.container, grace_seconds=stop_seconds + 30.0)
        self.stop_seconds = stop_seconds

    @classmethod
    def check(cls, settings: Any) -> Any:
        check_counts(settings)
        if settings.shm_gb <= 0:
            raise BadInput(f"launch.shm_gb={settings.shm_gb:g}: must be above 0, like 8")
        return settings

    def plan(self, job: Job) -> Plan:
        folder = self.jobs / ".containers" / job.name
        overrides, channels = split_channels(job.overrides, self.working_folder)
        for channel, path in channels.items():
            if "://" in path:
                raise BadInput(
                    f"{channel}: {path} is not on this machine, and a container here gets what lies here alone; "
                    f"download it (aws s3 sync {path} FOLDER) and name the folder"
                )
        hyperparameters = to_hyperparameters(overrides, job.script)
        script_of(hyperparameters)
        request = {
            "name": job.name,
            "folder": str(folder),
            "command": [sys.executable, containers.__file__, str(folder)],
            "commit": job.commit,
            "environment": {"PYTHONUNBUFFERED": "1", "PYTHONPATH": str(IMPORTED_FROM)},
            "places": environments(self.settings.n_parallel),
            "places_folder": str(self.jobs / ".places"),
            "preload": [],
            "grace_seconds": self.grace_seconds,
            "stop_seconds": self.stop_seconds,
            "image": self.container.image or image_name(self.container.base_image),
            **self._hosts(job, folder),
            "hyperparameters": hyperparameters,
            "channels": channels,
            "scratch": str(self.jobs / ".containers" / ".scratch"),
        }
        return make_plan(job, self.settings, request)

    def _hosts(self, job: Job, folder: Path) -> dict[str, Any]:
        """The network and the containers of a job."""
        names = [f"algo-{number + 1}" for number in range(self.container.instance_count)]
        variables_of_job = {"TRAINING_JOB_NAME": job.name, **({COMMIT: job.commit} if job.commit else {})}
        unique = hashlib.sha256(str(folder).encode()).hexdigest()[:8]
        prefix = f"sightline-{job_name(job.name)}-{unique}"
        network = prefix if len(names) > 1 else None
        hosts = [
            {
                "name": name,
                "folder": str(_host_folder(folder, number)),
                "container": f"{prefix}-{name}",
                "words": [*self._run_args(variables_of_job), *_identity(name, network)],
            }
            for number, name in enumerate(names)
        ]
        return {"network": network, "hosts": hosts}

    def _run_args(self, environment: dict[str, str]) -> list[str]:
        """The arguments of `docker run` that every host of a job has."""
        user = f"{os.getuid()}:{os.getgid()}"
        shared = ["--user", user, "--shm-size", f"{self.container.shm_gb:g}g"]
        safe = ["--cap-drop", "ALL", "--security-opt", "no-new-privileges"]
        return [*shared, *safe, *variables({**environment, "SIGHTLINE_SCRATCH": SCRATCH})]

    def submit(self, plan: Plan) -> str:
        self._prepare(plan)
        return super().submit(plan)

    def _prepare(self, plan: Plan) -> None:
        """Raises: BadInput without an engine or the image."""
        check_parts(plan, ("image", "hosts", "network", "hyperparameters", "channels", "scratch", "stop_seconds"))
        request = plan["request"]
        require_engine("launch=local_container")
        require_image(request["image"])
        for number, host in enumerate(request["hosts"]):
            _lay_out(ContainerFolder(Path(host["folder"])), request, number)
        Path(request["scratch"]).mkdir(parents=True, exist_ok=True)

    def status(self, job_id: str) -> Status:
        status = super().status(job_id)
        if status.state != State.FAILED:
            return status
        folders = [_host_folder(Path(job_id), number) for number in range(len(_hosts(job_id)))]
        failures = [path for folder in folders if (path := ContainerFolder(folder).failure).is_file()]
        return replace(status, reason=failures[0].read_text(encoding="utf-8")) if failures else status

    def run_folder(self, job_id: str) -> Path:
        return ContainerFolder(Path(job_id)).run

    def fetch(self, job_id: str, into: Path) -> Path:
        request = read_json(Path(job_id) / HIDDEN / "request.json")
        shutil.copytree(self.run_folder(job_id), into, dirs_exist_ok=True, ignore_dangling_symlinks=True)
        inputs = ContainerFolder(OPT_ML).inputs
        here = {f"{inputs}/{name}": str(path) for name, path in request.get("channels", {}).items()}
        localise_paths(into, {**here, SCRATCH: request.get("scratch", SCRATCH)})
        note_launch(into, backend=self.name, job_id=job_id, image=request.get("image"))
        return into


def _identity(host: str, network: str | None) -> list[str]:
    return [] if network is None else ["--hostname", host, "--network", network, "--network-alias", host]


def _host_folder(folder: Path, number: int) -> Path:
    """The first host has the job's folder, each other one has a folder in it."""
    return folder if number == 0 else folder / "hosts" / str(number + 1)


def _hosts(job_id: str) -> Sequence[Any]:
    return read_json(Path(job_id) / HIDDEN / "request.json").get("hosts", [None])


def _lay_out(folder: ContainerFolder, request: dict[str, Any], number: int) -> None:
    """Write what the service writes before a container starts."""
    try:
        for path in (folder.config, folder.run, folder.model, folder.output_data, folder.tensorboard):
            path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BadInput(f"paths.runs: cannot make {folder.base} ({error.strerror}); name another folder") from error
    names = [host["name"] for host in request["hosts"]]
    write(folder.config / "hyperparameters.json", request["hyperparameters"])
    write(
        folder.config / "resourceconfig.json",
        {"current_host": names[number], "hosts": names, "network_interface_name": "eth0"},
    )
    channel = {"TrainingInputMode": "File", "S3DistributionType": "FullyReplicated", "RecordWrapperType": "None"}
    write(folder.config / "inputdataconfig.json", dict.fromkeys(request["channels"], channel))
