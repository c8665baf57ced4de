"""Jobs as containers of this machine, with the mounts that SageMaker makes: the same image, the same entry point."""

import hashlib
import os
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from sightline.errors import BadInput
from sightline.launch.backend import Slots
from sightline.launch.channels import split_channels
from sightline.launch.container import containers
from sightline.launch.container.containers import SCRATCH
from sightline.launch.container.engine import has_image, require_engine, variables
from sightline.launch.container.folder import OPT_ML, ContainerFolder
from sightline.launch.container.hyperparameters import script_of, to_hyperparameters
from sightline.launch.container.image import DEFAULT_BASE, image_name
from sightline.launch.job import Job, State, Status, job_name
from sightline.launch.local.backend import LocalProcess
from sightline.launch.local.machine import environments
from sightline.launch.local.supervisor import HIDDEN, write
from sightline.runs.files import read_json
from sightline.runs.folder import name_places_here, note_launch
from sightline.runs.project import IMPORTED_FROM
from sightline.runs.record import COMMIT

STOP_SECONDS = 120
"""Between the order to end and the end for good, as on SageMaker."""


@dataclass(frozen=True)
class ContainerSettings:
    """What `launch.…` says of containers."""

    image: str | None = None
    """None: the one that `make image` makes of this tree."""
    base_image: str | None = None
    instance_count: int = 1
    """So many containers run one job, as so many machines would."""
    shm_gb: float = 8.0
    """The most that the workers of a data loader may share with each other."""

    def __post_init__(self) -> None:
        if self.instance_count < 1:
            raise BadInput(f"launch.instance_count={self.instance_count}: must be 1 or more")
        if self.shm_gb <= 0:
            raise BadInput(f"launch.shm_gb={self.shm_gb:g}: must be above 0, like 8")

    @classmethod
    def of(cls, said: Mapping[str, Any]) -> "ContainerSettings":
        """Those of a group that says more than concerns containers."""
        return cls(**{each.name: said[each.name] for each in fields(cls) if each.name in said})

    @property
    def image_name(self) -> str:
        return self.image or image_name(self.base_image or DEFAULT_BASE)


class LocalContainer(LocalProcess):
    """A job's id is its folder, which is laid out like /opt/ml; a process here looks after its containers."""

    name = "local_container"
    poll_seconds = 0.2

    def __init__(
        self,
        jobs: Path,
        places: Slots | None = None,
        settings: ContainerSettings | None = None,
        *,
        stop_seconds: int = STOP_SECONDS,
    ) -> None:
        super().__init__(jobs, Slots((places or Slots()).n_parallel), grace_seconds=stop_seconds + 30.0)
        self.settings, self.stop_seconds = settings or ContainerSettings(), stop_seconds

    def plan(self, job: Job) -> dict[str, Any]:
        folder = self.jobs / ".containers" / job.name
        words, channels = split_channels(job.overrides, self.working_folder)
        for channel, place in channels.items():
            if "://" in place:
                raise BadInput(
                    f"{channel}: {place} is not on this machine, and a container here gets what lies here alone; "
                    f"download it (aws s3 sync {place} FOLDER) and name the folder"
                )
        hyperparameters = to_hyperparameters(words, job.script)
        script_of(hyperparameters)
        hosts = [f"algo-{number + 1}" for number in range(self.settings.instance_count)]
        told = {"TRAINING_JOB_NAME": job.name, **({COMMIT: job.commit} if job.commit else {})}
        unique = hashlib.sha256(str(folder).encode()).hexdigest()[:8]
        name = f"sightline-{job_name(job.name)}-{unique}"
        network = name if len(hosts) > 1 else None
        return {
            "name": job.name,
            "folder": str(folder),
            "command": [sys.executable, containers.__file__, str(folder)],
            "commit": job.commit,
            "environment": {"PYTHONUNBUFFERED": "1", "PYTHONPATH": str(IMPORTED_FROM)},
            "places": environments(self.places.n_parallel),
            "places_folder": str(self.jobs / ".places"),
            "preload": [],
            "grace_seconds": self.grace_seconds,
            "stop_seconds": self.stop_seconds,
            "image": self.settings.image_name,
            "network": network,
            "hyperparameters": hyperparameters,
            "channels": channels,
            "scratch": str(self.jobs / ".containers" / ".scratch"),
            "hosts": [
                {
                    "name": host,
                    "folder": str(_host_folder(folder, number)),
                    "container": f"{name}-{host}",
                    "words": [*self._words(told), *_identity(host, network)],
                }
                for number, host in enumerate(hosts)
            ],
        }

    def _words(self, told: dict[str, str]) -> list[str]:
        """What `docker run` is told of every host of a job."""
        user = f"{os.getuid()}:{os.getgid()}"
        shared = ["--user", user, "--shm-size", f"{self.settings.shm_gb:g}g"]
        safe = ["--cap-drop", "ALL", "--security-opt", "no-new-privileges"]
        return [*shared, *safe, *variables({**told, "SIGHTLINE_SCRATCH": SCRATCH})]

    def submit(self, plan: dict[str, Any]) -> str:
        require_engine("launch=local_container")
        if not has_image(plan["image"]):
            raise BadInput(f"launch.image={plan['image']}: the engine has no such image; make image builds it")
        for number, host in enumerate(plan["hosts"]):
            _lay_out(ContainerFolder(Path(host["folder"])), plan, number)
        Path(plan["scratch"]).mkdir(parents=True, exist_ok=True)
        return super().submit(plan)

    def status(self, job_id: str) -> Status:
        status = super().status(job_id)
        if status.state != State.FAILED:
            return status
        folders = [_host_folder(Path(job_id), number) for number in range(len(_hosts(job_id)))]
        failures = [path for folder in folders if (path := ContainerFolder(folder).failure).is_file()]
        return Status(State.FAILED, failures[0].read_text(encoding="utf-8")) if failures else status

    def run_folder(self, job_id: str) -> Path:
        return ContainerFolder(Path(job_id)).run

    def fetch(self, job_id: str, into: Path) -> Path:
        plan = read_json(Path(job_id) / HIDDEN / "request.json")
        shutil.copytree(self.run_folder(job_id), into, dirs_exist_ok=True, ignore_dangling_symlinks=True)
        inputs = ContainerFolder(OPT_ML).inputs
        here = {f"{inputs}/{name}": str(path) for name, path in plan.get("channels", {}).items()}
        name_places_here(into, {**here, SCRATCH: plan.get("scratch", SCRATCH)})
        note_launch(into, backend=self.name, job_id=job_id, image=plan.get("image"))
        return into


def _identity(host: str, network: str | None) -> list[str]:
    return [] if network is None else ["--hostname", host, "--network", network, "--network-alias", host]


def _host_folder(folder: Path, number: int) -> Path:
    """The first host has the job's folder, each other one has a folder in it."""
    return folder if number == 0 else folder / "hosts" / str(number + 1)


def _hosts(job_id: str) -> Sequence[Any]:
    return read_json(Path(job_id) / HIDDEN / "request.json").get("hosts", [None])


def _lay_out(folder: ContainerFolder, plan: dict[str, Any], number: int) -> None:
    """Write what the service writes before a container starts."""
    try:
        for path in (folder.config, folder.run, folder.model, folder.output_data, folder.tensorboard):
            path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BadInput(f"paths.runs: cannot make {folder.base} ({error.strerror}); name another folder") from error
    names = [host["name"] for host in plan["hosts"]]
    write(folder.config / "hyperparameters.json", plan["hyperparameters"])
    write(
        folder.config / "resourceconfig.json",
        {"current_host": names[number], "hosts": names, "network_interface_name": "eth0"},
    )
    channel = {"TrainingInputMode": "File", "S3DistributionType": "FullyReplicated", "RecordWrapperType": "None"}
    write(folder.config / "inputdataconfig.json", dict.fromkeys(plan["channels"], channel))
