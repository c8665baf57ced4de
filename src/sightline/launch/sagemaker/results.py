"""The results of a training job, from S3 into an ordinary run folder."""

import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sightline.aws.s3 import Storage
from sightline.launch.container.folder import OPT_ML
from sightline.launch.sagemaker.job_cost import cost_of
from sightline.runs.archives import unpack
from sightline.runs.files import read_json
from sightline.runs.folder import MetricPoint, localise_paths, note_launch, read_points

ARCHIVES = {"model.tar.gz": "model", "output.tar.gz": "."}
"""What the service packs at the end, and where in a run folder it belongs."""


def read_metrics(storage: Storage, described: dict[str, Any]) -> list[MetricPoint]:
    """Metrics by epoch from the checkpoint files in S3; without them the last value of each that CloudWatch has."""
    with tempfile.TemporaryDirectory() as folder:
        for name in ("metrics.csv", "metrics.json"):
            storage.download_file(f"{_checkpoints(described)}/{name}", Path(folder, name))
        points = read_points(Path(folder))
    return points or [
        MetricPoint(each["MetricName"], None, each["Value"], each["Timestamp"].timestamp())
        for each in described.get("FinalMetricDataList", ())
    ]


def fetch_run(storage: Storage, attempts: Sequence[dict[str, Any]], into: Path, notes: Path) -> None:
    """The run folder of a job, whatever its state; the folder `notes` says which local path each upload came from."""
    last, job_id = attempts[-1], attempts[0]["TrainingJobName"]
    into.mkdir(parents=True, exist_ok=True)
    storage.download(_checkpoints(last), into)
    _unpack(storage, last, into)
    localise_paths(into, _local_paths(last, into, notes))
    image = last["AlgorithmSpecification"].get("TrainingImage")
    note_launch(into, backend="sagemaker", job_id=job_id, image=image, **cost_of(attempts))


def _local_paths(described: dict[str, Any], run: Path, notes: Path) -> dict[str, str]:
    """Container folder of each input channel → the local path that was uploaded to it, or its address in S3."""
    inputs = read_json(run / "run.json").get("config", {}).get("paths", {}).get("inputs", f"{OPT_ML}/input/data")
    found = {}
    for channel in described.get("InputDataConfig", ()):
        address = channel["DataSource"]["S3DataSource"]["S3Uri"]
        note = notes / f"{address.rstrip('/').rsplit('/', 1)[-1]}.place"
        here = note.read_text(encoding="utf-8", errors="surrogateescape") if note.is_file() else address
        found[f"{inputs}/{channel['ChannelName']}"] = here
    return found


def _unpack(storage: Storage, described: dict[str, Any], into: Path) -> None:
    root = f"{described['OutputDataConfig']['S3OutputPath'].rstrip('/')}/{described['TrainingJobName']}/output"
    for name, folder_in_run in ARCHIVES.items():
        with tempfile.TemporaryDirectory(prefix=".", dir=into) as folder:
            archive, unpacked = Path(folder, name), Path(folder, "unpacked")
            if storage.download_file(f"{root}/{name}", archive):
                unpacked.mkdir()
                unpack(archive, unpacked, title=f"{root}/{name}")
                shutil.copytree(unpacked, into / folder_in_run, dirs_exist_ok=True)


def _checkpoints(described: dict[str, Any]) -> str:
    return described["CheckpointConfig"]["S3Uri"].rstrip("/")
