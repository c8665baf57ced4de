"""The batch size that fits: found before training, and named when training runs out of memory."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf
from tests.conftest import BARE, PROJECT, Cli, compose_config

from sightline.errors import BadInput
from sightline.models.classifier import Classifier
from sightline.training import batch_size as batch_size_module
from sightline.training.batch_size import OutOfMemory, available_memory, is_out_of_memory
from sightline.training.train import train

SHORT = [word for word in BARE if "batch_size" not in word]


def words_of(colors: Path, folder: Path, *more: str) -> list[str]:
    return ["data=folder", f"data.root={colors}", f"output={folder}", *SHORT, "logger=none", *more]


@pytest.fixture
def room(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> int:
    """Training on more images than this is out of memory."""
    forward, most = Classifier.forward, request.param

    def limited(self: Classifier, images: torch.Tensor) -> torch.Tensor:
        if self.training and len(images) > most:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB.")
        return forward(self, images)

    monkeypatch.setattr(Classifier, "forward", limited)
    return most


@pytest.mark.parametrize("room", [20], indirect=True)
def test_auto_finds_what_fits_and_is_as_if_it_had_been_given(room: int, colors: Path, tmp_path: Path) -> None:
    hashes = []
    for size in ("auto", 16):
        folder = tmp_path / str(size)
        train(compose_config("train", *words_of(colors, folder, f"data.batch_size={size}")))
        assert OmegaConf.load(folder / "config.yaml").data.batch_size == 16
        record = json.loads((folder / "run.json").read_text())
        assert record["found"].get("data.batch_size") == (16 if size == "auto" else None)
        assert record["config"]["data"]["batch_size"] == 16
        hashes.append(json.loads((folder / "model" / "model.json").read_text())["sha256"])
    assert hashes[0] == hashes[1]


def test_auto_takes_no_more_than_the_training_images(colors: Path, cli: Cli, tmp_path: Path) -> None:
    done = cli("train", *words_of(colors, tmp_path / "run", "data.batch_size=auto"))
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "run" / "run.json").read_text())["found"]["data.batch_size"] == 32  # of 51


@pytest.mark.parametrize("room", [1], indirect=True)
def test_auto_refuses_what_never_fits(room: int, colors: Path, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="not even two images fit into memory; use a smaller data.image_size"):
        train(compose_config("train", *words_of(colors, tmp_path / "run", "data.batch_size=auto")))
    assert not (tmp_path / "run").exists()


def test_on_a_processor_memory_is_never_used_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The growth of each step says in time what the next would take."""
    words = ["data=synthetic", "data.num_synthetic=4096", "data.image_size=64", "model.name=test_resnet"]
    words += ["data.batch_size=auto", "trainer.max_epochs=1", "debug=one_batch", "logger=none"]
    sizes, limit = {}, 0
    for megabytes in (30, 240):
        limit = megabytes * 10**6
        monkeypatch.setattr(batch_size_module, "available_memory", lambda limit=limit: limit)
        tried: list[int] = []
        step = batch_size_module._Probe._measure

        def measure(probe: object, size: int, step=step, tried=tried, limit=limit) -> tuple[int, float]:
            used, seconds = step(probe, size)  # pyright: ignore[reportArgumentType]
            tried.append(used)
            return used, seconds

        monkeypatch.setattr(batch_size_module._Probe, "_measure", measure)
        train(compose_config("train", *words, f"output={tmp_path / str(megabytes)}"))
        monkeypatch.setattr(batch_size_module._Probe, "_measure", step)
        sizes[megabytes] = json.loads((tmp_path / str(megabytes) / "run.json").read_text())["found"]["data.batch_size"]
        assert max(tried) < limit
    assert 2 <= sizes[30] < sizes[240] < 4096


@pytest.mark.parametrize("room", [4], indirect=True)
def test_out_of_memory_names_the_batch_that_fits(room: int, colors: Path, tmp_path: Path) -> None:
    words = words_of(colors, tmp_path / "run", "data.batch_size=12", "trainer.accumulate_grad_batches=2")
    with pytest.raises(OutOfMemory, match="set data.batch_size=4, and trainer.accumulate_grad_batches=6 to keep"):
        train(compose_config("train", *words))
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    assert record["status"] == "failed"
    assert "data.batch_size=12: a step of so many images does not fit into memory" in record["reason"]


LIMITED = """
import resource, sys
import psutil, torch, timm, pytorch_lightning, torchvision, albumentations, matplotlib.pyplot
from pytorch_lightning.callbacks import RichProgressBar
from sightline import command
from sightline.training.train import train
from tests.conftest import compose_config

cfg = compose_config("train", *sys.argv[1:])
limit = psutil.Process().memory_info().vms + 1_200_000_000
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
command.run(lambda: train(cfg))
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="limits of the address space are Linux's")
def test_real_memory_that_ends_fails_the_run_with_a_size_that_fits(tmp_path: Path) -> None:
    words = ["data=synthetic", "data.num_synthetic=4096", "data.image_size=64", "model.name=resnet18"]
    words += ["trainer.max_epochs=1", "debug=one_batch", "logger=none", f"output={tmp_path / 'run'}"]

    def limited(*more: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-c", LIMITED, *words, *more],
            cwd=PROJECT,
            env={**os.environ, "PYTHONPATH": str(PROJECT / "src")},
            capture_output=True,
            text=True,
            timeout=300,
        )

    done = limited("data.batch_size=4096")
    assert done.returncode == 1, done.stdout + done.stderr
    last = done.stderr.splitlines()[-1]
    assert "data.batch_size=4096: a step of so many images does not fit into memory (" in last
    fitting = last.partition("set data.batch_size=")[2].partition(",")[0]
    again = limited(f"data.batch_size={fitting}", f"output={tmp_path / 'again'}")
    assert again.returncode == 0, again.stderr
    alone = limited("data.batch_size=auto", f"output={tmp_path / 'alone'}")
    assert alone.returncode == 0, alone.stderr
    assert json.loads((tmp_path / "alone" / "run.json").read_text())["found"]["data.batch_size"] >= 16


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (MemoryError(), True),
        (torch.OutOfMemoryError("CUDA out of memory."), True),
        (RuntimeError("[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate memory: you …"), True),
        (RuntimeError("could not create a primitive"), True),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), False),
        (ValueError("out of memory"), False),
    ],
)
def test_what_counts_as_out_of_memory(error: BaseException, expected: bool) -> None:
    assert is_out_of_memory(error) is expected


@pytest.mark.parametrize("version", [1, 2])
def test_a_control_group_limits_what_is_available(version: int, tmp_path: Path) -> None:
    names = ("memory.max", "memory.current", "inactive_file")
    if version == 1:
        names = ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes", "total_inactive_file")
    (tmp_path / "memory").mkdir()
    for name, value in zip(names, ("1000000", "600000"), strict=False):
        (tmp_path / name).write_text(value + "\n")
    (tmp_path / names[0]).with_name("memory.stat").write_text(f"anon 5\n{names[2]} 100000\n")
    assert available_memory(tmp_path) == 500000
    (tmp_path / names[0]).write_text("max\n")
    assert available_memory(tmp_path) > 1000000


@pytest.mark.parametrize("size", ["many", "0"])
def test_a_size_is_a_number_or_auto(size: str, colors: Path, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=f"data.batch_size={size}: must be a number, 1 or more, or auto"):
        train(compose_config("train", *words_of(colors, tmp_path / "run", f"data.batch_size={size}")))
