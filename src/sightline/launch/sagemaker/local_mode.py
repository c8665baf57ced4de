"""launch=sagemaker launch.instance_type=local: the job in AWS's own local mode, by the client's ModelTrainer."""

import hashlib
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from sightline.errors import BadInput
from sightline.launch.backend import LaunchSettings, Plan, check_counts, check_parts, make_plan
from sightline.launch.container.backend import STOP_SECONDS, ContainerSettings, LocalContainer
from sightline.launch.container.engine import require_engine, require_image
from sightline.launch.container.folder import OPT_ML, RUN_CHANNEL, ContainerFolder
from sightline.launch.container.hyperparameters import script_of
from sightline.launch.container.image import image_name
from sightline.launch.job import Job
from sightline.launch.local.machine import environments, visible_gpus
from sightline.launch.sagemaker import local_mode_process
from sightline.launch.sagemaker.backend import split_inputs
from sightline.launch.sagemaker.model_trainer import require_client
from sightline.launch.sagemaker.request import make_request
from sightline.launch.sagemaker.settings import SageMakerSettings
from sightline.runs.invocation import COMMIT
from sightline.runs.project import IMPORTED_FROM

KEY = "launch.instance_type=local"
GPU = "local_gpu"
SCRATCH = "scratch"
"""The channel that holds what all jobs of this machine share: fetched data sets and caches."""
SEEN_BY_CONTAINERS = ("TrainingJobName", "AlgorithmSpecification", "HyperParameters", "Environment", "ResourceConfig")
"""What of a request AWS's local mode takes."""


@dataclass
class LocalModeSettings(SageMakerSettings):
    """Those of launch=sagemaker: what concerns the account, the price and the waiting has no meaning here."""

    backend: str = "sagemaker_local"
    instance_type: str = "local"


class LocalMode(LocalContainer):
    """A job's id is its folder; a process here runs AWS's client and looks after the containers that it starts."""

    name = "sagemaker_local"
    settings_type: ClassVar[type[LaunchSettings]] = LocalModeSettings

    def __init__(self, jobs: Path, settings: LocalModeSettings, *, stop_seconds: int = STOP_SECONDS) -> None:
        super().__init__(jobs, ContainerSettings(image=settings.image), stop_seconds=stop_seconds)
        self.settings: LocalModeSettings = settings

    @classmethod
    def check(cls, settings: Any) -> Any:
        check_counts(settings)
        if settings.n_parallel > 1:
            raise BadInput(
                f"launch.n_parallel={settings.n_parallel} {KEY}: AWS's local mode runs one job at a time, on a network "
                "of one name; set launch.n_parallel=1, or use launch=local_container"
            )
        if not settings.dry_run:
            _require_all(settings.instance_type)
        return settings

    def plan(self, job: Job) -> Plan:
        settings = self.settings
        folder = self.jobs / ".containers" / job.name
        overrides, channels = split_inputs(job, settings, self.working_folder)
        image = settings.image or image_name(settings.base_image)
        full = make_request(job, overrides, channels, image, settings)
        script_of(full["HyperParameters"])
        seen = {key: full[key] for key in SEEN_BY_CONTAINERS}
        seen["ResourceConfig"] = {
            "InstanceType": GPU if settings.instance_type == GPU else "local_cpu",
            "InstanceCount": settings.instance_count,
        }
        seen["Environment"] = {
            **seen["Environment"],
            **({COMMIT: job.commit} if job.commit else {}),
            "SIGHTLINE_SCRATCH": str(OPT_ML / "input" / "data" / SCRATCH),
        }
        mounts = {RUN_CHANNEL: ContainerFolder(folder).run, SCRATCH: self.jobs / ".containers" / ".scratch"}
        request = {
            "name": job.name,
            "folder": str(folder),
            "command": [sys.executable, local_mode_process.__file__, str(folder)],
            "commit": job.commit,
            "environment": {"PYTHONUNBUFFERED": "1", "PYTHONPATH": str(IMPORTED_FROM)},
            "places": environments(1),
            "places_folder": str(self.jobs / ".places"),
            "preload": [],
            "grace_seconds": self.grace_seconds,
            "stop_seconds": self.stop_seconds,
            "image": image,
            "project": f"sightline-{hashlib.sha256(str(folder).encode()).hexdigest()[:8]}",
            "channels": {**channels, **{name: str(path) for name, path in mounts.items()}},
            "training_job": seen,
        }
        return make_plan(job, settings, request)

    def _prepare(self, plan: Plan) -> None:
        check_parts(plan, ("image", "project", "channels", "training_job", "stop_seconds"))
        request = plan["request"]
        _require_all(self.settings.instance_type)
        require_image(request["image"])
        folder = ContainerFolder(Path(request["folder"]))
        try:
            for path in (folder.output_data, *(Path(request["channels"][name]) for name in (RUN_CHANNEL, SCRATCH))):
                path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise BadInput(f"paths.runs: cannot make {folder.base} ({error.strerror}); name another folder") from error


def _require_all(instance_type: str) -> None:
    """Raises: BadInput for the first that is missing: the client, an engine, Docker Compose, a GPU."""
    require_client(KEY)
    require_engine(KEY)
    if not _has_compose():
        raise BadInput(
            f"{KEY}: AWS's local mode needs Docker Compose; install Docker's compose plugin (docker compose version "
            "shows whether it is there), or use launch=local_container, which needs none"
        )
    if instance_type == GPU and not visible_gpus():
        raise BadInput(f"launch.instance_type={GPU}: there is no GPU here; use {KEY}")


def _has_compose() -> bool:
    plugin = subprocess.run(["docker", "compose", "version"], capture_output=True)
    return plugin.returncode == 0 or shutil.which("docker-compose") is not None
