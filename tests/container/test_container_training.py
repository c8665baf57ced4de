"""Jobs in containers with a real /opt/ml: what they leave, how they stop and go on, how hosts train together."""

import csv
import json
import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.images import image

from sightline.launch.backend import Backend
from sightline.launch.container.backend import ContainerSettings, LocalContainer
from sightline.launch.container.folder import ContainerFolder
from sightline.launch.container.hyperparameters import to_hyperparameters
from sightline.launch.job import Job, State, Status

pytestmark = pytest.mark.container
WORDS = (
    "experiment=digits",
    "model.name=test_resnet",
    "trainer.limit_train_batches=8",
    "trainer.deterministic=true",
    "evaluation=short",
    "explanation.num_images=1",
)
LONG = (*WORDS, "trainer.max_epochs=16", "stages=[fit,test]")


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the digits are written and cached, once."""
    return tmp_path_factory.mktemp("scratch")


class Docker:
    """`docker run` as the service does it: one folder on /opt/ml, and nothing else said."""

    def __init__(self, base: Path, scratch: Path, *words: str) -> None:
        self.folder, self.name = ContainerFolder(base), f"sightline-test-{os.getpid()}-{base.name}"
        self.folder.config.mkdir(parents=True, exist_ok=True)
        (self.folder.config / "hyperparameters.json").write_text(json.dumps(to_hyperparameters(words)))
        hosts = {"current_host": "algo-1", "hosts": ["algo-1"], "network_interface_name": "eth0"}
        (self.folder.config / "resourceconfig.json").write_text(json.dumps(hosts))
        mounts = [
            "--volume",
            f"{base}:/opt/ml",
            "--volume",
            f"{scratch}:/scratch",
            "--env",
            "SIGHTLINE_SCRATCH=/scratch",
        ]
        command = ["docker", "run", "--name", self.name, *mounts, "--env", "SIGHTLINE_COMMIT=abc-dirty", image()]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    def ended(self) -> tuple[int, str]:
        output, _ = self.process.communicate(timeout=600)
        subprocess.run(["docker", "rm", self.name], check=True, capture_output=True)
        return self.process.returncode, output


def read(path: Path) -> dict[str, object]:
    return json.loads(path.read_text())


def test_a_job_leaves_metrics_model_and_explanations(tmp_path: Path, scratch: Path) -> None:
    job = Docker(tmp_path / "opt-ml", scratch, *WORDS, "trainer.max_epochs=1")
    code, output = job.ended()
    assert code == 0, output
    results = job.folder.output_data
    record = read(results / "run.json")
    assert (record["status"], record["commit"], record["dirty"]) == ("finished", "abc", True)
    assert "test/accuracy" in read(results / "metrics.json")
    for name in ("explanations/index.html", "evaluation/report.html", "manifest.csv", "config.yaml"):
        assert (results / name).is_file()
    assert {path.name for path in job.folder.model.iterdir()} >= {"model.safetensors", "task_spec.json", "model.json"}
    assert list(job.folder.tensorboard.glob("events.*"))
    assert not job.folder.failure.exists()


def test_a_failure_reaches_the_service_in_a_line(tmp_path: Path, scratch: Path) -> None:
    job = Docker(tmp_path / "opt-ml", scratch, *WORDS, "model.lr=-1")
    code, _ = job.ended()
    assert code == 2
    assert job.folder.failure.read_text().startswith("model.lr=-1")


def test_a_stopped_job_goes_on_elsewhere_to_the_same_weights(tmp_path: Path, scratch: Path) -> None:
    """A spot interruption: SIGTERM, two minutes, and another machine that has the checkpoints and nothing else."""
    undisturbed = Docker(tmp_path / "undisturbed", scratch, *LONG)
    code, output = undisturbed.ended()
    assert code == 0, output
    stopped = Docker(tmp_path / "stopped", scratch, *LONG)
    until((stopped.folder.run / "metrics.csv").is_file)
    began = time.monotonic()
    subprocess.run(["docker", "stop", "--time", "120", stopped.name], check=True, capture_output=True)
    assert time.monotonic() - began < 60, "the signal did not arrive"
    code, output = stopped.ended()
    assert code == 143, output
    assert read(stopped.folder.run / "run.json")["status"] == "interrupted"
    (tmp_path / "elsewhere").mkdir()
    stopped.folder.run.rename(tmp_path / "elsewhere" / "checkpoints")
    other = Docker(tmp_path / "elsewhere", scratch, *LONG)
    code, output = other.ended()
    assert code == 0, output
    (resumed,) = read(other.folder.run / "run.json")["resumed"]  # pyright: ignore[reportGeneralTypeIssues]
    assert 0 < resumed["from_step"] < 16 * 8
    weights = [(job.folder.model / "model.safetensors").read_bytes() for job in (undisturbed, other)]
    assert weights[0] == weights[1]


def until(true: object, seconds: float = 300.0) -> None:
    end = time.monotonic() + seconds
    assert callable(true)
    while not true():
        assert time.monotonic() < end, "it never came"
        time.sleep(0.05)


def ended(backend: Backend, job_id: str) -> Status:
    until(lambda: backend.status(job_id).is_over, 600)
    return backend.status(job_id)


@pytest.fixture
def backend(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[LocalContainer]:
    settings = ContainerSettings(image=image(), instance_count=getattr(request, "param", 1))
    made = LocalContainer(tmp_path / "jobs", settings)
    yield made
    made.close()


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_two_hosts_train_as_one_does(tmp_path: Path) -> None:
    """The same images in the same global batches: the losses are equal but for the order of addition."""
    words = (
        *WORDS,
        "trainer.max_epochs=2",
        "stages=[fit]",
        "model.name=test_vit",
        "augmentation=none",
        "trainer.precision=32-true",
    )
    folders = []
    for count in (1, 2):
        backend = LocalContainer(tmp_path / "jobs", ContainerSettings(image=image(), instance_count=count))
        job_id = backend.submit(backend.plan(Job(f"hosts-{count}", "src/train.py", words)))
        status = ended(backend, job_id)
        assert status.state == State.SUCCEEDED, (status, list(backend.logs(job_id))[-20:])
        folders.append(backend.fetch(job_id, tmp_path / str(count)))
        backend.close()
    alone, together = (rows(folder) for folder in folders)
    assert [row["step"] for row in alone] == [row["step"] for row in together] == ["8", "16"]
    for name in ("train/loss", "val/loss"):
        for one, two in zip(alone, together, strict=True):
            assert float(one[name]) == pytest.approx(float(two[name]), abs=1e-4)
    config = read(folders[1] / "run.json")["config"]
    assert config["trainer"]["num_nodes"] == 2  # pyright: ignore[reportIndexIssue]


@pytest.mark.parametrize("backend", [2], indirect=True)
def test_two_hosts_stop_and_go_on(backend: LocalContainer, tmp_path: Path) -> None:
    plan = backend.plan(Job("stopped-hosts", "src/train.py", (*LONG, "augmentation=none")))
    job_id = backend.submit(plan)
    until((backend.run_folder(job_id) / "metrics.csv").is_file)
    backend.stop(job_id)
    assert ended(backend, job_id).state == State.STOPPED
    assert backend.submit(plan) == job_id
    status = ended(backend, job_id)
    assert status.state == State.SUCCEEDED, (status, list(backend.logs(job_id))[-20:])
    (resumed,) = read(backend.fetch(job_id, tmp_path / "fetched") / "run.json")["resumed"]  # pyright: ignore
    assert resumed["from_step"] > 0


def test_places_of_this_machine_are_mounted_and_come_back(
    backend: LocalContainer, colors: Path, tmp_path: Path
) -> None:
    hostile = tmp_path / "col, ors '\"é"
    hostile.symlink_to(colors, target_is_directory=True)
    words = ("data=folder", f"data.root='{str(hostile).replace(chr(39), chr(92) + chr(39))}'", "name=colors")
    words += ("model.name=test_resnet", "data.image_size=32", "data.batch_size=8", "data.num_workers=2")
    job = Job("colors", "src/train.py", (*words, "trainer.max_epochs=1", "stages=[fit]"))
    job_id = backend.submit(backend.plan(job))
    status = ended(backend, job_id)
    assert status.state == State.SUCCEEDED, (status, list(backend.logs(job_id))[-20:])
    folder = backend.fetch(job_id, tmp_path / "fetched, é")
    record = read(folder / "run.json")
    assert record["config"]["data"]["root"] == str(colors.resolve())  # pyright: ignore[reportIndexIssue]
    assert record["launch"] == {"backend": "local_container", "job_id": job_id, "image": image()}
    assert f"root: {colors.resolve()}" in (folder / "config.yaml").read_text()
