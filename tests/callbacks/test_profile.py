"""The profile: parts that add up, the bottleneck by its name, one page without a network."""

import json
import re
import time
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import BARE, compose_config

from sightline.callbacks import step_times as step_times_module
from sightline.callbacks.profile_report import Setting, find_bottleneck
from sightline.callbacks.step_times import PARTS, StepTimes
from sightline.callbacks.throughput import Throughput
from sightline.data import datasets as datasets_module
from sightline.data.transforms import load
from sightline.training.train import train

SHORT = [word for word in BARE if "max_epochs" not in word]


def profile_of(colors: Path, folder: Path, *more: str) -> dict[str, Any]:
    words = ["data=folder", f"data.root={colors}", f"output={folder}", *SHORT, "debug=profile", *more]
    train(compose_config("train", *words, "trainer.max_epochs=3"))
    return json.loads((folder / "profile.json").read_text())


class Clock:
    now = 0.0

    def perf_counter(self) -> float:
        return self.now


def test_inner_actions_are_not_counted_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    """A step as Lightning nests it; the numbers are seconds."""
    clock = Clock()
    monkeypatch.setattr(step_times_module, "time", clock)
    times = StepTimes()

    def act(name: str, *inner: tuple[str, float], own: float) -> None:
        with times.profile(name):
            clock.now += own
            for other, seconds in inner:
                act(other, own=seconds)

    for _ in range(2):
        act("[_TrainingEpochLoop].train_dataloader_next", own=1)
        act(
            "[Strategy]SingleDeviceStrategy.batch_to_device",
            ("[LightningDataModule]D.on_after_batch_transfer", 2),
            own=3,
        )
        with times.profile("run_training_batch"):
            act(
                "[LightningModule]Classifier.optimizer_step",
                ("[Strategy]SingleDeviceStrategy.training_step", 10),
                ("[Strategy]SingleDeviceStrategy.backward", 20),
                ("[Callback]Some{'a.b': 1}.on_after_backward", 4),
                own=5,
            )
        clock.now += 7  # a logger
    times.end_step()
    clock.now += 100  # validation
    times.end_step()
    expected = dict(zip(PARTS, (1, 5, 10, 20, 5, 4, 7), strict=True))
    assert [step.parts for step in times.steps] == [expected, expected]
    assert [step.seconds for step in times.steps] == [52, 52]
    assert times.steps[0].callbacks == {"Some": 4}


def test_a_profile_of_a_run(colors: Path, tmp_path: Path) -> None:
    profile = profile_of(colors, tmp_path / "run")
    assert profile["num_steps"] == 3 * 6 - 10
    assert sum(part["share"] for part in profile["parts"].values()) == pytest.approx(1, abs=1e-3)
    assert all(part["ms"] > 0 for part in profile["parts"].values())
    total = sum(part["ms"] for part in profile["parts"].values())
    assert total == pytest.approx(profile["step_ms"], rel=0.01)
    assert {"Throughput", "Divergence"} <= set(profile["callbacks_ms"])
    assert profile["watching_ms"] < 0.05 * profile["step_ms"] + 1
    page = (tmp_path / "run" / "profile.html").read_text()
    assert profile["bottleneck"]["text"] in page.replace("&#39;", "'")
    assert not re.search(r"https?://|<script|@import|<link", page), "it loads nothing"
    assert "prefers-color-scheme: dark" in page


def test_slow_reading_is_named_with_the_settings_to_change(
    colors: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def slow(*arguments: Any) -> Any:
        time.sleep(0.02)
        return load(*arguments)

    monkeypatch.setattr(datasets_module, "load", slow)
    profile = profile_of(colors, tmp_path / "run", "data.cache=off", "data.num_workers=0")
    bottleneck = profile["bottleneck"]
    assert bottleneck["part"] == "data"
    assert bottleneck["share"] > 0.5
    assert "set data.cache=always" in bottleneck["text"]
    assert "raise data.num_workers from 0 to" in bottleneck["text"]
    assert profile["resources"]["cores"]["max"] > 0
    assert profile["resources"]["memory_gb"]["mean"] > 0.05


def test_a_slow_callback_is_named(colors: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    end = Throughput.on_train_batch_end

    def slow(self: Throughput, *arguments: Any) -> None:
        time.sleep(0.5)  # longer than a loaded machine takes for anything else
        end(self, *arguments)

    monkeypatch.setattr(Throughput, "on_train_batch_end", slow)
    bottleneck = profile_of(colors, tmp_path / "run")["bottleneck"]
    assert bottleneck["part"] == "callbacks"
    assert "Throughput is the slowest" in bottleneck["text"]


@pytest.mark.parametrize(
    ("largest", "setting", "words"),
    [
        ("data", Setting("cuda", "bf16-mixed", 8, 64, 8, True), "a lighter augmentation=…"),
        ("backward", Setting("cpu", "32-true", 2, 64, 2, True), "trainer.precision=bf16-mixed where the processor"),
        (
            "forward",
            Setting("cuda", "bf16-mixed", 8, 64, 8, True),
            "model.compile=true or a larger data.batch_size may help",
        ),
        ("optimizer", Setting("cpu", "32-true", 2, 64, 2, True), "raise data.batch_size or trainer.accumulate"),
        ("logging", Setting("cpu", "32-true", 2, 64, 2, True), "raise trainer.log_every_n_steps"),
    ],
)
def test_every_bottleneck_has_its_advice(largest: str, setting: Setting, words: str) -> None:
    shares = {part: 0.7 if part == largest else 0.05 for part in PARTS}
    assert words in find_bottleneck(shares, setting, {})["text"]
