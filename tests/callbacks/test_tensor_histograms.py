"""Histograms of weights, biases, gradients and outputs in TensorBoard."""

from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tests.conftest import BARE, compose_config

from sightline.errors import BadInput
from sightline.training.train import train


def words_of(colors: Path, folder: Path, *more: str) -> list[str]:
    words = ["data=folder", f"data.root={colors}", f"output={folder}", *BARE, "callbacks=tensor_histograms"]
    return [*words, *more]


@pytest.mark.parametrize("accumulated", [1, 2])
def test_every_so_many_steps(accumulated: int, colors: Path, tmp_path: Path) -> None:
    """Six batches an epoch, two epochs."""
    more = ["callbacks.tensor_histograms.every_steps=4", f"trainer.accumulate_grad_batches={accumulated}"]
    train(compose_config("train", *words_of(colors, tmp_path / "run", *more, "trainer.max_epochs=2")))
    events = EventAccumulator(str(tmp_path / "run" / "tensorboard"), size_guidance={"histograms": 0})
    events.Reload()
    tags = events.Tags()["histograms"]
    for tag in (
        "weights/conv1.weight",
        "gradients/conv1.weight",
        "outputs/conv1",
        "weights/fc.weight",
        "biases/fc.bias",
    ):
        tag = next(name for name in tags if name == tag or name.startswith(tag.split(".")[0]))
        assert [event.step for event in events.Histograms(tag)] == [
            step for step in (0, 4, 8) if step < 12 / accumulated
        ]
    assert {tag.split("/")[0] for tag in tags} == {"weights", "biases", "gradients", "outputs"}


def test_training_is_the_same_with_and_without(colors: Path, tmp_path: Path) -> None:
    results = [
        train(compose_config("train", *words_of(colors, tmp_path / name, f"callbacks={name}"))).metrics["val/loss"]
        for name in ("tensor_histograms", "none")
    ]
    assert results[0] == results[1]


def test_an_interval_below_one_is_refused(colors: Path, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="every_steps=0: must be 1 or more"):
        train(compose_config("train", *words_of(colors, tmp_path / "run", "callbacks.tensor_histograms.every_steps=0")))


@pytest.mark.slow
def test_a_compiled_network_shows_its_layers(colors: Path, tmp_path: Path) -> None:
    words = ["model.compile=true", "callbacks.tensor_histograms.every_steps=4", "trainer.max_epochs=1"]
    train(compose_config("train", *words_of(colors, tmp_path / "run", *words)))
    events = EventAccumulator(str(tmp_path / "run" / "tensorboard"), size_guidance={"histograms": 0})
    events.Reload()
    outputs = [tag for tag in events.Tags()["histograms"] if tag.startswith("outputs/")]
    assert len(outputs) > 10
    assert [event.step for event in events.Histograms(outputs[0])] == [0, 4]
