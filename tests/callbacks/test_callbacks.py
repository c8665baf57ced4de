"""What the callbacks leave behind: rows, counts, lines."""

import csv
import re
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import rich
import torch
from pytorch_lightning.loggers import CSVLogger
from torch.utils.data import DataLoader, TensorDataset

from sightline.callbacks.epoch_table import EpochTable
from sightline.callbacks.plain_progress import PlainProgress
from sightline.callbacks.terminal_progress import TerminalProgress
from sightline.callbacks.throughput import Throughput


class Clock:
    """Time that passes only when the work says so; takes the place of the module `time`."""

    def __init__(self) -> None:
        self.now = 0.0

    def perf_counter(self) -> float:
        return self.now

    monotonic = perf_counter


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    for module in ("throughput", "plain_progress", "terminal_progress"):
        monkeypatch.setattr(f"sightline.callbacks.{module}.time", clock)
    return clock


class Work(pl.LightningModule):
    """A step takes 10 ms, the first ten take 30, and validation takes 50 a batch."""

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(1, 1)
        self.clock, self.steps = clock, 0

    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        self.steps += 1
        self.clock.now += 0.03 if self.steps <= 10 else 0.01
        loss = self.layer(batch[0]).mean()
        self.log("train/step_loss", loss)
        return loss

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.clock.now += 0.05
        self.log("val/accuracy", float(self.current_epoch))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.25)


def fit(folder: Path, clock: Clock, *callbacks: pl.Callback, epochs: int, **arguments: Any) -> None:
    loader = DataLoader(TensorDataset(torch.zeros(40, 1), torch.zeros(40)), batch_size=4)
    progress = any(isinstance(callback, PlainProgress | TerminalProgress) for callback in callbacks)
    quiet: dict[str, Any] = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": progress}
    trainer = pl.Trainer(max_epochs=epochs, callbacks=[*callbacks], default_root_dir=folder, **(quiet | arguments))
    trainer.fit(Work(clock), loader, loader)


def test_throughput_leaves_out_the_first_steps_and_validation(clock: Clock, tmp_path: Path) -> None:
    """4 images in 10 ms; with the first ten steps it would be 240 a second, with validation 60."""
    throughput = Throughput()
    fit(tmp_path, clock, throughput, epochs=3)
    assert throughput.metrics["train/images_per_second"] == pytest.approx(400)
    assert throughput.metrics["train/seconds"] == pytest.approx(20 * 0.01 + 10 * 0.03 + 30 * 0.05)


def test_throughput_counts_everything_of_a_very_short_run(clock: Clock, tmp_path: Path) -> None:
    throughput = Throughput()
    fit(tmp_path, clock, throughput, epochs=1, limit_train_batches=5)
    assert throughput.metrics["train/images_per_second"] == pytest.approx(4 / 0.03)


def test_epochs_without_validation_have_no_validation_values(clock: Clock, tmp_path: Path) -> None:
    fit(
        tmp_path,
        clock,
        EpochTable(tmp_path / "metrics.csv"),
        epochs=4,
        check_val_every_n_epoch=2,
        limit_train_batches=2,
    )
    with (tmp_path / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["val/accuracy"] for row in rows] == ["", "1.0", "", "3.0"]
    assert [row["lr"] for row in rows] == ["0.25"] * 4
    assert [row["step"] for row in rows] == ["2", "4", "6", "8"]


def test_plain_progress_prints_epochs_and_what_is_slow(
    clock: Clock, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fit(tmp_path, clock, PlainProgress(every_seconds=0.1), epochs=2, check_val_every_n_epoch=2, limit_val_batches=1)
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("epoch")]
    assert any(re.fullmatch(r"epoch 1/2  batch \d+/10  loss \S+", line) for line in lines)
    ends = [line for line in lines if line.endswith(" s")]
    assert "val/accuracy" not in ends[0]
    assert "val/accuracy 1.0000" in ends[1]


@pytest.mark.parametrize("columns", [60, 120])
def test_the_bar_of_a_terminal_fits_and_leaves_the_lines_of_the_epochs(
    columns: int, clock: Clock, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    console = {"force_terminal": True, "width": columns, "_environ": {}}
    try:
        fit(tmp_path, clock, TerminalProgress(console_kwargs=console), epochs=2, logger=CSVLogger(tmp_path))
    finally:
        rich.reconfigure()
    drawn = re.sub(r"\x1b\[[\d;?]*[A-Za-z]", "", capsys.readouterr().out)
    lines = [line.rstrip() for line in re.split(r"[\r\n]+", drawn) if "━" in line or "epoch" in line]
    ends = [line for line in lines if line.endswith(" s")]
    assert [line.split("  ")[:2] for line in ends] == [
        ["epoch 1/2", "val/accuracy 0.0000"],
        ["epoch 2/2", "val/accuracy 1.0000"],
    ]
    bars = [line for line in lines if "━" in line]
    assert any(re.search("10/10.* loss: -?[0-9.]+$", line) for line in bars)
    assert max(map(len, bars)) <= columns
    assert all("v_num" not in line for line in bars)
